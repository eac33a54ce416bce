"""Chosen frames of a video as a viewer sees them: upright, square pixels, at display size, RGB."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ladder import sparse
from ladder.errors import VideoError
from ladder.probe import LENIENT, Decoding, VideoInfo, open_video

Pixels = npt.NDArray[np.uint8]

_CUT_SHORT_S = 0.5  # a file that ends this much before its header says is damaged


def display_size(info: VideoInfo, display: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) a player gives the video on a screen of `display` px; None: its own size.

    The picture fills the screen in one direction, enlarged if need be. The screen is turned for
    portrait pictures, as a phone is.
    """
    width, height = info.display_size
    if display is None:
        return width, height
    long_px, short_px = max(display), min(display)
    box = (long_px, short_px) if width >= height else (short_px, long_px)
    factor = min(box[0] / width, box[1] / height)
    return _even(width * factor), _even(height * factor)


def spread(start_s: float, length_s: float, count: int) -> list[float]:
    """`count` times in seconds, the middles of equal parts of [start, start + length]."""
    return [start_s + length_s * (index + 0.5) / count for index in range(count)]


def frames_at(
    info: VideoInfo,
    times_s: Sequence[float],
    size: tuple[int, int],
    decoding: Decoding = LENIENT,
) -> Pixels:
    """The frames shown at `times_s`; as little as possible is decoded for them.

    Args:
        info: what `probe` said of the file.
        times_s: ascending, in seconds from the first frame; one past the end gives the last frame.
        size: (width, height) of the result; the picture is scaled to it (bicubic).
        decoding: how.

    Returns:
        (T, height, width, 3) uint8, RGB, full range.

    Raises:
        VideoError: decoding fails, or the file ends well before its header says.
    """
    if not info.is_bare:
        with contextlib.suppress(sparse.NotAsPlanned):
            return _on_screen(info, times_s, size, _sparsely(info, times_s, decoding))
    return _on_screen(info, times_s, size, _through(info, times_s, decoding))


def first_luma(info: VideoInfo, count: int, size: tuple[int, int], start_s: float = 0.0) -> Pixels:
    """`count` frames (fewer if there are fewer) from `start_s` on, as viewed.

    Returns:
        (T, height, width) uint8 luma, upright, limited range whatever the file's is.
    """
    planes: list[Pixels] = []
    with open_video(info.path) as (container, stream):
        for time_s, frame in _timed_since(info, container, stream, start_s):
            if time_s < start_s:
                continue
            planes.append(_small_luma(frame, info.rotation, size))
            if len(planes) == count:
                break
    return np.stack(planes) if planes else np.empty((0, size[1], size[0]), np.uint8)


def count_decodable(path: Path) -> int:
    """Frames of a video, each decoded and any damage an error.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    with open_video(path) as (container, stream):
        # damage shows without the loop filter too, which is a third of the work
        stream.codec_context.options = {"err_detect": "explode", "skip_loop_filter": "all"}
        return sum(1 for _ in container.decode(stream))


def require_whole(info: VideoInfo) -> None:
    """Raise VideoError if the last packets that the header promises are not in the file."""
    with open_video(info.path) as (container, stream):
        if info.is_bare or not stream.time_base:
            return
        start = stream.start_time or 0
        target = start + int(max(0.0, info.duration_s - 2) / stream.time_base)
        container.seek(target, stream=stream)
        end_s = 0.0
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise VideoError("damaged", f"{info.path} breaks off inside a frame")
            if packet.pts is not None:
                end_s = max(end_s, float((packet.pts - start) * stream.time_base))
    _refuse_cut_short(info, end_s, info.duration_s - 1 / float(info.fps))


def _on_screen(
    info: VideoInfo,
    times_s: Sequence[float],
    size: tuple[int, int],
    frames: Iterator[tuple[float, VideoFrame]],
) -> Pixels:
    """Of (time, frame) in order, the one that is on the screen at each of `times_s`."""
    shown_THWC = np.empty((len(times_s), size[1], size[0], 3), np.uint8)
    count = 0
    last: VideoFrame | None = None
    for time_s, frame in frames:
        # a frame is on the screen until the next one comes
        until = count
        while last and until < len(times_s) and times_s[until] + sparse.CLOCK_S < time_s:
            until += 1
        if last and until > count:
            shown_THWC[count:until] = _upright(last, info.rotation, size)
            count = until
        if count == len(times_s):
            return shown_THWC
        last = frame
    if last is None:
        raise VideoError("damaged", f"{info.path} has not one frame that can be decoded")
    shown_THWC[count:] = _upright(last, info.rotation, size)
    return shown_THWC


def _sparsely(
    info: VideoInfo, times_s: Sequence[float], decoding: Decoding
) -> Iterator[tuple[float, VideoFrame]]:
    """The frames on the screen at `times_s`, each once."""
    with open_video(info.path, decoding) as (container, stream):
        for wanted_s in sparse.windows(times_s):
            window = sparse.plan(container, stream, wanted_s)
            if window.reaches_end:
                last_s = _seconds(stream, window.last_pts)
                _refuse_cut_short(info, last_s, min(wanted_s[-1], info.duration_s))
            for frame in sparse.decode(container, stream, window):
                assert frame.pts is not None
                yield _seconds(stream, frame.pts), frame


def _through(
    info: VideoInfo, times_s: Sequence[float], decoding: Decoding
) -> Iterator[tuple[float, VideoFrame]]:
    """Every frame from before the first of `times_s` to after the last."""
    last_s = 0.0
    with open_video(info.path, decoding) as (container, stream):
        for last_s, frame in _timed_since(info, container, stream, times_s[0]):
            yield last_s, frame
    _refuse_cut_short(info, last_s, min(times_s[-1], info.duration_s))


def _seconds(stream: VideoStream, pts: int) -> float:
    return float((pts - (stream.start_time or 0)) * (stream.time_base or 0))


def _timed_since(
    info: VideoInfo, container: InputContainer, stream: VideoStream, start_s: float
) -> Iterator[tuple[float, VideoFrame]]:
    """Frames from one at or before `start_s` on, from the beginning if that is near."""
    if start_s < sparse.SEEK_BEYOND_S or info.is_bare:
        return _timed(info, container, stream)
    return _timed_from(info, container, stream, start_s)


def _timed_from(
    info: VideoInfo, container: InputContainer, stream: VideoStream, wanted_s: float
) -> Iterator[tuple[float, VideoFrame]]:
    """Frames from one at or before `wanted_s` on; without an index the first jump may miss it."""
    assert stream.time_base
    start, back_s = stream.start_time or 0, 0.0
    while True:
        target_s = max(0.0, wanted_s - back_s)
        container.seek(start + int(target_s / stream.time_base), stream=stream)
        frames = _timed(info, container, stream)
        first = next(frames, None)
        if target_s == 0 or (first and first[0] <= wanted_s):
            break
        back_s = 2 * back_s or sparse.SEEK_BEYOND_S
    if first:
        yield first
        yield from frames


def _timed(
    info: VideoInfo, container: InputContainer, stream: VideoStream
) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds from the first frame, frame); counted where a stream carries no timestamps."""
    start_s = float((stream.start_time or 0) * (stream.time_base or 0))
    for index, frame in enumerate(container.decode(stream)):
        yield (float(index / info.fps) if frame.time is None else frame.time - start_s), frame


def _upright(frame: VideoFrame, rotation: int, size: tuple[int, int]) -> Pixels:
    width, height = size[::-1] if rotation % 180 else size
    rgb = frame.reformat(width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
    turned = np.rot90(rgb, k=rotation // 90)
    return np.ascontiguousarray(turned, dtype=np.uint8)


def _small_luma(frame: VideoFrame, rotation: int, size: tuple[int, int]) -> Pixels:
    width, height = size[::-1] if rotation % 180 else size
    # gray alone is full range, and a conversion to it keeps limited values as they are
    small = frame.reformat(width, height, "yuv420p", interpolation="AREA", dst_color_range="MPEG")
    luma = np.asarray(small.to_ndarray()[:height], dtype=np.uint8)
    return np.ascontiguousarray(np.rot90(luma, k=rotation // 90))


def _refuse_cut_short(info: VideoInfo, end_s: float, expected_s: float) -> None:
    if expected_s - end_s > max(_CUT_SHORT_S, 2 / float(info.fps)):
        raise VideoError(
            "damaged", f"{info.path} ends at {end_s:.2f} s, its header says {info.duration_s:.2f} s"
        )


def _even(length: float) -> int:
    return max(2, round(length / 2) * 2)
