"""Read the properties of a video file: `probe` opens it, decodes one frame, returns VideoInfo."""

import contextlib
import math
import statistics
from array import array
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from ladder.errors import LadderError, VideoError
from ladder.media.container import (
    ASF_FORMAT,
    AVI_FORMAT,
    Decoding,
    as_fraction,
    is_shown,
    open_video,
    packets_of,
    shown_at,
    times_count_hidden,
    videos,
)
from ladder.media.dash import DASH_SUFFIX, dash_files, require_all_segments
from ladder.media.ends import has_guessed_length
from ladder.media.lengths import (
    FORMATS_THAT_JUMP,
    NUM_FIRST_PACKETS,
    count_frames,
    duration_s,
    frame_rate,
    require_one_clock,
)
from ladder.media.playlists import HLS_FORMAT, size_bytes
from ladder.media.side_data import Crop, side_data

_LOWEST_FPS = Fraction(1, 120)  # of slides; a track that counts in no unit has one in 512 s
_MOVIE_FORMAT = "mov"  # FFmpeg's name of MP4 and its relatives begins like this
_PICTURES_FORMAT = "_pipe"  # pictures one after another, in which FFmpeg only says that it seeks
_NUM_SUSPECTS = 12  # packets that may tell a wrong index
_NUM_REORDERED = 48  # packets that may tell times of decoding
_INTER_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "vp8", "mpeg2video", "mpeg4"})
_BASE_DEPTH = 8
UNKNOWN = "unknown"
"""The matrix of a video that names none."""

RGB = "gbr"
"""The matrix of a video that is RGB."""

_BT601, _BT709 = "bt470bg", "bt709"
_MATRICES = {
    0: RGB, 1: _BT709, 4: "fcc", 5: _BT601, 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c",
}  # fmt: skip
"""ffmpeg's names of AVColorSpace; smpte170m is bt470bg by another name."""

_FULL_RANGE = 2  # AVColorRange; 1 is limited, 0 unknown
# their streams do not say a range, and FFmpeg's decoders call it limited
_CODECS_WITHOUT_RANGE = frozenset({"vp8", "mpeg1video", "mpeg2video", "prores"})
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


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """The properties of one video stream.

    `width_px` and `height_px` are the stored size; `display_size` is what a viewer sees.
    `frame_count` is from the container (None if it has none); `lengths.count_frames` counts
    packets.
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
    rotation: int  # to show the stored picture, counter-clockwise, in degrees: 0, 90, 180, 270
    sar: Fraction  # sample aspect ratio: width over height of one pixel
    is_vfr: bool
    is_interlaced: bool
    # seeking is impossible: without timestamps of showing, with a wrong index, or a playlist
    # without an end
    is_bare: bool
    size_bytes: int
    stream_index: int = 0  # of the video stream among all streams of the file
    num_videos: int = 1  # video streams of the file, without cover art and thumbnails
    dolby_vision: str = ""  # its profile, such as 8.1
    start: Fraction = Fraction(0)  # the timestamp of the first frame, in seconds
    is_hls: bool = False  # a playlist of segments
    has_false_keys: bool = False  # its index calls frames key frames that are none
    crop: Crop = Crop()  # noqa: RUF009 - what the container cuts off the stored picture
    is_mirrored: bool = False  # shown with left and right exchanged, before it is turned
    is_tonemapped: bool = False  # it is HDR, and whoever reads its frames gets them as SDR
    # AVI and ASF have no times of showing: where frames are reordered, only the dts that a decoder
    # gives to frames, in the order they are shown, tells their times
    is_timed_by_dts: bool = False
    # progressive at first, and later not; only the stages that read all of the file tell it
    is_partly_interlaced: bool = False
    # the container and the stream name different ranges
    has_two_ranges: bool = False
    # some files of other formats lack them too: the n-th frame that is shown has the n-th timestamp
    is_timed_by_order: bool = False
    matrix: str = UNKNOWN  # of RGB -> YUV, as ffmpeg names it; of RGB `gbr`

    @property
    def display_size(self) -> Size:
        """The size in square pixels after cropping and rotation; both sides are even."""
        width_px, height_px = self.crop.rest(self.width_px, self.height_px)
        width, height = _even(width_px * self.sar), _even(height_px)
        return Size(height, width) if self.rotation % 180 else Size(width, height)

    @property
    def matrix_of_frames(self) -> str:
        """The matrix of the frames that are read: tone-mapped ones have that of SDR."""
        return _BT709 if self.is_tonemapped else self.matrix

    @property
    def effective_matrix(self) -> str:
        """The matrix by which ffmpeg converts frames; one that is not named is BT.601's."""
        matrix = self.matrix_of_frames
        return _BT601 if matrix in {UNKNOWN, "smpte170m"} else matrix

    @property
    def has_range_of_container(self) -> bool:
        """Whether `is_full_range` is what the container says, and not what decoders say."""
        return self.has_two_ranges and self.codec in _CODECS_WITHOUT_RANGE

    @property
    def hdr_of_frames(self) -> Hdr:
        """The transfer function of the frames that are read: tone-mapped ones are SDR."""
        return Hdr.NONE if self.is_tonemapped else self.hdr

    @property
    def bitrate_kbps(self) -> float | None:
        """File size divided by duration; None if the duration is unknown."""
        return self.size_bytes * 8 / 1000 / self.duration_s if self.duration_s > 0 else None

    def start_pts(self, stream: VideoStream) -> int:
        """`start` in ticks of the stream; the start that a container states may be none, or late.

        ASF states none, and of AVI it is the time at which the first frame is decoded.
        """
        base = as_fraction(stream.time_base)
        return round(self.start / base) if base else 0


class _Beginning(NamedTuple):
    """The first frame, the ascending times of the first packets in seconds, and of their flags.

    `has_false_keys`: packets are called key frames and are none, so that seeking leads nowhere.
    `is_ascending`: each packet is shown after the one before, if its timestamps are right.
    `are_all_timed`: each frame from the first key frame on has a timestamp; of a program stream
    some have none. `is_timed_late`: the first ones have none, as of Matroska those before 0.
    `known_until_s`: what is shown up to this time is among the packets; later ones may be missing,
    because frames are not stored in the order they are shown. `has_hidden_ticks`: what follows
    frames that are not shown is late by one for each (`times_count_hidden`).
    """

    frame: VideoFrame | None
    seconds: list[float]
    has_false_keys: bool
    is_ascending: bool = False
    are_all_timed: bool = True
    is_timed_late: bool = False
    known_until_s: float = math.inf
    has_hidden_ticks: bool = False


def fault_message(path: Path, error: Exception) -> str:
    """The error message for the row of `path`; it always names the file."""
    if isinstance(error, LadderError) or (isinstance(error, OSError) and error.filename):
        return str(error)
    return f"{path} cannot be processed: {type(error).__name__}: {error}"


def probe(path: Path, *, tonemap: bool = False) -> VideoInfo:
    """The properties of the video stream of `path` that `open_video` chooses.

    With `tonemap`, whoever reads the frames of an HDR video gets them as SDR.

    Raises:
        VideoError: the file is missing, is not a video, has no video stream or decodable frame, or
            is Dolby Vision without a base layer.
    """
    # more threads decode more frames before they give the first one
    with open_video(path, Decoding(threads=1)) as (container, stream):
        # decoding replaces the container's tags by those of the bitstream, which may have none
        tagged_transfer = int(stream.codec_context.color_trc)
        tagged_range = int(stream.codec_context.color_range)
        beginning = _read_first_packets(container, stream)
        if beginning.frame is None:
            raise VideoError("damaged", f"{path} has no frame that can be decoded")
        coded_transfer = int(stream.codec_context.color_trc)
        hdr = _HDR_OF_TRANSFER.get(coded_transfer) or _HDR_OF_TRANSFER.get(tagged_transfer)
        info = _info(path, container, stream, beginning, hdr or Hdr.NONE)
        info = _with_range(info, tagged_range, beginning.frame)
        if path.suffix.lower() == DASH_SUFFIX:
            require_all_segments(path, info.duration_s)
        return replace(info, is_tonemapped=tonemap and bool(info.hdr))


def _info(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    beginning: _Beginning,
    hdr: Hdr,
) -> VideoInfo:
    frame, seconds = beginning.frame, beginning.seconds
    assert frame
    header = dash_files(path)[0] if path.suffix.lower() == DASH_SUFFIX else path
    crop, vision = side_data(header, container, stream)
    if min(crop.rest(frame.width, frame.height)) < 1:
        raise VideoError("damaged", f"{path} is cropped by {crop}, which leaves no picture")
    if vision and not vision.has_base_layer:
        raise VideoError(
            "dolby_vision",
            f"{path} is Dolby Vision of profile {vision.name}, whose pictures are right with its "
            "metadata alone, which is not read here: convert it to SDR or to profile 8",
        )
    context = stream.codec_context
    rotation, is_mirrored = _orientation(frame)
    complete_s = [time_s for time_s in seconds if time_s <= beginning.known_until_s]
    is_vfr = beginning.are_all_timed and _is_uneven(complete_s)
    is_interlaced = bool(frame.interlaced_frame) or context.field_order in _INTERLACED_ORDERS
    # a packet may hold a field
    is_steady = not is_vfr and not is_interlaced
    known_s = seconds if beginning.are_all_timed else []
    fps = frame_rate(container, stream, known_s, is_steady=is_steady)
    if fps < _LOWEST_FPS:
        raise VideoError(
            "damaged",
            f"{path} says that a frame stays for {float(1 / fps):.0f} s, so its clock is wrong: "
            f"give it its rate (ffmpeg -i {path.name} -c copy -bsf:v setts=ts=N/(25*TB) OUT.mkv)",
        )
    length_s: float | None = None
    if known_s and not beginning.has_hidden_ticks:
        is_guessed = has_guessed_length(header)
        length_s = duration_s(container, stream, fps, known_s, is_guessed=is_guessed)
    can_seek = _can_seek(container, stream)
    if container.format.name in FORMATS_THAT_JUMP and can_seek:  # reading to an open end takes long
        require_one_clock(path)
    is_timed_by_dts, is_timed_by_order = _lacks_times(path, container, stream, beginning)
    start_s = seconds[0] if seconds else 0.0
    if is_timed_by_dts or is_timed_by_order:
        start_s = _first_shown_s(stream, frame, start_s, fps)
    return VideoInfo(
        path=path,
        width_px=frame.width,
        height_px=frame.height,
        fps=fps,
        frame_count=stream.frames or None,
        duration_s=float(count_frames(path) / fps) if length_s is None else length_s,
        codec=context.codec.canonical_name,
        pix_fmt=frame.format.name,
        bit_depth=max((part.bits for part in frame.format.components), default=_BASE_DEPTH),
        is_full_range=frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj"),
        hdr=hdr,
        rotation=rotation,
        sar=as_fraction(stream.sample_aspect_ratio) or Fraction(1),
        is_vfr=is_vfr,
        is_interlaced=is_interlaced,
        is_bare=not seconds or beginning.has_false_keys or not can_seek or is_timed_by_order,
        size_bytes=size_bytes(path),
        stream_index=stream.index,
        num_videos=len(videos(container)),
        dolby_vision=vision.name if vision else "",
        has_false_keys=beginning.has_false_keys,
        crop=crop,
        is_mirrored=is_mirrored,
        is_hls=container.format.name == HLS_FORMAT,
        is_timed_by_dts=is_timed_by_dts,
        is_timed_by_order=is_timed_by_order,
        matrix=_MATRICES.get(int(frame.colorspace), UNKNOWN),
        start=Fraction(start_s),
    )


def _with_range(info: VideoInfo, tagged: int, frame: VideoFrame) -> VideoInfo:
    """`info` with the range that the container says, where the stream cannot say one."""
    has_two = 0 not in {tagged, int(frame.color_range)} and tagged != frame.color_range
    info = replace(info, has_two_ranges=has_two)
    if info.has_range_of_container:
        return replace(info, is_full_range=tagged == _FULL_RANGE)
    return info


def _orientation(frame: VideoFrame) -> tuple[int, bool]:
    """How a stored picture is shown: turned counter-clockwise by degrees, and mirrored before.

    A tilted picture stays as it is stored, or lies on the nearest side.
    """
    degrees, is_mirrored = float(frame.rotation), False
    with contextlib.suppress(KeyError, ValueError):  # PyAV does not know every kind of side data
        # `frame.side_data` is a cycle, which keeps all buffers of the decoder until it is collected
        matrix = array("i", bytes(SideDataContainer(frame)[Type.DISPLAYMATRIX]))  # type: ignore[call-arg]
        a, b, c, d = (matrix[place] for place in (0, 1, 3, 4))
        if is_mirrored := a * d < b * c:
            degrees = -math.degrees(math.atan2(-b, -a))
    return round(degrees / 90) * 90 % 360, is_mirrored


def _can_seek(container: InputContainer, stream: VideoStream) -> bool:
    """Whether FFmpeg seeks in a file; in a playlist without an end it does not."""
    if container.format.name.endswith(_PICTURES_FORMAT):
        return False
    try:
        container.seek(stream.start_time or 0, stream=stream)
    except av.FFmpegError:
        return False
    return True


class _Times:
    """When the frames of packets are shown, in seconds, and how many of them do not say it.

    Of a stream that was cut, decoders drop what comes before the first key frame, and what is shown
    before it.
    """

    def __init__(self) -> None:
        self.known_s: list[float] = []
        self.num_missing, self.is_first_missing = 0, False
        self.known_until_s, self.has_hidden = math.inf, False
        self._has_key, self._from_s = False, -math.inf

    def add(self, packet: "Packet[VideoStream]") -> None:
        time = shown_at(packet)
        if packet.dts is None or not packet.size:  # the end
            self.known_until_s = math.inf
        else:
            self.known_until_s = float(packet.dts * packet.time_base)
        if packet.is_keyframe and not self._has_key:
            self._has_key = True
            if self.known_s and time is not None:
                self.known_s.clear()
                self._from_s = float(time)
        self.has_hidden = self.has_hidden or not is_shown(packet)
        if not packet.size or packet.is_discard or not is_shown(packet):
            return
        if time is None:
            self.num_missing += self._has_key
            self.is_first_missing = self.is_first_missing or (self._has_key and not self.known_s)
        elif float(time) >= self._from_s:
            self.known_s.append(float(time))


def _read_first_packets(container: InputContainer, stream: VideoStream) -> _Beginning:
    """What the first packets tell, read in one pass."""
    frame: VideoFrame | None = None
    times, has_false_keys = _Times(), False
    # an index that calls every frame a key frame is that of an intra codec, or wrong
    is_suspect = is_inter = stream.codec_context.codec.canonical_name in _INTER_CODECS
    for index, packet in enumerate(islice(packets_of(container, stream), NUM_FIRST_PACKETS)):
        times.add(packet)
        is_suspect = is_suspect and (packet.is_keyframe or not packet.size)
        is_false = is_inter and index < _NUM_SUSPECTS and _is_false_key(stream, packet)
        if frame is None or (is_suspect and index < _NUM_SUSPECTS):
            for decoded in _decoded(packet, is_needed=frame is None):
                frame = frame or decoded
                is_false = is_false or (is_suspect and decoded.pict_type != PictureType.I)
        has_false_keys = has_false_keys or is_false
        if frame and has_false_keys:
            return _Beginning(frame, _all_seconds(container, stream, times.known_s), True)
    ascending = sorted(times.known_s)
    is_ascending = times.known_s == ascending
    is_timed_late = times.is_first_missing and bool(ascending)
    if frame and frame.pts is not None and container.format.name in FORMATS_THAT_JUMP:
        # what leads the first key frame of a cut broadcast may refer to frames that are not there
        first_s = float(frame.pts * (stream.time_base or 0))
        ascending = [time_s for time_s in ascending if time_s >= first_s]
    return _Beginning(
        frame,
        ascending,
        False,
        is_ascending,
        not times.num_missing,
        is_timed_late,
        times.known_until_s,
        times.has_hidden and times_count_hidden(stream),
    )


def _is_false_key(stream: VideoStream, packet: "Packet[VideoStream]") -> bool:
    """Whether the index has a packet as a key frame that is none by its headers, as FFmpeg says.

    Of MP4 alone, whose index has times of decoding.
    """
    is_movie = stream.container.format.name.startswith(_MOVIE_FORMAT)
    if not is_movie or packet.is_keyframe or packet.dts is None:
        return False
    entries = islice(stream.index_entries, _NUM_SUSPECTS)
    return any(entry.timestamp == packet.dts and entry.is_keyframe for entry in entries)


def _decoded(packet: "Packet[VideoStream]", *, is_needed: bool) -> list[VideoFrame]:
    """The frames of a packet; damage counts only where they are needed."""
    try:
        return packet.decode()
    except av.FFmpegError:
        if is_needed:
            raise
        return []


def _lacks_times(
    path: Path, container: InputContainer, stream: VideoStream, beginning: _Beginning
) -> tuple[bool, bool]:
    """Whether frames are timed by the decoder's dts, and whether by their order."""
    has_b_frames, frame = bool(stream.codec_context.has_b_frames), beginning.frame
    if container.format.name in {AVI_FORMAT, ASF_FORMAT}:
        # FFmpeg delays the pts of H.264 by a frame until it knows that there are no B frames
        return has_b_frames or bool(frame and frame.pts != frame.dts), False
    is_disordered = has_b_frames and beginning.is_ascending and _are_frames_disordered(path)
    return False, beginning.is_timed_late or beginning.has_hidden_ticks or is_disordered


def _first_shown_s(
    stream: VideoStream, frame: VideoFrame, decoded_s: float, fps: Fraction
) -> float:
    """When the first frame is shown if timestamps, from `decoded_s` on, are those of decoding."""
    # a first picture that stays longer comes out late
    delayed_s = decoded_s + float(stream.codec_context.reorder_depth / fps)
    if frame.dts is None:
        return delayed_s
    return min(float(frame.dts * (stream.time_base or 0)), delayed_s)


def _are_frames_disordered(path: Path) -> bool:
    """Whether the decoder puts frames into an order that is not that of their timestamps.

    Then they are times of decoding: of H.264 in an MXF whose index does not order it, of MP4
    without composition times.
    """
    with open_video(path) as (container, stream):
        packets = islice(packets_of(container, stream), _NUM_REORDERED)
        frames = [frame for packet in packets for frame in _decoded(packet, is_needed=False)]
    stamps = [frame.pts for frame in frames if frame.pts is not None]
    return stamps != sorted(stamps)


def _all_seconds(
    container: InputContainer, stream: VideoStream, seconds: list[float]
) -> list[float]:
    """`seconds` and those of the packets that come until as many are read as always."""
    rest = islice(packets_of(container, stream), NUM_FIRST_PACKETS - len(seconds))
    more = [float(time) for p in rest if is_shown(p) and (time := shown_at(p)) is not None]
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


def _even(length: Fraction | int) -> int:
    return max(2, round(length / 2) * 2)
