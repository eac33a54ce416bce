"""Read packet sizes, key frames and quantisers from a stream's headers, without decoding it.

FFmpeg's bitstream filter trace_headers logs every syntax element of the headers of H.264, HEVC,
VP9 and AV1. It runs in the process that calls, which for files of any origin is a worker.
"""

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from ladder.media.time_ranges import TimeRange

_TIMEOUT_S, _PART_TIMEOUT_S = 60.0, 20.0
_WHOLE = TimeRange(0.0, math.inf)

_FAULTS = (av.FFmpegError, ValueError, LookupError, ArithmeticError)
"""What reading damaged packets may raise."""

_ELEMENT = re.compile(r"\d+ +(\w+) +[01]+ = (-?\d+)$")

_NAL_LENGTH = 4  # bytes
_LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}  # in the record for the decoder
_FORBIDDEN = re.compile(rb"\0\0[\0-\2]")
# by the first byte of a unit (H.264, table 7-1; H.265, table 7-1)
_PICTURE_TESTS: Mapping[str, Callable[[int], bool]] = {
    "h264": lambda start: 1 <= start & 0x1F <= 5,
    "hevc": lambda start: start >> 1 & 0x3F < 32,
}
_RANDOM_ACCESS_TYPES = range(16, 24)


@dataclass(frozen=True, kw_only=True)
class CodedPicture:
    """One packet of a stream: one shown picture and the hidden pictures in the same packet.

    `size_bytes` is without the delimiter of access units, which not every container has.
    `log2_step` is the binary logarithm of the quantiser's step, averaged over the packet's slices.
    Its unit is an 8 bit sample, so codecs can be compared. None: the headers do not have it.
    `shown_s` are the seconds from the first frame to when it is shown.
    `is_damaged` if it has bytes that its codec forbids. `is_doubtful` if it may be damaged, which a
    decoder tells: it lacks a part, or has headers that cannot be read where those before can.
    """

    size_bytes: int
    is_key: bool
    log2_step: float | None
    shown_s: float = 0.0
    is_damaged: bool = False
    is_doubtful: bool = False


def coded_pictures(info: VideoInfo) -> list[CodedPicture]:
    """The pictures of a stream, in coding order; empty if they cannot be read.

    Raises:
        VideoError: the file cannot be opened.
    """
    (pictures,) = coded_pictures_of(info, [None])
    return pictures


def coded_pictures_of(
    info: VideoInfo, parts: Sequence[TimeRange | None]
) -> list[list[CodedPicture]]:
    """The same of each of several parts of a stream, which are read in one pass.

    A part without a key frame begins with the one that its pictures depend on, as a file would that
    was cut there. One in which nothing is decoded, as in a pause, has the picture that stays.

    Args:
        info: the result of `probe` for the file.
        parts: ascending; None: all of the stream.
    """
    ranges = [part or _WHOLE for part in parts]
    return [pictures for run in _runs(ranges) for pictures in _pictures_of_run(info, run)]


def _runs(parts: Sequence[TimeRange]) -> Iterator[Sequence[TimeRange]]:
    """Groups of parts, split where seeking is faster than reading on."""
    first = 0
    for index in range(1, len(parts) + 1):
        if index < len(parts) and parts[index].start_s - _end_s(parts[index - 1]) <= SEEK_BEYOND_S:
            continue
        yield parts[first:index]
        first = index


def _end_s(part: TimeRange) -> float:
    return part.start_s + part.length_s


def _pictures_of_run(info: VideoInfo, run: Sequence[TimeRange]) -> Iterator[list[CodedPicture]]:
    end_s = _end_s(run[-1])
    timeout_s = _TIMEOUT_S if math.isinf(end_s) else min(_TIMEOUT_S, len(run) * _PART_TIMEOUT_S)
    deadline_s = time.monotonic() + timeout_s
    read = list(_read(info, run[0].start_s, end_s, deadline_s))
    for part in run:
        # of the first part decoding may begin before the time 0
        start_s = part.start_s - CLOCK_S if part.start_s > 0 else -math.inf
        until_s = _end_s(part) - CLOCK_S
        inside = [each.picture for each in read if start_s <= each.decoded_s < until_s]
        before = [each.picture for each in read if each.decoded_s < start_s]
        inside = inside or before[-1:]
        keys = [picture for picture in before if picture.is_key]
        if keys and not any(picture.is_key for picture in inside):
            inside.insert(0, keys[-1])
        yield inside


class _Read(NamedTuple):
    decoded_s: float
    picture: CodedPicture


def _read(info: VideoInfo, start_s: float, end_s: float, deadline_s: float) -> Iterator[_Read]:
    """The pictures from the last key frame before `start_s` on, and when they are decoded."""
    quantiser = _quantiser_of(info.codec)
    from_s, skipped = _place_of_key(info, start_s, deadline_s) if start_s > 0 else (0.0, 0)
    with (
        open_video(info.path, is_decoded=False) as (container, stream),
        ffmpeg_log(INFO) as lines,
        contextlib.suppress(*_FAULTS),  # the headers before damage are valid
    ):
        read, has_lengths = _reader(quantiser, stream, lines), _has_lengths(info.codec, stream)
        for each in islice(_timed_packets(info, container, stream, from_s), skipped, None):
            if each.decoded_s >= end_s - CLOCK_S or time.monotonic() > deadline_s:
                break
            packet = each.packet
            data = bytes(packet)  # the filter takes the packet
            is_key, is_corrupt = packet.is_keyframe, packet.is_corrupt
            if info.has_false_keys and (is_intra := _INTRA_TESTS.get(info.codec)):
                is_key = is_intra(data)
            step = read.log2_step(packet) if read else None
            picture = CodedPicture(
                size_bytes=len(data) - _delimiter_bytes(info.codec, data[:5]),
                is_key=is_key,
                log2_step=step,
                shown_s=each.shown_s,
                is_damaged=has_lengths and _has_forbidden_bytes(info.codec, data),
                is_doubtful=is_corrupt or (read is not None and read.has_failed),
            )
            yield _Read(each.decoded_s, picture)


def _has_lengths(codec: str, stream: VideoStream) -> bool:
    """Whether the NAL units of a stream have their lengths before them, of four bytes each.

    So they are in MP4 and Matroska, which have a record of version 1 for the decoder (ISO/IEC
    14496-15, 5.3.3.1 and 8.3.3.1).
    """
    place = _LENGTH_SIZE_AT.get(codec)
    record = stream.codec_context.extradata or b""
    if place is None or len(record) <= place or record[0] != 1:
        return False
    return record[place] & 3 == _NAL_LENGTH - 1


def _has_forbidden_bytes(codec: str, packet: bytes) -> bool:
    """Whether a unit of coded picture holds what would be a start code if there were no lengths.

    Encoders put a byte of 3 after two zeros where one below 4 would follow (H.264, 7.4.1). A hole
    in a file, filled with zeros, is seen so, which a decoder may take for a picture. Zeros at the
    end of a unit are padding; of other units some encoders forget the 3.
    """
    is_picture = _PICTURE_TESTS[codec]
    for start, end in _units(packet):
        if end > len(packet):  # no length: some files have start codes in spite of their record
            return False
        if is_picture(packet[start]) and _FORBIDDEN.search(packet[start:end].rstrip(b"\0")):
            return True
    return False


def _units(packet: bytes) -> Iterator[tuple[int, int]]:
    """Where the NAL units of a packet with lengths begin and end; a wrong one may end beyond it."""
    end = 0
    while end + _NAL_LENGTH < len(packet):
        start = end + _NAL_LENGTH
        end = start + int.from_bytes(packet[end:start])
        yield start, end


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
    return any(packet[start] >> 1 & 0x3F in _RANDOM_ACCESS_TYPES for start, _ in _units(packet))


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
        self._has_read = False
        self.has_failed = False
        """Whether the latest packet could not be read, though one before it could."""

    def log2_step(self, packet: "Packet[VideoStream]") -> float | None:
        """The mean over the packet's slices; None: the headers do not have it, or are damaged."""
        try:
            self._filter.filter(packet)
        except av.FFmpegError:
            self._filter.flush()
            self._lines.clear()
            self.has_failed = self._has_read
            return None
        self._has_read, self.has_failed = True, False
        steps = self._steps()
        return sum(steps) / len(steps) if steps else None

    def _steps(self) -> list[float]:
        steps: list[float] = []
        element, base_element = self._syntax.element, self._syntax.base_element
        for _, _, line in self._lines:
            # most lines are of other elements, and to search takes less time than to match
            if element not in line and (not base_element or base_element not in line):
                continue
            if found := _ELEMENT.match(line):
                name, value = found[1], int(found[2])
                if name == base_element:
                    self._base = self._syntax.base + value
                elif name == element:
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
        with (
            open_video(info.path, is_decoded=False) as (container, stream),
            contextlib.suppress(*_FAULTS),
        ):
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
