"""What a video file says of itself: `probe(path)` opens it, decodes one frame, gives VideoInfo."""

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ladder.errors import LadderError, VideoError

_LOOKED_AT_PACKETS = 240  # enough to see a variable frame rate, cheap in a file of any length


_TRANSFER_OF_HDR = {16: "pq", 18: "hlg"}  # ITU-T H.273, transfer characteristics


_BASE_DEPTH = 8


_INTERLACED_ORDERS = range(2, 6)  # AVFieldOrder: TT, BB, TB, BT


FILE_FAULTS = (
    LadderError, av.FFmpegError, OSError, ValueError, LookupError, ArithmeticError, MemoryError,
)  # fmt: skip
"""What work on one file may raise: a stage turns it into that file's row and goes on.

A damaged file can make PyAV raise IndexError and ZeroDivisionError too.
"""


class Ratio(Protocol):
    """A rational number of any library."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """The facts of one video stream.

    Sizes are stored pixels before rotation; `display_size` is what a viewer sees. `frame_count`
    is the container's word (None where it has none), `count_frames` counts.
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
    hdr: str  # "", "pq" or "hlg"
    rotation: int  # degrees counter-clockwise to turn the stored picture by: 0, 90, 180 or 270
    sar: Fraction  # width over height of one pixel
    is_vfr: bool
    is_interlaced: bool
    is_bare: bool  # an elementary stream without timestamps: it cannot be jumped in
    size_bytes: int

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) in square pixels, upright, both even."""
        width = self.width_px * self.sar
        size = (self.height_px, width) if self.rotation % 180 else (width, self.height_px)
        return _even(size[0]), _even(size[1])

    @property
    def bitrate_kbps(self) -> float | None:
        """Bits of the file over its duration; None if it has no duration."""
        return self.size_bytes * 8 / 1000 / self.duration_s if self.duration_s > 0 else None


class Decoding(NamedTuple):
    """How a decoder works: on how many threads (0: as many as there are cores), and how strictly.

    A strict one raises where a lenient one conceals what is damaged.
    """

    threads: int = 0
    is_strict: bool = False


LENIENT = Decoding()


@contextlib.contextmanager
def open_video(
    path: Path, decoding: Decoding = LENIENT
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open `path` and its first real video stream.

    Raises:
        VideoError: with the code that says why, also when the body fails to decode.
    """
    if not path.is_file():
        raise VideoError("missing", f"{path} is not a file")
    if not path.stat().st_size:
        raise VideoError("empty", f"{path} has no bytes in it")
    try:
        # only local files: a playlist that poses as a video must not fetch others
        options = {"protocol_whitelist": "file,crypto,data"}
        container = av.open(f"file:{path.absolute()}", options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError("not_video", f"{path} cannot be opened as video: {error}") from error
    with container:
        stream = next((s for s in container.streams.video if _is_moving(s)), None)
        if stream is None:
            raise VideoError("no_stream", f"{path} holds no video stream")
        if stream.codec_context is None:
            raise VideoError("no_decoder", f"{path} is coded in a way that FFmpeg does not know")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = decoding.threads
        if decoding.is_strict:
            stream.codec_context.options = {"err_detect": "explode"}
        try:
            yield container, stream
        except av.FFmpegError as error:
            raise VideoError("damaged", f"{path} cannot be decoded: {error}") from error


def fault_message(path: Path, error: Exception) -> str:
    """The text of an error for the row of `path`, always with the file's name."""
    if isinstance(error, LadderError) or (isinstance(error, OSError) and error.filename):
        return str(error)
    return f"{path} cannot be processed: {type(error).__name__}: {error}"


def probe(path: Path) -> VideoInfo:
    """The facts of the first video stream of `path`.

    Raises:
        VideoError: no such file, not a video, no picture in it, or not one decodable frame.
    """
    with open_video(path) as (container, stream):
        frame, seconds = _look_inside(container, stream)
        if frame is None:
            raise VideoError("damaged", f"{path} has not one frame that can be decoded")
        return _info(path, container, stream, frame, seconds)


def frame_times(path: Path, fps: Fraction) -> list[float]:
    """Seconds of every frame, ascending, from the first one on; nothing is decoded.

    Where a stream carries no timestamps, frames are counted at `fps`.

    Raises:
        VideoError: the file cannot be opened or read.
    """
    with open_video(path) as (container, stream):
        times = [
            None if packet.pts is None else packet.pts * packet.time_base
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard
        ]
    known = sorted(time for time in times if time is not None)
    if not known or len(known) < len(times):
        return [float(index / fps) for index in range(len(times))]
    return [float(time - known[0]) for time in known]


def as_fraction(value: Ratio | None) -> Fraction | None:
    """A ratio that PyAV gives, as a Fraction; None if it is None or has no denominator.

    PyAV gave `Fraction` up to version 18, and its own `AVRational` since version 19.
    """
    if value is None or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)


def count_frames(path: Path) -> int:
    """Frames of the video stream, as its packets tell; nothing is decoded."""
    return len(frame_times(path, Fraction(25)))


def _info(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    frame: VideoFrame,
    seconds: list[float],
) -> VideoInfo:
    context = stream.codec_context
    # the average is wrong where a container's clock is taken for a rate, the guess where it varies
    rates = (as_fraction(stream.average_rate), as_fraction(stream.guessed_rate))
    fps = min(filter(None, rates), default=Fraction(25))
    duration_s = _duration_s(container, stream, fps)
    return VideoInfo(
        path=path,
        width_px=frame.width,
        height_px=frame.height,
        fps=fps,
        frame_count=stream.frames or None,
        duration_s=duration_s if seconds else float(count_frames(path) / fps),
        codec=context.codec.canonical_name,
        pix_fmt=frame.format.name,
        bit_depth=max((part.bits for part in frame.format.components), default=_BASE_DEPTH),
        is_full_range=frame.color_range == 2 or frame.format.name.startswith("yuvj"),
        hdr=_TRANSFER_OF_HDR.get(int(context.color_trc), ""),
        rotation=frame.rotation % 360,
        sar=as_fraction(stream.sample_aspect_ratio) or Fraction(1),
        is_vfr=_is_uneven(seconds),
        is_interlaced=bool(frame.interlaced_frame) or context.field_order in _INTERLACED_ORDERS,
        is_bare=not seconds,
        size_bytes=path.stat().st_size,
    )


def _is_moving(stream: VideoStream) -> bool:
    """Cover art in a music file counts as a video stream, but is not one."""
    return not stream.disposition & Disposition.attached_pic


def _look_inside(
    container: InputContainer, stream: VideoStream
) -> tuple[VideoFrame | None, list[float]]:
    """The first frame, and the times of the first packets in order of showing, in one pass."""
    frame: VideoFrame | None = None
    seconds: list[float] = []
    for packet in islice(container.demux(stream), _LOOKED_AT_PACKETS):
        if packet.pts is not None:
            seconds.append(float(packet.pts * packet.time_base))
        if frame is None:
            frame = next(iter(packet.decode()), None)
    return frame, sorted(seconds)


def _is_uneven(seconds: list[float]) -> bool:
    """Whether the steps differ by more than the rounding of coarse timestamps explains."""
    steps = [after - before for before, after in pairwise(seconds)]
    # the first and the last step may be cut short by an edit list or by reordering at the end
    steps = steps[1:-1]
    if not steps:
        return False
    typical = statistics.median(steps)
    return max(steps) > 1.5 * typical + 0.001 or min(steps) < 0.5 * typical - 0.001


def _duration_s(container: InputContainer, stream: VideoStream, fps: Fraction) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    return float(stream.frames / fps)


def _even(length: Fraction | int) -> int:
    return max(2, round(length / 2) * 2)
