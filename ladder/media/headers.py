"""Read packet sizes, key frames and quantisers from a stream's headers, without decoding it.

ffmpeg's bitstream filter trace_headers prints every syntax element of the headers of H.264, HEVC,
VP9 and AV1. It runs in the process that calls, which for files of any origin is a worker.
"""

import contextlib
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import av
import av.logging
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ladder.codecs import Quantiser, coded_formats
from ladder.media.decode import CLOCK_S, SEEK_BEYOND_S
from ladder.media.probe import VideoInfo, open_video

_TIMEOUT_S = 60.0

_ELEMENT = re.compile(r"\d+ +(\w+) +[01]+ = (-?\d+)$")

_Line = tuple[int, str, str]
"""Of a log: its level, who wrote it, its text."""


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
    deadline_s = time.monotonic() + _TIMEOUT_S
    with (
        open_video(info.path) as (container, stream),
        _traces() as lines,
        contextlib.suppress(av.FFmpegError),  # the headers before damage are valid
    ):
        read = _Quantisers(quantiser, stream, lines) if quantiser else None
        start_s = 0.0 if info.is_bare else start_s
        for packet in _packets(container, stream, start_s, end_s, from_key=bool(read)):
            size_bytes, is_key = packet.size, packet.is_keyframe  # the filter takes the packet
            step = read.log2_step(packet) if read else None
            found.append(CodedPicture(size_bytes=size_bytes, is_key=is_key, log2_step=step))
            if time.monotonic() > deadline_s:
                break
    return found


class _Quantisers:
    """The quantiser's step of one packet after another."""

    def __init__(self, syntax: Quantiser, stream: VideoStream, lines: list[_Line]) -> None:
        self._syntax, self._base, self._lines = syntax, syntax.base, lines
        self._filter = BitStreamFilterContext("trace_headers", stream)
        self._steps()  # of the headers that the container has

    def log2_step(self, packet: "Packet[VideoStream]") -> float | None:
        """The mean over the packet's slices; None: the headers do not have it."""
        self._filter.filter(packet)
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


@contextlib.contextmanager
def _traces() -> Iterator[list[_Line]]:
    """What FFmpeg logs in this thread, to be taken from the list."""
    before, skipped = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.INFO)
    av.logging.set_skip_repeated(False)  # equal lines are equal elements of two headers
    try:
        with av.logging.Capture(local=True) as lines:
            yield lines
    finally:
        av.logging.set_skip_repeated(skipped)
        av.logging.set_level(before)


def _packets(
    container: InputContainer, stream: VideoStream, start_s: float, end_s: float, *, from_key: bool
) -> "Iterator[Packet[VideoStream]]":
    """The packets of a part of a stream, or from the last key frame at or before its start."""
    timed, before = _timed_packets(container, stream), list[_Timed]()
    from_s, back_s = start_s, 0.0
    if start_s > 0:
        # without an index a seek may land too late
        while not (before and before[0].packet.is_keyframe):
            container.seek(_pts(stream, from_s), stream=stream)
            timed = _timed_packets(container, stream)
            before, timed = _since_key(timed, start_s)
            if from_s == 0:
                break
            back_s = 2 * back_s or SEEK_BEYOND_S
            from_s = max(0.0, start_s - back_s)
    for each in chain(before, timed):
        if each.decoded_s >= end_s:
            return
        if from_key or each.decoded_s >= start_s:
            yield each.packet


class _Timed(NamedTuple):
    """A packet, and when it is decoded and its frame is shown, seconds from the start."""

    decoded_s: float
    shown_s: float
    packet: "Packet[VideoStream]"


def _timed_packets(container: InputContainer, stream: VideoStream) -> Iterator[_Timed]:
    start, base = stream.start_time or 0, stream.time_base or 1
    decoded_s = shown_s = 0.0
    for packet in container.demux(stream):
        if packet.dts is not None:
            decoded_s = shown_s = float((packet.dts - start) * base)
        if packet.pts is not None:
            shown_s = float((packet.pts - start) * base)
        if packet.size:
            yield _Timed(decoded_s, shown_s, packet)


def _since_key(timed: Iterator[_Timed], start_s: float) -> tuple[list[_Timed], Iterator[_Timed]]:
    """The packets from the last key frame shown at or before `start_s`, and those after that."""
    before: list[_Timed] = []
    for each in timed:
        if each.decoded_s > start_s + CLOCK_S:
            return before, chain([each], timed)
        if each.packet.is_keyframe and each.shown_s <= start_s + CLOCK_S:
            before = []
        before.append(each)
    return before, timed


def _pts(stream: VideoStream, seconds: float) -> int:
    return (stream.start_time or 0) + int(seconds / (stream.time_base or 1))


def _quantiser_of(codec: str) -> Quantiser | None:
    """How the headers of a codec store the quantiser; None if they are not parsed."""
    coded = coded_formats().get(codec)
    return coded.quantiser if coded else None
