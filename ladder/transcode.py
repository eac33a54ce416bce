"""Stage 1, ladder: sources x rungs -> encodes, one row of `encodes.csv` for each."""

import hashlib
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import ffmpeg as graph

from ladder.codecs import COST, encoder_settings
from ladder.errors import LadderError
from ladder.ffmpeg import Ffmpeg, file_url, run, run_parallel, split_cores
from ladder.probe import VideoInfo, count_frames, probe
from ladder.rungs import Rung, fitting
from ladder.tables import EncodeRow, Table, work_lock

OnProgress = Callable[[str, float], None]
"""Told an encode's path and the share of it that is done, from any thread."""


@dataclass(frozen=True)
class EncodeJob:
    """One encode to be made; `source` is its file, `folder` the work folder."""

    row: EncodeRow
    source: VideoInfo
    rung: Rung
    folder: Path

    @property
    def cost(self) -> float:
        """Weight of the work, for the ETA: pixels of source and encode, by codec."""
        width, height = self.rung.size_for(self.source.display_size)
        pixels = width * height * COST[self.rung.codec] + 0.2 * self.source.width_px**2
        return pixels * max(self.source.duration_s, 0.1)


@dataclass(frozen=True)
class LadderPlan:
    """What is to do (`jobs`), what was done before (`done`), what cannot be done (`failed`)."""

    jobs: tuple[EncodeJob, ...]
    done: tuple[EncodeRow, ...]
    failed: tuple[EncodeRow, ...]


def encodes_table(folder: Path) -> Table[EncodeRow]:
    """The table this stage writes."""
    return Table(folder / "encodes.csv", EncodeRow)


def plan_ladder(sources: Iterable[Path], ladder: Sequence[Rung], folder: Path) -> LadderPlan:
    """Compare what is asked for with what `folder` holds; nothing is written."""
    known = {row.key: row for row in encodes_table(folder).rows()}
    names = {row.source: row.source_path for row in known.values()}
    jobs: list[EncodeJob] = []
    done: list[EncodeRow] = []
    failed: list[EncodeRow] = []
    for path in sources:
        name = _source_name(path, names)
        try:
            info = probe(path)
            _refuse_unsupported(info)
            rungs = _rungs_for(info, ladder)
        except LadderError as error:
            failed.append(_source_failure(name, path, error))
            continue
        for rung in rungs:
            job = EncodeJob(_planned_row(name, info, rung), info, rung, folder)
            before = known.get(job.row.key)
            if before and _is_done(before, folder):
                done.append(before)
            else:
                jobs.append(job)
    return LadderPlan(tuple(jobs), tuple(done), tuple(failed))


def make_encodes(
    plan: LadderPlan,
    folder: Path,
    ffmpeg: Ffmpeg,
    *,
    jobs: int | None = None,
    on_progress: OnProgress = lambda key, share: None,
) -> Iterator[EncodeRow]:
    """Make every encode of `plan` and yield its row when it stands in `encodes.csv`.

    An encode that fails becomes a row with the reason.

    Args:
        plan: from `plan_ladder` for the same folder.
        folder: work folder; the encodes lie in one folder a source.
        ffmpeg: program to run.
        jobs: encodes made at once; None: one for each core, four at most.
        on_progress: told how far each encode is.

    Raises:
        CapabilityError: an encoder is missing.
        TableError: another run works on the folder.
    """
    ffmpeg.require_encoders([job.rung.codec for job in plan.jobs])
    at_once, threads = split_cores(jobs)

    def encode(job: EncodeJob) -> EncodeRow:
        return _encode(job, ffmpeg, threads, lambda share: on_progress(job.row.key, share))

    folder.mkdir(parents=True, exist_ok=True)
    with work_lock(folder):
        table = encodes_table(folder)
        table.mend()
        remove_parts(folder)
        for row in plan.failed:
            yield table.append(row)
        for row in run_parallel(encode, plan.jobs, at_once):
            yield table.append(row)
        _settle(table, plan)


def _settle(table: Table[EncodeRow], plan: LadderPlan) -> None:
    """Sort the rows, without the failures of sources that could be read this time."""
    readable = {row.source_path for row in [*(job.row for job in plan.jobs), *plan.done]}
    rows = (row for row in table.rows() if row.encode_path or row.source_path not in readable)
    table.rewrite(sorted(rows, key=lambda row: row.key))


def transcode_args(source: VideoInfo, rung: Rung, out: Path, *, threads: int = 0) -> list[str]:
    """ffmpeg arguments for the encode of `source` at `rung`; `threads` 0 leaves it to ffmpeg."""
    width, height = rung.size_for(source.display_size)
    picture = graph.input(
        file_url(source.path), protocol_whitelist="file,crypto,data", threads=threads
    )["V:0"]  # the first stream that is no cover art
    if source.is_interlaced:
        picture = picture.filter("bwdif", mode="send_frame", deint="all")
    picture = (
        picture.filter("scale", width, height, flags="bicubic", in_range="auto", out_range="tv")
        .filter("setsar", 1)
        .filter("format", "yuv420p10le" if source.bit_depth > 8 else "yuv420p")
    )
    settings = {
        **encoder_settings(rung, source.fps),
        "fps_mode": "passthrough",  # never drop or repeat a frame: labels pair frames by index
        "threads": threads,
        "map_metadata": -1,
        "format": "mp4",
    }
    # without -xerror a broken source ends with exit code 0 and a short encode
    encode = graph.output(picture, file_url(out), **settings)
    return ["-xerror", "-y", *map(str, encode.get_args())]


def shell_commands(plan: LadderPlan, ffmpeg: Ffmpeg) -> Iterator[str]:
    """The command of each encode that is to be made, ready to paste."""
    for job in plan.jobs:
        args = transcode_args(job.source, job.rung, job.folder / job.row.encode_path)
        yield shlex.join([ffmpeg.path, *args])


def remove_parts(folder: Path) -> None:
    """Delete what an interrupted run left half written."""
    for path in folder.rglob("*.part"):
        path.unlink(missing_ok=True)


def _encode(
    job: EncodeJob, ffmpeg: Ffmpeg, threads: int, on_share: Callable[[float], None]
) -> EncodeRow:
    out = job.folder / job.row.encode_path
    part = out.with_name(out.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    duration_s = max(job.source.duration_s, 0.001)
    started = time.monotonic()
    try:
        run(
            ffmpeg,
            transcode_args(job.source, job.rung, part, threads=threads),
            on_progress=lambda seconds: on_share(min(seconds / duration_s, 1.0)),
        )
        row = _measured(job.row, part, ffmpeg)
        part.replace(out)
    except (LadderError, OSError) as error:
        part.unlink(missing_ok=True)
        return replace(job.row, status="error", error=str(error), ffmpeg_version=ffmpeg.version)
    return replace(row, encode_s=time.monotonic() - started)


def _measured(row: EncodeRow, encode: Path, ffmpeg: Ffmpeg) -> EncodeRow:
    """`row` with what the encode really is, by reading it back."""
    info = probe(encode)
    frame_count = count_frames(encode)
    duration_s = float(frame_count / info.fps)
    return replace(
        row,
        bitrate_kbps=info.size_bytes * 8 / 1000 / duration_s,
        width_px=info.width_px,
        height_px=info.height_px,
        fps=info.fps,
        frame_count=frame_count,
        duration_s=duration_s,
        size_bytes=info.size_bytes,
        ffmpeg_version=ffmpeg.version,
    )


def _rungs_for(info: VideoInfo, ladder: Sequence[Rung]) -> tuple[Rung, ...]:
    rungs = fitting(ladder, info.display_size)
    if not rungs:
        smallest = min(rung.height_px for rung in ladder)
        raise LadderError(
            f"{info.path} is {info.display_size[0]}x{info.display_size[1]}, every rung is larger "
            f"(from {smallest} px on): choose another ladder with --rungs"
        )
    return rungs


def _refuse_unsupported(info: VideoInfo) -> None:
    if info.hdr:
        raise LadderError(
            f"{info.path} is HDR ({info.hdr}): an 8-bit SDR rung of it would have wrong colours; "
            "tone-map it to SDR first"
        )


def _planned_row(name: str, info: VideoInfo, rung: Rung) -> EncodeRow:
    width, height = info.display_size
    return EncodeRow(
        source=name,
        source_path=str(info.path.resolve()),
        encode_path=f"{name}/{rung.name}.mp4",
        rung=rung.name,
        codec=rung.codec,
        rate_mode=rung.rate_mode,
        target_kbps=rung.bitrate_kbps,
        crf=rung.crf,
        display_width_px=width,
        display_height_px=height,
        fps=Fraction(info.fps),
    )


def _source_failure(name: str, path: Path, error: LadderError) -> EncodeRow:
    return EncodeRow(
        source=name,
        source_path=str(path.resolve()),
        encode_path="",
        rung="",
        codec="",
        rate_mode="",
        status="error",
        error=str(error),
    )


def _source_name(path: Path, names: dict[str, str]) -> str:
    """The file's stem; with a mark of its path behind it if another source has that stem.

    It becomes a folder beside the stages' own files, so it must not hide, climb, or look like one.
    """
    full = str(path.resolve())
    name = path.stem.lstrip(".") or "source"
    if name.lower().endswith((".csv", ".part")):
        name += "_"
    if names.get(name, full) != full:
        mark = hashlib.blake2b(os.fsencode(full), digest_size=3).hexdigest()
        name = f"{name}-{mark}"
    names[name] = full
    return name


def _is_done(row: EncodeRow, folder: Path) -> bool:
    encode = folder / row.encode_path
    return row.status == "ok" and encode.is_file() and encode.stat().st_size == row.size_bytes
