"""Filter graphs of ffmpeg: videos in, encodes or measurements out, and the arguments they make."""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote_from_bytes, unquote_to_bytes

import ffmpeg as graph

from ladder.media.ffmpeg import file_url
from ladder.media.probe import VideoInfo
from ladder.media.time_ranges import TimeRange, frame_aligned

VideoNode: TypeAlias = graph.nodes.FilterableStream
"""A node of a filter graph that more filters can follow."""


OutputNode: TypeAlias = graph.nodes.OutputStream
"""The end of a filter graph."""


InputOptions = dict[str, int | str]


_FILE = "file:"


_JUMP_EARLY_S = 5


def video_input(
    video: VideoInfo, time_ranges: tuple[TimeRange, ...] = (), **options: int | str
) -> VideoNode:
    """The first real video stream of `video` in a filter graph, deinterlaced, its pieces joined.

    Args:
        video: what `probe` said of the file.
        pieces: what to take of it; none: all.
        options: input options of ffmpeg.
    """
    parts = [_part(video, time_range, options) for time_range in time_ranges]
    parts = parts or [_input(video, options)]
    if len(parts) == 1:
        return parts[0]
    # the joints are no whole frame apart: the joined pieces run at the source's average rate
    return retime_by_index(graph.concat(*parts, v=1, a=0), video.fps)


def scaled_input(stream: VideoNode, size: tuple[int, int], pix_fmt: str) -> VideoNode:
    """The picture at `size` (bicubic), in square pixels, in limited range, in one pixel format."""
    width, height = size
    return (
        stream.filter("scale", width, height, flags="bicubic", in_range="auto", out_range="tv")
        .filter("setsar", 1)
        .filter("format", pix_fmt)
    )


def retime_by_index(stream: VideoNode, fps: Fraction) -> VideoNode:
    """The picture with one tick of the clock for each frame, whatever its timestamps were."""
    tick = f"{fps.denominator}/{fps.numerator}"
    return stream.filter("settb", tick).filter("setpts", "N")


def _input(video: VideoInfo, options: InputOptions) -> VideoNode:
    # only local files: a playlist that poses as a video must not fetch others
    source = graph.input(_quote_path(video.path), protocol_whitelist="file,crypto,data", **options)
    stream = source["V:0"]  # the first stream that is no cover art
    if video.is_interlaced:
        # one frame out for one frame in: labels pair them by index
        stream = stream.filter("bwdif", mode="send_frame", deint="all")
    return stream


def output(stream: VideoNode, path: Path | None, **options: object) -> OutputNode:
    """`stream` written to `path`; None throws it away."""
    return graph.output(stream, _quote_path(path) if path else "-", **options)


def compile_arguments(outputs: Sequence[OutputNode]) -> list[str]:
    """ffmpeg's arguments that make `outputs` in one process."""
    merged = graph.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0]
    return [_unquote_path(str(argument)) for argument in merged.get_args()]


def _quote_path(path: Path) -> str:
    # ffmpeg-python takes no name that is not valid Unicode: it gets the bytes in ASCII
    return _FILE + quote_from_bytes(os.fsencode(path.absolute()))


def _unquote_path(argument: str) -> str:
    if not argument.startswith(_FILE):
        return argument
    return file_url(Path(os.fsdecode(unquote_to_bytes(argument.removeprefix(_FILE)))))


def _part(video: VideoInfo, time_range: TimeRange, options: InputOptions) -> VideoNode:
    """The frames of `time_range`, the first at 0 seconds."""
    start, length = frame_aligned(time_range, video.fps)
    # by trim, since -t counts from the first frame that comes; and a jump into a file without an
    # index may end behind its aim
    jump = max(Fraction(0), start - _JUMP_EARLY_S)
    end = start + length - jump
    first: InputOptions = {"ss": f"{float(jump):.6f}"} if jump else {}
    last: InputOptions = {"t": f"{float(end + 1):.6f}"}
    inside = {"start": f"{float(start - jump):.6f}", "end": f"{float(end):.6f}"}
    stream = _input(video, options | first | last)
    return stream.filter("trim", **inside).filter("setpts", "PTS-STARTPTS")
