"""Stage 1, ladder: sources x rungs -> encodes, one row of `encodes.csv` for each."""

import itertools
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from ladder.encode.plan import EncodeJob, EncodeRow, LadderPlan, encodes_table
from ladder.encode.transcode import (
    VideoLength,
    measure_length,
    shell_command,
    transcode,
    verify_encode,
)
from ladder.errors import LadderError
from ladder.media.ffmpeg import (
    Ffmpeg,
    OnProgress,
    allocate_workers,
    partition_outputs,
    run_parallel,
)
from ladder.storage import Table, remove_parts, work_lock


def make_encodes(
    plan: LadderPlan,
    folder: Path,
    ffmpeg: Ffmpeg,
    *,
    jobs: int | None = None,
    on_progress: OnProgress = lambda key, share: None,
) -> Iterator[EncodeRow]:
    """Make every encode of `plan` and yield its row when it stands in `encodes.csv`.

    Encodes of one source are made side by side in one process, which decodes it once. An encode
    that fails, or that is not whole, becomes a row with the reason and leaves no file.

    Args:
        plan: from `plan_ladder` for the same folder.
        folder: work folder; the encodes lie in one folder a source.
        ffmpeg: program to run.
        jobs: processes at once; None: one for each core, four at most.
        on_progress: told how far each encode is.

    Raises:
        CapabilityError: an encoder is missing.
        TableError: another run works on the folder.
    """
    ffmpeg.require_encoders([job.rung.codec for job in plan.jobs])
    at_once, threads = allocate_workers(jobs)

    def encode(group: Sequence[EncodeJob]) -> list[EncodeRow]:
        def on_share(share: float) -> None:
            for job in group:
                on_progress(job.row.key, share)

        return _encode(group, ffmpeg, threads, on_share)

    folder.mkdir(parents=True, exist_ok=True)
    with work_lock(folder):
        table = encodes_table(folder)
        table.repair()
        remove_parts(folder)
        for row in plan.failed:
            yield table.append(row)
        for rows in run_parallel(encode, grouped(plan.jobs, at_once), at_once):
            yield from map(table.append, rows)
        _finalize_table(table, plan)


def grouped(jobs: Sequence[EncodeJob], at_once: int) -> list[tuple[EncodeJob, ...]]:
    """Encodes of one source together, as many as memory and `at_once` processes allow.

    Two passes stand alone: the first pass of several has several lengths.
    """
    groups: list[tuple[EncodeJob, ...]] = [(job,) for job in jobs if job.rung.two_pass]
    once = [job for job in jobs if not job.rung.two_pass]
    for source, of_source in itertools.groupby(once, key=lambda job: job.source):
        # dealt out by cost, so that no group holds all the large ones
        members = sorted(of_source, key=lambda job: -job.cost)
        groups += partition_outputs(members, source.info.display_size, ceil(len(once) / at_once))
    return groups


def shell_commands(plan: LadderPlan, ffmpeg: Ffmpeg, jobs: int | None = None) -> Iterator[str]:
    """The commands of the encodes that are to be made, ready to paste, as `make_encodes` runs them.

    Raises:
        LadderError: an encode that cannot be made.
    """
    at_once, threads = allocate_workers(jobs)
    for group in grouped(plan.jobs, at_once):
        source, outputs = group[0].source, {job.out: job.rung for job in group}
        command = shell_command(source.info, outputs, source.time_ranges, ffmpeg, threads=threads)
        yield f"mkdir -p {shlex.quote(str(group[0].out.parent.absolute()))} && {command}"


def _finalize_table(table: Table[EncodeRow], plan: LadderPlan) -> None:
    """Sort the rows, without the failures of sources that could be read this time."""
    readable = {row.source_path for row in [*(job.row for job in plan.jobs), *plan.done]}
    rows = (row for row in table.rows() if row.encode_path or row.source_path not in readable)
    table.rewrite(sorted(rows, key=lambda row: row.key))


def _encode(
    group: Sequence[EncodeJob], ffmpeg: Ffmpeg, threads: int, on_share: Callable[[float], None]
) -> list[EncodeRow]:
    source, started = group[0].source, time.monotonic()
    group[0].part.parent.mkdir(parents=True, exist_ok=True)
    outputs = {job.part: job.rung for job in group}
    try:
        transcode(
            source.info, outputs, source.time_ranges, ffmpeg, threads=threads, on_share=on_share
        )
        expected = measure_length(source.info, source.time_ranges)
    except (LadderError, OSError) as error:
        for job in group:
            job.part.unlink(missing_ok=True)
        if len(group) == 1:
            return [_failure(group[0], error, ffmpeg)]
        # one rung that cannot be made must not take the others with it
        alone = (_encode([job], ffmpeg, threads, on_share) for job in group)
        return [row for rows in alone for row in rows]
    rows = [_finished(job, expected, ffmpeg) for job in group]
    share_s = (time.monotonic() - started) / sum(job.cost for job in group)
    return [
        replace(row, encode_s=job.cost * share_s if row.status == "ok" else None)
        for job, row in zip(group, rows, strict=True)
    ]


def _finished(job: EncodeJob, expected: VideoLength, ffmpeg: Ffmpeg) -> EncodeRow:
    """The row of an encode that was made: what it really is, by reading it back."""
    try:
        info, video_length = verify_encode(job.part, job.source.info, expected)
        row = replace(
            job.row,
            bitrate_kbps=info.size_bytes * 8 / 1000 / video_length.duration_s,
            width_px=info.width_px,
            height_px=info.height_px,
            fps=info.fps,
            frame_count=video_length.frame_count,
            duration_s=video_length.duration_s,
            size_bytes=info.size_bytes,
            ffmpeg_version=ffmpeg.version,
        )
        job.part.replace(job.out)
    except (LadderError, OSError) as error:
        job.part.unlink(missing_ok=True)
        return _failure(job, error, ffmpeg)
    return row


def _failure(job: EncodeJob, error: Exception, ffmpeg: Ffmpeg) -> EncodeRow:
    return replace(job.row, status="error", error=str(error), ffmpeg_version=ffmpeg.version)
