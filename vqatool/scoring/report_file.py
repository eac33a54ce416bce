"""Reports that survive a `kill -9`: rows are kept as they come, and put in order at the end."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from filelock import FileLock, Timeout

from ladder.errors import TableError
from ladder.storage import Row, Table
from vqatool.errors import ReportError
from vqatool.scoring import formats
from vqatool.scoring.rows import ReportRow, ScoreResult, SegmentRow
from vqatool.scoring.run import ScoreConfig, score_videos
from vqatool.scoring.segments import ScoreOptions, format_mtime
from vqatool.scoring.shards import UNFINISHED, Shard

R = TypeVar("R", bound=Row)


class ReportFile(Generic[R]):
    """A file of rows of one type, in any format, that a run can be killed while it writes.

    CSV is appended to. For the other formats rows are appended to a hidden CSV beside the file,
    which takes its place at the end.
    """

    def __init__(self, path: Path, row_type: type[R]) -> None:
        self.path = path
        self._is_csv = formats.is_csv(path)
        rows = path if self._is_csv else path.with_name(f".{path.name}.rows.csv")
        self._table = Table(rows, row_type)
        formats.require_writable(path)

    def known(self) -> list[R]:
        """What earlier runs left, the later of two with one key.

        Raises:
            ReportError: the file holds something else, and is left as it is.
        """
        table = self._table
        _require_ours(table)
        try:
            table.repair()
            rows = table.rows()
        except TableError as error:
            raise ReportError(formats.not_ours(table.path)) from error
        if not self._is_csv:
            rows = formats.read_rows(table, self.path) + rows
        return list({row.key: row for row in rows}.values())

    def begin(self, rows: Iterable[R]) -> None:
        """Keep `rows` of those that earlier runs left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._table.rewrite(rows)

    def append(self, row: R) -> R:
        """Write one row so that it survives from here on; returns it as it will be read."""
        return self._table.append(row)

    def end(self, rows: Iterable[R]) -> None:
        """Leave the file with `rows`, in their order."""
        if self._is_csv:
            self._table.rewrite(rows)
        else:
            formats.write_rows(rows, self.path)
            self._table.path.unlink()


@dataclass(frozen=True)
class Report:
    """Where rows go: the report, a file of segments if one was asked for, and whose share it is."""

    out: Path
    per_segment: Path | None = None
    shard: Shard | None = None


def write_report(
    videos: Sequence[Path], report: Report, config: ScoreConfig, *, is_forced: bool = False
) -> Iterator[ReportRow]:
    """Score what the report does not hold yet and yield every row, kept ones first.

    Rows are kept if file, model, display and segments are the same; failed ones are tried again.
    At the end the report holds one row for each of `videos`, in their order.

    Raises:
        ReportError: the report holds something else, or another run writes it.
        CapabilityError: what writes its format is not installed.
    """
    with _lock(report.out):
        files = _Files(report)
        known = files.known()
        kept = {
            str(path): scored
            for path in videos
            if not is_forced
            and (scored := known.get(str(path)))
            and _is_current(scored, path, config)
            and (not report.per_segment or _has_segments(scored, config.options))
        }
        yield from (scored.row for scored in kept.values())
        files.begin(kept.values())
        for scored in score_videos([path for path in videos if str(path) not in kept], config):
            kept[scored.row.path] = files.append(scored)
            yield kept[scored.row.path].row
        files.end([kept[str(path)] for path in videos])


def read_report(path: Path) -> list[ReportRow]:
    """The rows of a finished report of any format.

    Raises:
        ReportError: it holds something else.
    """
    return ReportFile(path, ReportRow).known()


def write_whole(rows: Iterable[ReportRow], path: Path) -> None:
    """Leave a report of these rows in any format; a file that holds something else is left alone.

    Raises:
        ReportError: there is such a file.
    """
    file = ReportFile(path, ReportRow)
    file.known()
    file.begin(())
    file.end(rows)


class _Files:
    """The files of a report, as one."""

    def __init__(self, report: Report) -> None:
        self._shard = str(report.shard or "")
        self._unfinished = self._shard and self._shard + UNFINISHED
        self._rows = ReportFile(report.out, ReportRow)
        self._segments = ReportFile(report.per_segment, SegmentRow) if report.per_segment else None

    def known(self) -> dict[str, ScoreResult]:
        """What earlier runs left, by path."""
        segments: dict[str, list[SegmentRow]] = {}
        for segment in self._segments.known() if self._segments else ():
            segments.setdefault(segment.path, []).append(segment)
        return {
            row.path: ScoreResult(row, tuple(segments.get(row.path, ())))
            for row in self._rows.known()
        }

    def begin(self, kept: Iterable[ScoreResult]) -> None:
        """Keep these of those that earlier runs left."""
        rows = list(kept)
        if self._segments:
            self._segments.begin(segment for scored in rows for segment in scored.segments)
        self._rows.begin(replace(scored.row, shard=self._unfinished) for scored in rows)

    def append(self, scored: ScoreResult) -> ScoreResult:
        """Write what is known of one input, its segments first: a row says that all is there."""
        row = replace(scored.row, shard=self._unfinished)
        message = self._segments.append if self._segments else None
        segments = tuple(map(message, scored.segments)) if message else ()
        return ScoreResult(self._rows.append(row), segments)

    def end(self, every: Sequence[ScoreResult]) -> None:
        """Leave the files with these, in their order."""
        if self._segments:
            self._segments.end(segment for scored in every for segment in scored.segments)
        self._rows.end(replace(scored.row, shard=self._shard) for scored in every)


def _require_ours(table: Table[R]) -> None:
    if not table.path.exists():
        return
    columns = ",".join(table.columns)
    with table.path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        first = file.readline(2 * len(columns)).rstrip("\r\n")
    if first and not columns.startswith(first):
        raise ReportError(formats.not_ours(table.path))


def _lock(out: Path) -> FileLock:
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ReportError(
            f"{out} is being written by another run: wait for its end, or name another file"
        ) from error
    return lock


def _is_current(scored: ScoreResult, path: Path, config: ScoreConfig) -> bool:
    row, model = scored.row, config.predictor
    if row.status != "ok" or row.model != model.name or row.display != config.options.screen:
        return False
    # as many frames, and so segments, of the same file are the same ones
    count = config.options.segment_count(row.duration_s or 0.0)
    if row.frames_scored != model.card.clip_frames * count:
        return False
    try:
        facts = path.stat()
    except OSError:
        return False
    return (row.size_bytes, row.modified) == (facts.st_size, format_mtime(facts.st_mtime))


def _has_segments(scored: ScoreResult, options: ScoreOptions) -> bool:
    return len(scored.segments) == options.segment_count(scored.row.duration_s or 0.0)
