"""The CSV files between the stages: rows are appended as they are done and read back by type.

A row is a frozen dataclass, its fields are the columns. Empty cells are None. A line torn by a
power cut or a `kill -9` is dropped when the table is opened for writing.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ladder.codecs import CODECS, X264
from ladder.encode.ladders import Ladder, fitting
from ladder.encode.rungs import Rung
from ladder.errors import LadderError
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import FULL, TimeRange, TrimSpec, format_time_ranges
from ladder.storage import Table


@dataclass(frozen=True, kw_only=True)
class EncodeRow:
    """One source at one rung, a row of `encodes.csv`; `encode_path` is relative to its folder."""

    source: str
    source_path: str
    encode_path: str
    rung: str
    codec: str
    rate_mode: str
    target_kbps: int | None = None
    bitrate_kbps: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    display_width_px: int | None = None
    display_height_px: int | None = None
    fps: Fraction | None = None
    frame_count: int | None = None
    duration_s: float | None = None
    size_bytes: int | None = None
    ffmpeg_version: str = ""
    encode_s: float | None = None
    status: str = "ok"
    error: str = ""
    crf: int | None = None
    pieces: str = ""

    @property
    def key(self) -> str:
        """The encode's path inside the work folder; a source that gave none stands by its own."""
        return self.encode_path or self.source_path


@dataclass(frozen=True)
class Source:
    """A source that can be encoded: the name of its folder, its facts, what is taken of it."""

    name: str
    info: VideoInfo
    time_ranges: tuple[TimeRange, ...]


@dataclass(frozen=True)
class EncodeJob:
    """One encode to be made; `folder` is the work folder."""

    row: EncodeRow
    source: Source
    rung: Rung
    folder: Path

    @property
    def cost(self) -> float:
        """Weight of the work, for the ETA: the encode's pixels, passes and generations included."""
        width, height = self.rung.size_for(self.source.info.display_size)
        passes = 2 if self.rung.two_pass else 1
        own_width, own_height = self.source.info.display_size
        again = own_width * own_height * X264.encode_cost if self.rung.reencode_crf else 0.0
        taken_s = sum(time_range.length_s for time_range in self.source.time_ranges)
        seconds = max(taken_s or self.source.info.duration_s, 0.1)
        return (width * height * CODECS[self.rung.codec].encode_cost * passes + again) * seconds

    @property
    def out(self) -> Path:
        """Where the encode will be."""
        return self.folder / self.row.encode_path

    @property
    def part(self) -> Path:
        """Where it is until it is known to be good."""
        return self.out.with_name(self.out.name + ".part")


@dataclass(frozen=True)
class LadderPlan:
    """What is to do (`jobs`), what was done before (`done`), what cannot be done (`failed`)."""

    jobs: tuple[EncodeJob, ...]
    done: tuple[EncodeRow, ...]
    failed: tuple[EncodeRow, ...] = ()


def encodes_table(folder: Path) -> Table[EncodeRow]:
    """The table this stage writes."""
    return Table(folder / "encodes.csv", EncodeRow)


def plan_ladder(
    sources: Iterable[Path], ladder: Ladder, folder: Path, trim: TrimSpec = FULL
) -> LadderPlan:
    """Compare what is asked for with what `folder` holds; nothing is written.

    Every rung of `ladder` that fits is planned, whatever its `points`: those choose while they
    encode, in `ladder.spread`.
    """
    found, failed = read_sources(sources, ladder, folder, trim)
    wanted = [(source, fitting(ladder, source.info.display_size)) for source in found]
    return replace(plan_encodes(wanted, folder), failed=tuple(failed))


def read_sources(
    paths: Iterable[Path], ladder: Ladder, folder: Path, trim: TrimSpec
) -> tuple[list[Source], list[EncodeRow]]:
    """The sources that can be encoded, and a row with the reason for each of the others."""
    names = {row.source: row.source_path for row in encodes_table(folder).rows()}
    found: list[Source] = []
    failed: list[EncodeRow] = []
    for path in paths:
        name = _source_name(path, names)
        try:
            info = probe(path)
            _refuse_too_small(info, ladder)
            found.append(Source(name, info, trim.ranges_of(info)))
        except LadderError as error:
            failed.append(_source_failure(name, path, error))
    return found, failed


def plan_encodes(wanted: Iterable[tuple[Source, Sequence[Rung]]], folder: Path) -> LadderPlan:
    """Which of the encodes that are wanted are not there yet."""
    known = {row.key: row for row in encodes_table(folder).rows()}
    jobs: list[EncodeJob] = []
    done: list[EncodeRow] = []
    for source, rungs in wanted:
        for rung in rungs:
            job = EncodeJob(_planned_row(source, rung), source, rung, folder)
            before = known.get(job.row.key)
            if before and _is_done(before, job):
                done.append(before)
            else:
                jobs.append(job)
    return LadderPlan(tuple(jobs), tuple(done))


def _refuse_too_small(info: VideoInfo, ladder: Ladder) -> None:
    if not fitting(ladder, info.display_size):
        smallest = min(rung.height_px for rung in ladder.rungs)
        raise LadderError(
            f"{info.path} is {info.display_size[0]}x{info.display_size[1]}, every rung is larger "
            f"(from {smallest} px on): choose another ladder with --rungs"
        )


def _planned_row(source: Source, rung: Rung) -> EncodeRow:
    width, height = source.info.display_size
    return EncodeRow(
        source=source.name,
        source_path=str(source.info.path.resolve()),
        encode_path=f"{source.name}/{rung.name}.mp4",
        rung=rung.name,
        codec=rung.codec,
        rate_mode=rung.rate_mode,
        target_kbps=rung.bitrate_kbps,
        crf=rung.crf,
        display_width_px=width,
        display_height_px=height,
        fps=Fraction(source.info.fps),
        pieces=format_time_ranges(source.time_ranges),
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
        digest = hashlib.blake2b(os.fsencode(full), digest_size=3).hexdigest()
        name = f"{name}-{digest}"
    names[name] = full
    return name


def _is_done(row: EncodeRow, job: EncodeJob) -> bool:
    if row.status != "ok" or row.pieces != job.row.pieces:
        return False
    return job.out.is_file() and job.out.stat().st_size == row.size_bytes
