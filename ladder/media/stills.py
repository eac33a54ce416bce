"""Read, resize, and encode and decode single pictures, without starting a process."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ladder.codecs import JPEG, StillCoding, still_codings
from ladder.errors import VideoError
from ladder.media.codec_context import codec_context
from ladder.media.container import frames_of, open_video
from ladder.media.upright import Pixels

# SVT-AV1 writes its settings to stderr unless SVT_LOG allows only errors
os.environ.setdefault("SVT_LOG", "1")


def read_picture(path: Path) -> Pixels:
    """Read a picture file, or the first frame of a video, without rotation or scaling.

    Returns:
        (H, W, 3) uint8, RGB, full range.

    Raises:
        VideoError: the file cannot be read as a picture.
    """
    with open_video(path) as (container, stream):
        for frame in frames_of(container, stream):
            return _rgb(frame)
    raise VideoError("damaged", f"{path} has no picture that can be decoded")


def resize(picture_HWC: Pixels, width: int, height: int) -> Pixels:
    """The picture scaled to (height, width) by bicubic; (H, W, 3) uint8 in and out."""
    frame = VideoFrame.from_ndarray(picture_HWC, format="rgb24")
    return _rgb(frame.reformat(width, height, "rgb24", interpolation="BICUBIC"))


def encode_decode(picture_HWC: Pixels, codec: str, quality: int) -> Pixels:
    """Encode the picture as one key frame of `codec` and decode it.

    Args:
        picture_HWC: uint8 RGB; both sides even and at least 64 px (the minimum of SVT-AV1).
        codec: a key of `ladder.codecs.still_codings()`.
        quality: on the encoder's scale, higher is worse: the quantiser of mjpeg (2 to 31), else
            the CRF (0 to 51 for x264 and x265, 0 to 63 for VP9 and AV1).

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        CapabilityError: this build of PyAV lacks the encoder or the decoder.
    """
    coding = still_codings()[codec]
    decoder = codec_context(coding.decoder, "r")
    packets = _encode(picture_HWC, codec, coding, quality)
    shown = [picture for packet in packets for picture in decoder.decode(packet)]
    return _rgb((shown or decoder.decode(None))[0])


def jpeg(picture_HWC: Pixels, quantiser: int) -> bytes:
    """The picture as a JPEG file.

    Args:
        picture_HWC: uint8 RGB.
        quantiser: 2 (best) to 31.

    Raises:
        CapabilityError: this build of PyAV lacks the encoder.
    """
    return b"".join(map(bytes, _encode(picture_HWC, "mjpeg", JPEG, quantiser)))


def _encode(
    picture_HWC: Pixels, codec: str, coding: StillCoding, quality: int
) -> "list[Packet[VideoStream]]":
    frame = VideoFrame.from_ndarray(picture_HWC, format="rgb24")
    encoder = _encoder(codec, coding, quality, (frame.width, frame.height))
    frame = frame.reformat(format=encoder.pix_fmt)
    frame.pts = 0
    return [*encoder.encode(frame), *encoder.encode(None)]


def _encoder(
    codec: str, coding: StillCoding, quality: int, size: tuple[int, int]
) -> VideoCodecContext:
    encoder = codec_context(codec, "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt = coding.pix_fmt
    encoder.framerate = Fraction(25)
    encoder.options = {name: str(value) for name, value in coding.settings(quality).items()}
    return encoder


def _rgb(frame: VideoFrame) -> Pixels:
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
