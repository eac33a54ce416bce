"""Encode one source at several rungs in one ffmpeg process, and verify the encodes.

`transcode_args` builds the arguments, `transcode` runs ffmpeg, `verify_encode` decodes what it
wrote.
"""

import functools
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ladder.codecs import CODECS, Settings
from ladder.encode.rungs import Rung
from ladder.errors import LadderError, VideoError
from ladder.media.decode import count_decodable_frames
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.filters import (
    VideoNode,
    clock_arguments,
    compile_arguments,
    from_zero,
    output,
    scaled_input,
    video_input,
)
from ladder.media.lengths import frame_times
from ladder.media.probe import Hdr, VideoInfo, probe
from ladder.media.side_data import Crop
from ladder.media.time_ranges import TimeRange, frame_aligned
from ladder.storage import part_of

_MAX_OFF_CLOCK = 0.2  # frames; Matroska's milliseconds are 0.06 frames at 60 fps
_TRANSFER_NAMES = {Hdr.PQ: "smpte2084", Hdr.HLG: "arib-std-b67"}  # ffmpeg's
_BUSY_ENCODERS = 4  # of one process; each gets this fraction of the threads


_COUNT_TOLERANCE = 2  # frames


_DURATION_TOLERANCE_S = 0.1


@dataclass(frozen=True)
class VideoLength:
    """The length of a video or of parts of it."""

    frame_count: int
    duration_s: float


def encoder_settings(
    rung: Rung, fps: Fraction, *, is_10_bit: bool, pass_number: int = 0
) -> Settings:
    """ffmpeg's options for the encoder of `rung`.

    Args:
        rung: the target.
        fps: frames per second of the source, for the distance of key frames.
        is_10_bit: 10 bit samples; else 8.
        pass_number: 1 or 2 for a pass of a two-pass rung; 0 for a single run.
    """
    codec = CODECS[rung.codec]
    settings = {
        "c:v": codec.encoder,
        "pix_fmt": "yuv420p10le" if is_10_bit else "yuv420p",
        **codec.preset_settings(rung.preset or codec.default_preset),
        **codec.rate_settings(rung),
        **codec.gop_settings(max(1, round(fps * Fraction(rung.gop_s)))),
    }
    return codec.pass_settings(settings, pass_number) if pass_number else settings


def transcode_args(
    source: VideoInfo,
    outputs: Mapping[Path, Rung],
    time_ranges: Sequence[TimeRange] = (),
    *,
    threads: int = 1,
    pass_number: int = 0,
) -> list[str]:
    """ffmpeg arguments that decode `source` once and encode it at every rung of `outputs`.

    Args:
        source: what `probe` found.
        outputs: the rung of each output file.
        time_ranges: parts of the source to encode; none: all of it.
        threads: threads of the process. An encoder's share does not depend on the number of
            outputs, because x264 gives other bits with another number of threads.
        pass_number: 1 or 2 for a pass of a two-pass rung, the only one of `outputs`; else 0.

    Raises:
        LadderError: an 8-bit rung of an HDR source.
    """
    whole = video_input(source, tuple(time_ranges), threads=threads)
    if not time_ranges:  # what is shown before 0 would not be shown in an MP4
        whole = from_zero(whole)
    parts = whole.split() if len(outputs) > 1 else {0: whole}
    encodes = []
    for index, (out, rung) in enumerate(outputs.items()):
        encoder = encoder_settings(
            rung, source.fps, is_10_bit=_is_10_bit(rung, source), pass_number=pass_number
        )
        size = rung.size_for(source.display_size)
        scaled = _scaled(parts[index], source, size, str(encoder["pix_fmt"]))
        settings = encoder | _file_settings(source, threads)
        if pass_number == 1:
            settings["format"] = "null"
        encodes.append(output(scaled, None if pass_number == 1 else out, **settings))
    # without -xerror a damaged source gives exit code 0 and a short encode
    return ["-xerror", "-y", *clock_arguments(time_ranges), *compile_arguments(encodes)]


def transcode(
    source: VideoInfo,
    outputs: Mapping[Path, Rung],
    time_ranges: Sequence[TimeRange],
    ffmpeg: Ffmpeg,
    *,
    threads: int = 1,
    on_share: Callable[[float], None] = lambda share: None,
) -> None:
    """Make the encodes; `on_share` is called with the finished share of the work, 0 to 1.

    Raises:
        FfmpegError: the source cannot be decoded to its end, or an encoder failed.
        LadderError: an 8-bit rung of an HDR source.
    """
    commands = _commands(source, outputs, time_ranges, threads)
    duration_s = max(
        sum(time_range.length_s for time_range in time_ranges) or source.duration_s, 0.001
    )
    try:
        with tempfile.TemporaryDirectory(prefix="passes-") as folder:
            for index, args in enumerate(commands):

                def on_progress(seconds: float, index: int = index) -> None:
                    on_share((index + min(seconds / duration_s, 1.0)) / len(commands))

                run(ffmpeg, args, cwd=Path(folder), on_progress=on_progress)
    finally:
        for out in outputs:
            _first_encode(out).unlink(missing_ok=True)


def shell_command(
    source: VideoInfo,
    outputs: Mapping[Path, Rung],
    time_ranges: Sequence[TimeRange],
    ffmpeg: Ffmpeg,
    *,
    threads: int = 1,
) -> str:
    """The command line that does what `transcode` does, ready to paste into a shell."""
    commands = [
        shlex.join([ffmpeg.path, *args])
        for args in _commands(source, outputs, time_ranges, threads)
    ]
    firsts = [str(_first_encode(o)) for o, rung in outputs.items() if rung.reencode_crf]
    commands += [shlex.join(["rm", *firsts])] if firsts else []
    # the passes exchange a log, which needs a folder of its own
    return commands[0] if len(commands) == 1 else f'(cd "$(mktemp -d)" && {" && ".join(commands)})'


def measure_length(source: VideoInfo, time_ranges: Sequence[TimeRange] = ()) -> VideoLength:
    """Frames and seconds of `source`, or of `time_ranges` of it, counted by packets."""
    times = frame_times(source.path, source.fps)
    frame_s = float(1 / source.fps)
    if not time_ranges:
        return VideoLength(len(times), _end_s(source, times[-1]) if times else 0.0)
    ranges = [frame_aligned(time_range, source.fps) for time_range in time_ranges]
    inside = [time for start, length in ranges for time in times if start <= time < start + length]
    if len(time_ranges) == 1 and inside:
        return VideoLength(len(inside), inside[-1] - inside[0] + frame_s)
    return VideoLength(len(inside), len(inside) * frame_s)  # joined ranges run at the average rate


def _end_s(video: VideoInfo, last_s: float) -> float:
    """When the last frame ends; of a variable rate it may stay much shorter than others."""
    end_s = last_s + float(1 / video.fps)
    return min(end_s, max(last_s, video.duration_s)) if video.is_vfr else end_s


def verify_encode(
    encode: Path, source: VideoInfo, expected: VideoLength
) -> tuple[VideoInfo, VideoLength]:
    """Decode every frame of an encode; returns what it is and how long.

    Args:
        encode: the file.
        source: the video it was made from.
        expected: length of the encoded part of the source.

    Raises:
        VideoError: it cannot be decoded, or its length is not `expected`.
    """
    info = probe(encode)
    video_length = measure_length(info)
    decoded = count_decodable_frames(encode)
    if decoded != video_length.frame_count:
        raise VideoError(
            "damaged",
            f"the encode has {video_length.frame_count} frames, only {decoded} can be decoded",
        )
    # an interlaced file may have a packet for each field
    if not source.is_interlaced and abs(decoded - expected.frame_count) > _COUNT_TOLERANCE:
        raise VideoError(
            "damaged",
            f"the encode has {decoded} frames, its source {expected.frame_count}: the source may "
            "be damaged, or its timestamps may be",
        )
    if source.is_bare:  # without timestamps its fields may be repeated, which only a decoder tells
        return info, video_length
    tolerance_s = max(_DURATION_TOLERANCE_S, _COUNT_TOLERANCE / float(source.fps))
    if abs(video_length.duration_s - expected.duration_s) > tolerance_s:
        raise VideoError(
            "damaged",
            f"the encode lasts {video_length.duration_s:.2f} s, its source "
            f"{expected.duration_s:.2f} s: "
            "the source's timestamps may be damaged",
        )
    return info, video_length


def _commands(
    source: VideoInfo, outputs: Mapping[Path, Rung], time_ranges: Sequence[TimeRange], threads: int
) -> list[list[str]]:
    """ffmpeg arguments of each process: one or two passes, then the re-encodes; HDR one by one."""
    first = {
        _first_encode(out) if rung.reencode_crf else out: rung for out, rung in outputs.items()
    }
    passes = (1, 2) if any(rung.two_pass for rung in outputs.values()) else (0,)
    # of several outputs ffmpeg tells one alone of the mastering display
    groups = [{out: rung} for out, rung in first.items()] if source.hdr_of_frames else [first]
    commands = [
        transcode_args(source, group, time_ranges, threads=threads, pass_number=number)
        for group in groups
        for number in passes
    ]
    return commands + [
        _reencode_args(source, out, rung, threads)
        for out, rung in outputs.items()
        if rung.reencode_crf
    ]


def _reencode_args(source: VideoInfo, out: Path, rung: Rung, threads: int) -> list[str]:
    """Arguments that scale the first encode to the source's size and encode it again."""
    size = source.display_size
    again = Rung(height_px=min(size), crf=rung.reencode_crf, gop_s=rung.gop_s)
    encoder = encoder_settings(again, source.fps, is_10_bit=_is_10_bit(rung, source))
    first = replace(
        source,
        path=_first_encode(out),
        is_interlaced=False,
        stream_index=0,
        is_hls=False,
        crop=Crop(),
        hdr=source.hdr_of_frames,
        is_tonemapped=False,
    )
    whole = video_input(first, threads=threads)
    stream = _scaled(whole, source, size, str(encoder["pix_fmt"]))
    made = output(stream, out, **encoder | _file_settings(source, threads))
    return ["-xerror", "-y", *compile_arguments([made])]


def _scaled(stream: VideoNode, source: VideoInfo, size: tuple[int, int], pix_fmt: str) -> VideoNode:
    """`stream` scaled for an encode; its tag is that of HDR which the container alone may tell."""
    scaled = scaled_input(stream, size, pix_fmt)
    trc = _TRANSFER_NAMES.get(source.hdr_of_frames)
    return scaled.filter("setparams", color_trc=trc) if trc else scaled


def _first_encode(out: Path) -> Path:
    return part_of(out.with_name(f"{out.name}.first"))


def _file_settings(source: VideoInfo, threads: int) -> Settings:
    settings: Settings = {
        "fps_mode": "passthrough",  # keep every frame: labels pair frames by index
        "threads": max(1, threads // _BUSY_ENCODERS),
        "map_metadata": -1,
        "format": "mp4",
    }
    # the default is a frame of the stated rate, which may be wrong; some encoders take none finer
    frame = f"{source.fps.denominator}:{source.fps.numerator}"
    return settings | {"enc_time_base": "1:90000" if _needs_a_finer_clock(source) else frame}


@functools.lru_cache(maxsize=64)  # all packets are read, and there are many outputs and passes
def _needs_a_finer_clock(source: VideoInfo) -> bool:
    """Whether frames are uneven, or not where the rate has them."""
    if source.is_vfr:
        return True
    try:
        times_s = frame_times(source.path, source.fps)
    except VideoError:  # ffmpeg says it in better words
        return False
    places = [time_s * float(source.fps) for time_s in times_s]
    return any(abs(place - round(place)) > _MAX_OFF_CLOCK for place in places)


def _is_10_bit(rung: Rung, source: VideoInfo) -> bool:
    is_deep = source.bit_depth > 8 and not source.is_tonemapped  # what plays SDR may have 8 bits
    is_10_bit = rung.bit_depth == 10 if rung.bit_depth else is_deep
    if source.hdr_of_frames and not is_10_bit:
        raise LadderError(
            f"{source.path} is HDR ({source.hdr}) and the rung {rung.name} has 8 bits, which is "
            "too coarse for it: leave out bit_depth or set it to 10, or make SDR with --tonemap"
        )
    return is_10_bit
