"""Decoded frames as a player shows them: cropped, in square pixels, mirrored and turned."""

from fractions import Fraction
from typing import Any

import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from ladder.media.probe import VideoInfo
from ladder.media.side_data import Crop
from ladder.media.tonemap import to_sdr

Pixels = npt.NDArray[np.uint8]

_ANY_CLOCK = Fraction(1, 25)  # of a graph for one frame
_BT2020 = 9  # swscale's number of the matrix of BT.2020


class Upright:
    """Decoded frames -> upright RGB of one size, with one scaler for all, and SDR if asked."""

    def __init__(self, info: VideoInfo, size: tuple[int, int]) -> None:
        self._info, self._scaler = info, VideoReformatter()
        self._size = _before_turning(info, size)

    def __call__(self, frame: VideoFrame) -> Pixels:
        """(height, width, 3), in memory of its own."""
        cropped = _cropped(_in_range(frame, self._info), self._info.crop)
        return _turned(self._info, _rgb(self._scaler, self._info, cropped, self._size, "BICUBIC"))


def _rgb(
    scaler: VideoReformatter,
    info: VideoInfo,
    frame: VideoFrame,
    size: tuple[int, int],
    interpolation: str,
) -> Pixels:
    """A cropped frame, scaled to `size` (width, height), tone-mapped if asked; not turned yet."""
    if not info.is_tonemapped:
        return _packed(scaler.reformat(frame, *size, "rgb24", interpolation=interpolation), "u1")
    deep = scaler.reformat(
        frame, *size, "rgb48le", interpolation=interpolation, src_colorspace=_BT2020
    )
    return to_sdr(_packed(deep, "<u2"), info.hdr)


def _packed(frame: VideoFrame, dtype: str) -> npt.NDArray[Any]:
    """(H, W, 3), in the memory of a frame of packed RGB."""
    (plane,) = frame.planes
    rows_HX = np.frombuffer(memoryview(plane), dtype).reshape(frame.height, -1)
    return rows_HX[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)


def _before_turning(info: VideoInfo, size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    return (height, width) if info.rotation % 180 else (width, height)


def _turned(info: VideoInfo, stored: Pixels) -> Pixels:
    """Pixels (height, width, ...) as they are shown."""
    if info.is_mirrored:
        stored = np.fliplr(stored)
    return np.rot90(stored, k=info.rotation // 90)


def _in_range(frame: VideoFrame, info: VideoInfo) -> VideoFrame:
    """The frame with the range that `info` has."""
    if info.has_range_of_container:
        frame.color_range = ColorRange.JPEG if info.is_full_range else ColorRange.MPEG
    return frame


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
