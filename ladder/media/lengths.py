"""How long a video is: the times of its frames, their number, and the length its header states."""

import contextlib
import math
import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.video.stream import VideoStream

from ladder.errors import VideoError
from ladder.media.container import (
    ASF_FORMAT,
    AVI_FORMAT,
    as_fraction,
    is_shown,
    open_video,
    packets_of,
    shown_at,
)
from ladder.media.playlists import HLS_FORMAT, size_bytes
from ladder.media.transport import TS_FORMAT, require_first_streams

NUM_FIRST_PACKETS = 240
"""Packets to read of a file's beginning: they tell a variable frame rate, in a file of any size."""

_ROUNDING_S = 0.0005  # of the start of a file
_MAX_UNSTATED_S = 0.5  # a track that is longer than its header says by this has a wrong header
FORMATS_THAT_JUMP = frozenset({TS_FORMAT, "mpeg", HLS_FORMAT})
"""FFmpeg's names of formats in which ffmpeg corrects jumps of timestamps."""

# the jumps of dts, in seconds, that it corrects; in other formats they are pauses
_MAX_GAP_S, _MAX_BACK_S = 10.0, 0.1
_MAX_READ_BYTES = 2**28  # of a file without an index, for the length of its video track
_NUM_PLACES = 64  # of a larger file, to compare their times
_MAX_EMPTIER = 4  # times fewer bytes a second than usual
_DEFAULT_RATE = Fraction(25)  # ffmpeg's
_MAX_OFF_RATE = 0.1  # of a stated rate, by the times of packets
_MAX_DENOMINATOR = 1001
_STATE_ENDS = ("matroska", ASF_FORMAT, "nut", AVI_FORMAT)
# from the first packet, not the first frame, or by segments
_COUNT_OTHERWISE = frozenset({"flv", ASF_FORMAT, "nut", HLS_FORMAT})
_UNKNOWN_FRAMES = frozenset({2**30, 2**32 - 1})  # FFmpeg's muxers of AVI and IVF into a pipe


class _TimedPacket(NamedTuple):
    """When a packet is shown, in seconds of the file's clock, how long, and what it holds.

    What lies before the start of an edit list is decoded and not shown, even a key frame.
    """

    time: Fraction | None
    is_key: bool
    is_shown: bool
    lasts: Fraction

    @classmethod
    def of(cls, packet: "Packet[VideoStream]") -> "_TimedPacket":
        is_seen = not packet.is_discard and is_shown(packet)
        lasts = (packet.duration or 0) * packet.time_base
        return cls(shown_at(packet), packet.is_keyframe, is_seen, lasts)


def frame_times(path: Path, fps: Fraction) -> list[float]:
    """The time of every frame in seconds from the first one, ascending; decodes nothing.

    If the stream has no timestamps, the times follow from the frame index and `fps`.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    times = [packet.time for packet in _shown(path)]
    known = [time for time in times if time is not None]
    if not known or len(known) < len(times):
        return [float(index / fps) for index in range(len(times))]
    return [float(time - known[0]) for time in known]


def _shown(path: Path) -> list[_TimedPacket]:
    """The packets whose frames are shown, in that order if all are timed."""
    with open_video(path) as (container, stream):
        packets = [
            _TimedPacket.of(each) for each in _on_one_clock(path, container, stream) if each.size
        ]
    # a transport stream may begin anywhere, and decoders drop what is shown before the key frame;
    # one without key frames is refreshed bit by bit
    first = next((index for index, packet in enumerate(packets) if packet.is_key), None)
    start = None if first is None else packets[first].time
    shown = [packet for packet in packets[first or 0 :] if packet.is_shown]
    if start is not None and any(each.time is not None and each.time < start for each in shown):
        decoded = _first_decoded(path)  # some of them refer to nothing that is missing
        start = start if decoded is None else decoded
        shown = [each for each in shown if each.time is None or each.time >= start]
    return sorted(shown, key=lambda each: each.time or Fraction(0))


def frame_lasts(path: Path) -> list[float]:
    """How long each frame of `frame_times` lasts, in seconds, as the container tells ffmpeg.

    Of a variable rate it need not end where the next frame begins: Matroska states one length for
    all, and MP4 those in the order of decoding. 0: the container says nothing.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    return [float(packet.lasts) for packet in _shown(path)]


def start_gap(path: Path) -> Fraction:
    """Seconds from the start of the file, where sound may begin, to the first frame of the video.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    with open_video(path) as (container, stream):
        if stream.start_time is None or container.start_time is None or not stream.time_base:
            return Fraction(0)
        late = stream.start_time * stream.time_base - Fraction(container.start_time, av.time_base)
        return late if late > _ROUNDING_S else Fraction(0)


def _first_decoded(path: Path) -> Fraction | None:
    """The time of the first frame that a decoder gives, in seconds of the file's clock."""
    with open_video(path) as (container, stream):
        for packet in packets_of(container, stream):
            with contextlib.suppress(av.FFmpegError):
                for frame in packet.decode():
                    base = as_fraction(stream.time_base)
                    return None if frame.pts is None or base is None else frame.pts * base
    return None


def count_frames(path: Path) -> int:
    """The number of frames of the video stream, from its packets; decodes nothing."""
    return len(frame_times(path, Fraction(25)))


def video_bytes(path: Path) -> int:
    """The bytes of the video stream's packets, without sound and container; decodes nothing.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    with open_video(path) as (container, stream):
        return sum(packet.size for packet in packets_of(container, stream))


def duration_s(
    container: InputContainer,
    stream: VideoStream,
    fps: Fraction,
    seconds: Sequence[float],
    *,
    is_guessed: bool,
) -> float:
    """The length of the video track, which may not be the longest one of its container.

    Args:
        container: the open file.
        stream: its video stream, whose first packets have been read.
        fps: frames a second.
        seconds: the ascending times of those packets, `NUM_FIRST_PACKETS` at most.
        is_guessed: what the header states is a guess (`ends.has_guessed_length`).
    """
    first_s = seconds[0]
    known_s = seconds[-1] - first_s
    steps_s = [after - before for before, after in pairwise(seconds)]
    frame_s = min(float(1 / fps), statistics.median(steps_s or [math.inf]))
    stated_s = None if is_guessed else _stated_s(container, stream, first_s)
    if stated_s and stream.start_time is not None and container.format.name in FORMATS_THAT_JUMP:
        # of a stream that was cut, frames before the first key frame are not shown, and where the
        # video begins late, FFmpeg counts from the start of the file
        stated_s -= max(0.0, first_s - float(stream.start_time * (stream.time_base or 0)))
    if stated_s is None or known_s > stated_s + _MAX_UNSTATED_S:
        return _end_s(container, stream, seconds[-1], frame_s) - first_s
    whole_s = known_s + frame_s
    if len(seconds) == NUM_FIRST_PACKETS:
        if container.format.name != HLS_FORMAT:
            return stated_s
        # a playlist adds up lengths that are rounded, and of which one has frames too many
        whole_s = _end_s(container, stream, seconds[-1], frame_s) - first_s
    if container.format.name in _COUNT_OTHERWISE and abs(stated_s - whole_s) < _MAX_UNSTATED_S:
        return whole_s
    # some headers leave the last frame out, and that of IVF may count frames in finer ticks
    leaves_out = not stream.duration or stated_s < whole_s - frame_s / 2
    return max(whole_s, stated_s) if leaves_out else stated_s


def frame_rate(
    container: InputContainer, stream: VideoStream, seconds: Sequence[float], *, is_steady: bool
) -> Fraction:
    """The frames a second of a video.

    Args:
        container: the open file.
        stream: its video stream, whose first packets have been read.
        seconds: the ascending times of those packets; empty: they, or some of them, have none.
        is_steady: these packets hold a frame each, evenly spaced but for the first and the last.
    """
    average, guessed = as_fraction(stream.average_rate), as_fraction(stream.guessed_rate)
    if not seconds or container.format.flags & Flags.no_timestamps.value:  # type: ignore[operator]
        # of a stream without a container, ffmpeg's average is 25 whatever the stream says, and of
        # one with few timestamps its guess is their rate
        return as_fraction(stream.codec_context.framerate) or guessed or average or _DEFAULT_RATE
    stated = [rate for rate in (average, guessed) if rate] or [_DEFAULT_RATE]
    inner = seconds[1:-1]  # the first and the last step may be cut, or a pause
    step_s = (inner[-1] - inner[0]) / (len(inner) - 1) if len(inner) > 1 else 0.0
    if not is_steady or not step_s:
        # the average is wrong if it is the container's clock, the guess if the frame rate varies
        return min(stated)
    # and the average if the container counts from before the first frame
    closest = min(stated, key=lambda rate: abs(math.log(rate * step_s)))
    if abs(closest * step_s - 1) <= _MAX_OFF_RATE:
        return closest
    return Fraction(1 / step_s).limit_denominator(_MAX_DENOMINATOR)


def require_one_clock(path: Path) -> None:
    """Raise VideoError if the timestamps or the streams of a broadcast change.

    Reads at most 256 MiB of it.

    Of a larger file, places all over it are compared, and all of it is read if they look wrong.
    """
    with open_video(path) as (container, stream):
        if container.format.name == TS_FORMAT:
            require_first_streams(path, {each.id for each in container.streams})
        if size_bytes(path) > _MAX_READ_BYTES:
            if container.format.name == HLS_FORMAT or not _looks_joined(container, stream):
                return
            container.seek(stream.start_time or 0, stream=stream)
        for _ in _on_one_clock(path, container, stream):
            pass


def _on_one_clock(
    path: Path, container: InputContainer, stream: VideoStream
) -> "Iterator[Packet[VideoStream]]":
    """The packets from here on; raises VideoError where the timestamps of a broadcast jump.

    There ffmpeg, but no decoder, goes on as if nothing had happened.
    """
    can_jump = container.format.name in FORMATS_THAT_JUMP
    before_s: float | None = None
    for packet in packets_of(container, stream):
        if can_jump and packet.dts is not None:
            now_s = float(packet.dts * packet.time_base)
            if before_s is not None and not -_MAX_BACK_S <= now_s - before_s <= _MAX_GAP_S:
                raise VideoError(
                    "damaged",
                    f"{path} has timestamps that jump from {before_s:.1f} to {now_s:.1f} s, as "
                    f"where recordings were joined: copy it first, which gives it one clock "
                    f"(ffmpeg -i {path.name} -map 0:v:0 -c copy {path.stem}.mkv)",
                )
            before_s = now_s
        yield packet


def _looks_joined(container: InputContainer, stream: VideoStream) -> bool:
    """Whether times all over a file do not ascend, or some lie much further apart than others."""
    times_s = []
    for number in range(_NUM_PLACES):
        container.seek(container.size * number // _NUM_PLACES, unsupported_byte_offset=True)
        known = (packet for packet in packets_of(container, stream) if packet.dts is not None)
        times_s += [float((packet.dts or 0) * packet.time_base) for packet in islice(known, 1)]
    steps_s = [after - before for before, after in pairwise(times_s)] or [0.0]
    usual_s = statistics.median(steps_s)
    return min(steps_s) < 0 or max(steps_s) > _MAX_GAP_S + _MAX_EMPTIER * usual_s


def _stated_s(container: InputContainer, stream: VideoStream, first_s: float) -> float | None:
    """What the header says of the track's length, in seconds."""
    is_of_track = container.format.name != ASF_FORMAT and stream.frames not in _UNKNOWN_FRAMES
    if is_of_track and stream.duration and stream.time_base:
        stated_s: float | None = float(stream.duration * stream.time_base)
    else:
        stated_s = _tagged_s(stream)
    if stated_s is None and len(container.streams) == 1 and container.duration:
        if stream.frames in _UNKNOWN_FRAMES:
            return None
        stated_s = container.duration / av.time_base
    if stated_s is None:
        return None
    # where the first frame is not at 0, some programs state the end, not the length
    is_end = container.format.name.startswith(_STATE_ENDS) and stated_s > first_s
    return stated_s - first_s if is_end else stated_s


def _tagged_s(stream: VideoStream) -> float | None:
    """What Matroska's tag DURATION of a track says, such as 00:01:23.450000000, in seconds."""
    text = next((text for name, text in stream.metadata.items() if name.startswith("DURATION")), "")
    try:
        hours, minutes, rest = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(rest)
    except ValueError:
        return None


def _end_s(
    container: InputContainer, stream: VideoStream, latest_s: float, frame_s: float
) -> float:
    """When the last frame ends, in seconds: packets near the end tell, or all from here on.

    A frame begins at `latest_s`, and each takes `frame_s` at least.
    """
    assert stream.time_base
    back_s, known_s = 4.0, latest_s + frame_s
    if container.duration and container.size > _MAX_READ_BYTES and not stream.index_entries:
        return max(known_s, ((container.start_time or 0) + container.duration) / av.time_base)
    while container.duration:
        target_s = ((container.start_time or 0) + container.duration) / av.time_base - back_s
        if target_s <= known_s:
            break
        container.seek(int(target_s / stream.time_base), stream=stream)
        if ends_s := _packet_ends_s(container, stream, frame_s):
            return max(known_s, *ends_s)
        back_s *= 8
        container.seek(int(known_s / stream.time_base), stream=stream)
    return max([known_s, *_packet_ends_s(container, stream, frame_s)])


def _packet_ends_s(container: InputContainer, stream: VideoStream, frame_s: float) -> list[float]:
    return [
        float(time) + max(frame_s, float((packet.duration or 0) * packet.time_base))
        for packet in packets_of(container, stream)
        if packet.size and (time := shown_at(packet)) is not None
    ]
