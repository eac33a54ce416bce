"""Frames of a video at given times: upright, in square pixels, at display size, RGB.

`frames_at` returns the frames that a player shows at given times. It first tries sparse decoding:
`plan` reads the packets around the times and chooses the frames, `decode` decodes these frames and
the frames they depend on. If the packets have no timestamps or the decoder gives other frames than
planned, `frames_at` decodes the video from the first wanted time to the last.
"""

import contextlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ladder.errors import VideoError
from ladder.media.container import LENIENT, Decoding, frames_of, is_shown, open_video, packets_of
from ladder.media.ends import MAX_MISSING_S, missing_end
from ladder.media.lengths import frame_times
from ladder.media.probe import Size, VideoInfo
from ladder.media.upright import Pixels, Upright

CLOCK_S = 0.002
"""Tolerance of times in seconds: Matroska rounds them to milliseconds, those of frames and ends."""

SEEK_BEYOND_S = 4.0
"""Seek only over longer gaps (s): after a seek, decoding starts at an earlier key frame."""

_KEY_STEP_S = 0.5

# their decoders skip exactly the frames that no other frame refers to
_CODECS_THAT_SKIP_NONREF = frozenset({"h264"})


@dataclass
class SeenFrames:
    """What the frames were like that were decoded: `are_interlaced` if one of them was."""

    are_interlaced: bool = False

    def add(self, frame: VideoFrame) -> None:
        """Note what one frame is like."""
        self.are_interlaced = self.are_interlaced or bool(frame.interlaced_frame)


class SparseDecodingUnavailable(Exception):
    """The packets lack timestamps or a key frame, or the decoder did not give a planned frame."""


@dataclass(frozen=True)
class _Entry:
    """One packet; entries are kept in decoding order."""

    pts: int
    is_key: bool
    is_shown: bool


@dataclass(frozen=True)
class Window:
    """The packets of a part of a stream, from a key frame on, and the frames wanted from it."""

    seek_to: int
    entries: Sequence[_Entry]
    wanted: frozenset[int]
    """Presentation timestamps (pts) of the wanted frames."""
    reaches_end: bool

    @property
    def last_pts(self) -> int:
        """Presentation timestamp of the frame that is shown last."""
        return max(entry.pts for entry in self.entries)


def display_size(info: VideoInfo, display: tuple[int, int] | None) -> Size:
    """The size of the video on a screen of `display` px; None: the video's own size.

    The picture is scaled up or down until it fills the screen in one direction. For portrait
    pictures the screen is turned, like a phone.
    """
    width, height = info.display_size
    if display is None:
        return info.display_size
    long_px, short_px = max(display), min(display)
    box = (long_px, short_px) if width >= height else (short_px, long_px)
    factor = min(box[0] / width, box[1] / height)
    return Size(_even(width * factor), _even(height * factor))


def uniform_times(start_s: float, length_s: float, count: int) -> list[float]:
    """The centres of `count` equal parts of [start, start + length], in seconds."""
    return [start_s + length_s * (index + 0.5) / count for index in range(count)]


def frames_at(
    info: VideoInfo,
    times_s: Sequence[float],
    size: tuple[int, int],
    decoding: Decoding = LENIENT,
) -> Pixels:
    """The frames shown at `times_s`; decodes as few other frames as possible.

    Args:
        info: the result of `probe` for the file.
        times_s: ascending, in seconds from the first frame; past the end: the last frame.
        size: (width, height) of the result; the picture is scaled to it (bicubic).
        decoding: number of threads and strictness.

    Returns:
        (T, height, width, 3) uint8, RGB, full range.

    Raises:
        VideoError: decoding fails, or the file ends well before the duration in its header.
    """
    shown_THWC = np.empty((len(times_s), size[1], size[0], 3), np.uint8)
    for index, picture_HWC in enumerate(each_frame_at(info, times_s, size, decoding)):
        shown_THWC[index] = picture_HWC
    return shown_THWC


def each_frame_at(
    info: VideoInfo,
    times_s: Sequence[float],
    size: tuple[int, int],
    decoding: Decoding = LENIENT,
    seen: SeenFrames | None = None,
) -> Iterator[Pixels]:
    """As `frames_at`, one frame (height, width, 3) after another, as they are decoded.

    What they are like is added to `seen`.
    """
    seen = seen or SeenFrames()
    given = 0
    if not info.is_bare and not info.is_timed_by_dts:
        with contextlib.suppress(SparseDecodingUnavailable):
            frames = _decode_sparse(info, times_s, decoding)
            for picture_HWC in _frames_on_screen(info, times_s, size, frames, seen):
                yield picture_HWC
                given += 1
    if rest_s := times_s[given:]:
        frames = _decode_sequential(info, rest_s, decoding)
        yield from _frames_on_screen(info, rest_s, size, frames, seen)


def count_decodable_frames(path: Path) -> int:
    """The number of frames of a video, found by decoding every frame.

    Raises:
        VideoError: a frame is damaged.
    """
    with open_video(path) as (container, stream):
        # the decoder finds damage without the loop filter too, which takes a third of the time
        stream.codec_context.options = {"err_detect": "explode", "skip_loop_filter": "all"}
        return sum(1 for _ in frames_of(container, stream))


def damaged_from_s(info: VideoInfo) -> float | None:
    """When the last frame before any damage is shown, in seconds from the first; None: no damage.

    Raises:
        VideoError: the file cannot be opened.
    """
    last_s = 0.0
    with open_video(info.path, Decoding(threads=1, is_strict=True)) as (container, stream):
        try:
            for time_s, _ in _timed(info, container, stream):
                last_s = max(last_s, time_s)
        except av.FFmpegError:
            return last_s
    return _corrupt_from_s(info)


def _corrupt_from_s(info: VideoInfo) -> float | None:
    """The same by the packets alone: of some that lack a part a decoder makes a picture."""
    last_s = 0.0
    with open_video(info.path, is_decoded=False) as (container, stream):
        for packet in packets_of(container, stream):
            if packet.is_corrupt:
                return last_s
            if packet.pts is not None:
                last_s = max(last_s, _seconds(info, stream, packet.pts))
    return None


def has_interlaced_frames(path: Path) -> bool:
    """Whether any key frame of a video is interlaced, of those that are half a second apart.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    next_s = -math.inf
    with open_video(path, Decoding(threads=1)) as (container, stream):
        for packet in packets_of(container, stream):
            time_s = next_s if packet.pts is None else float(packet.pts * packet.time_base)
            if not packet.is_keyframe or time_s < next_s:
                continue
            next_s = time_s + _KEY_STEP_S
            if any(frame.interlaced_frame for frame in _decoded_alone(stream, packet)):
                return True
    return False


def _decoded_alone(stream: VideoStream, packet: "Packet[VideoStream]") -> list[VideoFrame]:
    """The frame of a key packet; none where it is damaged."""
    frames: list[VideoFrame] = []
    with contextlib.suppress(av.FFmpegError):
        frames += packet.decode()
        frames += stream.codec_context.decode(None)
    stream.codec_context.flush_buffers()
    return frames


def require_complete(info: VideoInfo) -> None:
    """Raise VideoError if the file ends before its header says."""
    if missing := missing_end(info.path):
        raise VideoError("damaged", f"{info.path} {missing}")
    with open_video(info.path, is_decoded=False) as (container, stream):
        if info.is_bare or not stream.time_base:
            return
        start = info.start_pts(stream)
        target = start + int(max(0.0, info.duration_s - 2) / stream.time_base)
        container.seek(target, stream=stream)
        end_s = 0.0
        for packet in packets_of(container, stream):
            if packet.is_corrupt:
                raise VideoError("damaged", f"{info.path} ends inside a frame")
            if packet.pts is not None:
                end_s = max(end_s, float((packet.pts - start) * stream.time_base))
    _require_not_truncated(info, end_s, info.duration_s - 1 / float(info.fps))


def split_at_gaps(times_s: Sequence[float]) -> Iterator[Sequence[float]]:
    """Groups of ascending times, split where seeking is faster than decoding on."""
    first = 0
    for index in range(1, len(times_s) + 1):
        if index == len(times_s) or times_s[index] - times_s[index - 1] > SEEK_BEYOND_S:
            yield times_s[first:index]
            first = index


def plan(
    info: VideoInfo, container: InputContainer, stream: VideoStream, times_s: Sequence[float]
) -> Window:
    """Read the packets around `times_s` and choose the frames to decode; decodes nothing.

    Args:
        info: the result of `probe` for the file.
        container: the open file.
        stream: its video stream.
        times_s: ascending, in seconds from the first frame.

    Raises:
        SparseDecodingUnavailable: a packet has no timestamps, or no key frame comes first.
    """
    assert stream.time_base
    start, base = info.start_pts(stream), float(stream.time_base)
    reach = start + int((times_s[0] + CLOCK_S) / base)
    last = start + int((times_s[-1] + CLOCK_S) / base)
    back_s = 0.0
    # the key frame of the first frame may be decoded before the time at which that is shown, and
    # to a time before its start FFmpeg does not seek in a playlist
    earliest_s = 0.0 if info.is_hls else -SEEK_BEYOND_S
    while True:
        from_s = max(earliest_s, times_s[0] - back_s)
        seek_to = start + int(from_s / base)
        entries, reaches_end = _entries(container, stream, seek_to, last)
        if from_s == earliest_s or (entries and entries[0].pts <= reach):
            break
        # without an index a seek may land too late
        back_s = 2 * back_s or SEEK_BEYOND_S
    if not entries:
        raise SparseDecodingUnavailable
    shown = sorted(entry.pts for entry in entries if entry.is_shown)
    if not shown:
        raise SparseDecodingUnavailable
    wanted = {_frame_on_screen_at(shown, start + (time_s + CLOCK_S) / base) for time_s in times_s}
    return Window(seek_to, entries, frozenset(wanted), reaches_end)


def decode(container: InputContainer, stream: VideoStream, window: Window) -> Iterator[VideoFrame]:
    """The wanted frames of a window, in the order they are shown.

    Raises:
        SparseDecodingUnavailable: the decoder did not give one of the wanted frames.
    """
    missing = deque(sorted(window.wanted))
    for frame in decoded(container, stream, window):
        if frame.pts is None or not missing or frame.pts < missing[0]:
            continue
        if frame.pts > missing[0]:  # before a frame is taken for the one that is missing
            raise SparseDecodingUnavailable
        missing.popleft()
        yield frame
    if missing:
        raise SparseDecodingUnavailable


def decoded(container: InputContainer, stream: VideoStream, window: Window) -> Iterator[VideoFrame]:
    """The wanted frames and the frames they depend on, in the order they are shown."""
    context = stream.codec_context
    can_skip_nonref = context.codec.canonical_name in _CODECS_THAT_SKIP_NONREF
    runs = deque(_runs(window))
    from_pts = 0
    container.seek(window.seek_to, stream=stream)
    from_key = dropwhile(lambda packet: not packet.is_keyframe, _packets(container, stream))
    for index, packet in enumerate(from_key):
        if not runs:
            return
        first, last = runs[0]
        if index < first:
            continue
        if index == first:
            from_pts = _needed_from(window, first, last)
        if can_skip_nonref:
            context.skip_frame = "DEFAULT" if packet.pts in window.wanted else "NONREF"
        if window.entries[index].pts >= from_pts:
            yield from packet.decode()
        if index == last:
            # get the frames that the decoder still holds, then reset it as after a seek
            yield from context.decode(None)
            context.flush_buffers()
            runs.popleft()


def _frames_on_screen(
    info: VideoInfo,
    times_s: Sequence[float],
    size: tuple[int, int],
    frames: Iterator[tuple[float, VideoFrame]],
    seen: SeenFrames,
) -> Iterator[Pixels]:
    """The frame of `frames` (time in seconds, frame; ascending) shown at each of `times_s`."""
    upright, count = Upright(info, size), 0
    last: VideoFrame | None = None
    for time_s, frame in frames:
        # a frame stays on the screen until the next one
        until = count
        while last and until < len(times_s) and times_s[until] + CLOCK_S < time_s:
            until += 1
        if last and until > count:
            seen.add(last)
            yield from [upright(last)] * (until - count)
            count = until
        if count == len(times_s):
            return
        last = frame
    if last is None:
        raise VideoError("damaged", f"{info.path} has no frame that can be decoded")
    seen.add(last)
    yield from [upright(last)] * (len(times_s) - count)


def _decode_sparse(
    info: VideoInfo, times_s: Sequence[float], decoding: Decoding
) -> Iterator[tuple[float, VideoFrame]]:
    """(time in seconds, frame) of the frames shown at `times_s`, each frame once."""
    with open_video(info.path, decoding) as (container, stream):
        for wanted_s in split_at_gaps(times_s):
            window = plan(info, container, stream, wanted_s)
            if window.reaches_end:
                last_s = _seconds(info, stream, window.last_pts)
                _require_not_truncated(info, last_s, min(wanted_s[-1], info.duration_s))
            for frame in decode(container, stream, window):
                assert frame.pts is not None
                yield _seconds(info, stream, frame.pts), frame


def _decode_sequential(
    info: VideoInfo, times_s: Sequence[float], decoding: Decoding
) -> Iterator[tuple[float, VideoFrame]]:
    """(time in seconds, frame) of every frame, from one at or before `times_s[0]` on."""
    last_s = 0.0
    with open_video(info.path, decoding) as (container, stream):
        for last_s, frame in _timed_since(info, container, stream, times_s[0]):
            yield last_s, frame
    _require_not_truncated(info, last_s, min(times_s[-1], info.duration_s))


def _timed_since(
    info: VideoInfo, container: InputContainer, stream: VideoStream, start_s: float
) -> Iterator[tuple[float, VideoFrame]]:
    """Frames from one at or before `start_s` on; seeks only if `start_s` is far from the start."""
    if start_s < SEEK_BEYOND_S or info.is_bare:
        return _timed(info, container, stream)
    return _timed_from(info, container, stream, start_s)


def _timed_from(
    info: VideoInfo, container: InputContainer, stream: VideoStream, wanted_s: float
) -> Iterator[tuple[float, VideoFrame]]:
    """Frames from one at or before `wanted_s` on; seeks again if a seek landed too late."""
    assert stream.time_base
    start, back_s = info.start_pts(stream), 0.0
    while True:
        target_s = max(0.0, wanted_s - back_s)
        container.seek(start + int(target_s / stream.time_base), stream=stream)
        frames = _timed(info, container, stream)
        first = next(frames, None)
        is_timed = first is not None and _stamp(info, first[1]) is not None
        if target_s == 0 or (first and is_timed and first[0] <= wanted_s):
            break
        back_s = 2 * back_s or SEEK_BEYOND_S
    if first:
        yield first
        yield from frames


def _timed(
    info: VideoInfo, container: InputContainer, stream: VideoStream
) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds from the first frame, frame); without timestamps, by the frame rate."""
    if info.is_timed_by_order:
        yield from zip(frame_times(info.path, info.fps), frames_of(container, stream), strict=False)
        return
    frame_s = float(1 / info.fps)
    before_s = -frame_s
    for frame in frames_of(container, stream):
        stamp = _stamp(info, frame)
        before_s = before_s + frame_s if stamp is None else _seconds(info, stream, stamp)
        yield before_s, frame


def _stamp(info: VideoInfo, frame: VideoFrame) -> int | None:
    """The timestamp that tells when a frame is shown; None: it has none."""
    return frame.dts if info.is_timed_by_dts else frame.pts


def _seconds(info: VideoInfo, stream: VideoStream, pts: int) -> float:
    return float((pts - info.start_pts(stream)) * (stream.time_base or 0))


def _require_not_truncated(info: VideoInfo, end_s: float, expected_s: float) -> None:
    if expected_s - end_s > max(MAX_MISSING_S, 2 / float(info.fps)):
        raise VideoError(
            "damaged",
            f"{info.path} ends at {end_s:.2f} s, its header states {info.duration_s:.2f} s",
        )


def _even(length: float) -> int:
    return max(2, round(length / 2) * 2)


def _entries(
    container: InputContainer, stream: VideoStream, seek_to: int, last: int
) -> tuple[list[_Entry], bool]:
    """The packets from the key frame before `seek_to` to the last one shown until `last` (pts).

    The second value is whether the stream ends there. What a cut left before the first key frame
    cannot be decoded.
    """
    container.seek(seek_to, stream=stream)
    entries: list[_Entry] = []
    for packet in _packets(container, stream):
        if packet.pts is None or packet.dts is None:
            raise SparseDecodingUnavailable
        # no frame is shown before it is decoded: all later packets are shown after `last`
        if packet.dts > last:
            return entries, False
        if not entries and not packet.is_keyframe:
            continue
        has_frame = not packet.is_discard and is_shown(packet)
        entries.append(_Entry(packet.pts, packet.is_keyframe, has_frame))
    return entries, True


def _packets(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    return (packet for packet in packets_of(container, stream) if packet.size)


def _frame_on_screen_at(shown: Sequence[int], time: float) -> int:
    """The last of `shown` (pts, ascending) at or before `time`, else the first."""
    return max((pts for pts in shown if pts <= time), default=shown[0])


def _runs(window: Window) -> Iterator[tuple[int, int]]:
    """(first, last) index of each block of packets to decode; ascending, with gaps between."""
    wanted = (i for i, entry in enumerate(window.entries) if entry.pts in window.wanted)
    yield from _merged(sorted(_span(window.entries, index) for index in wanted))


def _needed_from(window: Window, first: int, last: int) -> int:
    """The pts from which on frames of a block are decoded.

    What follows the first key frame and is shown before it may refer to frames before that: no
    other frame of the block needs it, and a strict decoder would call it damaged.
    """
    shown = [entry.pts for entry in window.entries[first : last + 1]]
    earliest = min(pts for pts in shown if pts in window.wanted)
    return shown[0] if window.entries[first].is_key and earliest >= shown[0] else min(shown)


def _span(entries: Sequence[_Entry], index: int) -> tuple[int, int]:
    """(first, last) packet to decode for the frame of packet `index`: key frame to itself."""
    first = index
    # a frame decoded after a key frame but shown before it needs the previous key frame
    while first > 0 and not (entries[first].is_key and entries[first].pts <= entries[index].pts):
        first -= 1
    return first, index


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ascending spans, with overlapping and adjacent ones joined."""
    current: tuple[int, int] | None = None
    for first, last in spans:
        if current and first <= current[1] + 1:
            current = current[0], max(current[1], last)
            continue
        if current:
            yield current
        current = first, last
    if current:
        yield current
