"""libvmaf: build its filter graph, run it, read its log, pool its values.

`vmaf_args` builds the arguments, `measure` runs ffmpeg and decodes a source once for all of its
encodes, `parse_log` and `pool` turn the log into numbers.
"""

import gzip
import json
import logging
import math
import re
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg as graph
import numpy as np

from ladder.errors import CapabilityError, FfmpegError, VmafError
from ladder.label.metrics import MetricRequest, common_pix_fmt, log_metric_name, vmaf_models
from ladder.label.pairing import Pairing, PairingMode, paired, paired_source
from ladder.label.previews import PreviewFiles
from ladder.media.ffmpeg import REMEDY, Ffmpeg, run
from ladder.media.filters import (
    VideoNode,
    clock_arguments,
    compile_arguments,
    output,
    scaled_input,
    video_input,
)
from ladder.media.probe import VideoInfo
from ladder.media.time_ranges import TimeRange
from ladder.storage import atomic_write

_log = logging.getLogger(__name__)


def vmaf_args(
    source: VideoInfo,
    encodes: Sequence[tuple[VideoInfo, Pairing]],
    request: MetricRequest,
    *,
    time_ranges: tuple[TimeRange, ...] = (),
    threads: int = 1,
    previews: PreviewFiles | None = None,
) -> list[str]:
    """ffmpeg arguments that write the log of the n-th encode to `n.json` in the working folder.

    With `previews` also small planes of the source and of each encode.

    libvmaf's first input is the encode, its second the source. The encode is scaled to the source's
    display size, the source is never scaled down; both get one pixel format and limited range.
    """
    pix_fmt = common_pix_fmt([source, *(encode for encode, _ in encodes)], request.models)
    # stream_loop=0 has no effect, but ffmpeg-python merges two equal inputs into one
    reference = video_input(source, time_ranges, stream_loop=0)
    outputs = []
    if previews:
        both = reference.split()
        until_s = max(pairing.frames_encode / encode.fps for encode, pairing in encodes)
        outputs.append(previews.of_source(both[1], until_s))
        reference = both[0]
    reference = scaled_input(reference, source.display_size, pix_fmt)
    copies = reference.split() if len(encodes) > 1 else {0: reference}
    for index, (encode, pairing) in enumerate(encodes):
        distorted = video_input(encode)
        if previews:
            both = distorted.split()
            outputs.append(previews.of_encode(both[1], index, encode.fps))
            distorted = both[0]
        measured = libvmaf_filter(
            paired(
                scaled_input(distorted, source.display_size, pix_fmt),
                source,
                pairing,
                pairing.skips[1],
            ),
            paired_source(copies[index], source, pairing),
            request,
            pairing,
            f"{index}.json",
            threads // len(encodes),
        )
        outputs.append(output(measured, None, format="null"))
    # -xerror: the readable part of a damaged file must not become its label
    return ["-xerror", *clock_arguments(time_ranges), *compile_arguments(outputs)]


def measure(
    source: VideoInfo,
    encodes: Sequence[tuple[VideoInfo, Pairing]],
    request: MetricRequest,
    ffmpeg: Ffmpeg,
    *,
    time_ranges: tuple[TimeRange, ...] = (),
    threads: int = 1,
    on_progress: Callable[[float], None] = lambda seconds: None,
    previews: PreviewFiles | None = None,
) -> list[str]:
    """Measure `encodes` against `source` in one process; returns libvmaf's JSON log of each.

    With `previews` also small planes of all videos are written.

    Raises:
        FfmpegError: one of the files cannot be decoded, or ffmpeg failed.
        VmafError: libvmaf wrote no log.
    """
    args = vmaf_args(
        source, encodes, request, time_ranges=time_ranges, threads=threads, previews=previews
    )
    return run_libvmaf(args, len(encodes), ffmpeg, on_progress)


def write_previews(
    source: VideoInfo,
    encode: VideoInfo,
    pairing: Pairing,
    previews: PreviewFiles,
    ffmpeg: Ffmpeg,
    time_ranges: tuple[TimeRange, ...] = (),
) -> None:
    """Write previews of a source and an encode without measuring; decodes both once more.

    Raises:
        FfmpegError: one of the files cannot be decoded.
    """
    reference = video_input(source, time_ranges, stream_loop=0)
    outputs = [
        previews.of_source(reference, pairing.frames_encode / encode.fps),
        previews.of_encode(video_input(encode), 0, encode.fps),
    ]
    run(ffmpeg, ["-xerror", *clock_arguments(time_ranges), *compile_arguments(outputs)])


def run_libvmaf(
    args: Sequence[str], count: int, ffmpeg: Ffmpeg, on_progress: Callable[[float], None]
) -> list[str]:
    """Run ffmpeg with arguments that write logs `0.json` to `count - 1`; returns their texts.

    Raises:
        FfmpegError: ffmpeg failed.
        VmafError: libvmaf wrote no log.
    """
    # file names must not enter the filter graph, so logs have plain names in a folder of their own
    with tempfile.TemporaryDirectory(prefix="vmaf-") as folder:
        messages = run(ffmpeg, args, cwd=Path(folder), on_progress=on_progress)
        logs = [Path(folder) / f"{index}.json" for index in range(count)]
        if not all(log.is_file() for log in logs):  # v1 refuses small pictures like this
            reason = messages.strip()[:300] or "ffmpeg printed no message"
            raise VmafError(f"libvmaf measured nothing: {reason}")
        return [log.read_text(encoding="utf-8") for log in logs]


def libvmaf_filter(
    distorted: VideoNode,
    reference: VideoNode,
    request: MetricRequest,
    pairing: Pairing,
    log: str,
    threads: int,
) -> VideoNode:
    """The filter that compares two streams of one size and format, paired before."""
    options = _libvmaf_options(request, pairing, log, threads)
    return graph.filter([distorted, reference], "libvmaf", **options)


def _libvmaf_options(
    request: MetricRequest, pairing: Pairing, log: str, threads: int
) -> dict[str, str | int]:
    options: dict[str, str | int] = {
        "log_fmt": "json",
        "log_path": log,
        "n_threads": max(1, threads),
        "n_subsample": request.subsample,
        "shortest": 1,  # else the last frame of the shorter video is repeated and measured
        "model": "|".join(
            f"version={model}:name={log_metric_name(model)}" for model in request.models
        ),
        "feature": "|".join(f"name={extractor}" for extractor in request.extractors),
    }
    if pairing.mode == PairingMode.TIME:
        options["ts_sync_mode"] = "nearest"
    return options


@dataclass(frozen=True)
class VmafLog:
    """libvmaf's log: for each metric one value per compared frame."""

    version: str
    metrics: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class PooledScores:
    """Pooled values of one metric; `p1` is the first percentile, `hmean` is libvmaf's."""

    mean: float
    hmean: float
    min: float
    p1: float
    p5: float
    p10: float
    std: float


def parse_log(log: str) -> VmafLog:
    """Parse libvmaf's JSON log.

    Raises:
        VmafError: it is not such a log, has no frames, or has a value that is not finite.
    """
    try:
        parsed = json.loads(log)
        frames = [frame["metrics"] for frame in parsed["frames"]]
        metrics = {name: [float(frame[name]) for frame in frames] for name in (frames or [{}])[0]}
    except (ValueError, KeyError, TypeError) as error:
        raise VmafError(f"libvmaf's log cannot be parsed: {error!r}") from error
    if not frames:
        raise VmafError("libvmaf compared no frames: do encode and source overlap in time?")
    for name, values in metrics.items():
        if not all(map(math.isfinite, values)):
            raise VmafError(f"libvmaf gave a {name} that is not a number")
    return VmafLog(str(parsed.get("version", "")), metrics)


def pool(values: Sequence[float]) -> PooledScores:
    """Pool per-frame values; libvmaf's harmonic mean is n / sum(1 / (v + 1)) - 1."""
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


def save_log(path: Path, text: str) -> None:
    """Write a log as gzip; equal measurements give equal bytes."""
    text = re.sub(r'"fps": [^,]*,\s*', "", text, count=1)  # the speed of the run differs
    with atomic_write(path) as file:
        file.write(gzip.compress(text.encode(), mtime=0))


def read_log(path: Path) -> VmafLog:
    """The log that `save_log` wrote.

    Raises:
        OSError: there is none, or it cannot be read.
        VmafError: it holds something else.
    """
    try:
        return parse_log(gzip.decompress(path.read_bytes()).decode())
    except (EOFError, ValueError, zlib.error) as error:
        raise VmafError(f"{path} cannot be read: {error!r}") from error


def probe_vmaf_model(ffmpeg: Ffmpeg, model: str) -> str:
    """Run a VMAF model on three synthetic frames; returns "" or the reason why it fails.

    Some builds list a model and fail to run it. The frames are large enough for v1.
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
    """Raise CapabilityError unless ffmpeg has libvmaf and runs every model in `models`.

    The message names the models that it runs. A known fault of libvmaf is logged.
    """
    if not ffmpeg.has_libvmaf:
        raise CapabilityError(f"{ffmpeg.path} has no libvmaf filter: {REMEDY}")
    for model in models:
        reason = probe_vmaf_model(ffmpeg, model)
        if reason:
            known = vmaf_models().values()
            runs = [each.name for each in known if not probe_vmaf_model(ffmpeg, each.libvmaf_name)]
            raise CapabilityError(
                f"{ffmpeg.path} cannot run the VMAF model {model} ({reason}); it runs "
                f"{', '.join(runs) or 'none'}: choose one of them with --vmaf-model, or {REMEDY}"
            )
    if fault := ffmpeg.libvmaf_fault:
        _log.warning("%s has %s", ffmpeg.path, fault)
