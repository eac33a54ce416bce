"""Ranges of frames: a long film is measured in parts by processes of their own, and joined.

Every value is that of a single run. What a metric sees of the frames around a range is measured
too and then dropped: motion looks at two frames before and one behind. Where two ranges meet,
some frames are measured by both, and must have the same values to the last digit.

A range is read from a key frame before it, where timestamps tell which frame is which. Else, or
where the ranges do not fit, frames are counted from the beginning of the file; where that does
not fit either, one process measures the whole film.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ladder.errors import FfmpegError, VmafError
from ladder.label.libvmaf import libvmaf_filter, measure, run_libvmaf
from ladder.label.metrics import MetricRequest, common_pix_fmt
from ladder.label.pairing import Pairing, PairingMode, paired
from ladder.media.dash import DASH_SUFFIX
from ladder.media.ffmpeg import Ffmpeg, run_parallel
from ladder.media.filters import (
    FILE_CLOCK,
    VideoNode,
    clock_arguments,
    compile_arguments,
    output,
    scaled_input,
    video_input,
    window_input,
)
from ladder.media.lengths import frame_times
from ladder.media.probe import VideoInfo
from ladder.media.time_ranges import TimeRange

_log = logging.getLogger(__name__)

_LEAD = 8  # frames before a range until motion and the deinterlacer have what they look back at
_CHECKED = 8  # frames that the range before has measured too
_AHEAD = 4  # frames behind a range, for what looks ahead
_LOST_BY_TIME = 2  # frames at the end of an encode that may have no partner
_SLACK_S = Fraction(2)  # of the source around an encode's range, where frames are paired by time
_MIN_STEP_S = 0.0005  # between frames that their timestamps tell apart

Frame = dict[str, Any]
"""The metrics of one frame as libvmaf's log has them: text of numbers, or None."""


@dataclass(frozen=True)
class FrameRange:
    """Pairs of frames `start` to `end` - 1, for which `first` to `stop` - 1 are measured.

    Pairs are counted from the first one of the film. `stop` is None for the last range.
    """

    start: int
    end: int
    first: int
    stop: int | None

    @property
    def checked_from(self) -> int:
        """The first pair whose values are those of a single run."""
        return self.first + _LEAD if self.first else 0


class Way(StrEnum):
    """How the frames of a range are found."""

    SEEK = "found by their times"
    COUNT = "counted from the beginning"


class FrameTimes(NamedTuple):
    """The times of all frames of two videos, in seconds from the first frame of each."""

    source: Sequence[float]
    encode: Sequence[float]


def cut_ranges(count: int, number: int, subsample: int = 1) -> tuple[FrameRange, ...]:
    """Divide `count` pairs of frames into at most `number` ranges of nearly equal length.

    Every `subsample`-th pair is measured, the same ones as without ranges.
    """
    lead = subsample * -(-(_LEAD + max(_CHECKED, subsample)) // subsample)
    cuts = (subsample * (count * index // number // subsample) for index in range(1, number))
    starts = [0, *sorted({cut for cut in cuts if lead <= cut < count - subsample})]
    ends = [*starts[1:], count]
    return tuple(
        FrameRange(start, end, start and start - lead, None if end == count else end + _AHEAD)
        for start, end in zip(starts, ends, strict=True)
    )


def number_of_ranges(pairing: Pairing, fps: Fraction, processes: int, shortest_s: float) -> int:
    """In how many ranges a film is measured by that many processes; 1: in one piece."""
    if not shortest_s or pairing.mode == PairingMode.RATE:
        return 1
    return max(1, min(processes, int(pairing.count / fps / Fraction(shortest_s))))


def measure_in_ranges(
    source: VideoInfo,
    encode: VideoInfo,
    pairing: Pairing,
    request: MetricRequest,
    ffmpeg: Ffmpeg,
    *,
    number: int,
    time_ranges: tuple[TimeRange, ...] = (),
    threads: int = 1,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> str:
    """Measure one encode in `number` ranges at once; returns the log of a single run.

    Its per-frame values are libvmaf's own, its pooled metrics are computed from them.

    Args:
        source: what the encode is compared with.
        encode: the encode.
        pairing: how their frames are matched.
        request: what is measured.
        ffmpeg: program to run.
        number: processes at once, one a range.
        time_ranges: the parts of the source that were encoded.
        threads: of all processes together.
        on_progress: called with the seconds that are measured.

    Raises:
        FfmpegError: one of the files cannot be decoded, or ffmpeg failed.
        VmafError: libvmaf wrote no log.
    """
    parts = cut_ranges(pairing.count, number, request.subsample)
    task = _RangeTask(
        source,
        encode,
        pairing,
        request,
        ffmpeg,
        time_ranges,
        FrameTimes(frame_times(source.path, source.fps), frame_times(encode.path, encode.fps)),
        max(1, threads // len(parts)),
    )
    for way in task.ways() if len(parts) > 1 else ():
        try:
            log = join_logs(task.run(parts, way, on_progress), parts, pairing, request.subsample)
        except (FfmpegError, VmafError) as error:
            _log.info("%s: ranges whose frames are %s do not fit: %s", encode.path, way, error)
        else:
            _log.info("%s: measured in %d ranges, frames %s", encode.path, len(parts), way)
            return log
    (log,) = measure(
        source,
        [(encode, pairing)],
        request,
        ffmpeg,
        time_ranges=time_ranges,
        threads=threads,
        on_progress=on_progress,
    )
    return log


@dataclass(frozen=True)
class _RangeTask:
    """What all ranges of one film share."""

    source: VideoInfo
    encode: VideoInfo
    pairing: Pairing
    request: MetricRequest
    ffmpeg: Ffmpeg
    time_ranges: tuple[TimeRange, ...]
    times: FrameTimes
    threads: int

    def ways(self) -> Iterator[Way]:
        """How frames may be found, the fastest way first."""
        ends_s = [times[-1] for times in self.times]
        if self.pairing.mode == PairingMode.TIME and abs(ends_s[0] - ends_s[1]) > _SLACK_S / 2:
            return  # the ranges at the end would have nothing to be compared with
        is_by_index = self.pairing.mode == PairingMode.INDEX and not self.time_ranges
        if is_by_index and all(map(_can_seek, (self.source, self.encode), self.times)):
            yield Way.SEEK
        yield Way.COUNT

    def run(
        self, parts: Sequence[FrameRange], way: Way, on_progress: Callable[[float], None]
    ) -> list[str]:
        """The logs of all ranges, each measured by a process of its own."""
        done_s = [0.0] * len(parts)

        def work(index: int) -> tuple[int, str]:
            part = parts[index]
            is_by_time = self.pairing.mode == PairingMode.TIME
            begin_s = float(_time_of(part.first, self.times.encode)) if is_by_time else 0.0
            length_s = float((part.end - part.start) / self.encode.fps)

            def report(seconds: float) -> None:
                done_s[index] = min(max(0.0, seconds - begin_s), length_s)
                on_progress(sum(done_s))

            args = range_args(
                self.source,
                self.encode,
                self.pairing,
                self.request,
                part,
                self.times,
                way,
                time_ranges=self.time_ranges,
                threads=self.threads,
            )
            (log,) = run_libvmaf(args, 1, self.ffmpeg, report)
            return index, log

        return [log for _, log in sorted(run_parallel(work, range(len(parts)), len(parts)))]


def range_args(
    source: VideoInfo,
    encode: VideoInfo,
    pairing: Pairing,
    request: MetricRequest,
    part: FrameRange,
    times: FrameTimes,
    way: Way,
    *,
    time_ranges: tuple[TimeRange, ...] = (),
    threads: int = 1,
) -> list[str]:
    """ffmpeg arguments that write the log of one range to `0.json` in the working folder."""
    skips = pairing.skips
    # stream_loop=0 has no effect, but ffmpeg-python merges two equal inputs into one
    if way == Way.SEEK:
        windows = [_window(of, part, skip) for of, skip in zip(times, skips, strict=True)]
        reference = window_input(source, *windows[0], stream_loop=0)
        distorted = window_input(encode, *windows[1])
    else:
        reference = video_input(source, time_ranges, stream_loop=0)
        distorted = video_input(encode)
    if pairing.mode == PairingMode.TIME:
        reference = paired(reference, source, pairing, skips[0])
        distorted = paired(distorted, source, pairing, skips[1])
        # the process ends with the encode
        reference = _from(reference, _time_of(part.first + skips[1], times.encode) - _SLACK_S)
        distorted = _counted(distorted, part, 0)
    else:
        if way == Way.COUNT:
            reference = _counted(reference, part, skips[0])
            distorted = _counted(distorted, part, skips[1])
        reference = paired(reference, source, pairing, 0)
        distorted = paired(distorted, source, pairing, 0)
    pix_fmt = common_pix_fmt([source, encode], request.models)
    measured = libvmaf_filter(
        scaled_input(distorted, source.display_size, pix_fmt),
        scaled_input(reference, source.display_size, pix_fmt),
        request,
        pairing,
        "0.json",
        threads,
    )
    clock = FILE_CLOCK if way == Way.SEEK else clock_arguments(time_ranges)
    return ["-xerror", *clock, *compile_arguments([output(measured, None, format="null")])]


def join_logs(
    texts: Sequence[str], parts: Sequence[FrameRange], pairing: Pairing, subsample: int
) -> str:
    """One log of the logs of all ranges, in libvmaf's form, without its speed.

    Args:
        texts: libvmaf's JSON log of each range.
        parts: the ranges.
        pairing: how frames are matched.
        subsample: every n-th pair was measured.

    Raises:
        VmafError: a log is none, has other frames than its range, or other values than the log
            before where both have measured a frame.
    """
    joined: dict[int, Frame] = {}
    version = ""
    for part, text in zip(parts, texts, strict=True):
        version, frames = _numbered(text, part.first)
        stop = part.end if part.stop is None else min(part.stop, pairing.count)
        due = range(part.first, stop, subsample)
        # by time, the frames at the end may lie beyond the other video
        is_short = part.stop is None and pairing.mode == PairingMode.TIME
        if list(frames) != list(due[: len(frames)] if is_short else due):
            raise VmafError(
                f"of pairs {part.first} to {stop - 1}, {len(due)} are due and {len(frames)} are "
                "in the log"
            )
        for number, frame in frames.items():
            if part.start <= number < part.end:
                joined[number] = frame
            elif part.checked_from <= number < part.start and joined[number] != frame:
                raise VmafError(f"pair {number} has other values in the range behind it")
    return _written(version, [(number, joined[number]) for number in sorted(joined)])


def _can_seek(video: VideoInfo, times: Sequence[float]) -> bool:
    """Whether the timestamps of a video tell its frames, and seeking leads to them."""
    cannot = (
        video.is_bare
        or video.is_hls
        or video.is_timed_by_order
        or video.is_timed_by_dts
        or video.has_false_keys
        or video.path.suffix.lower() == DASH_SUFFIX
    )
    return not cannot and bool((np.diff(times) >= _MIN_STEP_S).all())


def _window(
    times: Sequence[float], part: FrameRange, skip: int
) -> tuple[Fraction | None, Fraction | None]:
    """Where to cut a video, between two frames; None: at its end or beginning."""
    places = (part.first + skip, None if part.stop is None else part.stop + skip)

    def edge(place: int | None) -> Fraction | None:
        if not place or place >= len(times):
            return None
        return (Fraction(times[place - 1]) + Fraction(times[place])) / 2

    return edge(places[0]), edge(places[1])


def _counted(stream: VideoNode, part: FrameRange, skip: int) -> VideoNode:
    """The frames of a range, counted from the beginning; `skip` more stand before the first."""
    places = {"start_frame": part.first + skip}
    if part.stop is not None:
        places["end_frame"] = part.stop + skip
    return stream.filter("trim", **places)


def _time_of(place: int, times: Sequence[float]) -> Fraction:
    return Fraction(times[min(place, len(times) - 1)])


def _from(stream: VideoNode, start_s: Fraction) -> VideoNode:
    return stream.filter("trim", start=f"{float(start_s):.6f}") if start_s > 0 else stream


def _numbered(text: str, first: int) -> tuple[str, dict[int, Frame]]:
    """The version of libvmaf, and the frames of a log by the numbers of their pairs."""
    try:
        parsed = json.loads(text, parse_float=str)  # as libvmaf wrote them
        frames = {first + frame["frameNum"]: frame["metrics"] for frame in parsed["frames"]}
    except (ValueError, KeyError, TypeError) as error:
        raise VmafError(f"libvmaf's log cannot be parsed: {error!r}") from error
    return str(parsed.get("version", "")), frames


def _written(version: str, frames: Sequence[tuple[int, Frame]]) -> str:
    """A log in libvmaf's form."""
    names = dict.fromkeys(name for _, frame in frames for name in frame)
    blocks = [
        f'    {{\n      "frameNum": {number},\n      "metrics": {{\n'
        + ",\n".join(f'        "{name}": {value or "null"}' for name, value in frame.items())
        + "\n      }\n    }"
        for number, frame in frames
    ]
    pooled = [f'    "{name}": {_pooled(name, frames)}' for name in names]
    return (
        f'{{\n  "version": {json.dumps(version)},\n  "frames": [\n{_lines(blocks)}\n  ],\n'
        f'  "pooled_metrics": {{\n{_lines(pooled)}\n  }},\n  "aggregate_metrics": {{\n  }}\n}}\n'
    )


def _lines(items: Sequence[str]) -> str:
    return ",\n".join(items)


def _pooled(name: str, frames: Sequence[tuple[int, Frame]]) -> str:
    """What libvmaf's log has of one metric below all frames."""
    values = [frame[name] for _, frame in frames if name in frame]
    if None in values:
        return "{\n    }"
    array = np.asarray(values, np.float64)
    figures = {
        "min": array.min(),
        "max": array.max(),
        "mean": array.mean(),
        "harmonic_mean": len(array) / np.sum(1 / (array + 1)) - 1,
    }
    lines = _lines([f'      "{key}": {value:.6f}' for key, value in figures.items()])
    return f"{{\n{lines}\n    }}"
