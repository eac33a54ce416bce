"""Decoded frames as a player shows them: cropped, in square pixels, mirrored and turned."""

from fractions import Fraction

import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ladder.media.probe import VideoInfo
from ladder.media.side_data import Crop

Pixels = npt.NDArray[np.uint8]

_ANY_CLOCK = Fraction(1, 25)  # of a graph for one frame


class Upright:
    """Decoded frames -> upright RGB of one size, without copies and with one scaler for all."""

    def __init__(self, info: VideoInfo, size: tuple[int, int]) -> None:
        self._info, self._scaler = info, VideoReformatter()
        self._size = _before_turning(info, size)

    def __call__(self, frame: VideoFrame) -> Pixels:
        """(height, width, 3), in memory of its own."""
        width, height = self._size
        shown = self._scaler.reformat(
            _cropped(frame, self._info.crop), width, height, "rgb24", interpolation="BICUBIC"
        )
        (plane,) = shown.planes
        rows_HX = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        return _turned(self._info, rows_HX[:, : 3 * width].reshape(height, width, 3))


def small_luma(info: VideoInfo, frame: VideoFrame, size: tuple[int, int]) -> Pixels:
    """The luma of a frame, upright, scaled to `size` (width, height), limited range."""
    width, height = _before_turning(info, size)
    # not "gray": it is full range, and FFmpeg does not convert limited values to it
    small = _cropped(frame, info.crop).reformat(
        width, height, "yuv420p", interpolation="AREA", dst_color_range="MPEG"
    )
    luma = np.asarray(small.to_ndarray()[:height], dtype=np.uint8)
    return np.ascontiguousarray(_turned(info, luma))


def _before_turning(info: VideoInfo, size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    return (height, width) if info.rotation % 180 else (width, height)


def _turned(info: VideoInfo, stored: Pixels) -> Pixels:
    """Pixels (height, width, ...) as they are shown."""
    if info.is_mirrored:
        stored = np.fliplr(stored)
    return np.rot90(stored, k=info.rotation // 90)


def _cropped(frame: VideoFrame, crop: Crop) -> VideoFrame:
    """The part of a frame that is shown."""
    if not any(crop):
        return frame
    width, height = crop.rest(frame.width, frame.height)
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_CLOCK
        ),
        graph.add("crop", f"{width}:{height}:{crop.left}:{crop.top}"),
        graph.add("buffersink"),
    ).configure()
    graph.vpush(frame)
    return graph.vpull()
