"""A comparison of two reports as a page: counts, the mean difference, all videos, what got worse.

The page is one file of at most 5 MB; where all has no room, it has fewer and smaller pictures, and
at last the largest drops alone.
"""

import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ladder.storage import atomic_write
from vqatool.reporting.charts import BeforeAfter, before_after, clock
from vqatool.reporting.comparison import Comparison, ComparisonRow, DropGate, Outcome
from vqatool.reporting.file_cards import (
    NUM_MOMENTS,
    Moment,
    Pictured,
    find_video,
    link_to,
    segments_of_score,
    with_pictures,
    worst_moments,
)
from vqatool.reporting.html import render
from vqatool.reporting.report_page import MAX_BYTES
from vqatool.reporting.tables import Column, DataTable
from vqatool.scoring.rows import ReportRow, SegmentRow

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

_NOTES_BYTES = 10_000  # of notes that only a page without room for all has


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two reports.

    Attributes:
        source: the file.
        rows: by path.
        segments: may be empty.
    """

    source: Path
    rows: Mapping[str, ReportRow]
    segments: Segments = field(default_factory=dict)

    @classmethod
    def of(cls, source: Path, rows: Iterable[ReportRow], segments: Segments) -> "Side":
        """The side of a report's rows."""
        return cls(source=source, rows={row.path: row for row in rows}, segments=segments)

    def segments_of(self, path: str) -> Sequence[SegmentRow]:
        """Those that the score of a video is the mean of; none if they are not there."""
        row = self.rows.get(path)
        return segments_of_score(row, self.segments.get(path, ())) if row else []


@dataclass(frozen=True, kw_only=True)
class ComparisonContent:
    """What the page of a comparison is made of; `gate` says which videos pass."""

    comparison: Comparison
    gate: DropGate
    before: Side
    after: Side


@dataclass(frozen=True, kw_only=True)
class VideoPictures(Pictured):
    """The pictures of a video in one of the reports; `link` leads to the file."""

    link: str


class DropMoment(NamedTuple):
    """A moment that got worse: its scores, where they are known, and its pictures."""

    label: str
    score_before: float | None
    score_after: float | None
    sides: Sequence[tuple[str, Moment]]


class DropCard(NamedTuple):
    """One of the largest drops, with its timelines, moments and pictures as far as they are known.

    `moments_s` are times.
    """

    row: ComparisonRow
    is_missed: bool
    chart: BeforeAfter | None
    moments_s: Sequence[float]
    segments: tuple[Sequence[SegmentRow], Sequence[SegmentRow]]
    before: VideoPictures
    after: VideoPictures

    @property
    def note(self) -> str:
        """What is missing of the pictures, and why."""
        notes = [("before", self.before.note), ("after", self.after.note)]
        return "; ".join(f"{side}: {note}" for side, note in notes if note)

    @property
    def moments(self) -> list[DropMoment]:
        """Those that got worse, the worst first."""
        before, after = self.segments
        return [
            DropMoment(
                clock(at_s),
                _score_at(before, at_s),
                _score_at(after, at_s),
                [
                    (name, each.moments[number])
                    for name, each in (("before", self.before), ("after", self.after))
                    if each.moments
                ],
            )
            for number, at_s in enumerate(self.moments_s)
        ]


def write_comparison_page(
    content: ComparisonContent,
    out: Path,
    *,
    has_thumbnails: bool = True,
    jobs: int | None = None,
    on_pictures: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the page; returns its size in bytes.

    Args:
        content: what the page shows.
        out: the file.
        has_thumbnails: show pictures of the moments that got worse, as far as they can be read.
        jobs: worker processes that decode them; None: as `DecodePool` has them.
        on_pictures: called after each video whose pictures are done, with the number of these
            videos and that of all that will have pictures.

    Raises:
        OutputError: the file cannot be written.
    """
    table, values = _table(content.comparison.rows), _values(content)
    cards = [
        _card(row, content, out) for row in content.comparison.rows[:NUM_DROPS] if _is_worse(row)
    ]
    bare = render("comparison.html.jinja", values | {"cards": cards, "table": table.cut(0)})
    room = MAX_BYTES - len(bare) - _NOTES_BYTES
    table = table.cut(room)
    if has_thumbnails:
        cards = _with_pictures(cards, room - table.num_bytes, jobs, on_pictures)
    page = render("comparison.html.jinja", values | {"cards": cards, "table": table})
    with atomic_write(out) as file:
        file.write(page)
    return len(page)


def _with_pictures(
    cards: Sequence[DropCard], room: int, jobs: int | None, on_pictures: Callable[[int, int], None]
) -> list[DropCard]:
    sides = [side for card in cards for side in (card.before, card.after)]
    shown = iter(with_pictures(sides, room, jobs, on_pictures))
    return [card._replace(before=next(shown), after=next(shown)) for card in cards]


def _values(content: ComparisonContent) -> dict[str, Any]:
    found = content.comparison
    counts = [(f"{outcome.replace('_', ' ')}", found.count(outcome)) for outcome in Outcome]
    sources = [content.before.source, content.after.source]
    return {
        "title": f"Comparison: {sources[0].name} and {sources[1].name}",
        "outcome": _outcome(content.gate, found),
        "counts": [(name, f"{count:,}") for name, count in counts if count],
        "mean": _mean(found),
        "notices": found.remarks,
        "sources": list(map(str, sources)),
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _outcome(gate: DropGate, found: Comparison) -> dict[str, str]:
    """The one line at the top: its look, a sign before it, and its text."""
    if gate == DropGate():
        count = found.count(Outcome.COMPARED)
        text = f"{count:,} video{'s' * (count != 1)} compared"
        return {"kind": "plain", "mark": "", "text": "; ".join([text, *found.others()])}
    missed = _missed(gate, found)
    if missed:
        text = "; ".join(["Not passed: " + missed[0], *missed[1:], *found.others(gate.outcomes)])
        return {"kind": "bad", "mark": "\u2717", "text": text}
    promises = []
    if gate.max_drop is not None:
        promises.append(f"no score fell by {gate.max_drop:g} points or more, or was lost")
    if gate.fails_on_missing:
        promises.append("no video is missing")
    text = "; ".join(["Passed: " + ", and ".join(promises), *found.others()])
    return {"kind": "good", "mark": "\u2713", "text": text}


def _missed(gate: DropGate, found: Comparison) -> list[str]:
    """How many videos do not pass, a part of a sentence for each reason."""
    parts = []
    if gate.max_drop is not None:
        fell = sum(row.fell_by(gate.max_drop) for row in found.rows)
        parts = [f"{fell:,} score{'s' * (fell != 1)} fell by {gate.max_drop:g} points or more"]
        parts = parts * bool(fell)
    lost, missing = (
        found.count(each) if each in gate.outcomes else 0
        for each in (Outcome.LOST, Outcome.ONLY_BEFORE)
    )
    if lost:
        parts.append(f"{lost:,} lost {'its score' if lost == 1 else 'their scores'}")
    if missing:
        parts.append(f"{missing:,} video{'s are' if missing > 1 else ' is'} missing after")
    return parts


def _mean(found: Comparison) -> str:
    mean, low, high = found.mean
    if math.isnan(mean):
        return ""
    return f"{mean:+.2f}" + ("" if math.isnan(low) else f" (95 %: {low:+.2f} to {high:+.2f})")


def _is_worse(row: ComparisonRow) -> bool:
    return row.outcome == Outcome.LOST or (row.difference is not None and row.difference < 0)


def _card(row: ComparisonRow, content: ComparisonContent, out: Path) -> DropCard:
    sides = (content.before, content.after), (row.path_before, row.path_after)
    before, after = (side.segments_of(path) for side, path in zip(*sides, strict=True))
    moments_s = _worse_moments(row, content.after, before, after)
    return DropCard(
        row=row,
        is_missed=content.gate.is_missed(row),
        chart=before_after(before, after, moments_s) if before or after else None,
        moments_s=moments_s,
        segments=(before, after),
        before=_pictures(content.before, row.path_before, moments_s, out),
        after=_pictures(content.after, row.path_after, moments_s, out),
    )


def _worse_moments(
    row: ComparisonRow, side: Side, before: Sequence[SegmentRow], after: Sequence[SegmentRow]
) -> list[float]:
    """When the score fell most, in seconds; by the scores after alone where no others are known.

    Segments that fell less than the video are left out, but for the one that fell most.
    """
    new = side.rows.get(row.path_after)
    if row.difference is None or not new:
        return []
    fallen = []
    for each in after:
        middle_s = (each.start_s + each.end_s) / 2
        old = _score_at(before, middle_s)
        if old is not None:
            fallen.append((each.score - old, middle_s))
    if not fallen:
        return [moment.at_s for moment in worst_moments(new, after)]
    fallen.sort()
    chosen = [at_s for fell, at_s in fallen[:NUM_MOMENTS] if fell < row.difference]
    return chosen or [fallen[0][1]]


def _score_at(segments: Sequence[SegmentRow], at_s: float) -> float | None:
    return next((each.score for each in segments if each.start_s <= at_s < each.end_s), None)


def _pictures(side: Side, path: str, moments_s: Sequence[float], out: Path) -> VideoPictures:
    """What is needed to read the pictures of a video."""
    row = side.rows.get(path)
    found, reason = find_video(row, [side.source]) if row and moments_s else (None, "")
    link = link_to(found, out) if found else ""
    moments = [Moment(at_s, None, link and f"{link}#t={at_s:.1f}") for at_s in moments_s]
    return VideoPictures(path=found, moments=moments, note=reason, link=link)


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
