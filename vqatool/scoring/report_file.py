"""Reports that survive a `kill -9`: rows are appended as they come, and sorted at the end."""

import contextlib
import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from ladder.errors import LockedError, OutputError, RemoteError, TableError
from ladder.media.remote import RemotePath, is_url, upload
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
from vqatool.scoring.segments import SKIMMED, ScoreConfig
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
        return list({row.key: row for row in self.records()}.values())

    def records(self) -> list[R]:
        """The same, with all rows of one key, in the order in which they were written."""
        table = self._table
        with _report_errors(self.path):
            _require_ours(table)
            try:
                rows = table.records()
            except (TableError, csv.Error) as error:
                raise ReportError(formats.not_ours(table.path)) from error
            if not self._appends:
                rows = [*formats.each_row(self._row_type, self.path), *rows]
        return rows

    def require_ours(self) -> None:
        """Raise ReportError if the file holds something else, by its first row."""
        with _report_errors(self.path):
            next(formats.each_row(self._row_type, self.path), None)

    def begin(self, rows: Iterable[R]) -> None:
        """Keep `rows` of those that earlier runs left; a remote file is written to at once."""
        kept = list(rows)
        self.keep(kept)
        with _report_errors(self.path):
            if isinstance(self.path, RemotePath):
                self._upload(kept, self.path)

    def keep(self, rows: Iterable[R]) -> None:
        """Replace what is here of the rows so far by `rows`, in one step."""
        with _report_errors(self.path):
            self._local.parent.mkdir(parents=True, exist_ok=True)
            self._table.rewrite(rows)

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


class Resumed(NamedTuple):
    """What a run finds in its report.

    Attributes:
        num_kept: rows that stay as they are.
        again: why rows of the given files are made anew, in words, and how many for each reason;
            each stays until its new row is there.
        dropped: paths of other files, whose rows go at the end.
    """

    num_kept: int
    again: Mapping[str, int]
    dropped: Sequence[str]


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
    on_start: Callable[[Resumed], None] = lambda resumed: None,
    on_segments: OnSegments = lambda segments: None,
) -> Iterator[ReportRow]:
    """Score the videos that the report does not hold yet; yield every row, kept rows first.

    A row is kept if file, model, display, segments and tone mapping are the same, also where the
    file had another path then, such as a relative one; failed videos are tried again. Until the end
    the report has all rows of earlier runs but those that were replaced. At the end it holds one
    row for each of `videos`, in their order, and, if asked for, before them the rows of other
    files.

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
        on_start: called before the first video is scored.
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
        known, others = _divided(writer.known(), videos)
        reasons = {
            name: "--force" if is_forced else _why_again(known[name], path, predictor, config)
            for path in videos
            if (name := str(path)) in known
        }
        kept = {path: rows for path, rows in known.items() if not reasons[path]}
        again = Counter(filter(None, reasons.values()))
        on_start(Resumed(len(kept), again, () if keeps_others else list(others)))
        yield from (rows.video for rows in kept.values())
        writer.begin({**others, **known})
        before_run = frozenset(kept)
        missing = (path for path in videos if str(path) not in before_run)
        with writer.interruptible():
            for result in scoring(missing, predictor, config):
                row = report_row(result, model=predictor.name, display=config.screen)
                segments = tuple(segment_rows(result))
                kept[row.path] = writer.append(_Rows(row, segments))
                on_segments(segments)
                yield kept[row.path].video
        before = list(others.values()) if keeps_others else []
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
    return list({row.key: row for row in _read(path, ReportRow)}.values())


def read_segments(path: Path) -> list[SegmentRow]:
    """The rows of a file of segments, of any format; of a video of several runs, the last one's.

    Raises:
        ReportError: it holds something else.
    """
    by_path: dict[str, list[SegmentRow]] = {}
    for segment in _read(path, SegmentRow):
        by_path.setdefault(segment.path, []).append(segment)
    return [segment for own in by_path.values() for segment in list(_runs(own))[-1]]


def _read(path: Path, row_type: type[R]) -> list[R]:
    """Rows of a file that is not written to: a program may have put other quotes around cells."""
    if not formats.is_csv(path):
        return ReportFile(path, row_type).records()
    formats.require_writable(path)
    try:
        return Table(path, row_type).records()
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
    segments: tuple[SegmentRow, ...] | None = None  # None: they are not asked for

    def at(self, path: str) -> "_Rows":
        """The same rows of a file that has another path now."""
        if path == self.video.path:
            return self
        segments = self.segments and tuple(replace(each, path=path) for each in self.segments)
        return _Rows(replace(self.video, path=path), segments)


class _ReportWriter:
    """The files of a report: one with a row for each video, and one for segments if asked for."""

    def __init__(self, out: Path, per_segment: Path | None, shard: Shard | None) -> None:
        self._shard = str(shard or "")
        self._unfinished = self._shard and self._shard + UNFINISHED
        self._rows = ReportFile(out, ReportRow)
        self._segments = ReportFile(per_segment, SegmentRow) if per_segment else None
        self._written: dict[str, _Rows] = {}  # what the files hold until the end, by path
        self._has_replaced = False

    def known(self) -> dict[str, _Rows]:
        """The rows that earlier runs left, by path."""
        segments: dict[str, list[SegmentRow]] = {}
        for segment in self._segments.records() if self._segments else ():
            segments.setdefault(segment.path, []).append(segment)
        # an older version's report has no verdicts
        rows = {row.path: with_verdict(row) for row in self._rows.known()}
        if not self._segments:
            return {path: _Rows(row) for path, row in rows.items()}
        return {
            path: _Rows(row, _segments_of(row, segments.get(path, ())))
            for path, row in rows.items()
        }

    def begin(self, known: Mapping[str, _Rows]) -> None:
        """Keep these of the rows that earlier runs left, by path."""
        self._written = dict(known)
        if self._segments:
            self._segments.begin(self._segment_rows())
        self._rows.begin(self._video_rows())

    def append(self, rows: _Rows) -> _Rows:
        """Write the rows of one video; its own row is last, so it vouches for the segments."""
        self._has_replaced |= rows.video.path in self._written
        segments = (
            tuple(map(self._segments.append, rows.segments or ())) if self._segments else None
        )
        video = self._rows.append(replace(rows.video, shard=self._unfinished))
        self._written[video.path] = _Rows(video, segments)
        return self._written[video.path]

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Leaves no two rows of one video where the block ends with an error, such as Ctrl-C."""
        try:
            yield
        except BaseException:
            if self._has_replaced:
                with contextlib.suppress(ReportError):  # a full disk is no reason to lose the error
                    if self._segments:
                        self._segments.keep(self._segment_rows())
                    self._rows.keep(self._video_rows())
            raise

    def end(self, every: Sequence[_Rows]) -> None:
        """Leave the files with these rows, in their order."""
        if self._segments:
            self._segments.end(segment for each in every for segment in each.segments or ())
        self._rows.end(replace(each.video, shard=self._shard) for each in every)

    def _segment_rows(self) -> Iterator[SegmentRow]:
        return (segment for each in self._written.values() for segment in each.segments or ())

    def _video_rows(self) -> Iterator[ReportRow]:
        return (replace(each.video, shard=self._unfinished) for each in self._written.values())


_ROUNDED = 2e-4
"""Twice what the mean of rounded scores is off from the rounded mean, at most."""


def _segments_of(row: ReportRow, segments: Sequence[SegmentRow]) -> tuple[SegmentRow, ...]:
    """The segments that a row was made of, among those of several runs; empty: they are not here.

    A run that was killed may have left segments without their row, and one without
    `--per-segment` a row without its segments.
    """
    for run in reversed(list(_runs(segments))):
        scores = [segment.score for segment in run]
        if _is_near(row.score, sum(scores) / len(scores)) and _is_near(row.score_min, min(scores)):
            return run
    return ()


def _is_near(value: float | None, other: float) -> bool:
    return value is not None and abs(value - other) <= _ROUNDED


def _runs(segments: Iterable[SegmentRow]) -> Iterator[tuple[SegmentRow, ...]]:
    """The segments of one video, divided where a run began with it anew."""
    run: list[SegmentRow] = []
    for segment in segments:
        if run and segment.start_s <= run[-1].start_s:
            yield tuple(run)
            run = []
        run.append(segment)
    if run:
        yield tuple(run)


def _divided(
    known: dict[str, _Rows], videos: Sequence[Path]
) -> tuple[dict[str, _Rows], dict[str, _Rows]]:
    """The rows of `videos`, with the paths that they have now, and those of other files."""
    given = {str(path) for path in videos if known}
    others = {path: rows for path, rows in known.items() if path not in given}
    by_stamp: dict[tuple[object, ...], list[str]] = {}
    for name, other in others.items():
        by_stamp.setdefault((other.video.size_bytes, other.video.modified), []).append(name)
    by_place = {place: name for name in others if (place := _place_here(name))}
    own: dict[str, _Rows] = {}
    renamed: set[str] = set()
    for path in videos:
        name = str(path)
        before = ""
        if others and not isinstance(path, RemotePath):
            candidates = by_stamp.get(_stamp(path) or (), ())
            gone = next((each for each in candidates if _was_below(each, path)), "")
            before = by_place.get(os.path.realpath(path), gone)
            renamed.add(before)
        if rows := known.get(name) or known.get(before):
            own[name] = rows.at(name)
    return own, {path: rows for path, rows in others.items() if path not in renamed}


def _place_here(name: str) -> str:
    """The real path of what a row names; empty: nothing on this machine."""
    return os.path.realpath(name) if not is_url(name) and os.path.lexists(name) else ""


def _was_below(before: str, now: Path) -> bool:
    """Whether a path that names nothing here may be that of a file from another folder."""
    is_gone = not is_url(before) and not os.path.lexists(before)
    return is_gone and os.path.realpath(now).endswith(f"{os.sep}{os.path.normpath(before)}")


def _stamp(path: Path) -> FileStamp | None:
    """The stamp of a file; None where its row will say why there is none."""
    try:
        return FileStamp.of(path)
    except (RemoteError, OSError):
        return None


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


def _why_again(rows: _Rows, path: Path, predictor: Predictor, config: ScoreConfig) -> str:
    """Why scoring the file again would give other rows, in words; empty: it would not."""
    row = rows.video
    if row.status != "ok":
        return "failed before"
    if row.model != predictor.name:
        return f"model {row.model}, now {predictor.name}"
    if row.display != config.screen:
        return f"--display {row.display}, now {config.screen}"
    if row.hdr and not (config.tonemap and WarningCode.TONEMAPPED in row.warnings.split(";")):
        return "HDR without --tonemap"  # version 0.1 scored HDR as it is
    if reason := _other_segments(rows, predictor, config):
        return reason
    return "" if _stamp(path) == (row.size_bytes, row.modified) else "changed files"


def _other_segments(rows: _Rows, predictor: Predictor, config: ScoreConfig) -> str:
    """The same of the segments: as many frames of the same file are the same segments."""
    length_s = rows.video.duration_s or 0.0
    num_segments = len(config.scored_segments(length_s))
    known = rows.video.segments
    if known is None:  # a report from before that column, which counted so many frames for each
        known = (rows.video.frames_scored or 0) // predictor.card.clip_frames
    sampled = rows.video.sampled
    if sampled == SKIMMED and config.skims_through(length_s):
        sampled = ""  # whether a video can be skimmed is not known before it is read
    if (sampled, known) != (config.sampled(length_s), num_segments):
        return "another --segment, --sample or --skim"
    if rows.segments is not None and len(rows.segments) != num_segments:
        return "without segments in the file of --per-segment"
    return ""
