"""A report as a page: verdict, counts, scores, remarks, a table of all files, and the worst ones.

The page is one file of at most 5 MB. Where it would be larger, it has fewer and smaller pictures,
and at last fewer rows, and says so.
"""

import base64
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
from urllib.parse import quote

from ladder.media.stills import jpeg, resize
from ladder.media.upright import Pixels
from ladder.storage import Status, atomic_write
from vqatool.errors import ReportError
from vqatool.inputs.decode_pool import DecodeFailure
from vqatool.reporting.advice import ERRORS, UNKNOWN, WARNINGS, Advice
from vqatool.reporting.charts import Timeline, clock, histogram, timeline
from vqatool.reporting.html import render
from vqatool.reporting.tables import Column, DataTable
from vqatool.reporting.thumbnails import ThumbnailTimes, read_thumbnails
from vqatool.scoring.gates import Gate, Thresholds
from vqatool.scoring.report_file import read_report, segments_by_path
from vqatool.scoring.rows import FileStamp, ReportRow, SegmentRow, with_verdict
from vqatool.scoring.shards import UNFINISHED, require_once
from vqatool.scoring.verdicts import LOWEST_SCORES, Verdict

MAX_BYTES = 5_000_000
"""A page is no larger than this."""

NUM_WORST = 50
"""Scored files that the page shows in detail."""

NUM_EXAMPLES = 20
"""Files that are named for each error."""

_NUM_MOMENTS = 3
_MOMENT_S = 5.0  # the middle of a segment of the usual length
_JPEG_QUANTISER = 5
_IMAGE_MARKUP_BYTES = 400
_NOTES_BYTES = 10_000  # of notes that only a page without room for all has
_MAX_REASON = 300  # letters of an error in the table
_SAME_SCORE = 0.01  # reports hold four decimals
_NOT_PASSED = "not passed"

_PICTURE_SIZES = ((3, 1.0), (2, 1.0), (2, 0.75), (1, 0.75), (1, 0.5))
"""Pictures for each file and the scale of their sides, the most that fit first."""

_COLUMNS = (
    Column("file"), Column("status"), Column("verdict"), Column("score", True),
    Column("band", True), Column("worst segment", True), Column("worst at, s", True),
    Column("length, s", True), Column("codec"), Column("size, px"), Column("fps", True),
    Column("kbit/s", True), Column("MB", True), Column("judged on"), Column("model"),
    Column("warnings"),
    Column("reason"),
)  # fmt: skip

_ALWAYS = ("file", "status", "score")  # also where they are empty
_WHERE_MIXED = ("judged on", "model")  # else the head of the page has the only value


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
        require_once(rows)
        by_path = segments_by_path(segments)
        return cls(rows=rows, segments=by_path, gate=gate, sources=reports).checked()

    def checked(self) -> Self:
        """The same, where every scored row has a verdict and every number is one."""
        return replace(self, rows=[_checked(row) for row in self.rows])


class Remark(NamedTuple):
    """A code, how many files have it, what it means, and the first files that it stopped."""

    code: str
    num_files: int
    advice: Advice
    examples: tuple[tuple[str, str], ...] = ()


class Image(NamedTuple):
    """A picture inside the page; sizes are in px."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Moment:
    """A moment of a video: a bad one, its link (empty: no such file here) and its picture."""

    at_s: float
    score: float | None
    link: str = ""
    image: Image | None = None

    @property
    def label(self) -> str:
        """The time as players show it."""
        return clock(self.at_s)


@dataclass(frozen=True, kw_only=True)
class FileCard:
    """One of the worst files."""

    row: ReportRow
    name: str
    path: Path | None  # where the file is, if it is here and as it was scored
    link: str
    facts: Sequence[tuple[str, str]]
    remarks: Sequence[Remark]
    timeline: Timeline | None
    moments: Sequence[Moment]
    note: str


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
        jobs: worker processes that decode them; None: one for each core, at most four.
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
    cards = [_card(row, report, folder, out) for row in ranked[:NUM_WORST]]
    table = _table(report, ranked, folder)
    values = _summary(report, ranked, folder)
    bare = render("report.html.jinja", values | {"cards": cards, "table": table.cut(0)})
    room = MAX_BYTES - len(bare) - _NOTES_BYTES
    table = table.cut(room)
    if has_thumbnails:
        cards = _with_pictures(cards, room - table.num_bytes, jobs, on_pictures)
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
        for name, value in vars(row).items()
        if isinstance(value, float) and not math.isfinite(value)
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
    warned = Counter(code for row in rows for code in _codes(row))
    return {
        "title": _title(report.sources),
        "sources": [str(path) for path in report.sources],
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "folder": folder,
        "displays": _values("display", ranked),
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
    return f"Video quality: {', '.join(path.name for path in sources)}"


class Outcome(NamedTuple):
    """The one line at the top; `mark` is a sign before it and `kind` names its look."""

    kind: str
    mark: str
    text: str


def _outcome(report: Report, num_missed: int, num_failed: int) -> Outcome:
    total = len(report.rows)
    stopped = f"{_files(num_failed)} could not be scored" if num_failed else ""
    if not total:
        return Outcome("plain", "\u2013", "The report has no files")
    if not _has_gate(report.gate):
        text = f"{total - num_failed:,} of {_files(total)} scored"
        return Outcome("plain", "\u2013", text + f", {num_failed:,} failed" * bool(num_failed))
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


def _codes(row: ReportRow) -> list[str]:
    return [code for code in row.warnings.split(";") if code]


def remarks_of(row: ReportRow) -> list[Remark]:
    """The warnings of one file."""
    return [Remark(code, 1, WARNINGS.get(code, UNKNOWN)) for code in _codes(row)]


def _errors(failed: Sequence[ReportRow], folder: str) -> list[Remark]:
    by_code: dict[str, list[ReportRow]] = {}
    for row in failed:
        by_code.setdefault(row.error_code, []).append(row)
    return [
        Remark(
            code,
            len(rows),
            ERRORS.get(code, UNKNOWN),
            tuple((_name(row, folder), _shortened(row.error)) for row in rows[:NUM_EXAMPLES]),
        )
        for code, rows in sorted(by_code.items(), key=lambda pair: -len(pair[1]))
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}\u2026"


def _common_folder(paths: Iterable[str]) -> str:
    """The folder that all files are below, with a slash at its end; empty if there is none."""
    common = os.path.commonprefix(list(paths))  # noqa: RUF071 - it is cut at a slash
    return common[: common.rfind("/") + 1]


def _name(row: ReportRow, folder: str) -> str:
    return row.path.removeprefix(folder)


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
        reason = _shortened(row.error)
    elif reason:
        states.append(_NOT_PASSED)
    return (
        _name(row, folder),
        ", ".join(states),
        row.verdict,
        _number(row.score),
        _band(row),
        _number(row.score_min),
        _number(row.worst_at_s),
        _number(row.duration_s),
        row.codec,
        _picture_size(row),
        _rate(row),
        _number(row.bitrate_kbps, 0),
        _megabytes(row),
        row.display,
        row.model,
        ", ".join(_codes(row)),
        reason,
    )


def _number(value: Any, digits: int = 1) -> str:
    return "" if value is None else f"{float(value):.{digits}f}"


def _with_unit(number: str, unit: str) -> str:
    return number and f"{number} {unit}"


def _rate(row: ReportRow) -> str:
    return _number(row.fps, 3).rstrip("0").rstrip(".")


def _megabytes(row: ReportRow) -> str:
    return _number(None if row.size_bytes is None else row.size_bytes / 1e6, 3)


def _band(row: ReportRow) -> str:
    low, high = _number(row.score_low), _number(row.score_high)
    return f"{low} to {high}" if low and high else ""


def _picture_size(row: ReportRow) -> str:
    return f"{row.width_px}x{row.height_px}" if row.width_px and row.height_px else ""


def _card(row: ReportRow, report: Report, folder: str, out: Path) -> FileCard:
    segments, notes = _segments_of(row, report), []
    if not segments:
        notes.append(
            "no timeline: these segments are of another run"
            if report.segments.get(row.path)
            else "no timeline: `score --per-segment FILE` writes one"
        )
    path, reason = _find(row, report.sources)
    notes += [reason] * bool(reason)
    link = link_to(path, out) if path else ""
    moments = [
        replace(moment, link=link and f"{link}#t={moment.at_s:.1f}")
        for moment in _worst_moments(row, segments)
    ]
    return FileCard(
        row=row,
        name=_name(row, folder),
        path=path,
        link=link,
        facts=facts_of(row),
        remarks=remarks_of(row),
        timeline=(timeline(segments, [moment.at_s for moment in moments]) if segments else None),
        moments=moments,
        note="; ".join(notes),
    )


def _segments_of(row: ReportRow, report: Report) -> list[SegmentRow]:
    """The segments that the score is the mean of; none if they are not there or of another run."""
    segments = sorted(report.segments.get(row.path, ()), key=lambda segment: segment.start_s)
    figures = [
        figure
        for each in segments
        for figure in (each.start_s, each.end_s, each.score, each.score_low, each.score_high)
    ]
    if not segments or not all(map(math.isfinite, figures)):
        return []
    mean = statistics.fmean(segment.score for segment in segments)
    return segments if abs(mean - (row.score or 0.0)) < _SAME_SCORE else []


def _worst_moments(row: ReportRow, segments: Sequence[SegmentRow]) -> list[Moment]:
    """The middles of the segments with the lowest scores, the lowest first."""
    if segments:
        lowest = sorted(segments, key=lambda segment: segment.score)[:_NUM_MOMENTS]
        return [Moment((each.start_s + each.end_s) / 2, each.score) for each in lowest]
    if row.worst_at_s is None:
        return []
    left_s = max(0.0, (row.duration_s or 0.0) - row.worst_at_s)
    return [Moment(row.worst_at_s + min(_MOMENT_S, left_s / 2), row.score_min)]


def _find(row: ReportRow, sources: Sequence[Path]) -> tuple[Path | None, str]:
    """The file of a row, from here or from the folder of a report, or why there is none."""
    reason = "no pictures: the file is not here"
    for folder in dict.fromkeys([Path(), *(source.parent for source in sources)]):
        path = folder / row.path
        try:
            stamp = FileStamp.of(path)
        except (OSError, ValueError):
            continue
        if stamp == (row.size_bytes, row.modified):
            return path, ""
        reason = "no pictures: the file has changed since it was scored, so score it again"
    return None, reason


def link_to(path: Path, out: Path) -> str:
    """The address of a file as seen from the page, so that both can be moved together."""
    relative = os.path.relpath(path.absolute(), out.absolute().parent)
    return quote(os.fsencode(relative))


def facts_of(row: ReportRow) -> list[tuple[str, str]]:
    """What is known of a file, as names and texts."""
    shape = [_picture_size(row), row.pix_fmt, row.hdr.upper()]
    facts = [
        ("codec", row.codec),
        ("picture", " ".join(part for part in shape if part)),
        ("rate", _with_unit(_rate(row), "frames/s")),
        ("length", clock(row.duration_s) if row.duration_s is not None else ""),
        ("bitrate", _with_unit(_number(row.bitrate_kbps, 0), "kbit/s")),
        ("file", _with_unit(_megabytes(row), "MB")),
        ("worst segment", _number(row.score_min)),
        ("5th percentile of segments", _number(row.score_p5)),
    ]
    return [(name, text) for name, text in facts if text]


def _with_pictures(
    cards: Sequence[FileCard], room: int, jobs: int | None, on_pictures: Callable[[int, int], None]
) -> list[FileCard]:
    """The cards with as many pictures as fit into `room` bytes."""
    wanted = [
        ThumbnailTimes(card.path, tuple(moment.at_s for moment in card.moments))
        for card in cards
        if card.path and card.moments
    ]
    seen: dict[Path, list[Pixels] | DecodeFailure] = {}
    for each, pictures in read_thumbnails(wanted, jobs=jobs):
        seen[each.path] = pictures
        on_pictures(len(seen), len(wanted))
    for count, scale in _PICTURE_SIZES:
        images = {
            path: [embedded(picture, scale) for picture in pictures[:count]]
            for path, pictures in seen.items()
            if not isinstance(pictures, DecodeFailure)
        }
        size = sum(
            len(image.uri) + _IMAGE_MARKUP_BYTES for each in images.values() for image in each
        )
        if size <= room:
            return [_with_images(card, seen, images) for card in cards]
    return [_with_note(card, "no pictures: the page has no room for them") for card in cards]


def _with_images(
    card: FileCard,
    seen: Mapping[Path, list[Pixels] | DecodeFailure],
    images: Mapping[Path, list[Image]],
) -> FileCard:
    found = seen.get(card.path) if card.path else None
    if isinstance(found, DecodeFailure):
        return _with_note(card, f"no pictures: {found.reason}")
    own = images.get(card.path, []) if card.path else []
    shown = [replace(moment, image=image) for moment, image in zip(card.moments, own, strict=False)]
    return replace(card, moments=[*shown, *card.moments[len(shown) :]])


def _with_note(card: FileCard, note: str) -> FileCard:
    return replace(card, note="; ".join(text for text in (card.note, note) if text))


def embedded(picture_HWC: Pixels, scale: float = 1.0) -> Image:
    """The picture inside a page; `scale` of its sides, at most 1."""
    height, width = picture_HWC.shape[:2]
    if scale < 1:
        # the chroma of a JPEG has half the size
        width, height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
        picture_HWC = resize(picture_HWC, width, height)
    data = base64.b64encode(jpeg(picture_HWC, _JPEG_QUANTISER)).decode("ascii")
    return Image(f"data:image/jpeg;base64,{data}", width, height)
