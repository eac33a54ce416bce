"""Open a video file: its container, the one of its video streams that is judged, its packets."""

import contextlib
import errno
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import av.logging
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ladder.errors import VideoError
from ladder.media.dash import DASH_SUFFIX, dash_files
from ladder.media.ends import missing_index
from ladder.media.playlists import HLS_FORMAT, HLS_OPTIONS, is_playlist, require_readable
from ladder.media.remote import RemoteFile, RemotePath
from ladder.media.transport import TS_FORMAT, first_video

AVI_FORMAT, ASF_FORMAT = "avi", "asf"
"""FFmpeg's names of the formats that have times of decoding alone."""

_MP4_FORMAT = "mov"
_MP4_SUFFIXES = frozenset({".mp4", ".m4v", ".mov"})
_FORMATS_OF_FRAGMENTS = (_MP4_FORMAT, HLS_FORMAT)
_CODECS_OF_OPEN_GROUPS = frozenset({"h264", "hevc"})
_NOT_FOUND = "FFmpeg finds no place by its time, as where a part is missing"
_MAX_WAITS = 2**16
_MAX_REORDERED = 17  # packets: a picture waits for 16 others at most

_NO_OPTIONS: Mapping[str, str] = {}
_FRAME_TICK_S = Fraction(1, 121)  # a clock that counts frames, of up to 120 a second
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails


class Ratio(Protocol):
    """A rational number, whatever library it is from."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


class Decoding(NamedTuple):
    """Decoder settings: the number of threads (0: one per core) and whether damage is an error.

    A strict decoder raises at damage; a lenient one conceals it. `hardware` is the name of a
    hardware decoder that works here (`ladder.media.hardware`), for what it can decode; empty: none.
    """

    threads: int = 0
    is_strict: bool = False
    hardware: str = ""


LENIENT = Decoding()


@contextlib.contextmanager
def open_video(
    path: Path, decoding: Decoding = LENIENT, *, is_decoded: bool = True
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open `path` and its video stream: the default one, else the largest, but no cover art.

    Who takes packets alone says so: of MP4 with one video no frame is decoded then to open it.

    Raises:
        VideoError: the file cannot be opened, or the body of the `with` fails to decode; `code`
            names the cause.
    """
    if not path.is_file():
        raise VideoError("missing", f"{path} {_what_it_is(path)}")
    if not path.stat().st_size:
        raise VideoError("empty", f"{path} has no bytes")
    with av.logging.Capture():  # what FFmpeg says of frames that nobody asked for
        container = _opened(path, decoding.hardware) if is_decoded else _opened_for_packets(path)
    with container:
        # of equal ones the first
        stream = max(videos(container), key=_is_default_and_area, default=None)
        if stream is None:
            raise _without_video(path, container)
        if stream.codec_context is None:
            raise VideoError("no_decoder", f"{path} has a codec that FFmpeg cannot decode")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = decoding.threads
        # else a crop at the left that is no multiple of 32 moves the picture
        stream.codec_context.flags |= Flags.unaligned
        if decoding.is_strict:
            stream.codec_context.options = {"err_detect": "explode"}
        try:
            yield container, stream
        except av.FFmpegError as error:
            # a seek that fails has no reason but this number; the rest of the text is FFmpeg's
            reason = _NOT_FOUND if error.errno == errno.EPERM else error.strerror or error
            raise VideoError("damaged", f"{path} cannot be decoded: {reason}") from error


def _without_video(path: Path, container: InputContainer) -> VideoError:
    """The error of a file in which FFmpeg finds no video."""
    first = first_video(path) if container.format.name == TS_FORMAT else None
    if first is None:
        return VideoError("no_stream", f"{path} has no video stream")
    if any(stream.id == first.identifier and stream.type == "data" for stream in container.streams):
        reason = f"(PID {first.identifier:#x}) has a codec that FFmpeg does not know there"
        return VideoError("no_decoder", f"{path} is a transport stream whose video {reason}")
    # an identifier means what it meant at the start, so that sound may stand for what follows it
    return VideoError(
        "damaged",
        f"{path} has a video that begins at byte {first.table_at} (PID {first.identifier:#x}), as "
        "where recordings were joined: copy it into a file of its own (ffmpeg -skip_initial_bytes "
        f"{first.table_at} -i {path.name} -map 0:v:0 -c copy {path.stem}-2.ts)",
    )


def _what_it_is(path: Path) -> str:
    """Why a path that is no file is none."""
    if path.is_dir():
        return "is a folder"
    if path.exists():
        return "is a pipe, a socket or a device, and not a file: write what comes from it to a file"
    if path.is_symlink():
        return f"is a link to {path.readlink()}, which leads to no file"
    return "is not a file"


def _opened_for_packets(path: Path) -> InputContainer:
    if path.suffix.lower() in _MP4_SUFFIXES:
        container = _opened(path, "", {"codec_whitelist": "none"})
        # the size by which one of several is chosen is, of MPEG-4 Part 2, what a decoder says
        if container.format.name.startswith(_MP4_FORMAT) and len(videos(container)) == 1:
            return container
        container.close()
    # other formats lack times, which FFmpeg finds by what a decoder says of the first frames
    return _opened(path, "")


def _opened(path: Path, hardware: str, more: Mapping[str, str] = _NO_OPTIONS) -> InputContainer:
    source, protocols_of_source = _source(path)
    options = {"protocol_whitelist": protocols_of_source, **HLS_OPTIONS, **more}
    hwaccel = HWAccel(hardware, allow_software_fallback=True) if hardware else None
    try:
        return av.open(
            source,
            mode="r",
            options=options,
            metadata_errors="replace",  # tags need not be valid text, and nothing needs theirs
            hwaccel=hwaccel,
        )
    except PermissionError as error:
        raise VideoError("unreadable", f"{path} cannot be read: {error.strerror}") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        if missing := missing_index(path):
            raise VideoError("damaged", f"{path} {missing}") from error
        # the text of the error has the path once more
        reason = f"cannot be opened as video: {getattr(error, 'strerror', None) or error}"
        raise VideoError("not_video", f"{path} {reason}") from error


def _source(path: Path) -> tuple[str | RemoteFile, str]:
    """What PyAV opens, and the protocols by which that may name further files."""
    if isinstance(path, RemotePath):
        if is_playlist(path):
            raise VideoError(
                "not_video",
                f"{path} is a playlist, whose parts are read from files alone: copy its folder "
                "to this machine first",
            )
        return RemoteFile(path), "crypto,data"
    if is_playlist(path):
        require_readable(path)
    files = dash_files(path) if path.suffix.lower() == DASH_SUFFIX else [path]
    addresses = "|".join(f"file:{file.absolute()}" for file in files)
    return addresses if len(files) == 1 else f"concat:{addresses}", protocols(len(files))


def packets_of(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    """The packets of a stream from here on, and an empty one at the end; it flushes a decoder."""
    packets = _demuxed(container, stream)
    is_in_fragments = stream.container.format.name.startswith(_FORMATS_OF_FRAGMENTS)
    if times_count_hidden(stream):
        return _without_ticks_of_hidden(packets)
    if is_in_fragments and stream.codec_context.codec.canonical_name in _CODECS_OF_OPEN_GROUPS:
        return _with_times_of_keys(packets)
    return packets


def times_count_hidden(stream: VideoStream) -> bool:
    """Whether frames that are never shown have a time of their own, in which nothing new is shown.

    IVF gives each packet a later time than the one before. Where it counts frames, and not a finer
    unit, all that follows a hidden frame of VP8 is late. `packets_of` takes that back, from the
    start of the file on: after a seek it cannot.
    """
    tick_s = as_fraction(stream.time_base) or Fraction(0)
    is_ivf = stream.container.format.name == "ivf"
    return is_ivf and _hides_frames(stream) and tick_s >= _FRAME_TICK_S


def _without_ticks_of_hidden(
    packets: "Iterator[Packet[VideoStream]]",
) -> "Iterator[Packet[VideoStream]]":
    num_ticks, hidden_at = 0, math.inf
    for packet in packets:
        if packet.size and packet.pts is not None:
            num_ticks += packet.pts > hidden_at
            hidden_at = math.inf if is_shown(packet) else packet.pts
            packet.pts -= num_ticks
            packet.dts = packet.pts
        yield packet


def _with_times_of_keys(
    packets: "Iterator[Packet[VideoStream]]",
) -> "Iterator[Packet[VideoStream]]":
    """The packets, and where a key frame has the time of a picture that leads it, its own time.

    So FFmpeg's muxers of HLS and DASH begin a segment with an open group. Encoders take the times
    of decoding from those of showing, so that the one that is missing is among them.
    """
    ahead: deque[Packet[VideoStream]] = deque()
    try:
        for packet in packets:
            ahead.append(packet)
            while ahead and not (ahead[0].is_keyframe and len(ahead) <= _MAX_REORDERED):
                yield _with_own_time(ahead.popleft(), ahead)
    except av.FFmpegError:  # of a packet further on
        yield from ahead
        raise
    while ahead:
        yield _with_own_time(ahead.popleft(), ahead)


def _with_own_time(
    packet: "Packet[VideoStream]", following: "Sequence[Packet[VideoStream]]"
) -> "Packet[VideoStream]":
    if packet.is_keyframe and packet.pts is not None:
        taken = {each.pts for each in following}
        free = {each.dts for each in following if each.dts is not None and each.dts > packet.pts}
        if packet.pts in taken:
            packet.pts = min(free - taken, default=packet.pts)
    return packet


def _demuxed(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    packets, num_waits = container.demux(stream), 0
    while True:
        try:
            packet = next(packets, None)
        except IndexError:
            # PyAV's list of streams is that of the beginning; at the end, after all packets, it may
            # look there for those that came later
            return
        except av.BlockingIOError:
            # FFmpeg looked for the next packet of a broadcast in 64 KiB, as of a file that is
            # longer than what was recorded, and goes on when it is asked again
            packets, num_waits = container.demux(stream), num_waits + 1
            if num_waits > _MAX_WAITS:
                raise
            continue
        if packet is None:
            return
        yield packet


def frames_of(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The decoded frames of a stream from here on."""
    for packet in packets_of(container, stream):
        yield from packet.decode()


def protocols(num_files: int) -> str:
    """Of FFmpeg, for local files: a playlist named like a video must not fetch from the network."""
    return "file,concat,crypto,data" if num_files > 1 else "file,crypto,data"


def videos(container: InputContainer) -> list[VideoStream]:
    """The videos of a file; FFmpeg lists cover art and thumbnails as video streams too."""
    return [s for s in container.streams.video if not s.disposition & _STILLS]


def _is_default_and_area(stream: VideoStream) -> tuple[bool, int]:
    context = stream.codec_context
    area = context.width * context.height if context else 0
    return bool(stream.disposition & Disposition.default), area


def is_shown(packet: "Packet[VideoStream]") -> bool:
    """Whether a packet holds a frame to show; VP8 has frames that others only refer to."""
    if not _hides_frames(packet.stream) or not packet.size:
        return True
    # bit 4 of the frame tag, RFC 6386, section 9.1
    return bool(memoryview(packet)[0] >> 4 & 1)


def _hides_frames(stream: VideoStream) -> bool:
    """Whether a frame that is not shown is a packet of its own; later codecs join it to another."""
    return stream.codec_context.codec.canonical_name == "vp8"


def shown_at(packet: "Packet[VideoStream]") -> Fraction | None:
    """When a packet's frame is shown, in seconds of the file's clock; None: the file does not say.

    AVI and ASF have no pts: FFmpeg gives their packets those of frames in decoding order, and dts
    that begin with the track.
    """
    has_pts = packet.stream.container.format.name not in {AVI_FORMAT, ASF_FORMAT}
    stamp = packet.pts if has_pts else packet.dts
    return None if stamp is None else stamp * packet.time_base


def as_fraction(value: Ratio | None) -> Fraction | None:
    """A ratio from PyAV as a Fraction; None if it is None or its denominator is 0.

    PyAV returns `Fraction` up to version 18 and its own `AVRational` from version 19 on.
    """
    if value is None or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)
