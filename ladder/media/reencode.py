"""Encode a few decoded frames at fixed quantisers and decode them, without starting a process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from ladder.media.codec_context import codec_context
from ladder.media.upright import Pixels

Luma = npt.NDArray[np.int16]
"""(T, H, W), 16 to 235: 16 bits, so that differences need no conversion."""

_SETTINGS = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "scenecut=0:log-level=-1"}
_FPS = Fraction(25)  # the quantiser is fixed, so the frame rate changes nothing


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
    frames = [
        VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
            format="yuv420p"
        )
        for rgb in frames_THWC
    ]
    return _luma(frames), (_reencoded(frames, quantiser) for quantiser in quantisers)


def _reencoded(frames: Sequence[VideoFrame], quantiser: int) -> Reencoded:
    encoder, decoder = codec_context("libx264", "w"), codec_context("h264", "r")
    encoder.width, encoder.height = frames[0].width, frames[0].height
    encoder.pix_fmt = "yuv420p"
    encoder.time_base, encoder.framerate = 1 / _FPS, _FPS
    encoder.options = {**_SETTINGS, "qp": str(quantiser)}
    packets = []
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, 1 / _FPS
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [frame for packet in packets for frame in decoder.decode(packet)]
    decoded += decoder.decode(None)
    return Reencoded(tuple(_slice_bytes(bytes(packet)) for packet in packets), _luma(decoded))


def _slice_bytes(packet: bytes) -> int:
    """Bytes of the slices (NAL unit types 1 and 5) of an H.264 packet with start codes."""
    units = packet.split(b"\x00\x00\x01")[1:]
    return sum(len(unit) for unit in units if unit[0] & 31 in (1, 5))


def _luma(frames: Sequence[VideoFrame]) -> Luma:
    return np.stack([frame.to_ndarray()[: frame.height] for frame in frames]).astype(np.int16)
