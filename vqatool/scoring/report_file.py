"""Reports that survive a `kill -9`: rows are appended as they come, and sorted at the end."""

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from ladder.errors import LockedError, OutputError, RemoteError, TableError
from ladder.media.remote import RemotePath, upload
from ladder.storage import Row, Table, digest, locked
from vqatool.errors import ReportError
from vqatool.files import cache_folder
from vqatool.inference.predictor import Predictor
from vqatool.scoring import formats
from vqatool.scoring.rows import (
    FileStamp,
    ReportRow,
    SegmentRow,
    as_stored,
    report_row,
    segment_rows,
    with_verdict,
)
from vqatool.scoring.run import Scoring, score_videos
from vqatool.scoring.segments import ScoreConfig
from vqatool.scoring.shards import UNFINISHED, Shard
from vqatool.scoring.warning_codes import WarningCode

R = TypeVar("R", bound=Row)


class ReportFile(Generic[R]):
    """A file of rows of one type, in any format, that survives a run killed while writing.

    A CSV is appended to. For the other formats, rows are appended to a hidden CSV beside the file,
    which replaces it at the end; for a remote one, to a CSV in the cache. All methods raise
    ReportError where the file cannot be written.
    """

    def __init__(self, path: Path, row_type: type[R]) -> None:
        self.path = path
        self._local, self._row_type = local_file_of(path), row_type
        self._appends = formats.is_csv(path) and self._local == path
        is_table = self._local if self._appends else self._local.with_name(f".{path.name}.rows.csv")
        self._table = Table(is_table, row_type)
        self._uploaded = ""
        formats.require_writable(path)

    def known(self) -> list[R]:
        """The rows that earlier runs left, the later of two with one key.

        Raises:
            ReportError: the file holds something else, and is left as it is.
        """
        table = self._table
        with _report_errors(self.path):
            _require_ours(table)
            try:
                rows = table.rows()
            except (TableError, csv.Error) as error:
                raise ReportError(formats.not_ours(table.path)) from error
            if not self._appends:
                rows = [*formats.each_row(self._row_type, self.path), *rows]
        return list({row.key: row for row in rows}.values())

    def require_ours(self) -> None:
        """Raise ReportError if the file holds something else, by its first row."""
        with _report_errors(self.path):
            next(formats.each_row(self._row_type, self.path), None)

    def begin(self, rows: Iterable[R]) -> None:
        """Keep `rows` of those that earlier runs left; a remote file is written to at once."""
        with _report_errors(self.path):
            self._local.parent.mkdir(parents=True, exist_ok=True)
            kept = list(rows)
            self._table.rewrite(kept)
            if isinstance(self.path, RemotePath):
                self._upload(kept, self.path)

    def append(self, row: R) -> R:
        """Write one row so that it survives a crash; returns the row as it will be read."""
        with _report_errors(self.path):
            return self._table.append(row)

    def end(self, rows: Iterable[R]) -> None:
        """Leave the file with `rows`, in their order."""
        with _report_errors(self.path):
            if isinstance(self.path, RemotePath):
                self._upload(rows, self.path)
            else:
                formats.write_rows(rows, self._row_type, self._local)
            if not self._appends:
                self._table.path.unlink(missing_ok=True)

    def _upload(self, rows: Iterable[R], to: RemotePath) -> None:
        if self._uploaded and self._uploaded != _etag(to):
            raise ReportError(
                f"{to} was written by another run meanwhile: run the same command again, which "
                "joins the rows of both"
            )
        before = set(formats.files_of(to)) if _etag(to) else set()
        formats.write_rows(rows, self._row_type, self._local)
        files = {to.beside(file.name): file for file in formats.files_of(self._local)}
        for path, file in files.items():
            upload(file, path)
        for gone in before - set(files):
            gone.unlink()
        for file in files.values():
            file.unlink()
        self._uploaded = _etag(to)


def _etag(path: RemotePath) -> str:
    """The entity tag of an object as it is now; empty if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return RemotePath.of(path.address).facts().etag
    return ""


def local_file_of(path: Path) -> Path:
    """Where the rows of a report are kept while it is written: of a remote one, in the cache."""
    if not isinstance(path, RemotePath):
        return path
    return cache_folder() / "reports" / digest(str(path)) / path.name


OnSegments = Callable[[Iterable[SegmentRow]], None]


def write_report(
    videos: Sequence[Path],
    out: Path,
    predictor: Predictor,
    config: ScoreConfig,
    *,
    per_segment: Path | None = None,
    shard: Shard | None = None,
    is_forced: bool = False,
    keeps_others: bool = False,
    scoring: Scoring = score_videos,
    on_start: Callable[[int, Sequence[str]], None] | None = None,
    on_segments: OnSegments = lambda segments: None,
) -> Iterator[ReportRow]:
    """Score the videos that the report does not hold yet; yield every row, kept rows first.

    A row is kept if file, model, display, segments and tone mapping are the same; failed videos are
    tried again. At the end the report holds one row for each of `videos`, in their order, and, if
    asked for, before them the rows of other files.

    Args:
        videos: the files to score.
        out: the report.
        predictor: the model.
        config: how to score.
        per_segment: a second file, with one row for each segment.
        shard: the share of the files that `videos` are; None: all.
        is_forced: keep no row of `videos`.
        keeps_others: keep the rows of files that are not among `videos`.
        scoring: what scores the videos.
        on_start: called before the first video is scored, with the number of rows that are kept,
            and with the paths of other files whose rows are dropped.
        on_segments: receives the segments of each video that is scored, before its row.

    Raises:
        ReportError: the report holds something else, cannot be written, or another run writes it.
        CapabilityError: the library for its format is not installed.
    """
    in_use = f"{out} is being written by another run: wait for its end, or name another file"
    with contextlib.ExitStack() as held:
        with _report_errors(out):
            lock = local_file_of(out).with_name(f".{out.name}.lock")
            held.enter_context(locked(lock, in_use, out))
        writer = _ReportWriter(out, per_segment, shard)
        known = writer.known()
        kept = {
            str(path): rows
            for path in videos
            if not is_forced
            and (rows := known.get(str(path)))
            and _is_current(rows, path, predictor, config, needs_segments=bool(per_segment))
        }
        given = set(map(str, videos)) if known else set()
        others = {path: rows for path, rows in known.items() if path not in given}
        if on_start:
            on_start(len(kept), () if keeps_others else list(others))
        before = list(others.values()) if keeps_others else []
        yield from (rows.video for rows in kept.values())
        writer.begin([*before, *kept.values()])
        before_run = frozenset(kept)
        missing = (path for path in videos if str(path) not in before_run)
        for result in scoring(missing, predictor, config):
            row = report_row(result, model=predictor.name, display=config.screen)
            segments = tuple(segment_rows(result))
            kept[row.path] = writer.append(_Rows(row, segments))
            on_segments(segments)
            yield kept[row.path].video
        writer.end([*before, *(kept[str(path)] for path in videos)])


def stream_rows(
    videos: Sequence[Path],
    predictor: Predictor,
    config: ScoreConfig,
    *,
    scoring: Scoring = score_videos,
    on_segments: OnSegments = lambda segments: None,
) -> Iterator[ReportRow]:
    """The row of each video, as `scoring` scores them, as a report would hold it, without one.

    `on_segments` receives the segments of each video before its row.
    """
    for result in scoring(videos, predictor, config):
        on_segments(segment_rows(result))
        yield as_stored(report_row(result, model=predictor.name, display=config.screen))


def read_report(path: Path) -> list[ReportRow]:
    """The rows of a finished report of any format.

    Raises:
        ReportError: it holds something else.
    """
    return _read(path, ReportRow)


def read_segments(path: Path) -> list[SegmentRow]:
    """The rows of a finished file of segments, of any format.

    Raises:
        ReportError: it holds something else.
    """
    return _read(path, SegmentRow)


def _read(path: Path, row_type: type[R]) -> list[R]:
    """Rows of a file that is not written to: a program may have put other quotes around cells."""
    if not formats.is_csv(path):
        return ReportFile(path, row_type).known()
    formats.require_writable(path)
    try:
        return Table(path, row_type).rows()
    except (TableError, csv.Error) as error:
        told = str(error) if isinstance(error, TableError) else f"{path} is not a CSV: {error}"
        made_by = "score --per-segment" if row_type is SegmentRow else "score"
        raise ReportError(f"{told}: name a file of `vqatool {made_by}`") from error


def segments_by_path(paths: Iterable[Path]) -> dict[str, list[SegmentRow]]:
    """The rows of finished files of segments, by video.

    Raises:
        ReportError: one of them holds something else.
    """
    found: dict[str, list[SegmentRow]] = {}
    for path in paths:
        for segment in read_segments(path):
            found.setdefault(segment.path, []).append(segment)
    return found


def write_whole(rows: Iterable[ReportRow], path: Path) -> None:
    """Leave a report of these rows in any format; a file that holds something else is left alone.

    Raises:
        ReportError: there is such a file.
    """
    file = ReportFile(path, ReportRow)
    file.require_ours()
    file.end(rows)


class _Rows(NamedTuple):
    """The rows of one video."""

    video: ReportRow
    segments: tuple[SegmentRow, ...] = ()


class _ReportWriter:
    """The files of a report: one with a row for each video, and one for segments if asked for."""

    def __init__(self, out: Path, per_segment: Path | None, shard: Shard | None) -> None:
        self._shard = str(shard or "")
        self._unfinished = self._shard and self._shard + UNFINISHED
        self._rows = ReportFile(out, ReportRow)
        self._segments = ReportFile(per_segment, SegmentRow) if per_segment else None

    def known(self) -> dict[str, _Rows]:
        """The rows that earlier runs left, by path."""
        segments: dict[str, list[SegmentRow]] = {}
        for segment in self._segments.known() if self._segments else ():
            segments.setdefault(segment.path, []).append(segment)
        return {
            # an older version's report has no verdicts
            row.path: _Rows(with_verdict(row), tuple(segments.get(row.path, ())))
            for row in self._rows.known()
        }

    def begin(self, kept: Iterable[_Rows]) -> None:
        """Keep these of the rows that earlier runs left."""
        rows = list(kept)
        if self._segments:
            self._segments.begin(segment for each in rows for segment in each.segments)
        self._rows.begin(replace(each.video, shard=self._unfinished) for each in rows)

    def append(self, rows: _Rows) -> _Rows:
        """Write the rows of one video; its own row is last, so it vouches for the segments."""
        segments = tuple(map(self._segments.append, rows.segments)) if self._segments else ()
        return _Rows(self._rows.append(replace(rows.video, shard=self._unfinished)), segments)

    def end(self, every: Sequence[_Rows]) -> None:
        """Leave the files with these rows, in their order."""
        if self._segments:
            self._segments.end(segment for each in every for segment in each.segments)
        self._rows.end(replace(each.video, shard=self._shard) for each in every)


def _require_ours(table: Table[R]) -> None:
    if not table.path.exists():
        return
    columns = ",".join(table.columns)
    with table.path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        first = file.readline(2 * len(columns)).rstrip("\r\n")
    if first and not columns.startswith(first):
        raise ReportError(formats.not_ours(table.path))


@contextlib.contextmanager
def _report_errors(path: Path) -> Iterator[None]:
    """Turn errors of the lock and of the system into errors that name the report."""
    try:
        yield
    except LockedError as error:
        raise ReportError(str(error)) from error
    except OutputError as error:
        cause = error.__cause__
        named = OutputError.of(path, cause) if isinstance(cause, OSError) else error
        raise ReportError(str(named)) from error
    except OSError as error:
        raise ReportError(str(OutputError.of(path, error))) from error


def _is_current(
    rows: _Rows, path: Path, predictor: Predictor, config: ScoreConfig, *, needs_segments: bool
) -> bool:
    """Whether scoring the file again would give the same rows."""
    row = rows.video
    if row.status != "ok" or row.model != predictor.name or row.display != config.screen:
        return False
    if row.hdr and not (config.tonemap and WarningCode.TONEMAPPED in row.warnings.split(";")):
        return False  # version 0.1 scored HDR as it is
    # as many frames of the same file are the same segments
    num_segments = len(config.scored_segments(row.duration_s or 0.0))
    if row.sampled != config.sampled(row.duration_s or 0.0):
        return False
    if row.frames_scored != predictor.card.clip_frames * num_segments:
        return False
    if needs_segments and len(rows.segments) != num_segments:
        return False
    try:
        stamp = FileStamp.of(path)
    except (RemoteError, OSError):
        return False  # its row will say why
    return (row.size_bytes, row.modified) == stamp
