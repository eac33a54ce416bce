"""Stage 2, label: an encode against its source -> VMAF, one row of `labels.csv` for each encode.

Pure graph builder (`vmaf_args`), one run, pure parser (`parse_log`), pooling of our own (`pool`).
"""

import gzip
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ffmpeg as graph
import numpy as np

from ladder.errors import LadderError, VmafError
from ladder.ffmpeg import (
    VMAF_MODELS,
    Ffmpeg,
    file_url,
    require_vmaf_models,
    run,
    run_parallel,
)
from ladder.frames import first_luma
from ladder.probe import VideoInfo, count_frames, probe
from ladder.tables import EncodeRow, LabelRow, Table
from ladder.transcode import encodes_table, remove_parts, split_cores

_LOG = "vmaf.json"
_COUNT_TOLERANCE = 2  # frames that encode and source may differ by before it is worth a warning
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


@dataclass(frozen=True)
class LabelPlan:
    """What is to do (`jobs`) and what was done before (`done`)."""

    jobs: tuple[EncodeRow, ...]
    done: tuple[LabelRow, ...]


def labels_table(folder: Path) -> Table[LabelRow]:
    """The table this stage writes."""
    return Table(folder / "labels.csv", LabelRow)


def model_names(models: Sequence[str]) -> tuple[str, ...]:
    """libvmaf's names for `v0`, `neg` and `v1`; any other name is passed on as it is."""
    return tuple(dict.fromkeys(VMAF_MODELS.get(model, model) for model in models))


def plan_labels(folder: Path, models: Sequence[str]) -> LabelPlan:
    """Which encodes of `folder` lack a label by `models` (libvmaf's names, the first is `vmaf`)."""
    known = {row.key: row for row in labels_table(folder).rows()}
    encodes = [row for row in encodes_table(folder).rows() if row.status == "ok"]
    done = [
        label for row in encodes if (label := known.get(row.key)) and _is_labelled(label, models)
    ]
    keys = {label.key for label in done}
    return LabelPlan(tuple(row for row in encodes if row.key not in keys), tuple(done))


def make_labels(
    plan: LabelPlan,
    folder: Path,
    ffmpeg: Ffmpeg,
    models: Sequence[str],
    *,
    jobs: int | None = None,
    subsample: int = 1,
    on_progress: Callable[[str, float], None] = lambda key, share: None,
) -> Iterator[LabelRow]:
    """Label every encode of `plan` and yield its row when it stands in `labels.csv`.

    A pair that fails becomes a row with the reason and no figures. The caller holds
    `work_lock(folder)`.

    Args:
        plan: from `plan_labels` for the same folder and models.
        folder: work folder with `encodes.csv`.
        ffmpeg: program to run; it must have libvmaf.
        models: libvmaf's names; the first one's mean is the column `vmaf`.
        jobs: encodes labelled at once; None: one for each core, four at most.
        subsample: every n-th frame is measured; odd, since even steps are biased.
        on_progress: told an encode's path and the share of it that is done.
    """
    require_vmaf_models(ffmpeg, models)
    table = labels_table(folder)
    table.mend()
    remove_parts(folder)
    at_once, threads = split_cores(jobs)

    def label(row: EncodeRow) -> LabelRow:
        def on_share(share: float) -> None:
            on_progress(row.key, share)

        return _label(row, folder, ffmpeg, models, threads, subsample, on_share)

    for row in run_parallel(label, plan.jobs, at_once):
        table.append(row)
        yield row
    table.rewrite(sorted(table.rows(), key=lambda row: row.key))


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
    distorted = _side(encode, source, pairing, models)
    reference = _side(source, source, pairing, models)
    options = {
        "log_fmt": "json",
        "log_path": _LOG,
        "n_threads": threads,
        "n_subsample": subsample,
        "shortest": 1,  # else the last frame of the shorter one is repeated and scored
        "model": "|".join(f"version={model}:name={_metric(model)}" for model in models),
        "feature": "name=psnr",
    }
    if pairing.by == "time":
        options["ts_sync_mode"] = "nearest"
    measured = graph.filter([distorted, reference], "libvmaf", **options)
    # -xerror: a broken file must not be labelled by its readable part
    args = graph.output(measured, "-", format="null").global_args("-xerror").get_args()
    return [str(arg) for arg in args]


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
    except (ValueError, KeyError, TypeError) as error:
        raise VmafError(f"libvmaf's log is not what it should be: {error!r}") from error
    if not frames:
        raise VmafError("libvmaf compared no frames: do encode and source overlap in time?")
    metrics = {name: [float(frame[name]) for frame in frames] for name in frames[0]}
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


def _label(
    row: EncodeRow,
    folder: Path,
    ffmpeg: Ffmpeg,
    models: Sequence[str],
    threads: int,
    subsample: int,
    on_share: Callable[[float], None],
) -> LabelRow:
    label = LabelRow(
        encode_path=row.encode_path, source=row.source, rung=row.rung, vmaf_model=models[0]
    )
    started = time.monotonic()
    try:
        encode, source = probe(folder / row.encode_path), probe(Path(row.source_path))
        _refuse_hdr_mix(encode, source)
        pairing = Pairing(
            frames_source=count_frames(source.path), frames_encode=count_frames(encode.path)
        )
        duration_s = max(encode.duration_s, 0.001)
        text = measure(
            encode,
            source,
            pairing,
            models,
            ffmpeg,
            threads=threads,
            subsample=subsample,
            on_progress=lambda seconds: on_share(min(seconds / duration_s, 1.0)),
        )
        log = parse_log(text)
        label = _labelled(label, log, pairing, models, subsample)
        label = replace(
            label,
            scale="{}x{} bicubic".format(*source.display_size),
            pix_fmt=_pix_fmt(encode, source, models),
            warnings=";".join(_warnings(encode, source, pairing)),
        )
        _keep_log(folder / "vmaf" / f"{row.encode_path}.json.gz", text)
    except (LadderError, OSError) as error:
        return replace(label, status="error", error=str(error))
    return replace(label, label_s=time.monotonic() - started)


def _labelled(
    label: LabelRow, log: VmafLog, pairing: Pairing, models: Sequence[str], subsample: int
) -> LabelRow:
    pools = pool(log.metrics[_metric(models[0])])
    luma = log.metrics["psnr_y"]
    return replace(
        label,
        vmaf=pools.mean,
        vmaf_hmean=pools.hmean,
        vmaf_min=pools.min,
        vmaf_p1=pools.p1,
        vmaf_p5=pools.p5,
        vmaf_std=pools.std,
        vmaf_neg=_mean_of(log, VMAF_MODELS["neg"]),
        vmaf_v1=_mean_of(log, VMAF_MODELS["v1"]),
        psnr_y=sum(luma) / len(luma),
        frames_source=pairing.frames_source,
        frames_encode=pairing.frames_encode,
        frames_compared=(len(luma) - 1) * subsample + 1,
        pairing=pairing.by,
        libvmaf_version=log.version,
    )


def _side(
    video: VideoInfo, source: VideoInfo, pairing: Pairing, models: Sequence[str]
) -> graph.nodes.FilterableStream:
    width, height = source.display_size
    picture = graph.input(file_url(video.path), protocol_whitelist="file,crypto,data")["V:0"]
    if video.is_interlaced:
        picture = picture.filter("bwdif", mode="send_frame", deint="all")
    picture = (
        picture.filter("scale", width, height, flags="bicubic", in_range="auto", out_range="tv")
        .filter("setsar", 1)
        .filter("format", _pix_fmt(video, source, models))
    )
    if pairing.by == "index":
        # a clock of one tick a frame: Matroska's milliseconds cost 20 VMAF points at 29.97 fps
        step = source.fps
        return picture.filter("settb", f"{step.denominator}/{step.numerator}").filter("setpts", "N")
    return picture.filter("settb", "AVTB").filter("setpts", "PTS-STARTPTS")


def _pix_fmt(encode: VideoInfo, source: VideoInfo, models: Sequence[str]) -> str:
    is_deep = max(encode.bit_depth, source.bit_depth) > 8
    return "yuv420p10le" if is_deep or any("v1." in model for model in models) else "yuv420p"


def _metric(model: str) -> str:
    """A name for the model's column in the log, free of characters the graph gives a meaning."""
    return model.replace(".", "_")


def _mean_of(log: VmafLog, model: str) -> float | None:
    values = log.metrics.get(_metric(model))
    return pool(values).mean if values else None


def _warnings(encode: VideoInfo, source: VideoInfo, pairing: Pairing) -> Iterator[str]:
    difference = pairing.frames_encode - pairing.frames_source
    if abs(difference) > _COUNT_TOLERANCE:
        yield f"frame_count:{difference:+d}"
    shift = frame_shift(encode, source)
    if shift:
        yield f"shifted:{shift:+d}"
    if source.hdr:
        yield "hdr"
    if source.is_vfr:
        yield "vfr"


def _refuse_hdr_mix(encode: VideoInfo, source: VideoInfo) -> None:
    if encode.hdr != source.hdr:
        raise VmafError(
            f"encode and source differ in HDR ({encode.hdr or 'SDR'} against "
            f"{source.hdr or 'SDR'}): their VMAF would mean nothing"
        )


def _keep_log(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    # no time stamp inside: the same log makes the same file
    part.write_bytes(gzip.compress(text.encode(), mtime=0))
    part.replace(path)


def _is_labelled(label: LabelRow, models: Sequence[str]) -> bool:
    if label.status != "ok" or label.vmaf_model != models[0]:
        return False
    extra = {VMAF_MODELS["neg"]: label.vmaf_neg, VMAF_MODELS["v1"]: label.vmaf_v1}
    return all(extra.get(model, 0.0) is not None for model in models)
