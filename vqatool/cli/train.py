"""`vqatool train`: stages 3 and 4, labels -> a model file."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqatool.cli.options import (
    MODEL_NAME,
    HereType,
    device_option,
    device_or_usage,
    require_shape,
    shape_option,
    size_option,
    work_folder,
)
from vqatool.methods import Method

if TYPE_CHECKING:  # for annotations alone
    from collections.abc import Mapping

    from vqatool.inference.model_file import Checkpoint
    from vqatool.training.initialization import Initialization
    from vqatool.training.step import Progress as StepDone
    from vqatool.training.trainer import TrainConfig


class Margin(click.ParamType[float | str]):
    """A number from 0 to 1, or `label`."""

    name = "NUMBER|label"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        if value == "label":
            return "label"
        return click.FloatRange(0, 1).convert(value, param, ctx)


@click.command()
@work_folder
@click.option("-o", "--out", type=HereType(dir_okay=False, path_type=Path),
              help=f"Model file to write.  [default: FOLDER/{MODEL_NAME}]")  # fmt: skip
@click.option("--method", type=click.Choice([method.value for method in Method]),
              default=Method.COARSE_TO_FINE.value, show_default=True,
              help="Published method to train.")  # fmt: skip
@click.option("--init", default="default", show_default=True, metavar="default|scratch|FILE",
              help="Weights to start from: default (the packaged ones, if they are of the method), "
                   "scratch (random), or a model file.")  # fmt: skip
@click.option(
    "--teacher",
    type=HereType(exists=True, dir_okay=False, path_type=Path),
    help="Model file of any method that the new model learns from beside the labels.",
)
@click.option("--detach-teacher", "is_detached", is_flag=True,
              help="Do not update the teacher.")  # fmt: skip
@click.option("--tune", type=click.Choice(["all", "head", "figures", "prompts"]),
              default="all", show_default=True,
              help="Parameters to train; figures: the networks on figures of coarse-to-fine alone, "
                   "but not that on deep features, in minutes; prompts: of q-mamba, with "
                   "--shape prompts=4.")  # fmt: skip
@size_option(None, "Size of a new model, such as pico, nano or tiny; needs --init scratch.  "
             "[default: nano]")  # fmt: skip
@shape_option
@click.option("--stream-features/--no-stream-features", default=None,
              help="Whether the model reads bitstream features; needs --init scratch.  "
                   "[default: yes]")  # fmt: skip
@click.option("--clip-frames", type=click.IntRange(1), default=8, show_default=True,
              help="Frame groups in a clip.")  # fmt: skip
@click.option("--step-frames", type=click.IntRange(1), default=2, show_default=True,
              help="Frame groups of each clip in a training step.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True,
              help="Passes over the encodes.")  # fmt: skip
@click.option("--max-hours", type=click.FloatRange(0, min_open=True),
              help="Stop after this time; the learning rate reaches zero by then.")  # fmt: skip
@click.option("--patience", type=click.IntRange(1), metavar="N",
              help="Stop after N validations without improvement.")  # fmt: skip
@click.option("--sources", type=click.IntRange(1), default=4, show_default=True,
              help="Sources in a batch.")  # fmt: skip
@click.option("--rungs", type=click.IntRange(2), default=4, show_default=True,
              help="Encodes of each source in a batch.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(0, min_open=True),
              help="Peak learning rate.  [default: 1e-4, from scratch 5e-4]")  # fmt: skip
@click.option("--plcc-weight", type=click.FloatRange(0),
              help="Weight of the linear correlation loss.  "
                   "[default: the method's]")  # fmt: skip
@click.option("--group-weight", type=click.FloatRange(0),
              help="Weight of the group contrastive (coarse) loss.  "
                   "[default: the method's]")  # fmt: skip
@click.option("--rank-weight", type=click.FloatRange(0),
              help="Weight of the rank (fine) loss.  [default: the method's]")  # fmt: skip
@click.option(
    "--frame-weight",
    type=click.FloatRange(0),
    help="Weight of the loss on labels of single frames.  [default: the method's]",
)
@click.option("--tile-weight", type=click.FloatRange(0),
              help="Weight of the loss on the quality of single patches against the source.  "
                   "[default: the method's]")  # fmt: skip
@click.option("--pixels-weight", type=click.FloatRange(0),
              help="Weight of the same losses with bitstream features hidden.  "
                   "[default: the method's]")  # fmt: skip
@click.option("--contrast", type=click.Choice(["ours", "tta", "supcon"]), default="ours",
              show_default=True, help="Form of the group contrastive loss.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0, min_open=True), default=0.1,
              show_default=True, help="Temperature of the group contrastive loss.")  # fmt: skip
@click.option("--margin", type=Margin(), default=0.0, show_default=True,
              help="Margin of the rank loss, where 1 is the whole scale; label: the difference of "
                   "the labels, at most 0.05.")  # fmt: skip
@click.option(
    "--val-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.25,
    show_default=True,
    help="Share of sources held out for validation.",
)
@click.option("--outliers", type=HereType(exists=True, file_okay=False, path_type=Path),
              help="Folder of videos that the model shall warn of (out_of_domain), such as those "
                   "of `python -m ladder.synthetic`.")  # fmt: skip
@click.option("--validations", type=click.IntRange(1), default=20, show_default=True,
              help="Number of validations over the whole training.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--licence", default="", help="Licence of the weights, for the model's card, such as MIT."
)
@click.option("--export/--no-export", "is_exported", default=True, show_default=True,
              help="Also write the model with the ending .onnx, which needs no torch to score; "
              "takes a minute.")  # fmt: skip
@device_option
def train(
    folder: Path,
    out: Path | None,
    method: str,
    init: str,
    teacher: Path | None,
    size: str | None,
    shape: dict[str, Any],
    stream_features: bool | None,
    outliers: Path | None,
    is_exported: bool,
    device: str,
    **settings: Any,
) -> None:
    """Train a no-reference model on labels.

    FOLDER (default: encodes) holds the encodes and labels. FOLDER/splits.csv splits the sources
    into train and val; the command writes it if it is missing. A killed training continues when the
    command is run again. The history is in *-metrics.csv and *.png beside the model.

    \b
    Example:
        vqatool train encodes --epochs 60 -o model.safetensors
    """
    from accelerate import PartialState

    from vqatool.files import require_own_files
    from vqatool.inference.export import export_once
    from vqatool.inference.loading import EXPORTED_SUFFIX
    from vqatool.methods.recipe import LossWeights
    from vqatool.terminal import print_note
    from vqatool.training.trainer import TrainConfig

    initialization = _initialization(init, method, teacher)
    initialization.require_method(method)
    if settings["tune"] != "all" and not initialization.init:
        raise click.UsageError("--tune trains a part of a trained model: add --init FILE")
    shape |= _new_shape({"size": size, "has_stream": stream_features}, initialization)
    require_shape(
        method,
        {**(initialization.init.card.shape if initialization.init else {}), **shape},
        settings["tune"],
    )
    weights = LossWeights(**_loss_settings(settings))
    config = TrainConfig(method=method, shape=shape, weights=weights, **settings)
    target = out or folder / MODEL_NAME
    _require_suffix(target)
    exported = target.with_suffix(EXPORTED_SUFFIX)
    if is_exported:  # before the work
        require_own_files(models=[exported])
    checkpoint = _run_training(
        folder, target, config, initialization, outliers, device_or_usage(device)
    )
    found = checkpoint.card.validation
    if PartialState().is_main_process:
        if is_exported:
            print_note(f"exporting {exported}")
            export_once(checkpoint, exported)
        print_note(f"{target}: {_headline(found)}; next: vqatool evaluate {folder}")


def _require_suffix(target: Path) -> None:
    suffix = Path(MODEL_NAME).suffix
    if target.suffix.lower() != suffix:
        raise click.UsageError(f"-o {target} is no name of a model file: it ends in {suffix}")


def _headline(found: "Mapping[str, float]") -> str:
    """What held-out sources say of a model; no figures where they are too few."""
    from vqatool.bootstrap import MIN_ORIGINS

    if "raw_rmse" not in found:
        return "finished by an earlier version"
    size = f"{found['count']:.0f} encodes of {found['sources']:.0f} held-out source(s)"
    if not math.isfinite(found["raw_rmse_low"]):
        return f"{size} are too few to tell how good it is, {MIN_ORIGINS} sources are needed"
    return (
        f"RMSE {found['raw_rmse']:.1f} "
        f"({found['raw_rmse_low']:.1f} to {found['raw_rmse_high']:.1f}), "
        f"bias {found['bias']:+.1f} ({found['bias_low']:+.1f} to {found['bias_high']:+.1f}), "
        f"SRCC {found['srcc']:.3f} ({found['srcc_low']:.2f} to {found['srcc_high']:.2f}) "
        f"on {size}, with 95 % intervals"
    )


def _run_training(
    folder: Path,
    out: Path,
    config: "TrainConfig",
    initialization: "Initialization",
    outliers: Path | None,
    device: str,
) -> "Checkpoint":
    """Train and show progress; returns the model that `out` holds."""
    from vqatool.cli.progress import Progress
    from vqatool.training.run import train

    with Progress("training") as progress:

        def show(now: "StepDone") -> None:
            progress.show("training", now.step, now.steps, _progress_note(now))

        return train(
            folder,
            out,
            config,
            initialization=initialization,
            outliers=outliers,
            device=device,
            on_progress=show,
            on_decoded=lambda done, total: progress.show("decoding", done, total),
        )


def _progress_note(now: "StepDone") -> str:
    loss = f"loss {sum(now.terms.values()):.3f}"
    if not now.metrics:
        return loss
    in_groups = now.metrics["in_group_srcc"]
    groups = "" if math.isnan(in_groups) else f" ({in_groups:.3f} in groups)"
    return (
        f"{loss}, val RMSE {now.metrics['raw_rmse']:.1f}, SRCC {now.metrics['srcc']:.3f}{groups}, "
        f"{now.data_wait_share:.0%} data wait"
    )


def _loss_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Remove the loss settings from `settings` and return them."""
    weights = {
        name: settings.pop(f"{name}_weight")
        for name in ("plcc", "group", "rank", "frame", "tile", "pixels")
    }
    return weights | {name: settings.pop(name) for name in ("contrast", "temperature", "margin")}


def _new_shape(asked: dict[str, Any], initialization: "Initialization") -> dict[str, Any]:
    """The options that shape a new model, without those left at None."""
    shape = {name: value for name, value in asked.items() if value is not None}
    if shape and initialization.init:
        raise click.UsageError(
            "--size and --stream-features are for new models: add --init scratch"
        )
    return shape


def _initialization(init: str, method: str, teacher: Path | None) -> "Initialization":
    from vqatool.inference.model_file import default_checkpoint, load_checkpoint
    from vqatool.training.initialization import Initialization

    teacher_quality = load_checkpoint(teacher) if teacher else None
    if init == "scratch":
        return Initialization(teacher=teacher_quality)
    if init != "default":
        return Initialization(init=load_checkpoint(Path(init)), teacher=teacher_quality)
    packaged = default_checkpoint()
    return Initialization(
        init=packaged if packaged.card.method == method else None, teacher=teacher_quality
    )
