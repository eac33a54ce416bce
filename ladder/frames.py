"""Chosen frames of a video as a viewer sees them: upright, square pixels, at display size, RGB."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ladder.errors import VideoError
from ladder.probe import VideoInfo, open_video

Pixels = npt.NDArray[np.uint8]

_SEEK_BEYOND_S = 4.0  # a jump costs decoding from a key frame on: shorter ways are decoded through
_CLOCK_S = 0.001  # coarsest clock of a container: Matroska rounds times to it
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


def frames_at(info: VideoInfo, times_s: Sequence[float], size: tuple[int, int]) -> Pixels:
    """The frames shown at `times_s`, in one pass over the file.

    Args:
        info: what `probe` said of the file.
        times_s: ascending, in seconds from the first frame; one past the end gives the last frame.
        size: (width, height) of the result; the picture is scaled to it (bicubic).

    Returns:
        (T, height, width, 3) uint8, RGB, full range.

    Raises:
        VideoError: decoding fails, or the file ends well before its header says.
    """
    shown: list[Pixels] = []
    with open_video(info.path) as (container, stream):
        last: VideoFrame | None = None
        last_s = 0.0
        for time_s, frame in _decode_towards(info, container, stream, times_s, shown):
            # a frame is on the screen until the next one comes
            while last and len(shown) < len(times_s) and times_s[len(shown)] + _CLOCK_S < time_s:
                shown.append(_upright(last, info.rotation, size))
            last, last_s = frame, time_s
            if len(shown) == len(times_s):
                break
        if last is None:
            raise VideoError("damaged", f"{info.path} has not one frame that can be decoded")
        if len(shown) < len(times_s):
            _refuse_cut_short(info, last_s, min(times_s[-1], info.duration_s))
            end = _upright(last, info.rotation, size)
            shown += [end] * (len(times_s) - len(shown))
    return np.stack(shown)


def first_luma(info: VideoInfo, count: int, size: tuple[int, int], start_s: float = 0.0) -> Pixels:
    """`count` frames (fewer if there are fewer) from `start_s` on, as viewed.

    Returns:
        (T, height, width) uint8 luma, upright, limited range whatever the file's is.
    """
    planes: list[Pixels] = []
    with open_video(info.path) as (container, stream):
        near = start_s < _SEEK_BEYOND_S or info.is_bare
        frames = (
            _timed(info, container, stream)
            if near
            else _timed_from(info, container, stream, start_s)
        )
        for time_s, frame in frames:
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


def _decode_towards(
    info: VideoInfo,
    container: InputContainer,
    stream: VideoStream,
    times_s: Sequence[float],
    shown: Sequence[Pixels],
) -> Iterator[tuple[float, VideoFrame]]:
    """(time, frame) in order, jumping to where the next wanted time is; `shown` grows outside."""
    position_s = 0.0
    while len(shown) < len(times_s):
        wanted = len(shown)
        is_far = times_s[wanted] - position_s > _SEEK_BEYOND_S and not info.is_bare
        frames = (
            _timed_from(info, container, stream, times_s[wanted])
            if is_far
            else _timed(info, container, stream)
        )
        for position_s, frame in frames:
            yield position_s, frame
            if len(shown) == len(times_s):
                return
            # not before it has been reached: the key frame before it may lie far back
            is_reached = len(shown) > wanted and not info.is_bare
            if is_reached and times_s[len(shown)] - position_s > _SEEK_BEYOND_S:
                break
        else:
            return


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
        back_s = 2 * back_s or _SEEK_BEYOND_S
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
