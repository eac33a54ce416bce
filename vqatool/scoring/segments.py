"""One video, or some segments of it -> what the model has to see; the work of a process of its own.

Nothing here loads a model: the processes that look stay small, and one that a decoder takes down
takes nothing along.
"""

import datetime
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ladder.errors import LadderError, VideoError
from ladder.media.decode import display_size, require_complete
from ladder.media.probe import VideoInfo, probe
from vqatool.inputs.preprocessor import ClipPreprocessor
from vqatool.scoring.rows import ReportRow

Display = tuple[int, int] | None


SEGMENTS_PER_TASK = (
    2  # segments of one task: a long video is many tasks, for many processes, all small
)


_SHORT_S = 1.0


_SMALL_PX = 64


@dataclass(frozen=True)
class ScoreOptions:
    """How videos are looked at: on what screen, and in segments of how many seconds."""

    display: Display = (1920, 1080)
    segment_s: float = 10.0

    @property
    def screen(self) -> str:
        """The display as a report has it."""
        return "{}x{}".format(*self.display) if self.display else "native"

    def segment_count(self, duration_s: float) -> int:
        """Equal parts of about `segment_s` seconds that a video has."""
        # of the duration as a report holds it, so that its row is known again
        return max(1, round(round(duration_s, 4) / self.segment_s))


@dataclass(frozen=True)
class Segment:
    """A part of a video as the model is shown it; arrays travel between processes, tensors not."""

    start_s: float
    end_s: float
    views: list[npt.NDArray[Any]]
    is_damaged: bool
    """Whether the decoder had to conceal something."""


@dataclass(frozen=True)
class DecodedSegments:
    """Some segments of a video. `row` has its facts, or says why there are no more segments."""

    row: ReportRow
    info: VideoInfo | None
    segments: list[Segment]
    count: int
    """Segments of the whole video."""
    spent_s: float


def decode_first_segments(
    path: Path, preprocessor: ClipPreprocessor, options: ScoreOptions
) -> DecodedSegments:
    """Open a video, and look at its first segments."""
    started = time.monotonic()
    row = ReportRow(path=str(path), status="ok", display=options.screen)
    try:
        facts = path.stat()
        row = replace(row, size_bytes=facts.st_size, modified=format_mtime(facts.st_mtime))
        info = probe(path)
        row = _with_facts(row, info)
        require_complete(info)
    except (LadderError, OSError, ValueError, MemoryError) as error:
        return DecodedSegments(failed(row, error), None, [], 0, time.monotonic() - started)
    opened_s = time.monotonic() - started
    seen = decode_segments(row, info, 0, preprocessor, options)
    return replace(seen, spent_s=opened_s + seen.spent_s)


def decode_segments(
    row: ReportRow,
    info: VideoInfo,
    first: int,
    preprocessor: ClipPreprocessor,
    options: ScoreOptions,
) -> DecodedSegments:
    """Look at `SEGMENTS_PER_TASK` segments of a video that was opened before, from the segment `first` on."""
    started = time.monotonic()
    count = options.segment_count(info.duration_s)
    length_s = info.duration_s / count
    segments: list[Segment] = []
    try:
        for index in range(first, min(first + SEGMENTS_PER_TASK, count)):
            segments.append(_segment(info, index * length_s, length_s, preprocessor, options))
    except (LadderError, OSError, ValueError, MemoryError) as error:
        row, segments = failed(row, error), []
    return DecodedSegments(row, info, segments, count, time.monotonic() - started)


def _segment(
    info: VideoInfo,
    start_s: float,
    length_s: float,
    preprocessor: ClipPreprocessor,
    options: ScoreOptions,
) -> Segment:
    load_views = partial(
        preprocessor.load_views, info, options.display, start_s=start_s, length_s=length_s
    )
    is_damaged = False
    try:
        views = load_views(is_strict=True)
    except VideoError as error:
        if error.code != "damaged":
            raise
        is_damaged, views = True, load_views()
    return Segment(start_s, start_s + length_s, [view.numpy() for view in views], is_damaged)


def failed(row: ReportRow, error: Exception) -> ReportRow:
    """The row of a file that cannot be scored, with the reason; its facts stay."""
    if isinstance(error, FileNotFoundError):
        code, message = "missing", f"{row.path} is not a file"
    elif isinstance(error, LadderError):
        code, message = error.code, str(error)
    else:
        # what a hostile file can still make the decoder say; the run goes on
        code, message = "unreadable", f"{row.path}: {error!r}"
    return replace(row, status="error", error_code=code, error=message)


def format_mtime(seconds: float) -> str:
    """A file's time as a report has it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds")


def _with_facts(row: ReportRow, info: VideoInfo) -> ReportRow:
    return replace(
        row,
        duration_s=info.duration_s,
        width_px=info.width_px,
        height_px=info.height_px,
        fps=info.fps,
        codec=info.codec,
        pix_fmt=info.pix_fmt,
        bit_depth=info.bit_depth,
        bitrate_kbps=info.bitrate_kbps,
        hdr=info.hdr,
        rotation=info.rotation,
        warnings=";".join(_warnings(info)),
    )


def _warnings(info: VideoInfo) -> list[str]:
    claims = {
        "hdr": bool(info.hdr),
        "vfr": info.is_vfr,
        "interlaced": info.is_interlaced,
        "rotated": bool(info.rotation),
        "short": info.duration_s < _SHORT_S,
        "small": min(display_size(info, None)) < _SMALL_PX,
    }
    return [code for code, holds in claims.items() if holds]
