"""Run stage 2: measure encodes against their sources and write a row of `labels.csv` for each."""

import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path

from ladder.encode.plan import EncodeRow, encodes_table, require_same_source
from ladder.errors import FfmpegError, VideoError
from ladder.label.alignment import (
    AlignedEncode,
    Reference,
    align_encode,
    alignment_warnings,
    check_alignment,
    read_reference,
)
from ladder.label.files import LabelFiles
from ladder.label.frame_ranges import measure_in_ranges, number_of_ranges
from ladder.label.libvmaf import (
    measure,
    parse_log,
    require_vmaf_models,
    save_log,
    write_previews,
)
from ladder.label.metrics import (
    AUTO,
    SHORTEST_RANGE_S,
    MetricRequest,
    common_pix_fmt,
    models_for,
)
from ladder.label.pairs import RungBy, rung_of
from ladder.label.previews import PreviewFiles
from ladder.label.rows import LabelRow, has_metrics, label_row_type, with_metrics
from ladder.media.decode import damaged_from_s
from ladder.media.ends import missing_end
from ladder.media.ffmpeg import Ffmpeg, OnProgress, ProgressSink, partition_outputs
from ladder.media.lengths import video_bytes
from ladder.media.probe import FILE_FAULTS, VideoInfo, fault_message
from ladder.media.remote import LocalCopies, as_path
from ladder.media.tonemap import FILTERS, TONEMAPPED
from ladder.runner import LocalRunner, Runner, no_progress, run_groups
from ladder.storage import Status

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What is measured of every encode.

    Attributes:
        models: `auto` or libvmaf's names of VMAF models; the first one gives the column `vmaf`.
        features: names of `ladder.label.metrics.features()`, besides those always measured.
        subsample: every n-th frame is measured; odd, because even steps are biased.
        sync: where the pictures show an offset between encode and source, pair by it.
        tonemap: compare HDR as SDR; encodes that are tone-mapped always are.
    """

    models: tuple[str, ...] = (AUTO,)
    features: tuple[str, ...] = ()
    subsample: int = 1
    sync: bool = False
    tonemap: bool = False

    def is_tonemapped(self, row: EncodeRow) -> bool:
        """Whether this encode and its source are compared as SDR, where they are HDR."""
        return self.tonemap or bool(row.tonemap)

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
    """Encodes to label (`jobs`), labels made before (`done`), what to measure (`options`).

    `elsewhere` holds the beginning of the row of each job that no ladder made, by its key;
    `rung_by` is what its rung is if it has none.
    """

    jobs: tuple[EncodeRow, ...]
    done: tuple[LabelRow, ...]
    options: LabelOptions = AUTO_VMAF
    elsewhere: Mapping[str, LabelRow] = field(default_factory=dict)
    rung_by: RungBy = RungBy.BITRATE


def plan_labels(
    folder: Path,
    options: LabelOptions = AUTO_VMAF,
    only: Collection[str] | None = None,
    *,
    needs_logs: bool = False,
) -> LabelPlan:
    """Which good encodes of `folder` lack a label with these options.

    Args:
        folder: work folder with `encodes.csv`.
        options: what a label must hold.
        only: paths of encodes in the work folder; None takes all.
        needs_logs: a label without its log of every frame is missing.
    """
    files = LabelFiles.of_folder(folder)
    known = {row.key: row for row in files.table.rows()}
    jobs: list[EncodeRow] = []
    done: list[LabelRow] = []
    for row in encodes_table(folder).rows():
        if row.status != Status.OK or (only is not None and row.key not in only):
            continue
        label = known.get(row.key)
        if label and is_complete(label, row, options) and not _is_outdated(files, row, needs_logs):
            done.append(label)
        else:
            jobs.append(row)
    return LabelPlan(tuple(jobs), tuple(done), options)


def make_labels(
    plan: LabelPlan,
    folder: Path | LabelFiles,
    ffmpeg: Ffmpeg,
    *,
    jobs: int | None = None,
    runner: Runner | None = None,
    range_s: float = SHORTEST_RANGE_S,
    on_progress: OnProgress = no_progress,
) -> Iterator[LabelRow]:
    """Label every encode of `plan`; yields each row after it is written to the table.

    One ffmpeg process measures several encodes of a source and decodes the source once. Where there
    are more processes than encodes, several measure one long encode, in ranges. An encode that
    fails gets an error row without values.

    Args:
        plan: from `plan_labels` or `plan_pairs` for the same folder or files.
        folder: work folder, whose table is `labels.csv`, or the files of a table.
        ffmpeg: program to run; it must have libvmaf.
        jobs: number of processes at once; None: one per core, four at most.
        runner: where the processes run; None: here.
        range_s: seconds of a range at least; 0: no encode is measured in ranges.
        on_progress: called with an encode's path and its finished share, 0 to 1.

    Raises:
        CapabilityError: libvmaf, a model or a filter is missing.
        LockedError: another run uses the folder.
    """
    models = [model for row in plan.jobs for model in plan.options.request_for(row).models]
    needs_tonemap = any(map(plan.options.is_tonemapped, plan.jobs))
    require = partial(_require, tuple(dict.fromkeys(models)), needs_tonemap)
    require(ffmpeg)
    runner = runner or LocalRunner(jobs)
    num_processes, threads = runner.allocate(len(plan.jobs))
    files = folder if isinstance(folder, LabelFiles) else LabelFiles.of_folder(folder)
    groups = _group_by_source(plan.jobs, plan.options, num_processes)
    shared, spare = replace(plan, jobs=(), done=()), runner.spare(len(groups))
    with files.locked(), LocalCopies() as copies:
        run = _LabelRun(files, ffmpeg, shared, threads, spare, range_s, copies)
        table = files.table
        table.repair()
        known = {row.key: row for row in table.rows()}
        for row in plan.done:  # an earlier label may have another rung now
            if known.get(row.key) != row:
                table.append(row)
        prepare, sources = partial(_prepare, run, require), [row.source_path for row in plan.jobs]
        needs = [files.folder, *map(as_path, sources[:1])]
        labels = run_groups(runner, prepare, groups, run.lost, on_progress=on_progress, needs=needs)
        yield from map(table.append, labels)
        table.rewrite(sorted(table.rows(), key=lambda row: row.key))


def _group_by_source(
    rows: Sequence[EncodeRow], options: LabelOptions, num_processes: int
) -> list[tuple[EncodeRow, ...]]:
    """The encodes of each process: of one source, as many as memory and `num_processes` allow."""
    groups: list[tuple[EncodeRow, ...]] = []

    def reference(row: EncodeRow) -> tuple[str, str, bool]:
        return row.source_path, row.pieces, options.is_tonemapped(row)

    for _, of_source in itertools.groupby(rows, key=reference):
        members = tuple(of_source)
        size = (members[0].display_width_px or 0, members[0].display_height_px or 0)
        groups += partition_outputs(members, size, ceil(len(rows) / num_processes))
    return groups


def _require(models: Sequence[str], needs_tonemap: bool, ffmpeg: Ffmpeg) -> None:
    require_vmaf_models(ffmpeg, models)
    if needs_tonemap:
        ffmpeg.require_filters(FILTERS)


def _prepare(
    run: "_LabelRun", require: Callable[[Ffmpeg], None], on_progress: OnProgress | None
) -> Callable[[Sequence[EncodeRow]], list[LabelRow]]:
    """What labels encodes of one source, on this machine."""
    if on_progress:
        return replace(run, on_progress=on_progress).label_source
    ffmpeg = run.ffmpeg.here()
    require(ffmpeg)
    return replace(run, ffmpeg=ffmpeg).label_source


@dataclass(frozen=True)
class _LabelRun:
    """What all processes of one run share; each method returns a row for every encode it gets.

    The jobs of `plan` are left out: each process gets its own. `processes` may measure the encodes
    of one group, in ranges of `range_s` seconds at least.
    """

    files: LabelFiles
    ffmpeg: Ffmpeg
    plan: LabelPlan
    threads: int
    processes: int
    range_s: float
    copies: LocalCopies
    on_progress: OnProgress = no_progress

    def label_source(self, rows: Sequence[EncodeRow]) -> list[LabelRow]:
        """Label encodes of one source."""
        with self.copies.held() as localized:
            return self._label_source(rows, localized)

    def _label_source(
        self, rows: Sequence[EncodeRow], localized: Callable[[Path], Path]
    ) -> list[LabelRow]:
        options = self.plan.options
        try:
            tonemap = options.is_tonemapped(rows[0])
            source = read_reference(rows[0], tonemap=tonemap, localized=localized)
        except FILE_FAULTS as error:
            return [self._error_row(row, as_path(row.source_path), error) for row in rows]
        labels: list[LabelRow] = []
        # libvmaf's inputs get one matrix: encodes of several in one graph would all get the first's
        alike: dict[tuple[str, str], list[AlignedEncode]] = {}
        for row in rows:
            try:
                aligned = align_encode(
                    row,
                    self.files.folder,
                    source,
                    tonemap=tonemap,
                    localized=localized,
                )
                models = options.request_for(row).models
                pix_fmt = common_pix_fmt([source.info, aligned.info], models)
            except FILE_FAULTS as error:
                labels.append(self._error_row(row, self._path(row), error))
                continue
            alike.setdefault((pix_fmt, aligned.info.matrix), []).append(aligned)
        for (pix_fmt, _), encodes in alike.items():
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
            logs, checked = self._checked_logs(encodes, source, on_progress)
        except FILE_FAULTS as error:
            if len(encodes) == 1:
                row, cause = encodes[0].row, _with_cause(error, encodes[0].info, source.info)
                return [self._error_row(row, self._path(row), cause)]
            logger.info("labels of %s failed together, each is tried alone", source.info.path)
            return [row for each in encodes for row in self._measure([each], source, pix_fmt)]
        label_s = (time.monotonic() - started) / len(encodes)
        return [
            self._finish(encode, source, pix_fmt, log, label_s)
            for encode, log in zip(checked, logs, strict=True)
        ]

    def _checked_logs(
        self, encodes: Sequence[AlignedEncode], source: Reference, on_progress: ProgressSink
    ) -> tuple[list[str], list[AlignedEncode]]:
        """libvmaf's log of each encode, and how it is aligned.

        An encode whose pictures ask for another pairing than its file is measured twice.
        """
        with tempfile.TemporaryDirectory(prefix="previews-") as folder:
            previews = PreviewFiles(Path(folder), source.info, source.length_s)
            logs = self._logs(encodes, source, on_progress, previews)
            of_source = previews.read_source()
            checked = [
                check_alignment(
                    encode,
                    source,
                    previews.read_encode(index, encode.info.fps),
                    of_source,
                    sync=self.plan.options.sync,
                )
                for index, encode in enumerate(encodes)
            ]
        for index, (before, encode) in enumerate(zip(encodes, checked, strict=True)):
            if encode.pairing != before.pairing:
                logger.info("%s is measured again: %s", encode.info.path, encode.pairing)
                (logs[index],) = self._logs([encode], source, on_progress)
        return logs, checked

    def _logs(
        self,
        encodes: Sequence[AlignedEncode],
        source: Reference,
        on_progress: ProgressSink,
        previews: PreviewFiles | None = None,
    ) -> list[str]:
        """libvmaf's log of each encode; a long one alone is measured in ranges."""
        pairing, request = encodes[0].pairing, self.plan.options.request_for(encodes[0].row)
        fps = encodes[0].info.fps
        number = number_of_ranges(pairing, fps, self.processes, self.range_s)
        if len(encodes) > 1 or number == 1:
            return measure(
                source.info,
                [(encode.info, encode.pairing) for encode in encodes],
                request,
                self.ffmpeg,
                time_ranges=source.time_ranges,
                threads=self.threads,
                on_progress=on_progress,
                previews=previews,
            )
        if previews:
            write_previews(
                source.info, encodes[0].info, pairing, previews, self.ffmpeg, source.time_ranges
            )
        log = measure_in_ranges(
            source.info,
            encodes[0].info,
            pairing,
            request,
            self.ffmpeg,
            number=number,
            time_ranges=source.time_ranges,
            threads=self.threads,
            on_progress=on_progress,
        )
        return [log]

    def _finish(
        self, encode: AlignedEncode, source: Reference, pix_fmt: str, text: str, label_s: float
    ) -> LabelRow:
        """Keep libvmaf's log of one encode, and fill its row from it."""
        row = encode.row
        try:
            log, request = parse_log(text), self.plan.options.request_for(row)
            compared = len(next(iter(log.metrics.values())))
            rates = (source.info.fps, encode.info.fps)
            encode.pairing.require_compared(compared, request.subsample, rates)
            save_log(self.files.log(row.encode_path), text)
            warnings = alignment_warnings(encode, source.info)
            label = _with_facts(self._empty_label(row), row, encode.info, source.info)
            label = with_metrics(label, log, request, warnings)
        except FILE_FAULTS as error:
            return self._error_row(row, self._path(row), error)
        return replace(
            label,
            rung=row.rung or rung_of(label, self._path(row), self.plan.rung_by),
            frames_source=encode.pairing.frames_source,
            frames_encode=encode.pairing.frames_encode,
            pairing=encode.pairing.mode,
            scale="{}x{} bicubic".format(*source.info.display_size),
            pix_fmt=pix_fmt,
            offset_frames=encode.offset,
            label_s=label_s,
        )

    def _path(self, row: EncodeRow) -> Path:
        return self.files.path(row.encode_path)

    def _empty_label(self, row: EncodeRow) -> LabelRow:
        planned = self.plan.elsewhere.get(row.key)
        return planned or label_row_type()(
            encode_path=row.encode_path, source=row.source, rung=row.rung
        )

    def lost(self, row: EncodeRow, reason: str) -> LabelRow:
        """The row of an encode that ended its process each time."""
        path = self._path(row)
        return self._error_row(row, path, VideoError("crashed", f"{path} {reason}"))

    def _error_row(self, row: EncodeRow, path: Path, error: Exception) -> LabelRow:
        message = self.copies.named(fault_message(path, error))
        return replace(self._empty_label(row), status=Status.ERROR, error=message)


def _with_cause(error: Exception, *videos: VideoInfo) -> Exception:
    """The error, with the damage of one of the videos: ffmpeg does not tell which it is."""
    if not isinstance(error, FfmpegError):
        return error
    for video in videos:
        reason = missing_end(video.path)
        if not reason and (damaged_s := damaged_from_s(video)) is not None:
            reason = f"is damaged after {damaged_s:.2f} s"
        if reason:
            return VideoError("damaged", f"{video.path} {reason}: make it anew ({error})")
    return error


def _with_facts(label: LabelRow, row: EncodeRow, encode: VideoInfo, source: VideoInfo) -> LabelRow:
    """The label with what the encode is, and the size at which it is compared."""
    width, height = source.display_size
    bitrate_kbps = row.bitrate_kbps
    if bitrate_kbps is None and encode.duration_s:
        # an encode made elsewhere may have sound beside it
        bitrate_kbps = video_bytes(encode.path) * 8 / 1000 / encode.duration_s
    return replace(
        label,
        codec=row.codec or encode.codec,
        bitrate_kbps=bitrate_kbps,
        width_px=encode.width_px,
        height_px=encode.height_px,
        display_width_px=width,
        display_height_px=height,
        fps=encode.fps,
        duration_s=encode.duration_s,
        size_bytes=encode.size_bytes,
    )


def _is_outdated(files: LabelFiles, row: EncodeRow, needs_log: bool) -> bool:
    """Whether the encode was made again after it was labelled, or its source was replaced.

    Also whether the log of every frame is gone, if it is needed.
    """
    try:
        require_same_source(row)
    except FILE_FAULTS:
        return True
    log, encode = files.log(row.encode_path), files.path(row.encode_path)
    if not (log.is_file() and encode.is_file()):
        return needs_log
    return encode.stat().st_mtime_ns > log.stat().st_mtime_ns


def is_complete(label: LabelRow, row: EncodeRow, options: LabelOptions) -> bool:
    """Whether a label holds what the options ask for."""
    is_synced = "synced:" in label.warnings
    is_paired_as_asked = not label.offset_frames or options.sync == is_synced
    # an SDR label has neither code
    other = "hdr" if options.is_tonemapped(row) else TONEMAPPED
    return (
        label.status == Status.OK
        and is_paired_as_asked
        and other not in label.warnings.split(";")
        and has_metrics(label, options.request_for(row))
    )
