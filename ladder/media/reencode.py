"""Encode a few decoded frames at fixed quantisers and decode them, without starting a process."""

import functools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from ladder.media.codec_context import codec_context
from ladder.media.upright import Pixels

Luma = npt.NDArray[np.int16]
"""(T, H, W), 16 to 235: 16 bits, so that differences need no conversion."""

_SETTINGS = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "scenecut=0:log-level=-1"}
_FPS = Fraction(25)  # the quantiser is fixed, so the frame rate changes nothing
_KEPT = 8  # encoders: those of one size, for as many quantisers as anyone asks for
_GREY = 128


@dataclass(frozen=True)
class Reencoded:
    """Frames after coding: the bytes of each, the first of which is a key frame, and their luma.

    The bytes are those of the slices. Headers, and the text in which x264 names its version and
    settings, would be most of a flat picture and differ between builds.
    """

    sizes_bytes: tuple[int, ...]
    luma_THW: Luma


def reencode(
    frames_THWC: Sequence[Pixels], quantisers: Sequence[int]
) -> tuple[Luma, Iterator[Reencoded]]:
    """Encode consecutive frames with x264 once for each quantiser.

    Args:
        frames_THWC: uint8 RGB; both sides even and at least 16 px.
        quantisers: QP, 1 (best) to 51.

    Returns:
        The luma before coding, and the result of each quantiser in turn.

    Raises:
        CapabilityError: this build of PyAV lacks x264.
    """
    frames = [_yuv(rgb_HWC) for rgb_HWC in frames_THWC]
    return _luma(frames), (_reencoded(frames, quantiser) for quantiser in quantisers)


def _yuv(rgb_HWC: Pixels) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HWC), format="rgb24")
    return frame.reformat(format="yuv420p", threads=1)  # to start another takes as long


def _reencoded(frames: Sequence[VideoFrame], quantiser: int) -> Reencoded:
    try:
        packets = _encoder(frames[0].width, frames[0].height, quantiser).encode(frames)
    except BaseException:
        _encoder.cache_clear()  # which frame is the next one is not known
        raise
    decoder = codec_context("h264", "r")
    decoded = [frame for packet in packets for frame in decoder.decode(packet)]
    decoded += decoder.decode(None)
    return Reencoded(tuple(_slice_bytes(bytes(packet)) for packet in packets), _luma(decoded))


class _Encoder:
    """An encoder that is kept, since x264 takes twice as long to open as for two small frames.

    The slices are those of a new encoder: a run of frames begins with a key frame, after which no
    state is left but the parity of their number. A grey key frame before each further run keeps
    that, and gives no result.
    """

    def __init__(self, width: int, height: int, quantiser: int) -> None:
        self._context = codec_context("libx264", "w")
        self._context.width, self._context.height = width, height
        self._context.pix_fmt = "yuv420p"
        self._context.time_base, self._context.framerate = 1 / _FPS, _FPS
        self._context.options = {**_SETTINGS, "qp": str(quantiser)}
        grey_XW = np.full((3 * height // 2, width), _GREY, np.uint8)
        self._grey = VideoFrame.from_ndarray(grey_XW, format="yuv420p")
        self._count, self._is_in_use = 0, threading.Lock()

    def encode(self, frames: Sequence[VideoFrame]) -> list["Packet[VideoStream]"]:
        """The packet of each frame, of which the first is a key frame."""
        with self._is_in_use:
            if self._count:
                self._put(self._grey, is_key=True)
            packets = [self._put(frame, is_key=frame is frames[0]) for frame in frames]
        return [packet for each in packets for packet in each]

    def _put(self, frame: VideoFrame, *, is_key: bool) -> list["Packet[VideoStream]"]:
        frame.pts, frame.time_base = self._count, 1 / _FPS
        frame.pict_type = PictureType.I if is_key else PictureType.NONE
        self._count += 1
        return self._context.encode(frame)  # at once, without latency


_encoder = functools.lru_cache(maxsize=_KEPT)(_Encoder)


def _slice_bytes(packet: bytes) -> int:
    """Bytes of the slices (NAL unit types 1 and 5) of an H.264 packet with start codes."""
    units = packet.split(b"\x00\x00\x01")[1:]
    return sum(len(unit) for unit in units if unit[0] & 31 in (1, 5))


def _luma(frames: Sequence[VideoFrame]) -> Luma:
    return np.stack([frame.to_ndarray()[: frame.height] for frame in frames]).astype(np.int16)
