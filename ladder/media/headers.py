"""Read packet sizes, key frames and quantisers from a stream's headers, without decoding it.

FFmpeg's bitstream filter trace_headers logs every syntax element of the headers of H.264, HEVC,
VP9 and AV1. It runs in the process that calls, which for files of any origin is a worker.
"""

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ladder.codecs import Quantiser, coded_formats
from ladder.media.container import open_video, packets_of
from ladder.media.decode import CLOCK_S, SEEK_BEYOND_S
from ladder.media.log import INFO, LogLine, ffmpeg_log
from ladder.media.probe import VideoInfo

_TIMEOUT_S, _PART_TIMEOUT_S = 60.0, 20.0

_FAULTS = (av.FFmpegError, ValueError, LookupError, ArithmeticError)
"""What reading damaged packets may raise."""

_ELEMENT = re.compile(r"\d+ +(\w+) +[01]+ = (-?\d+)$")

_NAL_LENGTH = 4  # bytes
_RANDOM_ACCESS_TYPES = range(16, 24)


@dataclass(frozen=True, kw_only=True)
class CodedPicture:
    """One packet of a stream: one shown picture and the hidden pictures in the same packet.

    `size_bytes` is without the delimiter of access units, which not every container has.
    `log2_step` is the binary logarithm of the quantiser's step, averaged over the packet's slices.
    Its unit is an 8 bit sample, so codecs can be compared. None: the headers do not have it.
    """

    size_bytes: int
    is_key: bool
    log2_step: float | None


def coded_pictures(
    info: VideoInfo, *, start_s: float = 0.0, length_s: float | None = None
) -> list[CodedPicture]:
    """The pictures of a part of a stream, in coding order; empty if they cannot be read.

    Args:
        info: the result of `probe` for the file.
        start_s: start in seconds; reading starts at the key frame at or before it.
        length_s: seconds to read; None reads to the end.

    Raises:
        VideoError: the file cannot be opened.
    """
    found: list[CodedPicture] = []
    quantiser = _quantiser_of(info.codec)
    end_s = math.inf if length_s is None else start_s + round(length_s, 3)
    deadline_s = time.monotonic() + (_TIMEOUT_S if length_s is None else _PART_TIMEOUT_S)
    from_s, skipped = _place_of_key(info, start_s, deadline_s) if start_s > 0 else (0.0, 0)
    with (
        open_video(info.path) as (container, stream),
        ffmpeg_log(INFO) as lines,
        contextlib.suppress(*_FAULTS),  # the headers before damage are valid
    ):
        read = _reader(quantiser, stream, lines)
        for each in islice(_timed_packets(info, container, stream, from_s), skipped, None):
            if each.decoded_s >= end_s or time.monotonic() > deadline_s:
                break
            if not read and 0 < start_s > each.decoded_s:
                continue  # all that is known of it are its bytes, and they are not of this part
            packet = each.packet
            # the filter takes the packet
            size_bytes = packet.size - _delimiter_bytes(info.codec, bytes(memoryview(packet)[:5]))
            is_key = packet.is_keyframe
            if info.has_false_keys and (is_intra := _INTRA_TESTS.get(info.codec)):
                is_key = is_intra(bytes(packet))
            step = read.log2_step(packet) if read else None
            found.append(CodedPicture(size_bytes=size_bytes, is_key=is_key, log2_step=step))
    return found


def _delimiter_bytes(codec: str, start: bytes) -> int:
    """The bytes of the delimiter that some containers want before each picture, or 0.

    Of AV1 an OBU of its own (specification 5.6), of H.264 and HEVC a NAL unit of type 9 and 35.
    """
    if codec == "av1":
        return 2 if start[:2] == b"\x12\0" else 0
    if len(start) < 5 or start[:3] != b"\0\0\0":  # a start code, or a length
        return 0
    if codec == "h264":
        return 6 if start[4] & 0x1F == 9 else 0
    return 7 if codec == "hevc" and start[4] >> 1 == 35 else 0


def _is_random_access(packet: bytes) -> bool:
    """Whether an HEVC packet of MP4 has a picture to start at (H.265, table 7-1: 16 to 23)."""
    place = 0
    while place + _NAL_LENGTH < len(packet):
        if packet[place + _NAL_LENGTH] >> 1 & 0x3F in _RANDOM_ACCESS_TYPES:
            return True
        place += _NAL_LENGTH + int.from_bytes(packet[place : place + _NAL_LENGTH])
    return False


def _is_intra_mpeg4(packet: bytes) -> bool:
    """Whether an MPEG-4 Part 2 packet has an I-VOP (ISO/IEC 14496-2, vop_coding_type 0)."""
    _, start, picture = packet.partition(b"\0\0\1\xb6")
    return bool(start and picture) and picture[0] >> 6 == 0


def _is_intra_mpeg2(packet: bytes) -> bool:
    """Whether an MPEG-2 packet has an I picture (H.262, picture_coding_type 1)."""
    _, _, picture = packet.partition(b"\0\0\1\0")
    return len(picture) > 1 and picture[1] >> 3 & 7 == 1


def _is_intra_vp9(packet: bytes) -> bool:
    """Whether a VP9 packet begins with a key frame: show_existing_frame and frame_type are 0."""
    is_profile_3 = packet[0] & 0x30 == 0x30  # which has a reserved bit before the two
    return packet[0] & (0x06 if is_profile_3 else 0x0C) == 0


_INTRA_TESTS: Mapping[str, Callable[[bytes], bool]] = {
    "hevc": _is_random_access,
    "mpeg4": _is_intra_mpeg4,
    "mpeg2video": _is_intra_mpeg2,
    "vp9": _is_intra_vp9,
}
"""How a packet itself tells a key frame, where the container is wrong and FFmpeg does not look."""


def _reader(
    syntax: Quantiser | None, stream: VideoStream, lines: list[LogLine]
) -> "_Quantisers | None":
    try:
        return _Quantisers(syntax, stream, lines) if syntax else None
    except av.FFmpegError:  # the filter cannot read what FLV says of VP9
        lines.clear()
        return None


class _Quantisers:
    """The quantiser's step of one packet after another."""

    def __init__(self, syntax: Quantiser, stream: VideoStream, lines: list[LogLine]) -> None:
        self._syntax, self._base, self._lines = syntax, syntax.base, lines
        self._filter = BitStreamFilterContext("trace_headers", stream)
        self._steps()  # of the headers that the container has

    def log2_step(self, packet: "Packet[VideoStream]") -> float | None:
        """The mean over the packet's slices; None: the headers do not have it, or are damaged."""
        try:
            self._filter.filter(packet)
        except av.FFmpegError:
            self._filter.flush()
            self._lines.clear()
            return None
        steps = self._steps()
        return sum(steps) / len(steps) if steps else None

    def _steps(self) -> list[float]:
        steps: list[float] = []
        for _, _, line in self._lines:
            if found := _ELEMENT.match(line):
                name, value = found[1], int(found[2])
                if name == self._syntax.base_element:
                    self._base = self._syntax.base + value
                elif name == self._syntax.element:
                    steps.append(self._syntax.log2_step(self._base + value))
        self._lines.clear()
        return steps


class _Timed(NamedTuple):
    """A packet, and when it is decoded and its frame is shown, seconds from the start."""

    decoded_s: float
    shown_s: float
    packet: "Packet[VideoStream]"


def _place_of_key(info: VideoInfo, start_s: float, deadline_s: float) -> tuple[float, int]:
    """Where to seek, and how many packets to skip, to read from the last key frame before a time.

    Without an index a seek may land too late: then it goes further back, at last to the start.
    """
    back_s = 0.0
    while time.monotonic() < deadline_s:
        from_s = 0.0 if info.is_bare else max(0.0, start_s - back_s)
        place: int | None = None
        with open_video(info.path) as (container, stream), contextlib.suppress(*_FAULTS):
            for number, each in enumerate(_timed_packets(info, container, stream, from_s)):
                if each.decoded_s > start_s + CLOCK_S or time.monotonic() > deadline_s:
                    break
                if each.packet.is_keyframe and each.shown_s <= start_s + CLOCK_S:
                    place = number
        if place is not None or from_s == 0:
            return from_s, place or 0
        back_s = 2 * back_s or SEEK_BEYOND_S
    return start_s, 0


def _timed_packets(
    info: VideoInfo, container: InputContainer, stream: VideoStream, from_s: float
) -> Iterator[_Timed]:
    """The packets after a seek, or all; without timestamps, times follow from the index."""
    start, base = info.start_pts(stream), stream.time_base or 1
    if from_s > 0:
        container.seek(start + int(from_s / base), stream=stream)
    decoded_s = shown_s = from_s - float(1 / info.fps)
    for packet in packets_of(container, stream):
        if not packet.size:
            continue
        decoded_s += float(1 / info.fps)
        if packet.dts is not None:
            decoded_s = float((packet.dts - start) * base)
        shown_s = decoded_s if packet.pts is None else float((packet.pts - start) * base)
        yield _Timed(decoded_s, shown_s, packet)


def _quantiser_of(codec: str) -> Quantiser | None:
    """How the headers of a codec store the quantiser; None if they are not parsed."""
    coded = coded_formats().get(codec)
    return coded.quantiser if coded else None
