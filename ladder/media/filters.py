"""Build ffmpeg filter graphs and compile them to command line arguments."""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote_from_bytes, unquote_to_bytes

import ffmpeg as graph

from ladder.media.container import protocols
from ladder.media.dash import DASH_SUFFIX, dash_files
from ladder.media.ffmpeg import file_url
from ladder.media.playlists import HLS_OPTIONS
from ladder.media.probe import VideoInfo
from ladder.media.time_ranges import TimeRange, frame_aligned
from ladder.media.tonemap import tonemapped

VideoNode: TypeAlias = graph.nodes.FilterableStream
"""A video stream in a filter graph; filters can be added to it."""

OutputNode: TypeAlias = graph.nodes.OutputStream
"""An output of a filter graph."""

InputOptions = dict[str, int | str]

FILE_CLOCK = ("-copyts",)
"""Options of an ffmpeg process that finds frames by the file's own timestamps."""

_FILE, _CONCAT = "file:", "concat:"

_SEEK_MARGIN_S = 15  # longer than most distances of key frames
_END_MARGIN_S = 5  # the video may begin later than the file


def video_input(
    video: VideoInfo, time_ranges: tuple[TimeRange, ...] = (), **options: int | str
) -> VideoNode:
    """The video stream that `probe` chose, deinterlaced, its time ranges joined, as SDR if asked.

    Args:
        video: the result of `probe` for the file.
        time_ranges: the parts to read; empty: the whole video.
        options: input options of ffmpeg.
    """
    parts = [_part(video, time_range, options) for time_range in time_ranges]
    parts = parts or [_input(video, options)]
    stream = parts[0]
    if len(parts) > 1:
        # gaps at the joints are not whole frames: give every frame the source's average duration
        stream = retime_by_index(graph.concat(*parts, v=1, a=0), video.fps)
    return tonemapped(stream, video.hdr) if video.is_tonemapped else stream


def window_input(
    video: VideoInfo, start: Fraction | None, end: Fraction | None, **options: int | str
) -> VideoNode:
    """`video_input` from `start` to `end`, read from a key frame on; None: all on that side.

    Both are in seconds from the first frame and lie between two frames. The process needs
    `FILE_CLOCK`.
    """
    stream = _between(video, start, end, options)
    return tonemapped(stream, video.hdr) if video.is_tonemapped else stream


def scaled_input(stream: VideoNode, size: tuple[int, int], pix_fmt: str) -> VideoNode:
    """`stream` scaled to `size` (width, height) by bicubic: square pixels, limited range."""
    width, height = size
    return (
        stream.filter("scale", width, height, flags="bicubic", in_range="auto", out_range="tv")
        .filter("setsar", 1)
        .filter("format", pix_fmt)
    )


def retime_by_index(stream: VideoNode, fps: Fraction) -> VideoNode:
    """`stream` with new timestamps: frame n is at n / fps seconds."""
    tick = f"{fps.denominator}/{fps.numerator}"
    return stream.filter("settb", tick).filter("setpts", "N")


def from_zero(stream: VideoNode) -> VideoNode:
    """`stream` with timestamps that begin at 0."""
    return stream.filter("setpts", "PTS-STARTPTS")


def _input(video: VideoInfo, options: InputOptions) -> VideoNode:
    is_dash = video.path.suffix.lower() == DASH_SUFFIX
    files = [_quote_path(file) for file in (dash_files(video.path) if is_dash else [video.path])]
    address = files[0] if len(files) == 1 else _CONCAT + "|".join(files)
    fixed: InputOptions = {"protocol_whitelist": protocols(len(files))}
    if not video.is_interlaced:  # the deinterlacer takes one size
        fixed["reinit_filter"] = 0
    if video.is_hls:
        fixed |= HLS_OPTIONS
    source = graph.input(address, **fixed, **options)
    stream = source[str(video.stream_index)]
    if video.is_timed_by_order:
        stream = retime_by_index(stream, video.fps)
    if video.has_range_of_container:
        stream = stream.filter("setparams", range="pc" if video.is_full_range else "tv")
    if any(video.crop):
        stream = _cropped(stream, video)
    if video.is_interlaced:
        # one frame out per frame in: VMAF pairs frames by index
        stream = stream.filter("bwdif", mode="send_frame", deint="all")
    return stream


def _cropped(stream: VideoNode, video: VideoInfo) -> VideoNode:
    """The part of the upright picture that is shown; ffmpeg 7.1 and later has cut it out itself."""
    crop = video.crop.upright(video.rotation, is_mirrored=video.is_mirrored)
    width, height = video.crop.rest(video.width_px, video.height_px)
    if video.rotation % 180:
        width, height = height, width
    # whatever is still around the picture lies there in the proportions of the crop
    x = f"(iw-ow)*{crop.left}/{max(1, crop.left + crop.right)}"
    y = f"(ih-oh)*{crop.top}/{max(1, crop.top + crop.bottom)}"
    return stream.filter("crop", f"min(iw,{width})", f"min(ih,{height})", x, y)


def output(stream: VideoNode, path: Path | None, **options: object) -> OutputNode:
    """`stream` written to `path`; None discards it."""
    return graph.output(stream, _quote_path(path) if path else "-", **options)


def clock_arguments(time_ranges: Sequence[TimeRange]) -> list[str]:
    """Options of an ffmpeg process that cuts parts: they are found by the file's own timestamps."""
    return list(FILE_CLOCK) if time_ranges else []


def compile_arguments(outputs: Sequence[OutputNode]) -> list[str]:
    """The arguments with which one ffmpeg process makes all `outputs`."""
    merged = graph.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0]
    return [_unquote_path(str(argument)) for argument in merged.get_args()]


def _quote_path(path: Path) -> str:
    # ffmpeg-python accepts only valid Unicode: percent-encode the bytes of the path
    return _FILE + quote_from_bytes(os.fsencode(path.absolute()))


def _unquote_path(argument: str) -> str:
    if argument.startswith(_CONCAT):
        return _CONCAT + "|".join(map(_unquote_path, argument.removeprefix(_CONCAT).split("|")))
    if not argument.startswith(_FILE):
        return argument
    return file_url(Path(os.fsdecode(unquote_to_bytes(argument.removeprefix(_FILE)))))


def _part(video: VideoInfo, time_range: TimeRange, options: InputOptions) -> VideoNode:
    """The frames of `time_range`; the first has the timestamp 0."""
    start, length = frame_aligned(time_range, video.fps)
    return from_zero(_between(video, start, start + length, options))


def _between(
    video: VideoInfo, start: Fraction | None, end: Fraction | None, options: InputOptions
) -> VideoNode:
    """The frames from `start` to `end`, in seconds from the first frame; None: all on that side.

    Their timestamps are those of the file (`FILE_CLOCK`).
    """
    # seek early and cut with trim: -t counts from the first frame that is read, and in a file
    # without an index a seek may land too late
    can_jump = start is not None and not video.is_timed_by_order
    jump = max(Fraction(0), (start or 0) - _SEEK_MARGIN_S) if can_jump else Fraction(0)
    # timestamps of the file itself: another track may begin earlier
    zero = Fraction(0) if video.is_timed_by_order else video.start
    limits: InputOptions = {"ss": f"{float(jump):.6f}"} if jump else {}
    if end is not None:
        limits["t"] = f"{float(end - jump + _END_MARGIN_S):.6f}"
    edges = {"start": start, "end": end}
    inside = {name: f"{float(zero + at):.6f}" for name, at in edges.items() if at is not None}
    stream = _input(video, options | limits)
    return stream.filter("trim", **inside) if inside else stream
