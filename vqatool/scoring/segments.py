"""Decode a video segment by segment: the tasks that a worker runs, and the order they run in.

A long video is many small tasks, so several workers share it and little memory is in use. Nothing
here loads a model, so workers stay small.
"""

import contextlib
import gc
import logging
import math
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ladder.errors import VideoError
from ladder.media.decode import SeenFrames, require_complete
from ladder.media.log import CODECS_THAT_FORGET, ERROR, ffmpeg_log, tell_damage
from ladder.media.probe import FILE_FAULTS, Size, VideoInfo, probe
from ladder.media.remote import as_it_is_now
from ladder.media.time_ranges import TimeRange
from vqatool.inputs.clip import Array, FrameGroup
from vqatool.inputs.decode_pool import (
    TIMEOUT_S,
    DecodeFailure,
    DecodePool,
    PendingDecode,
    failure_of,
)
from vqatool.inputs.preprocessor import ClipPreprocessor, PacketState, require_sdr
from vqatool.scoring.rows import FileStamp

Display = Size | None

_DISPLAY = re.compile(r"(\d{2,5})x(\d{2,5})", re.ASCII)
_MIN_DISPLAY_PX = 16

DEFAULT_DISPLAY = Size(1920, 1080)
"""The screen that VMAF was made for."""

SEGMENTS_PER_TASK = 8
"""Segments that one task of a worker decodes."""

_TINY = Size(16, 16)  # of frames that nobody looks at
_MOST_FRAMES = 100_000  # of a segment: headers may state any rate
_REORDERED_S = 0.5  # by which a frame may be shown after the packets that follow it

SKIMMED_FROM_S = 600.0
"""Length in seconds from which on a video is skimmed by default."""

SKIMMED = "skim"
"""In the column `sampled`: all segments have scores, and some the pixels of others."""

_log = logging.getLogger(__name__)


def parse_display(text: str) -> Display:
    """A screen such as `1920x1080`; None, pixel for pixel, of `native`.

    Raises:
        ValueError: the text is neither, or a side is below 16 px.
    """
    if text == "native":
        return None
    found = _DISPLAY.fullmatch(text)
    size = Size(int(found[1]), int(found[2])) if found else None
    if not size or min(size) < _MIN_DISPLAY_PX:
        raise ValueError(f"{text!r} is neither a size such as 1920x1080 nor native")
    return size


@dataclass(frozen=True)
class ScoreConfig:
    """How videos are scored.

    Attributes:
        display: (width, height) of the screen in px; None scores pixel for pixel.
        segment_s: length in seconds of the segments that get a score of their own.
        jobs: worker processes that decode; None: as `DecodePool` has them.
        timeout_s: seconds that a worker has for `SEGMENTS_PER_TASK` segments.
        hardware: name of the hardware decoder; empty: none.
        tonemap: score HDR as SDR; else it gets no score.
        sample: segments of a video that are scored, evenly spread; None: all.
        skims: whether segments that follow one of the same shot, and whose packets are like those
            of that one, have its pixels, which saves decoding; None: from `SKIMMED_FROM_S` on.
    """

    display: Display = DEFAULT_DISPLAY
    segment_s: float = 2.5
    jobs: int | None = None
    timeout_s: float = TIMEOUT_S
    hardware: str = ""
    tonemap: bool = False
    sample: int | None = None
    skims: bool | None = None

    @property
    def screen(self) -> str:
        """The display as a report holds it."""
        return "{}x{}".format(*self.display) if self.display else "native"

    def num_segments(self, duration_s: float) -> int:
        """Equal segments that a video of this length has, each of about `segment_s` seconds.

        Halves are rounded up: with segments of 2.5 s, 6.25 s are 3 segments and 8.75 s are 4.
        """
        # the duration as a report holds it, so that a resumed run finds the same number
        return max(1, math.floor(round(duration_s, 4) / self.segment_s + 0.5))

    def scored_segments(self, duration_s: float) -> range | list[int]:
        """Which of these segments are scored: those in the middles of `sample` equal parts."""
        count = self.num_segments(duration_s)
        if self.sample is None or self.sample >= count:
            return range(count)
        return [(2 * part + 1) * count // (2 * self.sample) for part in range(self.sample)]

    def sampled(self, duration_s: float) -> str:
        """Such as `6/60`: how many segments are scored, and how many there are; empty: all."""
        count, scored = self.num_segments(duration_s), len(self.scored_segments(duration_s))
        return f"{scored}/{count}" if scored < count else ""

    def skims_through(self, duration_s: float) -> bool:
        """Whether a video of this length is skimmed: not where a sample of it is scored.

        Segments that lie apart share no pixels, and a row says one of the two.
        """
        count = self.num_segments(duration_s)
        is_wanted = duration_s >= SKIMMED_FROM_S if self.skims is None else self.skims
        return is_wanted and count > 1 and len(self.scored_segments(duration_s)) == count


class Segment(NamedTuple):
    """A segment of a video as views of the model, made of `num_frame_groups` of its frame groups.

    None are its own where it has the pixels of one before it (`vqatool.inputs.skim`).

    `is_damaged` if a decoder has to conceal errors, or a packet has bytes that its codec forbids;
    `is_interlaced` if a frame is interlaced.
    """

    start_s: float
    end_s: float
    views: list[Array]
    num_frame_groups: int
    is_damaged: bool
    is_interlaced: bool = False
    packets: PacketState = PacketState.READABLE


@dataclass(frozen=True, kw_only=True)
class DecodedSegments:
    """Consecutive segments of one video, or the reason why they could not be decoded.

    `stamp` and `info` are None if decoding failed before they were known.
    """

    path: Path
    stamp: FileStamp | None = None
    info: VideoInfo | None = None
    segments: tuple[Segment, ...] = ()
    spent_s: float = 0.0
    failure: DecodeFailure | None = None


def decode_videos(
    videos: Iterable[Path], preprocessor: ClipPreprocessor, config: ScoreConfig, pool: DecodePool
) -> Iterator[Iterator[DecodedSegments]]:
    """For each video, in order, its segments, in order; the next ones are decoded meanwhile.

    The number of tasks in flight is bounded, so memory grows neither with the number of videos nor
    with their length.
    """
    decoder = _SegmentDecoder(preprocessor, config, pool)
    waiting = iter(videos)
    started = deque(map(decoder.open, islice(waiting, pool.num_workers + 1)))

    def each() -> Iterator[Iterator[DecodedSegments]]:
        while started:
            yield decoder.segments_of(started.popleft())
            started.extend(map(decoder.open, islice(waiting, 1)))

    return each()


class _SegmentDecoder:
    """The program's side of decoding: it gives tasks to the pool and takes their results."""

    def __init__(
        self, preprocessor: ClipPreprocessor, config: ScoreConfig, pool: DecodePool
    ) -> None:
        self._preprocessor = replace(
            preprocessor, threads=pool.num_threads, hardware=config.hardware
        )
        self._config, self._pool = config, pool

    def open(self, path: Path) -> PendingDecode[DecodedSegments]:
        """Start on the first segments of a video."""
        return self._pool.submit(path, decode_first_segments, self._preprocessor, self._config)

    def segments_of(self, opened: PendingDecode[DecodedSegments]) -> Iterator[DecodedSegments]:
        """The segments of one video, until decoding fails."""
        first = opened.result()
        if isinstance(first, DecodeFailure):
            yield DecodedSegments(path=first.path, failure=first)
            return
        yield first
        if not first.info or first.failure:
            return
        num_scored = len(self._config.scored_segments(first.info.duration_s))
        starts = range(SEGMENTS_PER_TASK, num_scored, SEGMENTS_PER_TASK)
        submit = partial(self._submit, first.path, first.stamp, first.info)
        with contextlib.closing(self._pool.map(starts, submit)) as rest:
            for _, decoded in rest:
                if isinstance(decoded, DecodeFailure):
                    decoded = replace(first, segments=(), spent_s=0.0, failure=decoded)
                yield decoded
                if decoded.failure:
                    return

    def _submit(
        self, path: Path, stamp: FileStamp | None, info: VideoInfo, start: int
    ) -> PendingDecode[DecodedSegments]:
        args = (stamp, info, start, self._preprocessor, self._config)
        return self._pool.submit(path, decode_segments, *args)


def decode_first_segments(
    path: Path, preprocessor: ClipPreprocessor, config: ScoreConfig
) -> DecodedSegments:
    """Open a video and decode its first segments; errors become a failure."""
    started, path = time.monotonic(), as_it_is_now(path)
    known = DecodedSegments(path=path)
    try:
        known = replace(known, stamp=FileStamp.of(path))
        info = probe(path, tonemap=config.tonemap)
        known = replace(known, info=info)
        require_sdr(info)
        require_complete(info)
    except FILE_FAULTS as error:
        return replace(known, failure=failure_of(path, error), spent_s=time.monotonic() - started)
    opened_s = time.monotonic() - started
    decoded = decode_segments(path, known.stamp, info, 0, preprocessor, config)
    return replace(decoded, spent_s=opened_s + decoded.spent_s)


def decode_segments(
    path: Path,
    stamp: FileStamp | None,
    info: VideoInfo,
    first: int,
    preprocessor: ClipPreprocessor,
    config: ScoreConfig,
) -> DecodedSegments:
    """Decode `SEGMENTS_PER_TASK` of the scored segments of a probed video, from `first` on."""
    started = time.monotonic()
    count = config.num_segments(info.duration_s)
    length_s = info.duration_s / count
    scored = config.scored_segments(info.duration_s)
    if count > 1:
        preprocessor = preprocessor.of_segment(length_s, len(scored))
    parts = [
        TimeRange(index * length_s, length_s) for index in scored[first : first + SEGMENTS_PER_TASK]
    ]
    known = DecodedSegments(path=path, stamp=stamp, info=info)
    try:
        skims = config.skims_through(info.duration_s)
        segments = list(_decode_parts(info, parts, preprocessor, config.display, skims=skims))
        checked = tuple(_checked(info, segment, preprocessor) for segment in segments)
        known = replace(known, segments=checked)
    except FILE_FAULTS as error:
        known = replace(known, failure=failure_of(path, error))
    return replace(known, spent_s=time.monotonic() - started)


def _decode_parts(
    info: VideoInfo,
    parts: Sequence[TimeRange],
    preprocessor: ClipPreprocessor,
    display: Display,
    *,
    skims: bool,
) -> Iterator[Segment]:
    """All parts in one pass, and one where it ends at damage by itself.

    Of parts that are skimmed and meet damage all are decoded: how far a pass comes, and so what it
    has decoded already, depends on the number of threads.
    """
    if skims and (skimmed := _skimmed(info, parts, preprocessor, display)):
        yield from skimmed
        return
    count = 0
    while count < len(parts):
        is_damaged = False
        try:
            for segment in _decode_pass(info, parts[count:], preprocessor, display):
                yield segment
                count += 1
        except VideoError as error:
            if error.code != "damaged":
                raise
            is_damaged = True
        if is_damaged:  # outside of the handler, as `_decode_concealed` asks
            yield _decode_alone(info, parts[count], preprocessor, display)
            count += 1


def _skimmed(
    info: VideoInfo, parts: Sequence[TimeRange], preprocessor: ClipPreprocessor, display: Display
) -> Sequence[Segment]:
    """The parts, some with the pixels of others; none if one of them is or may be damaged."""
    try:
        segments = list(_decode_pass(info, parts, preprocessor, display, skims=True))
    except VideoError as error:
        if error.code != "damaged":
            raise
        return ()
    is_readable = all(segment.packets == PacketState.READABLE for segment in segments)
    return segments if is_readable else ()


def _checked(info: VideoInfo, segment: Segment, preprocessor: ClipPreprocessor) -> Segment:
    """The same; where its packets are doubtful, after a decoder has seen all of its frames."""
    if segment.is_damaged or segment.packets == PacketState.READABLE:
        return segment
    length_s = min(segment.end_s + _REORDERED_S, info.duration_s) - segment.start_s
    num_frames = min(max(1, math.ceil(length_s * info.fps)), _MOST_FRAMES)
    every_frame = replace(
        preprocessor,
        views=(),
        num_frame_groups=num_frames,
        frame_group=FrameGroup(),
        reads_stream=False,
    )
    part = TimeRange(segment.start_s, length_s)
    try:
        is_damaged = _decode_alone(info, part, every_frame, _TINY).is_damaged
    except VideoError as error:
        if error.code != "damaged":
            raise
        is_damaged = True
    return segment._replace(is_damaged=is_damaged)


def _decode_alone(
    info: VideoInfo, part: TimeRange, preprocessor: ClipPreprocessor, display: Display
) -> Segment:
    """One part, once more and concealing errors if it is damaged."""
    segment: Segment | None = None
    try:
        # a pass reads ahead, so the damage where it ended may be that of the next part
        (segment,) = _decode_pass(info, [part], preprocessor, display)
    except VideoError as error:
        if error.code != "damaged":
            raise
        _log.info("%s, %.1f s: decoding again and concealing errors", info.path, part.start_s)
    return segment or _decode_concealed(info, part, preprocessor, display)


def _decode_concealed(
    info: VideoInfo, part: TimeRange, preprocessor: ClipPreprocessor, display: Display
) -> Segment:
    """What a lenient decoder gives of a part, and whether the file is damaged indeed.

    Call it outside of the handler of a strict decoder's error, which keeps its threads alive:
    threads that log wait for one that waits for them.
    """
    # several threads conceal what others have not decoded yet: each time something else
    alone = replace(preprocessor, threads=1)
    if info.codec not in CODECS_THAT_FORGET or info.is_timed_by_order:
        (segment,) = _decode_pass(info, [part], alone, display, conceals=True)
        return segment
    gc.collect()
    with ffmpeg_log(ERROR) as lines:
        (segment,) = _decode_pass(info, [part], alone, display, conceals=True)
    is_damaged = segment.packets == PacketState.DAMAGED or tell_damage(lines)
    return segment._replace(is_damaged=is_damaged)


def _decode_pass(
    info: VideoInfo,
    parts: Sequence[TimeRange],
    preprocessor: ClipPreprocessor,
    display: Display,
    *,
    conceals: bool = False,
    skims: bool = False,
) -> Iterator[Segment]:
    seen = SeenFrames()
    loaded = preprocessor.load_parts(
        info, display, parts, is_strict=not conceals, seen=seen, skims=skims
    )
    for part, (views, groups, packets) in zip(parts, loaded, strict=True):
        yield Segment(
            part.start_s,
            part.start_s + part.length_s,
            views,
            groups,
            is_damaged=conceals or packets == PacketState.DAMAGED,
            is_interlaced=seen.are_interlaced,
            packets=packets,
        )
        seen.are_interlaced = False
