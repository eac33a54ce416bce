"""What a report holds: a row for each input, and, if asked for, one for each of its segments."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ladder.storage import Table


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """One input file, a row of `report.csv`; scores are 0 (worst) to 100 (best).

    A row whose `status` is `error` has no scores; `error_code` and `error` say why.
    """

    path: str
    status: str
    score: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    score_min: float | None = None
    score_p5: float | None = None
    worst_at_s: float | None = None
    duration_s: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    display: str = ""
    fps: Fraction | None = None
    codec: str = ""
    pix_fmt: str = ""
    bit_depth: int | None = None
    bitrate_kbps: float | None = None
    size_bytes: int | None = None
    frames_scored: int | None = None
    hdr: str = ""
    rotation: int | None = None
    warnings: str = ""
    error_code: str = ""
    error: str = ""
    model: str = ""
    score_s: float | None = None
    modified: str = ""
    shard: str = ""

    @property
    def key(self) -> str:
        """The path as it was given."""
        return self.path


@dataclass(frozen=True, kw_only=True)
class SegmentRow:
    """One segment of a video, a row of the file that `--per-segment` names."""

    path: str
    start_s: float
    end_s: float
    score: float
    score_low: float
    score_high: float
    warnings: str = ""

    @property
    def key(self) -> str:
        """Video and start."""
        return f"{self.path}@{self.start_s:.4f}"


@dataclass(frozen=True)
class ScoreResult:
    """What is known of one input in the end."""

    row: ReportRow
    segments: tuple[SegmentRow, ...] = ()


def as_stored(row: ReportRow) -> ReportRow:
    """The row as a report has it: figures have as many digits."""
    return Table(Path("report.csv"), ReportRow).row_of(vars(row))
