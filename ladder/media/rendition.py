"""What the manifests of HLS and DASH say of a rendition: its peak bitrate and its codec string."""

import functools
from dataclasses import dataclass
from pathlib import Path

from ladder.media.container import as_fraction, open_video, packets_of


@dataclass(frozen=True)
class Rendition:
    """Facts of an MP4 file for a manifest.

    Attributes:
        peak_kbps: highest bitrate of a group of pictures, from key frame to key frame.
        codec_string: by RFC 6381, such as `avc1.640028`; "" where it is not known.
    """

    peak_kbps: float
    codec_string: str


def read_rendition(path: Path) -> Rendition:
    """The peak and the codec string of a file; decodes nothing.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    with open_video(path) as (container, stream):
        context = stream.codec_context
        extradata = context.extradata or b""
        codec_string = _codec_string(context.codec.canonical_name, context.codec_tag, extradata)
        groups: list[list[int]] = []  # bytes and frames of each
        for packet in packets_of(container, stream):
            if packet.is_keyframe or not groups:
                groups.append([0, 0])
            groups[-1][0] += packet.size
            groups[-1][1] += bool(packet.size)
        fps = as_fraction(stream.average_rate) or 25
    rates = [size * 8 / 1000 * float(fps) / count for size, count in groups if count]
    return Rendition(max(rates, default=0.0), codec_string)


def _codec_string(codec: str, tag: str, extradata: bytes) -> str:
    """RFC 6381, from the configuration record that an MP4 file holds of its video."""
    if codec == "h264" and len(extradata) > 3:  # ISO/IEC 14496-15, 5.3.3.1
        return f"avc1.{extradata[1:4].hex().upper()}"
    if codec == "hevc" and len(extradata) > 12:
        return _hevc_string(tag, extradata)
    if codec == "av1" and len(extradata) > 2:  # AV1 in ISOBMFF, 2.3
        profile, level = extradata[1] >> 5, extradata[1] & 31
        tier = "H" if extradata[2] >> 7 else "M"
        depth = (12 if extradata[2] >> 5 & 1 else 10) if extradata[2] >> 6 & 1 else 8
        return f"av01.{profile}.{level:02d}{tier}.{depth:02d}"
    return ""


def _hevc_string(tag: str, extradata: bytes) -> str:
    """ISO/IEC 14496-15, annex E.3: profile, compatibility in reverse bit order, tier and level."""
    space = ("", "A", "B", "C")[extradata[1] >> 6]
    profile, tier = extradata[1] & 31, "H" if extradata[1] >> 5 & 1 else "L"
    flags = int.from_bytes(extradata[2:6])
    compatibility = functools.reduce(lambda done, bit: done << 1 | (flags >> bit & 1), range(32), 0)
    constraints = [f"{byte:X}" for byte in extradata[6:12].rstrip(b"\0")]
    parts = [
        tag if tag in ("hvc1", "hev1") else "hvc1",
        f"{space}{profile}",
        f"{compatibility:X}",
        f"{tier}{extradata[12]}",
        *constraints,
    ]
    return ".".join(parts)
