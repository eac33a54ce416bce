"""Decode the frames that are wanted, and of the others only those that these hang on.

Packets are read twice: once for their times, which says which frames are wanted and which packets
have to be decoded for them, and once more to decode those. A frame hangs on all packets from the
key frame before it on, but not on frames that nothing refers to.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

CLOCK_S = 0.001
"""Coarsest clock of a container: Matroska rounds times to it."""

SEEK_BEYOND_S = 4.0
"""A jump costs decoding from a key frame on: shorter ways are read through."""

# their decoders leave out what nothing refers to, and nothing else
_TELL_REFERENCES = frozenset({"h264"})


class NotAsPlanned(Exception):
    """The packets do not tell enough, or the decoder gave other frames than they promised."""


@dataclass(frozen=True)
class _Entry:
    """A packet, in the order of decoding."""

    pts: int
    is_key: bool
    is_shown: bool


@dataclass(frozen=True)
class Window:
    """Packets of a part of a stream from a key frame on, and which frames of it are wanted."""

    seek_to: int
    entries: Sequence[_Entry]
    wanted: frozenset[int]
    """Times (pts) of the frames."""
    reaches_end: bool

    @property
    def last_pts(self) -> int:
        """Of the frame that is shown last."""
        return max(entry.pts for entry in self.entries)


def windows(times_s: Sequence[float]) -> Iterator[Sequence[float]]:
    """Ascending times, cut where jumping is worth it."""
    first = 0
    for index in range(1, len(times_s) + 1):
        if index == len(times_s) or times_s[index] - times_s[index - 1] > SEEK_BEYOND_S:
            yield times_s[first:index]
            first = index


def plan(container: InputContainer, stream: VideoStream, times_s: Sequence[float]) -> Window:
    """Read the packets around `times_s` (ascending, seconds from the first frame).

    Raises:
        NotAsPlanned: a packet has no times, or there is no key frame to begin with.
    """
    assert stream.time_base
    start, base = stream.start_time or 0, float(stream.time_base)
    back_s = 0.0
    while True:
        from_s = max(0.0, times_s[0] - back_s)
        seek_to = start + int(from_s / base)
        last = start + int((times_s[-1] + CLOCK_S) / base)
        entries, reaches_end = _entries(container, stream, seek_to, last)
        reach = start + int((times_s[0] + CLOCK_S) / base)
        if from_s == 0 or (entries and entries[0].pts <= reach):
            break
        # without an index a jump may land too late
        back_s = 2 * back_s or SEEK_BEYOND_S
    if not entries or not entries[0].is_key:
        raise NotAsPlanned
    shown = sorted(entry.pts for entry in entries if entry.is_shown)
    if not shown:
        raise NotAsPlanned
    wanted = {_on_screen(shown, start + (time_s + CLOCK_S) / base) for time_s in times_s}
    return Window(seek_to, entries, frozenset(wanted), reaches_end)


def decode(container: InputContainer, stream: VideoStream, window: Window) -> Iterator[VideoFrame]:
    """The wanted frames of a window, in the order they are shown.

    Raises:
        NotAsPlanned: one of them did not come out of the decoder.
    """
    missing = set(window.wanted)
    for frame in decoded(container, stream, window):
        if frame.pts in missing:
            missing.discard(frame.pts)
            yield frame
    if missing:
        raise NotAsPlanned


def decoded(container: InputContainer, stream: VideoStream, window: Window) -> Iterator[VideoFrame]:
    """The wanted frames, and among them others that had to be decoded."""
    context = stream.codec_context
    tells_references = context.codec.canonical_name in _TELL_REFERENCES
    runs = deque(_runs(window))
    container.seek(window.seek_to, stream=stream)
    for index, packet in enumerate(_packets(container, stream)):
        if not runs:
            return
        first, last = runs[0]
        if index < first:
            continue
        if tells_references:
            context.skip_frame = "DEFAULT" if packet.pts in window.wanted else "NONREF"
        yield from packet.decode()
        if index == last:
            # what the decoder holds back; then it begins anew, as after a jump
            yield from context.decode(None)
            context.flush_buffers()
            runs.popleft()


def _entries(
    container: InputContainer, stream: VideoStream, seek_to: int, last: int
) -> tuple[list[_Entry], bool]:
    """The packets from the key frame before `seek_to` to the last one shown until `last`.

    And whether the stream ends there.
    """
    container.seek(seek_to, stream=stream)
    entries: list[_Entry] = []
    for packet in _packets(container, stream):
        if packet.pts is None or packet.dts is None:
            raise NotAsPlanned
        # nothing that is decoded from here on is shown before its own decoding
        if packet.dts > last:
            return entries, False
        entries.append(_Entry(packet.pts, packet.is_keyframe, not packet.is_discard))
    return entries, True


def _packets(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    return (packet for packet in container.demux(stream) if packet.size)


def _on_screen(shown: Sequence[int], time: float) -> int:
    """The last frame that came before `time`, or the first one of all."""
    return max((pts for pts in shown if pts <= time), default=shown[0])


def _runs(window: Window) -> Iterator[tuple[int, int]]:
    """First and last index of packets to be decoded in one go; ascending, none touches another."""
    spans = sorted(_span(window.entries, i) for i, e in enumerate(window.entries)
                   if e.pts in window.wanted)  # fmt: skip
    yield from _merged(spans)


def _span(entries: Sequence[_Entry], index: int) -> tuple[int, int]:
    """From the key frame that the frame of packet `index` hangs on."""
    first = index
    # what is decoded after a key frame and shown before it hangs on the one before
    while first > 0 and not (entries[first].is_key and entries[first].pts <= entries[index].pts):
        first -= 1
    return first, index


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    current: tuple[int, int] | None = None
    for first, last in spans:
        if current and first <= current[1] + 1:
            current = current[0], max(current[1], last)
            continue
        if current:
            yield current
        current = first, last
    if current:
        yield current
