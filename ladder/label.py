"""Stage 2, label: encodes against their sources -> one row of `labels.csv` each."""

import gzip
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ladder.errors import LadderError, VmafError
from ladder.ffmpeg import VMAF_MODELS, Ffmpeg, require_vmaf_models, run_parallel, split_cores
from ladder.probe import VideoInfo, count_frames, probe
from ladder.tables import EncodeRow, LabelRow, Table, work_lock
from ladder.transcode import encodes_table, remove_parts
from ladder.vmaf import (
    Pairing,
    VmafLog,
    common_pix_fmt,
    frame_shift,
    measure,
    metric_of,
    parse_log,
    pool,
)

_COUNT_TOLERANCE = 2  # frames that encode and source may differ by before it is worth a warning


@dataclass(frozen=True)
class LabelPlan:
    """What is to do (`jobs`) and what was done before (`done`)."""

    jobs: tuple[EncodeRow, ...]
    done: tuple[LabelRow, ...]


def labels_table(folder: Path) -> Table[LabelRow]:
    """The table this stage writes."""
    return Table(folder / "labels.csv", LabelRow)


def plan_labels(folder: Path, models: Sequence[str]) -> LabelPlan:
    """Which encodes of `folder` lack a label by `models` (libvmaf's names, the first is `vmaf`)."""
    known = {row.key: row for row in labels_table(folder).rows()}
    encodes = [row for row in encodes_table(folder).rows() if row.status == "ok"]
    done = [
        label
        for row in encodes
        if (label := known.get(row.key))
        and _is_labelled(label, models)
        and not _is_newer_than_label(folder, row)
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

    A pair that fails becomes a row with the reason and no figures.

    Args:
        plan: from `plan_labels` for the same folder and models.
        folder: work folder with `encodes.csv`.
        ffmpeg: program to run; it must have libvmaf.
        models: libvmaf's names; the first one's mean is the column `vmaf`.
        jobs: encodes labelled at once; None: one for each core, four at most.
        subsample: every n-th frame is measured; odd, since even steps are biased.
        on_progress: told an encode's path and the share of it that is done.

    Raises:
        CapabilityError: libvmaf or a model is missing.
        TableError: another run works on the folder.
    """
    require_vmaf_models(ffmpeg, models)
    at_once, threads = split_cores(jobs)

    def label(row: EncodeRow) -> LabelRow:
        def on_share(share: float) -> None:
            on_progress(row.key, share)

        return _label(row, folder, ffmpeg, models, threads, subsample, on_share)

    with work_lock(folder):
        table = labels_table(folder)
        table.mend()
        remove_parts(folder)
        for row in run_parallel(label, plan.jobs, at_once):
            yield table.append(row)
        table.rewrite(sorted(table.rows(), key=lambda row: row.key))


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
            pix_fmt=common_pix_fmt(encode, source, models),
            warnings=";".join(_warnings(encode, source, pairing)),
        )
        _keep_log(_log_path(folder, row.encode_path), text)
    except (LadderError, OSError) as error:
        return replace(label, status="error", error=str(error))
    return replace(label, label_s=time.monotonic() - started)


def _labelled(
    label: LabelRow, log: VmafLog, pairing: Pairing, models: Sequence[str], subsample: int
) -> LabelRow:
    pools = pool(log.metrics[metric_of(models[0])])
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
        frames_compared=len(luma),
        pairing=pairing.by,
        libvmaf_version=log.version,
    )


def _mean_of(log: VmafLog, model: str) -> float | None:
    values = log.metrics.get(metric_of(model))
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
    # no time stamp and no speed inside: the same pair makes the same file
    text = re.sub(r'"fps": [^,]*,\s*', "", text, count=1)
    part.write_bytes(gzip.compress(text.encode(), mtime=0))
    part.replace(path)


def _is_newer_than_label(folder: Path, row: EncodeRow) -> bool:
    """Whether the encode was made again after it was labelled."""
    log, encode = _log_path(folder, row.encode_path), folder / row.encode_path
    if not (log.is_file() and encode.is_file()):
        return False
    return encode.stat().st_mtime_ns > log.stat().st_mtime_ns


def _log_path(folder: Path, encode_path: str) -> Path:
    return folder / "vmaf" / f"{encode_path}.json.gz"


def _is_labelled(label: LabelRow, models: Sequence[str]) -> bool:
    if label.status != "ok" or label.vmaf_model != models[0]:
        return False
    extra = {VMAF_MODELS["neg"]: label.vmaf_neg, VMAF_MODELS["v1"]: label.vmaf_v1}
    return all(extra.get(model, 0.0) is not None for model in models)
