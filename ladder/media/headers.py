"""Read packet sizes, key frames and quantisers from a stream's headers, without decoding it.

ffmpeg's bitstream filter trace_headers prints every syntax element of the headers of H.264, HEVC,
VP9 and AV1. It runs in its own process, so a broken file cannot crash the caller.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ladder.codecs import Quantiser, coded_formats
from ladder.errors import FfmpegError
from ladder.media.ffmpeg import Ffmpeg, file_url, run
from ladder.media.probe import VideoInfo, open_video

_TIMEOUT_S = 60.0

_PACKET = re.compile(r"\] Packet: (\d+) bytes,( key frame,)?")

_ELEMENT = re.compile(r"\] \d+ +(\w+) +[01]+ = (-?\d+)$")


@dataclass(frozen=True, kw_only=True)
class CodedPicture:
    """One packet of a stream: one shown picture and the hidden pictures in the same packet.

    `log2_step` is the binary logarithm of the quantiser's step, averaged over the packet's slices.
    Its unit is an 8 bit sample, so codecs can be compared. None: the headers do not have it.
    """

    size_bytes: int
    is_key: bool
    log2_step: float | None


def coded_pictures(
    info: VideoInfo, ffmpeg: Ffmpeg, *, start_s: float = 0.0, length_s: float | None = None
) -> list[CodedPicture]:
    """The pictures of a part of a stream, in coding order; empty if they cannot be read.

    Args:
        info: the result of `probe` for the file.
        ffmpeg: program that reads the headers.
        start_s: start in seconds; reading starts at the key frame at or before it.
        length_s: seconds to read; None reads to the end.

    Raises:
        VideoError: the file cannot be opened (only for codecs whose headers are not parsed).
    """
    if not _quantiser_of(info.codec):
        return _packets_alone(info, start_s, length_s)
    window = ["-t", f"{length_s:.3f}"] if length_s is not None else []
    seek = ["-ss", f"{start_s:.3f}"] if start_s > 0 and not info.is_bare else []
    source = ["-protocol_whitelist", "file,crypto,data", *seek, "-i", file_url(info.path), *window]
    copy = ["-map", "0:v:0", "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"]
    try:
        trace = run(ffmpeg, ["-v", "info", *source, *copy], timeout_s=_TIMEOUT_S)
    except FfmpegError as error:
        trace = error.stderr  # the headers before the error are valid
    return list(parse_trace(trace, info.codec))


def parse_trace(trace: str, codec: str) -> Iterator[CodedPicture]:
    """The pictures in `trace`, the text that trace_headers printed."""
    quantiser = _quantiser_of(codec)
    base, packet, steps = quantiser.base if quantiser else 0, None, list[float]()
    for line in trace.splitlines():
        if found := _PACKET.search(line):
            if packet:
                yield _picture(packet, steps)
            packet, steps = (int(found[1]), bool(found[2])), []
        elif quantiser and (found := _ELEMENT.search(line)):
            name, value = found[1], int(found[2])
            if name == quantiser.base_element:
                base = quantiser.base + value
            elif name == quantiser.element:
                steps.append(quantiser.log2_step(base + value))
    if packet:
        yield _picture(packet, steps)


def _quantiser_of(codec: str) -> Quantiser | None:
    """How the headers of a codec store the quantiser; None if they are not parsed."""
    coded = coded_formats().get(codec)
    return coded.quantiser if coded else None


def _packets_alone(info: VideoInfo, start_s: float, length_s: float | None) -> list[CodedPicture]:
    """Packet sizes and key frames from the container, for any codec."""
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
