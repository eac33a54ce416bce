"""Run stage 2: measure encodes against their sources and write a row of `labels.csv` for each."""

import itertools
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from ladder.encode.plan import EncodeRow, encodes_table, require_same_source
from ladder.label.alignment import (
    AlignedEncode,
    Reference,
    align_encode,
    alignment_warnings,
    read_reference,
)
from ladder.label.libvmaf import log_path, measure, parse_log, require_vmaf_models, save_log
from ladder.label.metrics import AUTO, MetricRequest, common_pix_fmt, models_for
from ladder.label.rows import LabelRow, has_metrics, label_row_type, labels_table, with_metrics
from ladder.media.ffmpeg import (
    Ffmpeg,
    OnProgress,
    allocate_workers,
    partition_outputs,
    run_parallel,
)
from ladder.media.probe import FILE_FAULTS, fault_message
from ladder.storage import Status, remove_parts, work_lock

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What is measured of every encode.

    Attributes:
        models: `auto` or libvmaf's names of VMAF models; the first one gives the column `vmaf`.
        features: names of `ladder.label.metrics.features()`, besides those always measured.
        subsample: every n-th frame is measured; odd, because even steps are biased.
        sync: where the first frames show an offset between encode and source, pair by it.
    """

    models: tuple[str, ...] = (AUTO,)
    features: tuple[str, ...] = ()
    subsample: int = 1
    sync: bool = False

    def request_for(self, row: EncodeRow) -> MetricRequest:
        """What libvmaf measures of this encode: `auto` is replaced by models for its source."""
        size = (row.display_width_px or 0, row.display_height_px or 0)
        return MetricRequest(
            models=models_for(size, self.models),
            features=self.features,
            subsample=self.subsample,
        )


AUTO_VMAF = LabelOptions()
"""VMAF and its NEG variant, by the models that suit the source."""


@dataclass(frozen=True)
class LabelPlan:
    """Encodes to label (`jobs`), labels made before (`done`), what to measure (`options`)."""

    jobs: tuple[EncodeRow, ...]
    done: tuple[LabelRow, ...]
    options: LabelOptions = AUTO_VMAF


def plan_labels(
    folder: Path, options: LabelOptions = AUTO_VMAF, only: Collection[str] | None = None
) -> LabelPlan:
    """Which good encodes of `folder` lack a label with these options.

    Args:
        folder: work folder with `encodes.csv`.
        options: what a label must hold.
        only: paths of encodes in the work folder; None takes all.
    """
    known = {row.key: row for row in labels_table(folder).rows()}
    jobs: list[EncodeRow] = []
    done: list[LabelRow] = []
    for row in encodes_table(folder).rows():
        if row.status != Status.OK or (only is not None and row.key not in only):
            continue
        label = known.get(row.key)
        if label and _is_complete(label, row, options) and not _is_outdated(folder, row):
            done.append(label)
        else:
            jobs.append(row)
    return LabelPlan(tuple(jobs), tuple(done), options)


def make_labels(
    plan: LabelPlan,
    folder: Path,
    ffmpeg: Ffmpeg,
    *,
    jobs: int | None = None,
    on_progress: OnProgress = lambda key, share: None,
) -> Iterator[LabelRow]:
    """Label every encode of `plan`; yields each row after it is written to `labels.csv`.

    One ffmpeg process measures several encodes of a source and decodes the source once. An encode
    that fails gets an error row without values.

    Args:
        plan: from `plan_labels` for the same folder.
        folder: work folder with `encodes.csv`.
        ffmpeg: program to run; it must have libvmaf.
        jobs: number of processes at once; None: one per core, four at most.
        on_progress: called with an encode's path and its finished share, 0 to 1.

    Raises:
        CapabilityError: libvmaf or a model is missing.
        LockedError: another run uses the folder.
    """
    models = [model for row in plan.jobs for model in plan.options.request_for(row).models]
    require_vmaf_models(ffmpeg, tuple(dict.fromkeys(models)))
    num_processes, threads = allocate_workers(jobs)
    run = _LabelRun(folder, ffmpeg, plan.options, threads, on_progress)
    with work_lock(folder):
        table = labels_table(folder)
        table.repair()
        remove_parts(folder)
        groups = _group_by_source(plan.jobs, num_processes)
        for rows in run_parallel(run.label_source, groups, num_processes):
            yield from map(table.append, rows)
        table.rewrite(sorted(table.rows(), key=lambda row: row.key))


def _group_by_source(rows: Sequence[EncodeRow], num_processes: int) -> list[tuple[EncodeRow, ...]]:
    """The encodes of each process: of one source, as many as memory and `num_processes` allow."""
    groups: list[tuple[EncodeRow, ...]] = []
    for _, of_source in itertools.groupby(rows, key=lambda row: (row.source_path, row.pieces)):
        members = tuple(of_source)
        size = (members[0].display_width_px or 0, members[0].display_height_px or 0)
        groups += partition_outputs(members, size, ceil(len(rows) / num_processes))
    return groups


@dataclass(frozen=True)
class _LabelRun:
    """What all processes of one run share; each method returns a row for every encode it gets."""

    folder: Path
    ffmpeg: Ffmpeg
    options: LabelOptions
    threads: int
    on_progress: OnProgress

    def label_source(self, rows: Sequence[EncodeRow]) -> list[LabelRow]:
        """Label encodes of one source."""
        try:
            source = read_reference(rows[0])
        except FILE_FAULTS as error:
            return [_error_row(row, Path(row.source_path), error) for row in rows]
        labels: list[LabelRow] = []
        by_pix_fmt: dict[str, list[AlignedEncode]] = {}
        for row in rows:
            try:
                aligned = align_encode(row, self.folder, source, sync=self.options.sync)
                models = self.options.request_for(row).models
                pix_fmt = common_pix_fmt([source.info, aligned.info], models)
            except FILE_FAULTS as error:
                labels.append(_error_row(row, self.folder / row.encode_path, error))
                continue
            by_pix_fmt.setdefault(pix_fmt, []).append(aligned)
        for pix_fmt, encodes in by_pix_fmt.items():
            labels += self._measure(encodes, source, pix_fmt)
        return labels

    def _measure(
        self, encodes: Sequence[AlignedEncode], source: Reference, pix_fmt: str
    ) -> list[LabelRow]:
        """Measure encodes that are compared in one pixel format, in one process."""
        started = time.monotonic()
        duration_s = max(encodes[0].info.duration_s, 0.001)

        def on_progress(seconds: float) -> None:
            for encode in encodes:
                self.on_progress(encode.row.key, min(seconds / duration_s, 1.0))

        try:
            logs = measure(
                source.info,
                [(encode.info, encode.pairing) for encode in encodes],
                self.options.request_for(encodes[0].row),
                self.ffmpeg,
                time_ranges=source.time_ranges,
                threads=self.threads,
                on_progress=on_progress,
            )
        except FILE_FAULTS as error:
            if len(encodes) == 1:
                row = encodes[0].row
                return [_error_row(row, self.folder / row.encode_path, error)]
            logger.info("labels of %s failed together, each is tried alone", source.info.path)
            return [row for each in encodes for row in self._measure([each], source, pix_fmt)]
        label_s = (time.monotonic() - started) / len(encodes)
        return [
            self._finish(encode, source, pix_fmt, log, label_s)
            for encode, log in zip(encodes, logs, strict=True)
        ]

    def _finish(
        self, encode: AlignedEncode, source: Reference, pix_fmt: str, text: str, label_s: float
    ) -> LabelRow:
        """Keep libvmaf's log of one encode, and fill its row from it."""
        row = encode.row
        try:
            log, request = parse_log(text), self.options.request_for(row)
            compared = len(next(iter(log.metrics.values())))
            encode.pairing.require_compared(compared, request.subsample)
            save_log(log_path(self.folder, row.encode_path), text)
            warnings = alignment_warnings(encode, source.info)
            label = with_metrics(_empty_label(row), log, request, warnings)
        except FILE_FAULTS as error:
            return _error_row(row, self.folder / row.encode_path, error)
        return replace(
            label,
            frames_source=encode.pairing.frames_source,
            frames_encode=encode.pairing.frames_encode,
            pairing=encode.pairing.mode,
            scale="{}x{} bicubic".format(*source.info.display_size),
            pix_fmt=pix_fmt,
            offset_frames=encode.offset,
            label_s=label_s,
        )


def _empty_label(row: EncodeRow) -> LabelRow:
    return label_row_type()(encode_path=row.encode_path, source=row.source, rung=row.rung)


def _error_row(row: EncodeRow, path: Path, error: Exception) -> LabelRow:
    return replace(_empty_label(row), status=Status.ERROR, error=fault_message(path, error))


def _is_outdated(folder: Path, row: EncodeRow) -> bool:
    """Whether the encode was made again after it was labelled, or its source was replaced."""
    try:
        require_same_source(row)
    except FILE_FAULTS:
        return True
    log, encode = log_path(folder, row.encode_path), folder / row.encode_path
    if not (log.is_file() and encode.is_file()):
        return False
    return encode.stat().st_mtime_ns > log.stat().st_mtime_ns


def _is_complete(label: LabelRow, row: EncodeRow, options: LabelOptions) -> bool:
    """Whether a label holds what the options ask for."""
    is_synced = "synced:" in label.warnings
    is_paired_as_asked = not label.offset_frames or options.sync == is_synced
    return (
        label.status == Status.OK
        and is_paired_as_asked
        and has_metrics(label, options.request_for(row))
    )
