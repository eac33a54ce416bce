"""VMAF of encodes against their source, with everything that makes the numbers right.

Pure graph builder (`vmaf_args`) and one run (`measure`), which decodes the source once for all of
its encodes; what libvmaf leaves is read by `vmaf_log`.
"""

import gzip
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg as graph
import numpy as np

from ladder.errors import CapabilityError, FfmpegError, VmafError
from ladder.label.metrics import MetricRequest, common_pix_fmt, log_metric_name
from ladder.media.ffmpeg import REMEDY, Ffmpeg, run
from ladder.media.filters import (
    VideoNode,
    compile_arguments,
    output,
    retime_by_index,
    scaled_input,
    video_input,
)
from ladder.media.probe import VideoInfo
from ladder.media.time_ranges import TimeRange


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How frames of an encode and its source are matched: `index`, or `time` if counts differ.

    `offset` frames at the beginning of the encode (negative: of the source) have no partner and
    are left out.
    """

    frames_source: int
    frames_encode: int
    offset: int = 0

    @property
    def by(self) -> str:
        """`index` pairs the n-th with the n-th, exact whatever the timestamps were rounded to."""
        left_in_source = self.frames_source - max(0, -self.offset)
        left_in_encode = self.frames_encode - max(0, self.offset)
        # what was only shifted ends a little later on one side
        is_only_shifted = self.offset and self.frames_source == self.frames_encode
        return "index" if left_in_source == left_in_encode or is_only_shifted else "time"


def vmaf_args(
    source: VideoInfo,
    encodes: Sequence[tuple[VideoInfo, Pairing]],
    request: MetricRequest,
    *,
    time_ranges: tuple[TimeRange, ...] = (),
    threads: int = 1,
) -> list[str]:
    """ffmpeg arguments that leave the n-th encode's log as `n.json` in the working folder.

    The encode is the first input of libvmaf, the source the second. The encode is brought to the
    source's display size, never the source down; both to one pixel format and limited range.
    """
    pix_fmt = common_pix_fmt([source, *(encode for encode, _ in encodes)], request.models)
    # an option of no effect: ffmpeg-python takes two inputs that are alike for one
    reference = scaled_input(
        video_input(source, time_ranges, stream_loop=0), source.display_size, pix_fmt
    )
    copies = reference.split() if len(encodes) > 1 else {0: reference}
    outputs = []
    for index, (encode, pairing) in enumerate(encodes):
        distorted = scaled_input(video_input(encode), source.display_size, pix_fmt)
        options = _libvmaf_options(request, pairing, f"{index}.json", threads // len(encodes))
        measured = graph.filter(
            [
                _paired(distorted, source, pairing, max(0, pairing.offset)),
                _paired(copies[index], source, pairing, max(0, -pairing.offset)),
            ],
            "libvmaf",
            **options,
        )
        outputs.append(output(measured, None, format="null"))
    # -xerror: a broken file must not be labelled by its readable part
    return ["-xerror", *compile_arguments(outputs)]


def measure(
    source: VideoInfo,
    encodes: Sequence[tuple[VideoInfo, Pairing]],
    request: MetricRequest,
    ffmpeg: Ffmpeg,
    *,
    time_ranges: tuple[TimeRange, ...] = (),
    threads: int = 1,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> list[str]:
    """libvmaf's JSON log of each of `encodes` against `source`, all measured in one process.

    Raises:
        FfmpegError: one of the files cannot be decoded, or ffmpeg failed.
        VmafError: libvmaf left no log.
    """
    # names of videos never enter the filter graph: a log is a plain name in a folder of its own
    with tempfile.TemporaryDirectory(prefix="vmaf-") as folder:
        args = vmaf_args(source, encodes, request, time_ranges=time_ranges, threads=threads)
        said = run(ffmpeg, args, cwd=Path(folder), on_progress=on_progress)
        logs = [Path(folder) / f"{index}.json" for index in range(len(encodes))]
        if not all(log.is_file() for log in logs):  # v1 on a picture that is too small for it
            raise VmafError(f"libvmaf gave no figures: {said.strip()[:300] or 'it said nothing'}")
        return [log.read_text(encoding="utf-8") for log in logs]


def _paired(stream: VideoNode, source: VideoInfo, pairing: Pairing, left_out: int) -> VideoNode:
    """The picture on the clock its frames are paired by, without its first `left_out` frames."""
    if left_out:
        stream = stream.filter("trim", start_frame=left_out)
    if pairing.by == "index":
        # a clock of one tick a frame: Matroska's milliseconds cost 20 VMAF points at 29.97 fps
        return retime_by_index(stream, source.fps)
    return stream.filter("settb", "AVTB").filter("setpts", "PTS-STARTPTS")


def _libvmaf_options(
    request: MetricRequest, pairing: Pairing, log: str, threads: int
) -> dict[str, str | int]:
    options: dict[str, str | int] = {
        "log_fmt": "json",
        "log_path": log,
        "n_threads": max(1, threads),
        "n_subsample": request.subsample,
        "shortest": 1,  # else the last frame of the shorter one is repeated and scored
        "model": "|".join(
            f"version={model}:name={log_metric_name(model)}" for model in request.models
        ),
        "feature": "|".join(f"name={extractor}" for extractor in request.extractors),
    }
    if pairing.by == "time":
        options["ts_sync_mode"] = "nearest"
    return options


@dataclass(frozen=True)
class VmafLog:
    """libvmaf's per-frame figures: metric name -> one value a compared frame."""

    version: str
    metrics: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class PooledScores:
    """One metric over the frames of a video; `hmean` as libvmaf defines it."""

    mean: float
    hmean: float
    min: float
    p1: float
    p5: float
    p10: float
    std: float


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


def pool(values: Sequence[float]) -> PooledScores:
    """Pools of per-frame values; the harmonic mean is n / sum(1 / (v + 1)) - 1, as libvmaf's."""
    array = np.asarray(values, dtype=np.float64)
    p1, p5, p10 = np.percentile(array, [1, 5, 10])
    return PooledScores(
        mean=float(array.mean()),
        hmean=float(len(array) / np.sum(1 / (array + 1)) - 1),
        min=float(array.min()),
        p1=float(p1),
        p5=float(p5),
        p10=float(p10),
        std=float(array.std()),
    )


def log_path(folder: Path, encode_path: str) -> Path:
    """Where the log of an encode is kept in its work folder."""
    return folder / "vmaf" / f"{encode_path}.json.gz"


def save_log(path: Path, text: str) -> None:
    """Write the log compressed; the same pair makes the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    text = re.sub(r'"fps": [^,]*,\s*', "", text, count=1)  # the speed of the run
    part.write_bytes(gzip.compress(text.encode(), mtime=0))
    part.replace(path)


def probe_vmaf_model(ffmpeg: Ffmpeg, model: str) -> str:
    """Try a VMAF model on three synthetic frames: "" if it runs, else why it does not.

    Some builds list a model and fail when it is used, so a version number is not believed. The
    frames are not tiny: v1 refuses those.
    """
    escaped = model.replace(":", "\\:")
    graph = f"[0:v][1:v]libvmaf=model='version={escaped}'"
    pattern = ["-f", "lavfi", "-i", "testsrc2=size=576x324:rate=25:duration=0.12"]
    args = [*pattern, *pattern, "-lavfi", graph, "-f", "null", "-"]
    try:
        run(ffmpeg, args, timeout_s=60)
    except FfmpegError as error:
        return error.stderr.strip().partition("\n")[0] or str(error).partition("\n")[0]
    return ""


def require_vmaf_models(ffmpeg: Ffmpeg, models: Sequence[str]) -> None:
    """Raise CapabilityError unless libvmaf is there and runs every model in `models`."""
    if not ffmpeg.has_libvmaf:
        raise CapabilityError(f"{ffmpeg.path} has no libvmaf filter: {REMEDY}")
    for model in models:
        reason = probe_vmaf_model(ffmpeg, model)
        if reason:
            raise CapabilityError(
                f"{ffmpeg.path} cannot run the VMAF model {model} ({reason}): "
                f"choose another with --vmaf-model, or {REMEDY}"
            )
