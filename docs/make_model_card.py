"""Write MODEL_CARD.md from the card inside the packaged model: `python docs/make_model_card.py`."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "vqatool" / "weights" / "default.safetensors"
EXPORTED = MODEL.with_suffix(".onnx")
MODEL_CARD = ROOT / "MODEL_CARD.md"


def packaged_card() -> dict[str, Any]:
    """The card in the header of the packaged model file."""
    with safe_open(MODEL, framework="numpy") as file:
        card: dict[str, Any] = json.loads(file.metadata()["vqatool"])
    return card


def model_card(card: dict[str, Any]) -> str:
    """The card as a page for people."""
    training, validation = card["training"], card["validation"]
    return f"""# Model card

Made from the card inside `{MODEL.relative_to(ROOT)}` by `python docs/make_model_card.py`; do not edit.

| | |
|---|---|
| method | `{card["method"]}` |
| shape | {_pairs(card["shape"])} |
| licence of the weights | {card["licence"]} |
| files | `default.safetensors` ({MODEL.stat().st_size / 1e6:.1f} MB, half precision), to train further and for GPUs; `default.onnx` ({EXPORTED.stat().st_size / 1e6:.1f} MB), the same model exported by `vqatool export`, which `score` runs on CPUs |
| predicts | the mean of `{card["label"]}`, {card["label_scale"]} |
| input | {card["preprocessing"]} |
| clip | {card["clip_frames"]} places in a video, spread over its segments; of a longer video at least one in each segment, and as many in one of 20 s |
| band | {card["band_per_spread"]:.2f} times the error that the model expects of each file held 90 % of the errors on validation origins; one band for all files would be {card["band"]:.1f} points to either side |

## Intended use

To find the worst encodes in directories of SDR video, and to compare encodes of one source. It is no substitute for VMAF where
the source is at hand, and no measure of what people see.

## Training data

{_sides(card["data"])}

Random encodes of clean clips by `python -m ladder.treatments`: CRF from near-lossless to the worst, bitrates,
presets, tunes, key frames, sizes, scalers and filters, coded once and twice with unrelated qualities; encodes with common settings, or
with a quality that changes; and two ladders (`docs/training-rungs-540.toml`, `-1080.toml`) of 188 of the contents. No origin (one film, one
photographer) is on two sides. The labels are VMAF against the clean clip. The clips are not part of this project.

Deep features are those of the first two stages of a ResNet-18, `vqatool/weights/resnet18-patches.onnx`. It is the network of FDIM 0.2.1
(Zhejiang University, MIT licence), which was trained on 16,000 compressed videos, trained on for 5 minutes on an H200 GPU with patches of
2,177 of the encodes of the first fit (those of 256 contents), by what is now `python -m vqatool.pretraining.patches`.

## Training

The sides above are those of the last fit, of the figure network alone (`--tune {training["tune"]}`, seed {training["seed"]}), which was run twice, the second time from the result of the first. It had been fitted to 2527 encodes of
313 contents, and then four times to more and more encodes of 508; the present ones were made anew of some of these. The network with pixels learned from 1613 of the first, and 232 more chose its weights. Which contents this
and earlier fits learned from is in the model file, and `vqatool explain` names the nearest ones. For later fits the file also has figures and labels of the encodes of the training side.

## Validation

On {validation["count"]} encodes of held-out sources, the validation side: SRCC {validation["srcc"]:.3f}, KRCC {validation["krcc"]:.3f}, mean SRCC inside bitrate groups
{validation["in_group_srcc"]:.3f}; after a fitted logistic PLCC {validation["plcc"]:.3f} and RMSE {validation["rmse"]:.1f} VMAF points. The test on further sources is in
[experiments](docs/experiments.md#the-packaged-model).

## Limits

Scores are off by 5.1 to 5.4 points (RMSE; 4.5 to 6.2 at 720 and 1080 lines) on random encodes of sources that the model never saw, by 5 to 7 on common ladders, and by 11 to 14 where a video was coded twice with unrelated
qualities. [All limits](docs/limits.md).

Of 40 random encodes of Big Buck Bunny, these score most too high and most too low (`python -m tests.benchmarks.failures`; RMSE of the
40: 6.4):

![The clip and six of its encodes](docs/failures.jpg)

Pictures: Big Buck Bunny, (c) Blender Foundation, CC BY 3.0.
"""


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"`{name}={value if isinstance(value, str) else json.dumps(value)}`"
        for name, value in values.items()
        if value is not None
    )


def _sides(data: dict[str, Any]) -> str:
    lines = ["| side | encodes | sources | codecs | display heights, px |", "|---|---|---|---|---|"]
    for side, held in data.items():
        codecs = ", ".join(held["codecs"])
        heights = ", ".join(map(str, held["display_heights_px"]))
        lines.append(f"| {side} | {held['encodes']} | {held['sources']} | {codecs} | {heights} |")
    return "\n".join(lines)


if __name__ == "__main__":
    MODEL_CARD.write_text(model_card(packaged_card()), encoding="utf-8")
