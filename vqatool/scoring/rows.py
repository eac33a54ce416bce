"""The results of scoring: as objects while a run works, and as the flat rows of a report."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ladder.media.probe import VideoInfo
from ladder.media.remote import RemotePath
from ladder.storage import Table
from vqatool.inputs.decode_pool import DecodeFailure
from vqatool.scoring.verdicts import verdict
from vqatool.scoring.warning_codes import WarningCode


class FileStamp(NamedTuple):
    """Size and time of last change: a file with the same stamp is taken as unchanged.

    Of a remote file, `modified` is its entity tag (ETag), which changes with its content.
    """

    size_bytes: int
    modified: str

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """The stamp of a file.

        Raises:
            OSError: the file is missing.
            RemoteError: its store cannot be asked.
        """
        if isinstance(path, RemotePath):
            return cls(*path.facts()[:2])
        facts = path.stat()
        moment = datetime.datetime.fromtimestamp(facts.st_mtime, datetime.UTC)
        return cls(facts.st_size, moment.isoformat(timespec="microseconds"))


@dataclass(frozen=True)
class ScoredSegment:
    """One segment of a video and its score, 0 (worst) to 100 (best).

    `band` is half the width of the model's 90 % interval around the score.
    """

    start_s: float
    end_s: float
    score: float
    band: float
    warnings: tuple[WarningCode, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScoredVideo:
    """A video with scores, 0 (worst) to 100 (best), of at least one segment.

    `spent_s` are the seconds that decoding and the model took; `sampled` is that of the config, or
    `skim` where some segments have the pixels of others.
    """

    path: Path
    stamp: FileStamp
    info: VideoInfo
    segments: tuple[ScoredSegment, ...]
    warnings: tuple[WarningCode, ...]
    frames_scored: int
    spent_s: float
    sampled: str = ""

    @property
    def scores(self) -> list[float]:
        """The score of each segment."""
        return [segment.score for segment in self.segments]

    @property
    def score(self) -> float:
        """The mean of the segments' scores."""
        return float(np.mean(self.scores))

    @property
    def band(self) -> float:
        """Half the width of the 90 % interval: the mean of the segments, whose errors are alike."""
        return float(np.mean([segment.band for segment in self.segments]))

    @property
    def worst(self) -> ScoredSegment:
        """The first segment with the lowest score."""
        return min(self.segments, key=lambda segment: segment.score)


@dataclass(frozen=True)
class FailedVideo:
    """A video without scores, the reason, and what was known of the file before it failed."""

    failure: DecodeFailure
    stamp: FileStamp | None = None
    info: VideoInfo | None = None


ScoreResult = ScoredVideo | FailedVideo


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRow:
    """One input file, a row of `report.csv`; scores are 0 (worst) to 100 (best).

    A row whose `status` is `error` has no scores; `error_code` and `error` give the reason.
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
    verdict: str = ""
    sampled: str = ""
    segments: int | None = None

    @property
    def key(self) -> str:
        """The path as it was given."""
        return self.path


@dataclass(frozen=True, kw_only=True, slots=True)
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
        """The video and the segment's start."""
        return f"{self.path}@{self.start_s:.4f}"


def report_row(result: ScoreResult, *, model: str, display: str, shard: str = "") -> ReportRow:
    """The row of a report for one result.

    Args:
        result: of one video.
        model: name of the model.
        display: the screen, such as `1920x1080` or `native`.
        shard: the share of the files that the report is for; empty: all of them.
    """
    facts = _file_facts(result) | {"display": display, "model": model, "shard": shard}
    if isinstance(result, FailedVideo):
        failure = result.failure
        return ReportRow(
            path=str(failure.path),
            status="error",
            error_code=str(failure.code),
            error=failure.reason,
            **facts,
        )
    low, high = _interval(result.score, result.band)
    row = ReportRow(
        path=str(result.path),
        status="ok",
        score=result.score,
        score_low=low,
        score_high=high,
        score_min=result.worst.score,
        score_p5=float(np.percentile(result.scores, 5)),
        worst_at_s=result.worst.start_s,
        frames_scored=result.frames_scored,
        score_s=result.spent_s,
        sampled=result.sampled,
        segments=len(result.segments),
        **facts,
    )
    return with_verdict(row)


def with_verdict(row: ReportRow) -> ReportRow:
    """The row with the verdict of its score; without a score it has none."""
    if row.score is None or row.score_low is None or row.score_high is None:
        return replace(row, verdict="")
    warnings = row.warnings.split(";")
    return replace(row, verdict=str(verdict(row.score, row.score_low, row.score_high, warnings)))


def segment_rows(result: ScoreResult) -> Iterator[SegmentRow]:
    """The rows of the segments of one result; a failed video has none."""
    if isinstance(result, FailedVideo):
        return
    for segment in result.segments:
        low, high = _interval(segment.score, segment.band)
        yield SegmentRow(
            path=str(result.path),
            start_s=segment.start_s,
            end_s=segment.end_s,
            score=segment.score,
            score_low=low,
            score_high=high,
            warnings=";".join(segment.warnings),
        )


def as_stored(row: ReportRow) -> ReportRow:
    """The row as a report holds it: with numbers rounded as in the file."""
    table = Table(Path("report.csv"), ReportRow)
    return table.row_of({column: getattr(row, column) for column in table.columns})


def video_warnings(info: VideoInfo) -> Iterator[WarningCode]:
    """The warnings that the facts of a video give rise to."""
    raised = {
        WarningCode.HDR: bool(info.hdr_of_frames),
        WarningCode.TONEMAPPED: info.is_tonemapped,
        WarningCode.VFR: info.is_vfr,
        WarningCode.INTERLACED: info.is_interlaced,
        WarningCode.ROTATED: bool(info.rotation),
        WarningCode.SEVERAL_VIDEOS: info.num_videos > 1,
        WarningCode.RANGE: info.has_two_ranges,
        WarningCode.DOLBY_VISION: bool(info.dolby_vision),
        WarningCode.SHORT: info.duration_s < _SHORT_S,
        WarningCode.SMALL: min(info.display_size) < _SMALL_PX,
    }
    yield from (code for code, is_raised in raised.items() if is_raised)


_SHORT_S = 1.0
_SMALL_PX = 64


def _file_facts(result: ScoreResult) -> dict[str, Any]:
    facts: dict[str, Any] = result.stamp._asdict() if result.stamp else {}
    info = result.info
    if info:
        warnings = video_warnings(info) if isinstance(result, FailedVideo) else result.warnings
        facts |= {
            "duration_s": info.duration_s,
            "width_px": info.width_px,
            "height_px": info.height_px,
            "fps": info.fps,
            "codec": info.codec,
            "pix_fmt": info.pix_fmt,
            "bit_depth": info.bit_depth,
            "bitrate_kbps": info.bitrate_kbps,
            "hdr": info.hdr,
            "rotation": info.rotation,
            "warnings": ";".join(warnings),
        }
    return facts


def _interval(score: float, band: float) -> tuple[float, float]:
    return max(0.0, score - band), min(100.0, score + band)
