"""Run stage 1: make the planned encodes and write a row of `encodes.csv` for each."""

import contextlib
import functools
import itertools
import logging
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from ladder.encode.plan import (
    EncodeJob,
    EncodeRow,
    LadderPlan,
    Source,
    encodes_table,
    failed_encode,
    finished_encode,
    has_same_source,
)
from ladder.encode.transcode import (
    VideoLength,
    measure_length,
    shell_command,
    transcode,
    verify_encode,
)
from ladder.errors import FfmpegError, VideoError
from ladder.media.decode import damaged_from_s
from ladder.media.ends import MAX_MISSING_S, missing_end
from ladder.media.ffmpeg import Ffmpeg, OnProgress, allocate_workers, partition_outputs
from ladder.media.probe import FILE_FAULTS
from ladder.media.remote import LocalCopies
from ladder.media.tonemap import FILTERS
from ladder.runner import LocalRunner, Runner, no_progress, run_groups
from ladder.storage import Table, remove_parts, work_lock

logger = logging.getLogger(__name__)

_MAX_DAMAGED_END_S = 1.0


def make_encodes(
    plan: LadderPlan,
    folder: Path,
    ffmpeg: Ffmpeg,
    *,
    jobs: int | None = None,
    runner: Runner | None = None,
    on_progress: OnProgress = no_progress,
) -> Iterator[EncodeRow]:
    """Make every encode of `plan`; yields each row after it is written to `encodes.csv`.

    One ffmpeg process makes several encodes of a source and decodes the source once. An encode that
    fails, or that is incomplete, gets an error row and no file.

    Args:
        plan: from `plan_ladder` for the same folder.
        folder: work folder; it holds one folder of encodes per source.
        ffmpeg: program to run.
        jobs: number of processes at once; None: one per core, four at most.
        runner: where the processes run; None: here.
        on_progress: called with an encode's path and its finished share, 0 to 1.

    Raises:
        CapabilityError: an encoder or a filter is missing.
        LockedError: another run uses the folder.
    """
    encoders = tuple(dict.fromkeys(job.rung.codec for job in plan.jobs))
    needs_tonemap = any(job.source.info.is_tonemapped for job in plan.jobs)
    require = functools.partial(_require, encoders, needs_tonemap)
    require(ffmpeg)
    runner = runner or LocalRunner(jobs)
    num_processes, threads = runner.allocate()
    copies = LocalCopies()
    prepare = functools.partial(_prepare, ffmpeg, require, threads, copies)

    def lost(job: EncodeJob, reason: str) -> EncodeRow:
        path = job.source.info.path
        return _fail(job, VideoError("crashed", f"{path} {reason}"), ffmpeg)

    folder.mkdir(parents=True, exist_ok=True)
    with work_lock(folder), copies:
        table = encodes_table(folder)
        table.repair()
        remove_parts(folder)
        for row in plan.failed:
            yield table.append(row)
        groups = group_jobs(plan.jobs, num_processes)
        needs = [folder, *(job.source.info.path for job in plan.jobs[:1])]
        encodes = run_groups(runner, prepare, groups, lost, on_progress=on_progress, needs=needs)
        yield from map(table.append, encodes)
        _finalize_table(table, plan)


def _require(encoders: Sequence[str], needs_tonemap: bool, ffmpeg: Ffmpeg) -> None:
    ffmpeg.require_encoders(encoders)
    if needs_tonemap:
        ffmpeg.require_filters(FILTERS)


def _prepare(
    ffmpeg: Ffmpeg,
    require: Callable[[Ffmpeg], None],
    threads: int,
    copies: LocalCopies,
    on_progress: OnProgress | None,
) -> Callable[[Sequence[EncodeJob]], list[EncodeRow]]:
    """What makes the encodes of one ffmpeg process, on this machine."""
    if on_progress is None:
        ffmpeg = ffmpeg.here()
        require(ffmpeg)
    show = on_progress or no_progress
    length_of = functools.cache(_length_of)  # a source may have several processes

    def encode(group: Sequence[EncodeJob]) -> list[EncodeRow]:
        def on_share(share: float) -> None:
            for job in group:
                show(job.row.key, share)

        for job in group:  # a worker that was lost may still write into its own file
            _remove_part(job)
        with copies.held() as localized:
            try:
                here = [job.with_file(localized(job.source.info.path)) for job in group]
            except FILE_FAULTS as error:
                return [_fail(job, error, ffmpeg) for job in group]
            rows = _encode(here, ffmpeg, threads, on_share, length_of)
            return [replace(row, error=copies.named(row.error)) for row in rows]

    return encode


def group_jobs(jobs: Sequence[EncodeJob], num_processes: int) -> list[tuple[EncodeJob, ...]]:
    """The jobs of each ffmpeg process: of one source, as many as memory and `num_processes` allow.

    A two-pass encode has a process of its own: two first passes would write one log.
    """
    groups: list[tuple[EncodeJob, ...]] = [(job,) for job in jobs if job.rung.two_pass]
    single_pass = [job for job in jobs if not job.rung.two_pass]
    for source, of_source in itertools.groupby(single_pass, key=lambda job: job.source):
        # sorted by cost, because partitioning spreads neighbours over the processes
        members = sorted(of_source, key=lambda job: -job.cost)
        max_outputs = ceil(len(single_pass) / num_processes)
        groups += partition_outputs(members, source.info.display_size, max_outputs)
    return groups


def shell_commands(plan: LadderPlan, ffmpeg: Ffmpeg, jobs: int | None = None) -> Iterator[str]:
    """The commands that `make_encodes` would run for `plan`, ready to paste into a shell.

    Raises:
        LadderError: an encode cannot be made.
    """
    num_processes, threads = allocate_workers(jobs)
    for group in group_jobs(plan.jobs, num_processes):
        source, outputs = group[0].source, {job.out: job.rung for job in group}
        command = shell_command(source.info, outputs, source.time_ranges, ffmpeg, threads=threads)
        yield f"mkdir -p {shlex.quote(str(group[0].out.parent.absolute()))} && {command}"


def _finalize_table(table: Table[EncodeRow], plan: LadderPlan) -> None:
    """Sort the rows, without those that this run has made obsolete.

    These are error rows of sources that could be read this time, and encodes of a file that was
    replaced by another one since.
    """
    current = {row.source_path: row for row in [*(job.row for job in plan.jobs), *plan.done]}
    rows = (
        row
        for row in table.rows()
        if row.source_path not in current
        or (row.encode_path and has_same_source(row, current[row.source_path]))
    )
    table.rewrite(sorted(rows, key=lambda row: row.key))


def _encode(
    group: Sequence[EncodeJob],
    ffmpeg: Ffmpeg,
    threads: int,
    on_share: Callable[[float], None],
    length_of: Callable[[Source], VideoLength],
) -> list[EncodeRow]:
    """Make the encodes of one process; whatever fails becomes a row."""
    source, started = group[0].source, time.monotonic()
    outputs = {job.part: job.rung for job in group}
    try:
        group[0].part.parent.mkdir(parents=True, exist_ok=True)
        transcode(
            source.info, outputs, source.time_ranges, ffmpeg, threads=threads, on_share=on_share
        )
        expected = length_of(source)
    except FILE_FAULTS as error:
        if len(group) == 1:
            return [_fail(group[0], _with_cause(error, source), ffmpeg)]
        for job in group:
            _remove_part(job)
        logger.info("encodes of %s failed together, each is tried alone", source.info.path)
        alone = (_encode([job], ffmpeg, threads, on_share, length_of) for job in group)
        return [row for rows in alone for row in rows]
    cost_s = (time.monotonic() - started) / sum(job.cost for job in group)
    return [_finish(job, expected, ffmpeg, job.cost * cost_s) for job in group]


def _length_of(source: Source) -> VideoLength:
    """The length of what is encoded; logs that a source ends before its header says."""
    found, stated_s = measure_length(source.info, source.time_ranges), source.info.duration_s
    if not source.time_ranges:
        missing = missing_end(source.info.path)
        if stated_s - found.duration_s > MAX_MISSING_S:
            missing = f"ends at {found.duration_s:.2f} s, its header states {stated_s:.2f} s"
        if missing:
            logger.warning("%s %s: what is there is encoded", source.info.path, missing)
    return found


def _with_cause(error: Exception, source: Source) -> Exception:
    """The error, with what is known of the source: ffmpeg does not tell that it was cut."""
    info = source.info
    if not isinstance(error, FfmpegError) or not info.path.is_file():
        return error
    path, reason = info.path, missing_end(info.path)
    if reason:
        return VideoError("damaged", f"{path} {reason}: make it anew ({error})")
    damaged_s = None if source.time_ranges else damaged_from_s(info)
    end_s = 0.0 if damaged_s is None else damaged_s - 2 / float(info.fps)
    if not 0 < end_s < info.duration_s < end_s + _MAX_DAMAGED_END_S:
        return error
    return VideoError(
        "damaged",
        f"{path} ends inside a frame: make it anew, or copy what comes before (ffmpeg -i "
        f"{path.name} -map 0:v:0 -t {end_s:.2f} -c copy {path.stem}-2.mkv). {error}",
    )


def _finish(job: EncodeJob, expected: VideoLength, ffmpeg: Ffmpeg, encode_s: float) -> EncodeRow:
    """Verify one encode and move it to its place; the row holds what the file really is."""
    try:
        info, length = verify_encode(job.part, job.source.info, expected)
        row = finished_encode(job.row, info, length, ffmpeg, encode_s)
        job.part.replace(job.out)
    except FILE_FAULTS as error:
        return _fail(job, error, ffmpeg)
    return row


def _fail(job: EncodeJob, error: Exception, ffmpeg: Ffmpeg) -> EncodeRow:
    """The error row of a job; its unfinished file is removed."""
    _remove_part(job)
    return failed_encode(job.row, job.source.info.path, error, ffmpeg)


def _remove_part(job: EncodeJob) -> None:
    with contextlib.suppress(OSError):  # it may not even have a folder
        job.part.unlink()
