"""A comparison of two reports as a page: counts, the mean difference, all videos, both timelines.

The page is one file of at most 5 MB; where all videos have no room, it has the largest drops.
"""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ladder.storage import atomic_write
from vqatool.reporting.charts import Timeline, timeline
from vqatool.reporting.comparison import Comparison, ComparisonRow, Outcome
from vqatool.reporting.html import render
from vqatool.reporting.report_page import MAX_BYTES
from vqatool.reporting.tables import Column, DataTable
from vqatool.scoring.rows import SegmentRow

NUM_DROPS = 50
"""Videos that the page shows in detail: the largest drops, and those that lost their score."""

_COLUMNS = (
    Column("video"), Column("outcome"), Column("difference", True), Column("before", True),
    Column("after", True), Column("verdict before"), Column("verdict after"),
    Column("kbit/s before", True), Column("kbit/s after", True), Column("warnings"),
    Column("reason"),
)  # fmt: skip

Segments = Mapping[str, Sequence[SegmentRow]]
"""The segments of the videos of a report, by path."""


@dataclass(frozen=True, kw_only=True)
class ComparisonContent:
    """What the page of a comparison is made of.

    Attributes:
        comparison: of the two reports.
        max_drop: points that a score may fall by; None: there is no gate.
        sources: the two report files.
        segments: of both, before and after; may be empty.
    """

    comparison: Comparison
    max_drop: float | None
    sources: tuple[Path, Path]
    segments: tuple[Segments, Segments] = ({}, {})


class DropCard(NamedTuple):
    """One of the largest drops, with the timelines that are known."""

    row: ComparisonRow
    is_missed: bool
    before: Timeline | None
    after: Timeline | None


def write_comparison_page(content: ComparisonContent, out: Path) -> int:
    """Write the page; returns its size in bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    table = _table(content.comparison.rows)
    values = _values(content)
    bare = render("comparison.html.jinja", values | {"table": table.cut(0)})
    page = render("comparison.html.jinja", values | {"table": table.cut(MAX_BYTES - len(bare))})
    with atomic_write(out) as file:
        file.write(page)
    return len(page)


def _values(content: ComparisonContent) -> dict[str, Any]:
    found, max_drop = content.comparison, content.max_drop
    dropped = [] if max_drop is None else [row for row in found.rows if row.is_drop(max_drop)]
    counts = [(f"{outcome.replace('_', ' ')}", found.count(outcome)) for outcome in Outcome]
    return {
        "title": f"Comparison: {content.sources[0].name} and {content.sources[1].name}",
        "outcome": _outcome(max_drop, len(dropped), found),
        "counts": [(name, f"{count:,}") for name, count in counts if count],
        "mean": _mean(found),
        "notices": found.remarks,
        "sources": [str(path) for path in content.sources],
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cards": [_card(row, content) for row in found.rows[:NUM_DROPS] if _is_worse(row)],
    }


def _outcome(max_drop: float | None, num_dropped: int, found: Comparison) -> dict[str, str]:
    """The one line at the top: its look, a sign before it, and its text."""
    others = "".join(f"; {part}" for part in found.others())
    if max_drop is None:
        count = found.count(Outcome.COMPARED)
        text = f"{count:,} video{'s' * (count != 1)} compared{others}"
        return {"kind": "plain", "mark": "", "text": text}
    what = f"fell by {max_drop:g} points or more, or was lost"
    if not num_dropped:
        return {"kind": "good", "mark": "\u2713", "text": f"Passed: no score {what}{others}"}
    scores = "score" if num_dropped == 1 else "scores"
    text = f"Not passed: {num_dropped:,} {scores} {what.replace('was', 'were', num_dropped > 1)}"
    return {"kind": "bad", "mark": "\u2717", "text": text + others}


def _mean(found: Comparison) -> str:
    mean, low, high = found.mean
    if math.isnan(mean):
        return ""
    return f"{mean:+.2f}" + ("" if math.isnan(low) else f" (95 %: {low:+.2f} to {high:+.2f})")


def _is_worse(row: ComparisonRow) -> bool:
    return row.outcome == Outcome.LOST or (row.difference is not None and row.difference < 0)


def _card(row: ComparisonRow, content: ComparisonContent) -> DropCard:
    before, after = (
        timeline(segments[path]) if path in segments else None
        for segments, path in zip(content.segments, (row.path_before, row.path_after), strict=True)
    )
    is_missed = content.max_drop is not None and row.is_drop(content.max_drop)
    return DropCard(row, is_missed, before, after)


def _table(rows: Sequence[ComparisonRow]) -> DataTable:
    return DataTable.of(
        "videos",
        "All videos, the largest drops first",
        _COLUMNS,
        map(_cells, rows),
        links=[f"#drop-{rank}" for rank, row in enumerate(rows[:NUM_DROPS], 1) if _is_worse(row)],
        range_of="difference",
        choices_of=("outcome", "warnings"),
    )


def _cells(row: ComparisonRow) -> tuple[str, ...]:
    return (
        row.video, row.outcome, _number(row.difference, "+.1f"), _number(row.score_before),
        _number(row.score_after), row.verdict_before, row.verdict_after,
        _number(row.bitrate_before_kbps, ".0f"), _number(row.bitrate_after_kbps, ".0f"),
        row.warnings.replace(";", ", "), row.error,
    )  # fmt: skip


def _number(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else format(value, form)
