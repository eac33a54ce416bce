"""What a stream says of its own coding, without decoding it: sizes, key frames, quantisers.

ffmpeg's bitstream filter trace_headers prints every syntax element of the headers of H.264, HEVC,
VP9 and AV1. It runs in a process of its own, so a broken file cannot take the caller along.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ladder.errors import FfmpegError
from ladder.media.ffmpeg import Ffmpeg, file_url, run
from ladder.media.probe import VideoInfo, open_video

_TIMEOUT_S = 60.0


_PACKET = re.compile(r"\] Packet: (\d+) bytes,( key frame,)?")


_ELEMENT = re.compile(r"\] \d+ +(\w+) +[01]+ = (-?\d+)$")


_QP_BASES = ("pic_init_qp_minus26", "init_qp_minus26")  # H.264, HEVC


_QP_OFFSET = 26


@dataclass(frozen=True, kw_only=True)
class CodedPicture:
    """One packet of a stream: one shown picture, and what is hidden with it.

    `log2_step` is the binary logarithm of the quantiser's step, the mean over the packet's slices,
    in units of an 8 bit sample, so that codecs can be compared; None where headers do not tell.
    """

    size_bytes: int
    is_key: bool
    log2_step: float | None


def coded_pictures(
    info: VideoInfo, ffmpeg: Ffmpeg, *, start_s: float = 0.0, length_s: float | None = None
) -> list[CodedPicture]:
    """The pictures of a part of a stream, in coding order; none if they cannot be read.

    Args:
        info: what `probe` said of the file.
        ffmpeg: program that reads the headers.
        start_s: where to begin; it begins at a key frame at or before that.
        length_s: how much to read; None reads to the end.

    Raises:
        VideoError: a file of a codec whose headers are not read cannot be opened.
    """
    if info.codec not in _READERS:
        return _packets_alone(info, start_s, length_s)
    window = ["-t", f"{length_s:.3f}"] if length_s is not None else []
    seek = ["-ss", f"{start_s:.3f}"] if start_s > 0 and not info.is_bare else []
    source = ["-protocol_whitelist", "file,crypto,data", *seek, "-i", file_url(info.path), *window]
    copy = ["-map", "0:v:0", "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"]
    try:
        trace = run(ffmpeg, ["-v", "info", *source, *copy], timeout_s=_TIMEOUT_S)
    except FfmpegError as error:
        trace = error.stderr  # what was read until then is as true
    return list(parse_trace(trace, info.codec))


def parse_trace(trace: str, codec: str) -> Iterator[CodedPicture]:
    """The pictures in what the filter printed; pure."""
    base, packet, steps = _QP_OFFSET, None, list[float]()
    for line in trace.splitlines():
        if found := _PACKET.search(line):
            if packet:
                yield _picture(packet, steps)
            packet, steps = (int(found[1]), bool(found[2])), []
        elif found := _ELEMENT.search(line):
            name, value = found[1], int(found[2])
            if name in _QP_BASES:
                base = _QP_OFFSET + value
            elif name == _READERS.get(codec):
                steps.append(log2_step(codec, base + value if name == "slice_qp_delta" else value))
    if packet:
        yield _picture(packet, steps)


def log2_step(codec: str, quantiser: int) -> float:
    """Binary logarithm of the quantiser's step in units of an 8 bit sample.

    H.264 and HEVC: the step doubles every 6 of QP and is 1 at QP 4 (ITU-T H.264, 8.5.8 to 8.5.12).
    VP9 and AV1: the AC table of 8 bit video (VP9 bitstream specification, 8.6.1), which is a line
    up to index 95 and close to two exponentials from there (within 3 %); a step is 8 of its units.
    """
    if codec in ("h264", "hevc"):
        return (quantiser - 4) / 6
    if quantiser <= 95:
        return math.log2((quantiser + 7) / 8)
    if quantiser <= 137:
        return math.log2(102 / 8) + (quantiser - 95) * math.log2(203 / 102) / 42
    return math.log2(203 / 8) + (quantiser - 137) * math.log2(1828 / 203) / 118


_READERS = {
    "h264": "slice_qp_delta",
    "hevc": "slice_qp_delta",
    "vp9": "base_q_idx",
    "av1": "base_q_idx",
}
"""The syntax element that holds the quantiser, by codec."""


def _packets_alone(info: VideoInfo, start_s: float, length_s: float | None) -> list[CodedPicture]:
    """Sizes and key frames of any codec, as the container has them."""
    end_s = math.inf if length_s is None else start_s + length_s
    pictures = []
    with open_video(info.path) as (container, stream):
        first_s = float((stream.start_time or 0) * (stream.time_base or 0))
        for packet in container.demux(stream):
            time_s = (
                start_s if packet.dts is None else float(packet.dts * packet.time_base) - first_s
            )
            if packet.size and start_s <= time_s < end_s:
                pictures.append(
                    CodedPicture(size_bytes=packet.size, is_key=packet.is_keyframe, log2_step=None)
                )
    return pictures


def _picture(packet: tuple[int, bool], steps: list[float]) -> CodedPicture:
    size_bytes, is_key = packet
    step = sum(steps) / len(steps) if steps else None
    return CodedPicture(size_bytes=size_bytes, is_key=is_key, log2_step=step)
