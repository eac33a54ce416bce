"""A report as a page: verdict, counts, scores, remarks, a table of all files, and the worst ones.

The page is one file of at most 5 MB. Where it would be larger, it has fewer and smaller pictures,
and at last fewer rows, and says so.
"""

import datetime
import math
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple, Self

from ladder.storage import Status, atomic_write
from vqatool.errors import ReportError
from vqatool.reporting.advice import ERRORS, UNKNOWN, WARNINGS, Remark
from vqatool.reporting.charts import histogram
from vqatool.reporting.file_cards import card_of, with_pictures
from vqatool.reporting.html import render
from vqatool.reporting.row_texts import (
    band_text,
    codes_of,
    megabytes_text,
    number_text,
    picture_size,
    rate_text,
    screen_text,
    shortened,
)
from vqatool.reporting.tables import Column, DataTable
from vqatool.scoring.gates import Gate, Thresholds
from vqatool.scoring.report_file import read_report, segments_by_path
from vqatool.scoring.rows import ReportRow, SegmentRow, with_verdict
from vqatool.scoring.shards import UNFINISHED, require_once
from vqatool.scoring.verdicts import LOWEST_SCORES, Verdict

MAX_BYTES = 5_000_000
"""A page is no larger than this."""

NUM_WORST = 50
"""Scored files that the page shows in detail."""

NUM_EXAMPLES = 20
"""Files that are named for each error."""

_NOTES_BYTES = 10_000  # of notes that only a page without room for all has
_NOT_PASSED = "not passed"

_COLUMNS = (
    Column("file"), Column("score", True), Column("verdict"), Column("status"), Column("warnings"),
    Column("band", True), Column("worst segment", True), Column("worst segment from, s", True),
    Column("length, s", True), Column("codec"), Column("size, px"), Column("fps", True),
    Column("kbit/s", True), Column("MB", True), Column("display"), Column("model"),
    Column("reason"),
)  # fmt: skip

_ALWAYS = ("file", "status", "score")  # also where they are empty
_WHERE_MIXED = ("display", "model")  # else the head of the page has the only value


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page is made of.

    Attributes:
        rows: one for each file.
        segments: of the files, by path; may be empty.
        gate: which files pass.
        sources: the report files, whose folders relative paths are looked for in too.
    """

    rows: Sequence[ReportRow]
    segments: Mapping[str, Sequence[SegmentRow]]
    gate: Gate
    sources: Sequence[Path]

    @classmethod
    def read(cls, reports: Sequence[Path], segments: Sequence[Path], gate: Gate) -> Self:
        """The content of reports and of files of segments, of any format.

        Raises:
            ReportError: a file is no report, or two reports have a row of the same video.
        """
        rows = [row for path in reports for row in read_report(path)]
        require_once(row.path for row in rows)
        by_path = segments_by_path(segments)
        return cls(rows=rows, segments=by_path, gate=gate, sources=reports).checked()

    def checked(self) -> Self:
        """The same, where every scored row has a verdict and every number is one."""
        return replace(self, rows=[_checked(row) for row in self.rows])


def write_page(
    report: Report,
    out: Path,
    *,
    has_thumbnails: bool = True,
    jobs: int | None = None,
    on_pictures: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the page of a report; returns its size in bytes.

    Args:
        report: what the page shows.
        out: the file.
        has_thumbnails: show pictures of the worst files, as far as these can be read.
        jobs: worker processes that decode them; None: as `DecodePool` has them.
        on_pictures: called after each file whose pictures are done, with the number of these files
            and that of all that will have pictures.

    Raises:
        ReportError: the page would be larger than `MAX_BYTES`.
        OutputError: the file cannot be written.
    """
    report = report.checked()
    folder = _common_folder(row.path for row in report.rows)
    ranked = [row for row in report.rows if row.score is not None]
    ranked.sort(key=lambda row: row.score or 0.0)
    cards = [
        card_of(row, report.segments, report.sources, folder, out) for row in ranked[:NUM_WORST]
    ]
    table = _table(report, ranked, folder)
    values = _summary(report, ranked, folder)
    bare = render("report.html.jinja", values | {"cards": cards, "table": table.cut(0)})
    room = MAX_BYTES - len(bare) - _NOTES_BYTES
    table = table.cut(room)
    if has_thumbnails:
        cards = with_pictures(cards, room - table.num_bytes, jobs, on_pictures)
    page = render("report.html.jinja", values | {"cards": cards, "table": table})
    if len(page) > MAX_BYTES:
        raise ReportError(
            f"{out} would have {len(page) / 1e6:.1f} MB, more than the {MAX_BYTES / 1e6:.0f} MB "
            "of a page: make it of a part of the report"
        )
    with atomic_write(out) as file:
        file.write(page)
    return len(page)


def _checked(row: ReportRow) -> ReportRow:
    """The row with a verdict, which older versions did not write, and with real numbers alone."""
    names = [
        name
        for name in row.__dataclass_fields__
        if isinstance(value := getattr(row, name), float) and not math.isfinite(value)
    ]
    nothing: dict[str, Any] = dict.fromkeys(names)
    row = replace(row, **nothing) if names else row
    return row if row.verdict else with_verdict(row)


def _summary(report: Report, ranked: Sequence[ReportRow], folder: str) -> dict[str, Any]:
    """What the page says of all files."""
    rows, gate = report.rows, report.gate
    failed = [row for row in rows if row.status == Status.ERROR]
    missed = [row for row in rows if row.status != Status.ERROR and gate.is_missed(row)]
    scores = [row.score or 0.0 for row in ranked]
    warned = Counter(code for row in rows for code in codes_of(row))
    return {
        "title": _title(report.sources),
        "sources": [str(path) for path in report.sources],
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "folder": folder,
        "displays": [screen_text(each) for each in _values("display", ranked)],
        "models": _values("model", ranked),
        "outcome": _outcome(report, len(missed), len(failed)),
        "counts": _counts(report, ranked, len(missed), len(failed)),
        "notices": _notices(rows, ranked),
        "bins": histogram(scores),
        "limit": gate.thresholds.default if gate.on == "score" else None,
        "verdicts": _verdict_ranges(),
        "gate": gate,
        "num_scored": len(ranked),
        "warnings": [
            Remark(code, count, WARNINGS.get(code, UNKNOWN)) for code, count in warned.most_common()
        ],
        "errors": _errors(failed, folder),
    }


def _counts(
    report: Report, ranked: Sequence[ReportRow], num_missed: int, num_failed: int
) -> list[tuple[str, str]]:
    numbers = [
        ("files", len(report.rows)),
        ("scored", len(ranked)),
        ("failed", num_failed),
        ("with warnings", sum(bool(row.warnings) for row in report.rows)),
    ]
    if _has_gate(report.gate):
        numbers.append((_NOT_PASSED, num_missed))
    verdicts = Counter(row.verdict for row in ranked)
    numbers += [(name, verdicts[name]) for name in Verdict if verdicts[name]]
    scores = [row.score or 0.0 for row in ranked]
    figures = (
        [("lowest score", scores[0]), ("median score", statistics.median(scores))] if scores else []
    )
    return [
        *((name, f"{number:,}") for name, number in numbers),
        *((name, f"{figure:.1f}") for name, figure in figures),
    ]


def _verdict_ranges() -> str:
    """Such as `good from 70, fair from 50, poor from 30, else bad`."""
    *upper, last = LOWEST_SCORES
    return ", ".join(f"{name} from {LOWEST_SCORES[name]:g}" for name in upper) + f", else {last}"


def _title(sources: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in sources)
    return f"Video quality: {names}" if names else "Video quality"


class Outcome(NamedTuple):
    """The one line at the top; `mark` is a sign before it, if any, and `kind` names its look."""

    kind: str
    mark: str
    text: str


def _outcome(report: Report, num_missed: int, num_failed: int) -> Outcome:
    total = len(report.rows)
    stopped = f"{_files(num_failed)} could not be scored" if num_failed else ""
    if not total:
        return Outcome("plain", "", "The report has no files")
    if not _has_gate(report.gate):
        text = f"{total - num_failed:,} of {_files(total)} scored"
        return Outcome("plain", "", text + f", {num_failed:,} failed" * bool(num_failed))
    if num_missed or any(map(report.gate.is_missed, report.rows)):
        verb = "does" if num_missed == 1 else "do"
        missed = f"{_files(num_missed)} {verb} not pass" if num_missed else ""
        reasons = " and ".join(reason for reason in (missed, stopped) if reason)
        return Outcome("bad", "\u2717", f"Not passed: {reasons}")
    if num_failed:
        return Outcome("unsure", "!", f"Not complete: every scored file passes, but {stopped}")
    return Outcome("good", "\u2713", f"Passed: {_files(total)}")


def _has_gate(gate: Gate) -> bool:
    return gate.thresholds != Thresholds() or bool(gate.fail_on)


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _values(name: str, rows: Iterable[ReportRow]) -> list[str]:
    return sorted({getattr(row, name) for row in rows})


def _notices(rows: Iterable[ReportRow], ranked: Sequence[ReportRow]) -> list[str]:
    """What a reader must know before comparing rows."""
    notices = [
        f"Scores of several {name}s ({', '.join(values)}) cannot be compared"
        for name in ("model", "display")
        if len(values := _values(name, ranked)) > 1
    ]
    if any(row.shard.endswith(UNFINISHED) for row in rows):
        notices.append("The report is not finished: run its command again, then make this page")
    return notices


def _errors(failed: Sequence[ReportRow], folder: str) -> list[Remark]:
    by_code: dict[str, list[ReportRow]] = {}
    for row in failed:
        by_code.setdefault(row.error_code, []).append(row)
    return [
        Remark(
            code,
            len(rows),
            ERRORS.get(code, UNKNOWN),
            tuple(
                (row.path.removeprefix(folder), shortened(row.error)) for row in rows[:NUM_EXAMPLES]
            ),
        )
        for code, rows in sorted(by_code.items(), key=lambda pair: -len(pair[1]))
    ]


def _common_folder(paths: Iterable[str]) -> str:
    """The folder that all files are below, with a slash at its end; empty if there is none."""
    common = os.path.commonprefix(list(paths))  # noqa: RUF071 - it is cut at a slash
    return common[: common.rfind("/") + 1]


def _table(report: Report, ranked: Sequence[ReportRow], folder: str) -> DataTable:
    rest = [row for row in report.rows if row.score is None]
    lines = [_cells(row, report.gate, folder) for row in [*ranked, *rest]]
    filled = [
        column.title in _ALWAYS
        or len({line[index] for line in lines} - {""}) > (column.title in _WHERE_MIXED)
        for index, column in enumerate(_COLUMNS)
    ]
    return DataTable.of(
        "files",
        "All files, the lowest score first",
        list(compress(_COLUMNS, filled)),
        (list(compress(line, filled)) for line in lines),
        links=[f"#{_anchor(rank)}" for rank in range(1, 1 + min(NUM_WORST, len(ranked)))],
        sorted_by="score",
        range_of="score",
        choices_of=[
            column.title
            for column in compress(_COLUMNS, filled)
            if column.title in ("status", "verdict", "warnings")
        ],
    )


def _anchor(rank: int) -> str:
    return f"worst-{rank}"


def _cells(row: ReportRow, gate: Gate, folder: str) -> tuple[str, ...]:
    states, reason = [row.status], gate.message(row)
    if row.status == Status.ERROR:
        states.append(row.error_code)
        reason = shortened(row.error)
    elif reason:
        states.append(_NOT_PASSED)
    return (
        row.path.removeprefix(folder),
        number_text(row.score),
        row.verdict,
        ", ".join(states),
        ", ".join(codes_of(row)),
        band_text(row),
        number_text(row.score_min),
        number_text(row.worst_at_s),
        number_text(row.duration_s),
        row.codec,
        picture_size(row),
        rate_text(row),
        number_text(row.bitrate_kbps, 0),
        megabytes_text(row),
        row.display,
        row.model,
        reason,
    )
