"""Read the properties of a video file: `probe` opens it, decodes one frame, returns VideoInfo."""

import contextlib
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from ladder.errors import LadderError, VideoError
from ladder.media.dolby_vision import dolby_vision
from ladder.media.playlists import DASH_SUFFIX, HLS_FORMAT, HLS_OPTIONS, size_bytes

_MAX_UNSTATED_S = 0.5  # a track that is longer than its header says by this has a wrong header
_NUM_SUSPECTS = 12  # packets that may tell a wrong index
_INTER_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "vp8", "mpeg2video", "mpeg4"})
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails
_MAX_GAP_S = 300.0  # between two pictures of a transport stream
_MAX_READ_BYTES = 2**28  # of a file without an index, for the length of its video track
_MAX_EMPTIER = 4  # times fewer bytes a second than at the start
_UNKNOWN_FRAMES = 2**30  # what FFmpeg's AVI muxer writes into a pipe
_NUM_PROBED_PACKETS = 240  # enough to detect a variable frame rate, fast in a file of any length


_BASE_DEPTH = 8

_INTERLACED_ORDERS = range(2, 6)  # AVFieldOrder: TT, BB, TB, BT

FILE_FAULTS = (
    LadderError, av.FFmpegError, OSError, ValueError, LookupError, ArithmeticError, MemoryError,
)  # fmt: skip
"""Exceptions that a bad file may cause: a stage writes an error row for the file and continues.

A damaged file can make PyAV raise IndexError and ZeroDivisionError too.
"""


class Size(NamedTuple):
    """Width and height of a picture or a screen, in px."""

    width_px: int
    height_px: int


class Hdr(StrEnum):
    """The transfer function of a high dynamic range; "" is standard range."""

    NONE = ""
    PQ = "pq"
    HLG = "hlg"


_HDR_OF_TRANSFER = {16: Hdr.PQ, 18: Hdr.HLG}  # ITU-T H.273, transfer characteristics


class Ratio(Protocol):
    """A rational number, whatever library it is from."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """The properties of one video stream.

    `width_px` and `height_px` are the stored size before rotation; `display_size` is what a viewer
    sees. `frame_count` is from the container (None if it has none); `count_frames` counts packets.
    """

    path: Path
    width_px: int
    height_px: int
    fps: Fraction
    frame_count: int | None
    duration_s: float
    codec: str
    pix_fmt: str
    bit_depth: int
    is_full_range: bool
    hdr: Hdr
    rotation: int  # of the stored picture, counter-clockwise, in degrees: 0, 90, 180, 270
    sar: Fraction  # sample aspect ratio: width over height of one pixel
    is_vfr: bool
    is_interlaced: bool
    # seeking is impossible: without timestamps, with a wrong index, or a playlist without an end
    is_bare: bool
    size_bytes: int
    stream_index: int = 0  # of the video stream among all streams of the file
    num_videos: int = 1  # video streams of the file, without cover art and thumbnails
    dolby_vision: str = ""  # its profile, such as 8.1
    start: Fraction = Fraction(0)  # the timestamp of the first frame, in seconds
    is_hls: bool = False  # a playlist of segments
    has_false_keys: bool = False  # its index calls frames key frames that are none

    @property
    def display_size(self) -> Size:
        """The size in square pixels after rotation; both sides are even."""
        width, height = _even(self.width_px * self.sar), _even(self.height_px)
        return Size(height, width) if self.rotation % 180 else Size(width, height)

    @property
    def bitrate_kbps(self) -> float | None:
        """File size divided by duration; None if the duration is unknown."""
        return self.size_bytes * 8 / 1000 / self.duration_s if self.duration_s > 0 else None


class Decoding(NamedTuple):
    """Decoder settings: the number of threads (0: one per core) and whether damage is an error.

    A strict decoder raises at damage; a lenient one conceals it.
    """

    threads: int = 0
    is_strict: bool = False


class _Beginning(NamedTuple):
    """The first frame, the ascending times of the first packets in seconds, and of their flags.

    `has_false_keys`: packets are called key frames and are none, so that seeking leads nowhere.
    """

    frame: VideoFrame | None
    seconds: list[float]
    has_false_keys: bool


LENIENT = Decoding()


@contextlib.contextmanager
def open_video(
    path: Path, decoding: Decoding = LENIENT
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open `path` and its video stream: the default one, else the largest, but no cover art.

    Raises:
        VideoError: the file cannot be opened, or the body of the `with` fails to decode; `code`
            names the cause.
    """
    if not path.is_file():
        raise VideoError("missing", f"{path} is not a file")
    if not path.stat().st_size:
        raise VideoError("empty", f"{path} has no bytes")
    container = _opened(path)
    with container:
        # of equal ones the first
        stream = max(_videos(container), key=_is_default_and_area, default=None)
        if stream is None:
            raise VideoError("no_stream", f"{path} has no video stream")
        if stream.codec_context is None:
            raise VideoError("no_decoder", f"{path} has a codec that FFmpeg cannot decode")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = decoding.threads
        if decoding.is_strict:
            stream.codec_context.options = {"err_detect": "explode"}
        try:
            yield container, stream
        except av.FFmpegError as error:
            raise VideoError("damaged", f"{path} cannot be decoded: {error}") from error


def _opened(path: Path) -> InputContainer:
    # local files only: a playlist named like a video must not fetch from the network
    options = {"protocol_whitelist": "file,crypto,data", **HLS_OPTIONS}
    try:
        # tags need not be valid text, and nothing here needs theirs
        return av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = f"cannot be opened as video: {error}"
        if path.suffix.lower() == DASH_SUFFIX:
            reason = (
                "is a manifest of DASH, which is not read here: copy its video into one file "
                f"first (ffmpeg -i {path.name} -map 0:v -c copy {path.stem}.mp4)"
            )
        raise VideoError("not_video", f"{path} {reason}") from error


def fault_message(path: Path, error: Exception) -> str:
    """The error message for the row of `path`; it always names the file."""
    if isinstance(error, LadderError) or (isinstance(error, OSError) and error.filename):
        return str(error)
    return f"{path} cannot be processed: {type(error).__name__}: {error}"


def probe(path: Path) -> VideoInfo:
    """The properties of the video stream of `path` that `open_video` chooses.

    Raises:
        VideoError: the file is missing, is not a video, has no video stream or decodable frame, or
            is Dolby Vision without a base layer.
    """
    with open_video(path) as (container, stream):
        # decoding replaces the container's tag by that of the bitstream, which may have none
        tagged_transfer = int(stream.codec_context.color_trc)
        beginning = _read_first_packets(container, stream)
        if beginning.frame is None:
            raise VideoError("damaged", f"{path} has no frame that can be decoded")
        coded_transfer = int(stream.codec_context.color_trc)
        hdr = _HDR_OF_TRANSFER.get(coded_transfer) or _HDR_OF_TRANSFER.get(tagged_transfer)
        return _info(path, container, stream, beginning, hdr or Hdr.NONE)


def frame_times(path: Path, fps: Fraction) -> list[float]:
    """The time of every frame in seconds from the first one, ascending; decodes nothing.

    If the stream has no timestamps, the times follow from the frame index and `fps`.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    with open_video(path) as (container, stream):
        entries = [
            (None if packet.pts is None else packet.pts * packet.time_base, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard and is_shown(packet)
        ]
    times = [time for time, _ in entries]
    # a transport stream may begin anywhere, and decoders drop what is shown before the key frame;
    # one without key frames is refreshed bit by bit
    first = next((index for index, (_, is_key) in enumerate(entries) if is_key), 0)
    start = times[first] if entries and entries[first][1] else None
    if start is not None:
        times = [time for time in times[first:] if time is None or time >= start]
    known = sorted(time for time in times if time is not None)
    if not known or len(known) < len(times):
        return [float(index / fps) for index in range(len(times))]
    return [float(time - known[0]) for time in known]


def is_shown(packet: "Packet[VideoStream]") -> bool:
    """Whether a packet holds a frame to show; VP8 has frames that others only refer to."""
    if packet.stream.codec_context.codec.canonical_name != "vp8" or not packet.size:
        return True
    # bit 4 of the frame tag, RFC 6386, section 9.1
    return bool(memoryview(packet)[0] >> 4 & 1)


def as_fraction(value: Ratio | None) -> Fraction | None:
    """A ratio from PyAV as a Fraction; None if it is None or its denominator is 0.

    PyAV returns `Fraction` up to version 18 and its own `AVRational` from version 19 on.
    """
    if value is None or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)


def count_frames(path: Path) -> int:
    """The number of frames of the video stream, from its packets; decodes nothing."""
    return len(frame_times(path, Fraction(25)))


def _info(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    beginning: _Beginning,
    hdr: Hdr,
) -> VideoInfo:
    frame, seconds = beginning.frame, beginning.seconds
    assert frame
    _require_one_clock(path, container, stream, seconds)
    vision = dolby_vision(path)
    if vision and not vision.has_base_layer:
        raise VideoError(
            "dolby_vision",
            f"{path} is Dolby Vision of profile {vision.name}, whose pictures are right with its "
            "metadata alone, which is not read here: convert it to SDR or to profile 8",
        )
    context = stream.codec_context
    # average_rate is wrong if it is the container's clock, guessed_rate if the frame rate varies
    rates = (as_fraction(stream.average_rate), as_fraction(stream.guessed_rate))
    fps = min(filter(None, rates), default=Fraction(25))
    return VideoInfo(
        path=path,
        width_px=frame.width,
        height_px=frame.height,
        fps=fps,
        frame_count=stream.frames or None,
        duration_s=(
            _duration_s(container, stream, fps, seconds)
            if seconds
            else float(count_frames(path) / fps)
        ),
        codec=context.codec.canonical_name,
        pix_fmt=frame.format.name,
        bit_depth=max((part.bits for part in frame.format.components), default=_BASE_DEPTH),
        is_full_range=frame.color_range == 2 or frame.format.name.startswith("yuvj"),
        hdr=hdr,
        # a tilted picture stays as it is stored, or on the nearest side
        rotation=round(frame.rotation / 90) * 90 % 360,
        sar=as_fraction(stream.sample_aspect_ratio) or Fraction(1),
        is_vfr=_is_uneven(seconds),
        is_interlaced=bool(frame.interlaced_frame) or context.field_order in _INTERLACED_ORDERS,
        is_bare=(not seconds or beginning.has_false_keys or not _can_seek(container, stream)),
        size_bytes=size_bytes(path),
        stream_index=stream.index,
        num_videos=len(_videos(container)),
        dolby_vision=vision.name if vision else "",
        has_false_keys=beginning.has_false_keys,
        is_hls=container.format.name == HLS_FORMAT,
        start=Fraction(stream.start_time or 0) * (as_fraction(stream.time_base) or 0),
    )


def _can_seek(container: InputContainer, stream: VideoStream) -> bool:
    """Whether FFmpeg seeks in a playlist; in one without an end it does not."""
    if container.format.name != HLS_FORMAT:
        return True
    try:
        container.seek(stream.start_time or 0, stream=stream)
    except av.FFmpegError:
        return False
    return True


def _videos(container: InputContainer) -> list[VideoStream]:
    """The videos of a file; FFmpeg lists cover art and thumbnails as video streams too."""
    return [s for s in container.streams.video if not s.disposition & _STILLS]


def _is_default_and_area(stream: VideoStream) -> tuple[bool, int]:
    context = stream.codec_context
    area = context.width * context.height if context else 0
    return bool(stream.disposition & Disposition.default), area


def _read_first_packets(container: InputContainer, stream: VideoStream) -> _Beginning:
    """What the first packets tell, read in one pass."""
    frame: VideoFrame | None = None
    seconds: list[float] = []
    # an index that calls every frame a key frame is that of an intra codec, or wrong
    is_suspect = stream.codec_context.codec.canonical_name in _INTER_CODECS
    for index, packet in enumerate(islice(container.demux(stream), _NUM_PROBED_PACKETS)):
        if packet.pts is not None and not packet.is_discard and is_shown(packet):
            seconds.append(float(packet.pts * packet.time_base))
        is_suspect = is_suspect and (packet.is_keyframe or not packet.size)
        if frame is None or (is_suspect and index < _NUM_SUSPECTS):
            for decoded in _decoded(packet, is_needed=frame is None):
                frame = frame or decoded
                if is_suspect and decoded.pict_type != PictureType.I:
                    return _Beginning(frame, _all_seconds(container, stream, seconds), True)
    return _Beginning(frame, sorted(seconds), False)


def _decoded(packet: "Packet[VideoStream]", *, is_needed: bool) -> list[VideoFrame]:
    """The frames of a packet; damage counts only where they are needed."""
    try:
        return packet.decode()
    except av.FFmpegError:
        if is_needed:
            raise
        return []


def _all_seconds(
    container: InputContainer, stream: VideoStream, seconds: list[float]
) -> list[float]:
    """`seconds` and those of the packets that come until as many are read as always."""
    rest = islice(container.demux(stream), _NUM_PROBED_PACKETS - len(seconds))
    more = [float(p.pts * p.time_base) for p in rest if p.pts is not None and is_shown(p)]
    return sorted([*seconds, *more])


def _is_uneven(seconds: list[float]) -> bool:
    """Whether the intervals between frames differ by more than the rounding of timestamps."""
    steps = [after - before for before, after in pairwise(seconds)]
    # an edit list can shorten the first step, reordering the last one
    steps = steps[1:-1]
    if not steps:
        return False
    typical = statistics.median(steps)
    return max(steps) > 1.5 * typical + 0.001 or min(steps) < 0.5 * typical - 0.001


def _duration_s(
    container: InputContainer, stream: VideoStream, fps: Fraction, seconds: list[float]
) -> float:
    """The length of the video track, which may not be the longest one of its container.

    Args:
        container: the open file.
        stream: its video stream, whose first packets have been read.
        fps: frames a second.
        seconds: the ascending times of those packets.
    """
    first_s = seconds[0]
    known_s = seconds[-1] - first_s
    steps_s = [after - before for before, after in pairwise(seconds)]
    frame_s = min(float(1 / fps), statistics.median(steps_s or [math.inf]))
    stated_s = _stated_s(container, stream, first_s)
    if stated_s is None or known_s > stated_s + _MAX_UNSTATED_S:
        return _end_s(container, stream, seconds[-1] + frame_s) - first_s
    if len(seconds) < _NUM_PROBED_PACKETS and not stream.duration:
        return max(known_s + frame_s, stated_s)  # some headers leave the last frame out
    return stated_s


def _require_one_clock(
    path: Path, container: InputContainer, stream: VideoStream, seconds: list[float]
) -> None:
    """Raise VideoError if times jump by minutes, as where broadcasts were joined."""
    length_s = float((stream.duration or 0) * (stream.time_base or 0))
    if container.format.name != "mpegts" or length_s < _MAX_GAP_S:
        return
    if len(seconds) < _NUM_PROBED_PACKETS:
        ascending_s = seconds
    else:
        # as rare as files that are this much emptier than their beginning: then read all of it
        container.seek(stream.start_time or 0, stream=stream)
        span_s = seconds[-1] - seconds[0]
        ends = [packet.pos or 0 for packet in islice(container.demux(stream), len(seconds))]
        if container.size / max(1, *ends) * span_s * _MAX_EMPTIER > length_s:
            return
        container.seek(stream.start_time or 0, stream=stream)
        ascending_s = sorted(_packet_ends_s(container, stream))
    for before_s, after_s in pairwise(ascending_s):
        if after_s - before_s > _MAX_GAP_S:
            raise VideoError(
                "damaged",
                f"{path} has no picture from {before_s:.1f} to "
                f"{after_s:.1f} s: its timestamps jump, so cut it there or copy each part by "
                "itself",
            )


def _stated_s(container: InputContainer, stream: VideoStream, first_s: float) -> float | None:
    """What the header says of the track's length, in seconds."""
    if stream.duration and stream.time_base and stream.frames != _UNKNOWN_FRAMES:
        return float(stream.duration * stream.time_base)
    stated_s = _tagged_s(stream)
    if stated_s is None and len(container.streams) == 1 and container.duration:
        if stream.frames == _UNKNOWN_FRAMES:
            return None
        stated_s = container.duration / av.time_base
    if stated_s is None:
        return None
    # where the first frame of Matroska is not at 0, some programs state the end, not the length
    is_end = container.format.name.startswith("matroska") and stated_s > first_s
    return stated_s - first_s if is_end else stated_s


def _tagged_s(stream: VideoStream) -> float | None:
    """What Matroska's tag DURATION of a track says, such as 00:01:23.450000000, in seconds."""
    text = next((text for name, text in stream.metadata.items() if name.startswith("DURATION")), "")
    try:
        hours, minutes, rest = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(rest)
    except ValueError:
        return None


def _end_s(container: InputContainer, stream: VideoStream, known_s: float) -> float:
    """When the last frame ends, in seconds: packets near the end tell, or all from here on."""
    assert stream.time_base
    back_s = 4.0
    if container.duration and container.size > _MAX_READ_BYTES and not stream.index_entries:
        return max(known_s, (container.start_time + container.duration) / av.time_base)
    while container.duration:
        target_s = (container.start_time + container.duration) / av.time_base - back_s
        if target_s <= known_s:
            break
        container.seek(int(target_s / stream.time_base), stream=stream)
        if ends_s := _packet_ends_s(container, stream):
            return max(known_s, *ends_s)
        back_s *= 8
        container.seek(int(known_s / stream.time_base), stream=stream)
    return max([known_s, *_packet_ends_s(container, stream)])


def _packet_ends_s(container: InputContainer, stream: VideoStream) -> list[float]:
    return [
        float((packet.pts + (packet.duration or 0)) * packet.time_base)
        for packet in container.demux(stream)
        if packet.size and packet.pts is not None
    ]


def _even(length: Fraction | int) -> int:
    return max(2, round(length / 2) * 2)
