"""VMAF of one encode against its source, with everything that makes the number right.

Pure graph builder (`vmaf_args`), one run (`measure`), pure parser (`parse_log`), pooling of our
own (`pool`), and a look for a shifted start (`frame_shift`).
"""

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg as graph
import numpy as np

from ladder.errors import VmafError
from ladder.ffmpeg import VMAF_MODELS, Ffmpeg, file_url, run
from ladder.frames import first_luma
from ladder.probe import VideoInfo

_LOG = "vmaf.json"
_SYNC_FRAMES, _SYNC_REACH, _SYNC_SIZE = 12, 2, (160, 90)


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How frames of encode and source are matched: `index`, or `time` where counts differ."""

    frames_source: int
    frames_encode: int

    @property
    def by(self) -> str:
        """`index` pairs the n-th with the n-th, exact whatever the timestamps were rounded to."""
        return "index" if self.frames_source == self.frames_encode else "time"


@dataclass(frozen=True)
class VmafLog:
    """libvmaf's per-frame figures: metric name -> one value a compared frame."""

    version: str
    metrics: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Pools:
    """One metric over the frames of a video; `hmean` as libvmaf defines it."""

    mean: float
    hmean: float
    min: float
    p1: float
    p5: float
    std: float


def model_names(models: Sequence[str]) -> tuple[str, ...]:
    """libvmaf's names for `v0`, `neg` and `v1`; any other name is passed on as it is."""
    return tuple(dict.fromkeys(VMAF_MODELS.get(model, model) for model in models))


def vmaf_args(
    encode: VideoInfo,
    source: VideoInfo,
    pairing: Pairing,
    models: Sequence[str],
    *,
    threads: int = 1,
    subsample: int = 1,
) -> list[str]:
    """ffmpeg arguments that leave libvmaf's log as `vmaf.json` in the working folder.

    Input 0 is the encode, input 1 the source. The encode is brought to the source's display size,
    never the source down; both to one pixel format and limited range.
    """
    pix_fmt = common_pix_fmt(encode, source, models)
    distorted = _side(encode, source, pairing, pix_fmt)
    # an option of no effect: ffmpeg-python takes two inputs that are alike for one
    reference = _side(source, source, pairing, pix_fmt, stream_loop=0)
    options = {
        "log_fmt": "json",
        "log_path": _LOG,
        "n_threads": threads,
        "n_subsample": subsample,
        "shortest": 1,  # else the last frame of the shorter one is repeated and scored
        "model": "|".join(f"version={model}:name={metric_of(model)}" for model in models),
        "feature": "name=psnr",
    }
    if pairing.by == "time":
        options["ts_sync_mode"] = "nearest"
    measured = graph.filter([distorted, reference], "libvmaf", **options)
    # -xerror: a broken file must not be labelled by its readable part
    return ["-xerror", *map(str, graph.output(measured, "-", format="null").get_args())]


def measure(
    encode: VideoInfo,
    source: VideoInfo,
    pairing: Pairing,
    models: Sequence[str],
    ffmpeg: Ffmpeg,
    *,
    threads: int = 1,
    subsample: int = 1,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> str:
    """libvmaf's JSON log of `encode` against `source`.

    Raises:
        FfmpegError: one of the files cannot be decoded, or ffmpeg failed.
    """
    # names of videos never enter the filter graph: the log is a plain name in a folder of its own
    with tempfile.TemporaryDirectory(prefix="vmaf-") as folder:
        args = vmaf_args(encode, source, pairing, models, threads=threads, subsample=subsample)
        run(ffmpeg, args, cwd=Path(folder), on_progress=on_progress)
        return (Path(folder) / _LOG).read_text(encoding="utf-8")


def parse_log(log: str) -> VmafLog:
    """libvmaf's log as columns; refuses an empty one and figures that are none.

    Raises:
        VmafError: no frames, or a value that is not finite.
    """
    try:
        parsed = json.loads(log)
        frames = [frame["metrics"] for frame in parsed["frames"]]
        metrics = {name: [float(frame[name]) for frame in frames] for name in (frames or [{}])[0]}
    except (ValueError, KeyError, TypeError) as error:
        raise VmafError(f"libvmaf's log is not what it should be: {error!r}") from error
    if not frames:
        raise VmafError("libvmaf compared no frames: do encode and source overlap in time?")
    for name, values in metrics.items():
        if not all(map(math.isfinite, values)):
            raise VmafError(f"libvmaf gave a {name} that is not a number")
    return VmafLog(str(parsed.get("version", "")), metrics)


def pool(values: Sequence[float]) -> Pools:
    """Pools of per-frame values; the harmonic mean is n / sum(1 / (v + 1)) - 1, as libvmaf's."""
    array = np.asarray(values, dtype=np.float64)
    return Pools(
        mean=float(array.mean()),
        hmean=float(len(array) / np.sum(1 / (array + 1)) - 1),
        min=float(array.min()),
        p1=float(np.percentile(array, 1)),
        p5=float(np.percentile(array, 5)),
        std=float(array.std()),
    )


def frame_shift(encode: VideoInfo, source: VideoInfo) -> int:
    """Frames by which `encode` lags behind `source` (negative: leads), from the first dozen.

    0 unless another shift within two frames matches clearly better.
    """
    encoded = first_luma(encode, _SYNC_FRAMES, _SYNC_SIZE).astype(np.float32)
    original = first_luma(source, _SYNC_FRAMES, _SYNC_SIZE).astype(np.float32)
    count = min(len(encoded), len(original))
    if count <= 2 * _SYNC_REACH:
        return 0
    window = range(_SYNC_REACH, count - _SYNC_REACH)  # the same source frames for every shift
    errors = {
        lag: float(np.mean([np.square(encoded[i + lag] - original[i]).mean() for i in window]))
        for lag in range(-_SYNC_REACH, _SYNC_REACH + 1)
    }
    best = min(errors, key=lambda lag: (errors[lag], abs(lag)))
    # a still scene or a poor encode leaves the shifts alike: only a clear win counts
    return best if errors[best] < 0.6 * errors[0] else 0


def _side(
    video: VideoInfo, source: VideoInfo, pairing: Pairing, pix_fmt: str, **options: int
) -> graph.nodes.FilterableStream:
    width, height = source.display_size
    url, allowed = file_url(video.path), "file,crypto,data"
    picture = graph.input(url, protocol_whitelist=allowed, **options)["V:0"]
    if video.is_interlaced:
        picture = picture.filter("bwdif", mode="send_frame", deint="all")
    picture = (
        picture.filter("scale", width, height, flags="bicubic", in_range="auto", out_range="tv")
        .filter("setsar", 1)
        .filter("format", pix_fmt)
    )
    if pairing.by == "index":
        # a clock of one tick a frame: Matroska's milliseconds cost 20 VMAF points at 29.97 fps
        step = source.fps
        return picture.filter("settb", f"{step.denominator}/{step.numerator}").filter("setpts", "N")
    return picture.filter("settb", "AVTB").filter("setpts", "PTS-STARTPTS")


def common_pix_fmt(encode: VideoInfo, source: VideoInfo, models: Sequence[str]) -> str:
    """The pixel format both sides are brought to: 10 bit if either is deeper, or for v1."""
    is_deep = max(encode.bit_depth, source.bit_depth) > 8
    return "yuv420p10le" if is_deep or any("v1." in model for model in models) else "yuv420p"


def metric_of(model: str) -> str:
    """A name for the model's column in the log, free of characters the graph gives a meaning."""
    return model.replace(".", "_")
