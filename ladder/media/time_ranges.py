"""Time ranges: the parts of a source that are encoded."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from ladder.errors import LadderError
from ladder.media.probe import VideoInfo

_TIME_RANGE = re.compile(r"(\d+(?:\.\d+)?)\+(\d+(?:\.\d+)?)")

_SEGMENTS = re.compile(r"(\d+)\s*x\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class TimeRange:
    """A part of a video; `start_s` counts from its first frame."""

    start_s: float
    length_s: float

    def __str__(self) -> str:
        return f"{_seconds(self.start_s)}+{_seconds(self.length_s)}"


@dataclass(frozen=True)
class TrimSpec:
    """The part of every source to encode: all of it, one clip, or evenly spaced segments.

    Attributes:
        clip: one time range, the same for every source.
        segments: (count, seconds of each); a source no longer than all segments is encoded whole.
    """

    clip: TimeRange | None = None
    segments: tuple[int, float] | None = None

    def ranges_of(self, source: VideoInfo) -> tuple[TimeRange, ...]:
        """The time ranges of `source`; empty for the whole source.

        Raises:
            LadderError: the clip begins after the source's end, or the source has no timestamps.
        """
        time_ranges = tuple(self._wanted(source))
        if time_ranges and source.is_bare and not source.is_timed_by_order:
            raise LadderError(
                f"{source.path} has no timestamps or no usable index and cannot be trimmed: "
                "put it into a container first (ffmpeg -i FILE -c copy FILE.mkv)"
            )
        return time_ranges

    def _wanted(self, source: VideoInfo) -> Iterator[TimeRange]:
        if self.clip:
            left_s = source.duration_s - self.clip.start_s
            if left_s * source.fps < 0.99:  # less than one frame, with a margin for rounding
                raise LadderError(
                    f"{source.path} is {source.duration_s:.2f} s long, the clip {self.clip} begins "
                    "after its end"
                )
            yield TimeRange(self.clip.start_s, min(self.clip.length_s, left_s))
        elif self.segments:
            count, length_s = self.segments
            gap_s = (source.duration_s - count * length_s) / (count + 1)
            if gap_s > 0:
                for index in range(count):
                    yield TimeRange(round(gap_s + index * (length_s + gap_s), 3), length_s)


FULL = TrimSpec()
"""Encode every source whole."""


def parse_time_range(text: str) -> TimeRange:
    """Parse `START+LENGTH` in seconds, such as `30+10`; raise ValueError for other text."""
    found = _TIME_RANGE.fullmatch(text.strip())
    if not found or float(found[2]) <= 0:
        raise ValueError(f"{text!r} is not START+LENGTH in seconds, such as 30+10")
    return TimeRange(float(found[1]), float(found[2]))


def parse_segments(text: str) -> tuple[int, float]:
    """Parse `NxSECONDS`: `3x10` gives (3, 10.0); raise ValueError for other text."""
    found = _SEGMENTS.fullmatch(text.strip())
    if not found or int(found[1]) < 1 or float(found[2]) <= 0:
        raise ValueError(f"{text!r} is not NxSECONDS, such as 3x10")
    return int(found[1]), float(found[2])


def format_time_ranges(time_ranges: tuple[TimeRange, ...]) -> str:
    """The time ranges as a table cell; empty for the whole source."""
    return " ".join(map(str, time_ranges))


def parse_time_ranges(text: str) -> tuple[TimeRange, ...]:
    """The inverse of `format_time_ranges`."""
    return tuple(map(parse_time_range, text.split()))


def frame_aligned(time_range: TimeRange, fps: Fraction) -> tuple[Fraction, Fraction]:
    """(start, length) in seconds, moved so that both ends lie between two frames.

    Both ends lie half a frame before a frame, so rounded timestamps cannot change which frames are
    inside.
    """
    first = ceil(Fraction(time_range.start_s) * fps - Fraction(1, 100))
    count = max(1, round(Fraction(time_range.length_s) * fps))
    start = max(Fraction(0), (first - Fraction(1, 2)) / fps)
    return start, (first + count - Fraction(1, 2)) / fps - start


def _seconds(value: float) -> str:
    # in microseconds: the six digits of "g" are too coarse to find a frame after three hours
    return f"{value:.6f}".rstrip("0").rstrip(".")
