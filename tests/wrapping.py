"""One coded stream in many wrappings: the containers that ffmpeg copies it to.

A stream is coded once into a container that keeps its timestamps exactly. `wrap` copies it into any
of the containers that its coder names, with or without sound and a late start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ladder import Ffmpeg
from ladder.media.ffmpeg import file_url, run

_MPEG = ("mp4", "mov", "fragmented", "mkv", "live", "nut")
_BROADCAST = ("ts", "m2ts")


@dataclass(frozen=True)
class Coder:
    """How a stream is coded.

    Attributes:
        name: of the stream's file.
        args: settings of the encoder.
        containers: names of `CONTAINERS` that take the stream and keep the times of its frames: AVI
            and ASF know no B frames.
        raw: suffix of the stream without a container; "" if ffmpeg writes none.
        raw_has_rate: the stream itself tells its frame rate, else it is 25.
        master: the container that it is coded into.
    """

    name: str
    args: tuple[str, ...]
    containers: tuple[str, ...]
    raw: str = ""
    raw_has_rate: bool = False
    master: str = "mov"


@dataclass(frozen=True)
class Container:
    """A file format: its suffix, options of ffmpeg, the codec of its sound ("" takes none).

    `has_clock`: it stores when each frame is shown, so that a stream can start late or have a
    variable frame rate. `is_video_first`: it takes no sound before the video.
    """

    suffix: str
    args: tuple[str, ...] = ()
    sound: str = "aac"
    has_clock: bool = True
    is_video_first: bool = False


@dataclass(frozen=True)
class Sound:
    """Another track: its length, as a multiple of the video's, and whether it comes first."""

    length: float = 0.0
    is_first: bool = False


SILENT = Sound()

CONTAINERS: Mapping[str, Container] = {
    "mp4": Container(".mp4"),
    "mov": Container(".mov"),
    # without delay_moov the first frame of a late video lasts from 0 on
    "fragmented": Container(".mp4", ("-movflags", "+frag_keyframe+empty_moov+delay_moov")),
    "mkv": Container(".mkv"),
    # as from a pipe: no length and no index
    "live": Container(".mkv", ("-live", "1", "-seekable", "0")),
    "webm": Container(".webm", sound="libopus"),
    "ts": Container(".ts"),
    "m2ts": Container(".m2ts", ("-f", "mpegts", "-mpegts_m2ts_mode", "1"), "ac3"),
    "vob": Container(".vob", sound="mp2"),
    "flv": Container(".flv"),
    "avi": Container(".avi", sound="pcm_s16le", has_clock=False),
    "asf": Container(".wmv"),
    "nut": Container(".nut"),
    "mxf": Container(".mxf", sound="pcm_s16le", has_clock=False, is_video_first=True),
    "ivf": Container(".ivf", sound=""),
}

_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-g", "12")
_X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "30")
# its settings are a message of their own, which some containers hold once and some at each key
_X265_GOP = "keyint=12:info=0:log-level=none"
_VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "40", "-b:v", "0")
_AVC = (*_MPEG, *_BROADCAST, "flv")
_HEVC = (*_MPEG, *_BROADCAST, "flv")

CODERS: Sequence[Coder] = (
    Coder("avc", (*_X264, "-bf", "0"), (*_AVC, "asf"), ".264", raw_has_rate=True),
    Coder("avc-b", (*_X264, "-bf", "2"), _AVC, ".264", raw_has_rate=True),
    Coder("avc-10", (*_X264, "-bf", "3", "-pix_fmt", "yuv420p10le"), _AVC, ".264",
          raw_has_rate=True),
    Coder("avc-422", (*_X264, "-bf", "2", "-pix_fmt", "yuv422p"), _AVC, ".264", raw_has_rate=True),
    Coder("hevc", (*_X265, "-tag:v", "hvc1", "-x265-params", f"{_X265_GOP}:bframes=0"), _HEVC,
          ".265", raw_has_rate=True),
    Coder("hevc-10", (*_X265, "-pix_fmt", "yuv420p10le", "-x265-params",
                      f"{_X265_GOP}:open-gop=1:bframes=4"), _HEVC, ".265",
          raw_has_rate=True),
    Coder("vp9", (*_VP9, "-g", "12"), ("mp4", "fragmented", "mkv", "live", "webm", "ivf",
                                       "nut"), master="mp4"),
    Coder("vp9-alt-ref", ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-auto-alt-ref", "1",
                          "-lag-in-frames", "16", "-crf", "40", "-b:v", "0"),
          ("mp4", "mkv", "webm", "ivf"), master="mp4"),
    Coder("vp8", ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k"),
          ("mkv", "live", "webm", "ivf", "nut"), master="mkv"),
    Coder("av1", ("-c:v", "libsvtav1", "-preset", "12", "-crf", "20", "-g", "12"),
          ("mp4", "fragmented", "mkv", "live", "webm", "ivf", "flv"), ".obu", master="mp4"),
    Coder("mpeg2", ("-c:v", "mpeg2video", "-q:v", "4", "-g", "12", "-bf", "0"),
          (*_MPEG, *_BROADCAST, "vob", "mxf"), ".m2v", raw_has_rate=True),
    Coder("mpeg2-b", ("-c:v", "mpeg2video", "-q:v", "4", "-g", "12", "-bf", "2"),
          (*_MPEG, *_BROADCAST, "vob", "mxf"), ".m2v", raw_has_rate=True),
    Coder("mpeg4", ("-c:v", "mpeg4", "-q:v", "4", "-g", "12"), (*_MPEG, "avi"), ".m4v",
          raw_has_rate=True),
    Coder("mjpeg", ("-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"),
          ("mov", "mp4", "mkv", "live", "avi", "nut"), ".mjpeg"),
    Coder("prores", ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
          ("mov", "mkv", "live", "nut", "mxf")),
    Coder("ffv1", ("-c:v", "ffv1", "-pix_fmt", "yuv420p"), ("mkv", "live", "avi", "nut", "mov"),
          master="mkv"),
)  # fmt: skip


def encode(coder: Coder, source: Sequence[str], path: Path, ffmpeg: Ffmpeg) -> Path:
    """Code a stream once, unless the file is there.

    Args:
        coder: the encoder.
        source: ffmpeg's arguments for the input and its filters.
        path: where it goes, without a suffix.
        ffmpeg: the program to run.
    """
    path = path.with_name(path.name + CONTAINERS[coder.master].suffix)
    if not path.exists():
        args = [*source, *coder.args, "-fps_mode", "passthrough", "-an", "-y", file_url(path)]
        run(ffmpeg, args, timeout_s=120)
    return path


def wrappings(coder: Coder, rate: Fraction | None = None, start_s: float = 0.0) -> list[str]:
    """The names of the containers that keep a stream of this coder as it is.

    Args:
        coder: of the stream.
        rate: frames per second; None: it varies.
        start_s: when it starts.
    """
    found = [
        name for name in coder.containers
        if CONTAINERS[name].has_clock or (rate is not None and not start_s)
    ]  # fmt: skip
    if coder.raw and rate is not None and (coder.raw_has_rate or rate == 25):
        found.append("raw")
    return found


def wrap(
    stream: Path,
    coder: Coder,
    containers: Sequence[str],
    folder: Path,
    ffmpeg: Ffmpeg,
    *,
    start_s: float = 0.0,
    sound: Sound = SILENT,
    length_s: float = 1.0,
) -> dict[str, Path]:
    """Copy a stream into each of these containers, in one process; their paths by name.

    Args:
        stream: from `encode` with this coder.
        coder: of the stream.
        containers: names from `wrappings`.
        folder: where the files go.
        ffmpeg: the program to run.
        start_s: when the video starts.
        sound: the other track, where the container takes one.
        length_s: of the video, for the sound.
    """
    inputs = ["-itsoffset", str(start_s)] if start_s else []
    inputs += ["-i", file_url(stream)]
    if sound.length:
        inputs += ["-f", "lavfi", "-i", f"sine=r=48000:duration={sound.length * length_s}"]
    # the offset is not taken back by the muxers
    args, paths = ["-y", "-copyts", *inputs], {}
    for name in containers:
        container = CONTAINERS.get(name) or Container(coder.raw, sound="")
        paths[name] = folder / f"{name}{container.suffix}"
        args += _output(container, sound, paths[name])
    run(ffmpeg, args, timeout_s=120)
    return paths


def _output(container: Container, sound: Sound, path: Path) -> list[str]:
    maps = ["-map", "0:v"]
    if sound.length and container.sound:
        is_first = sound.is_first and not container.is_video_first
        tracks = [["-map", "1:a", "-c:a", container.sound], maps]
        maps = [word for track in tracks[:: 1 if is_first else -1] for word in track]
        maps += ["-strict", "-2"]
    return [*maps, "-c:v", "copy", *container.args, file_url(path)]
