"""Stage 2, label: encodes against their sources -> one row of `labels.csv` each."""

import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from ladder.encode.plan import EncodeRow, encodes_table
from ladder.errors import LadderError
from ladder.label.alignment import Pair, Reference, align_encode, alignment_warnings, read_reference
from ladder.label.libvmaf import log_path, measure, parse_log, require_vmaf_models, save_log
from ladder.label.metrics import MetricRequest, common_pix_fmt, models_for
from ladder.label.rows import (
    LabelRow,
    has_metrics,
    label_row_type,
    labels_table,
    with_metrics,
)
from ladder.media.ffmpeg import (
    Ffmpeg,
    OnProgress,
    allocate_workers,
    partition_outputs,
    run_parallel,
)
from ladder.storage import remove_parts, work_lock


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What is measured of every encode.

    Attributes:
        models: `auto` or libvmaf's words; the first one's mean is the column `vmaf`.
        features: `ssim`, `cambi`; `psnr` is always measured.
        subsample: every n-th frame is measured; odd, since even steps are biased.
        sync: where the first frames show that encode and source are shifted, pair by what fits.
    """

    models: tuple[str, ...] = ("auto",)
    features: tuple[str, ...] = ()
    subsample: int = 1
    sync: bool = False

    def measurement(self, row: EncodeRow) -> MetricRequest:
        """What is measured of this encode: the models that suit its source."""
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
    """What is to do (`jobs`) and what was done before (`done`)."""

    jobs: tuple[EncodeRow, ...]
    done: tuple[LabelRow, ...]
    options: LabelOptions = AUTO_VMAF


def plan_labels(
    folder: Path, options: LabelOptions = AUTO_VMAF, only: Collection[str] | None = None
) -> LabelPlan:
    """Which encodes of `folder` lack such a label; `only` these encode paths, or all."""
    known = {row.key: row for row in labels_table(folder).rows()}
    jobs: list[EncodeRow] = []
    done: list[LabelRow] = []
    for row in encodes_table(folder).rows():
        if row.status != "ok" or (only is not None and row.key not in only):
            continue
        label = known.get(row.key)
        if label and _is_labelled(label, row, options) and not _is_newer_than_label(folder, row):
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
    """Label every encode of `plan` and yield its row when it stands in `labels.csv`.

    Encodes of one source are measured side by side in one process, which decodes it once. A pair
    that fails becomes a row with the reason and no figures.

    Args:
        plan: from `plan_labels` for the same folder.
        folder: work folder with `encodes.csv`.
        ffmpeg: program to run; it must have libvmaf.
        jobs: processes at once; None: one for each core, four at most.
        on_progress: told how far each label is.

    Raises:
        CapabilityError: libvmaf or a model is missing.
        TableError: another run works on the folder.
    """
    models = [model for row in plan.jobs for model in plan.options.measurement(row).models]
    require_vmaf_models(ffmpeg, tuple(dict.fromkeys(models)))
    at_once, threads = allocate_workers(jobs)

    def label(rows: Sequence[EncodeRow]) -> list[LabelRow]:
        return list(_Labeller(folder, ffmpeg, plan.options, threads, on_progress).label(rows))

    with work_lock(folder):
        table = labels_table(folder)
        table.repair()
        remove_parts(folder)
        for labels in run_parallel(label, _grouped(plan.jobs, at_once), at_once):
            yield from map(table.append, labels)
        table.rewrite(sorted(table.rows(), key=lambda row: row.key))


def _grouped(rows: Sequence[EncodeRow], at_once: int) -> list[tuple[EncodeRow, ...]]:
    """Encodes of one source together, as many as memory and `at_once` processes allow."""
    groups: list[tuple[EncodeRow, ...]] = []
    for _, of_source in itertools.groupby(rows, key=lambda row: (row.source_path, row.pieces)):
        members = tuple(of_source)
        size = (members[0].display_width_px or 0, members[0].display_height_px or 0)
        groups += partition_outputs(members, size, ceil(len(rows) / at_once))
    return groups


@dataclass(frozen=True)
class _Labeller:
    """Labels encodes of one source."""

    folder: Path
    ffmpeg: Ffmpeg
    options: LabelOptions
    threads: int
    on_progress: OnProgress

    def label(self, rows: Sequence[EncodeRow]) -> Iterator[LabelRow]:
        """A row for each of `rows`, which share their source."""
        try:
            source = read_reference(rows[0])
        except (LadderError, OSError) as error:
            yield from (_failure(row, error) for row in rows)
            return
        alike: dict[str, list[Pair]] = {}
        for row in rows:
            try:
                pair = align_encode(row, self.folder, source, sync=self.options.sync)
            except (LadderError, OSError) as error:
                yield _failure(row, error)
                continue
            models = self.options.measurement(row).models
            alike.setdefault(common_pix_fmt([source.info, pair.encode], models), []).append(pair)
        for pairs in alike.values():
            yield from self._measured(pairs, source)

    def _measured(self, pairs: Sequence[Pair], source: Reference) -> Iterator[LabelRow]:
        started = time.monotonic()
        duration_s = max(pairs[0].encode.duration_s, 0.001)

        def on_progress(seconds: float) -> None:
            for pair in pairs:
                self.on_progress(pair.row.key, min(seconds / duration_s, 1.0))

        try:
            logs = measure(
                source.info,
                [(pair.encode, pair.pairing) for pair in pairs],
                self.options.measurement(pairs[0].row),
                self.ffmpeg,
                time_ranges=source.time_ranges,
                threads=self.threads,
                on_progress=on_progress,
            )
        except (LadderError, OSError) as error:
            if len(pairs) == 1:
                yield _failure(pairs[0].row, error)
                return
            # one encode that cannot be decoded must not take the others with it
            for pair in pairs:
                yield from self._measured([pair], source)
            return
        share_s = (time.monotonic() - started) / len(pairs)
        for pair, log in zip(pairs, logs, strict=True):
            yield self._labelled(pair, source, log, share_s)

    def _labelled(self, pair: Pair, source: Reference, text: str, seconds: float) -> LabelRow:
        request = self.options.measurement(pair.row)
        try:
            log = parse_log(text)
            save_log(log_path(self.folder, pair.row.encode_path), text)
        except (LadderError, OSError) as error:
            return _failure(pair.row, error)
        return replace(
            with_metrics(_empty(pair.row), log, request, alignment_warnings(pair, source.info)),
            frames_source=pair.pairing.frames_source,
            frames_encode=pair.pairing.frames_encode,
            pairing=pair.pairing.by,
            scale="{}x{} bicubic".format(*source.info.display_size),
            pix_fmt=common_pix_fmt([source.info, pair.encode], request.models),
            offset_frames=pair.offset,
            label_s=seconds,
        )


def _empty(row: EncodeRow) -> LabelRow:
    return label_row_type()(encode_path=row.encode_path, source=row.source, rung=row.rung)


def _failure(row: EncodeRow, error: Exception) -> LabelRow:
    return replace(_empty(row), status="error", error=str(error))


def _is_newer_than_label(folder: Path, row: EncodeRow) -> bool:
    """Whether the encode was made again after it was labelled."""
    log, encode = log_path(folder, row.encode_path), folder / row.encode_path
    if not (log.is_file() and encode.is_file()):
        return False
    return encode.stat().st_mtime_ns > log.stat().st_mtime_ns


def _is_labelled(label: LabelRow, row: EncodeRow, options: LabelOptions) -> bool:
    """Whether `label` holds what `options` ask for."""
    is_paired_so = not label.offset_frames or options.sync == ("synced:" in label.warnings)
    return label.status == "ok" and is_paired_so and has_metrics(label, options.measurement(row))
