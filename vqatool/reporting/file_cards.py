"""The cards of the worst files of a report: facts, warnings, timeline, and their worst moments."""

import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from ladder.errors import LadderError
from ladder.media.remote import RemotePath, as_path, is_url
from ladder.media.upright import Pixels
from vqatool.inputs.decode_pool import DecodeFailure
from vqatool.reporting.advice import Remark, remarks_of
from vqatool.reporting.charts import Timeline, clock, timeline
from vqatool.reporting.row_texts import facts_of, worse_segment
from vqatool.reporting.thumbnails import Image, ThumbnailTimes, embedded, read_thumbnails
from vqatool.scoring.rows import FileStamp, ReportRow, SegmentRow

NUM_MOMENTS = 3
"""Moments of a video that are shown."""

_MOMENT_S = 5.0  # the middle of a segment of the usual length
_IMAGE_MARKUP_BYTES = 400
_SAME_SCORE = 0.01  # reports hold four decimals

_PICTURE_SIZES = ((3, 1.0), (2, 1.0), (2, 0.75), (1, 0.75), (1, 0.5))
"""Pictures for each file and the scale of their sides, the most that fit first."""


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
class Pictured:
    """Moments of a video that a page shows.

    Attributes:
        path: where the file is, if it is here and as it was scored.
        moments: bad ones.
        note: what is missing, and why.
    """

    path: Path | None
    moments: Sequence[Moment]
    note: str


P = TypeVar("P", bound=Pictured)


@dataclass(frozen=True, kw_only=True)
class FileCard(Pictured):
    """One of the worst files."""

    row: ReportRow
    name: str
    link: str
    worse: str
    facts: Sequence[tuple[str, str]]
    remarks: Sequence[Remark]
    timeline: Timeline | None


def card_of(
    row: ReportRow,
    segments_of: Mapping[str, Sequence[SegmentRow]],
    sources: Sequence[Path],
    folder: str,
    out: Path,
) -> FileCard:
    """The card of a scored row.

    Args:
        row: of the file.
        segments_of: the segments of files, by path.
        sources: the report files, whose folders relative paths are looked for in too.
        folder: what the names of files leave out.
        out: the page.
    """
    known = segments_of.get(row.path, ())
    segments, notes = segments_of_score(row, known), []
    if not segments:
        notes.append(
            "no timeline: these segments are of another run"
            if known
            else "no timeline: `score --per-segment FILE` writes one"
        )
    path, reason = find_video(row, sources)
    notes += [reason] * bool(reason)
    link = link_to(path, out) if path else ""
    moments = [
        replace(moment, link=link and f"{link}#t={moment.at_s:.1f}")
        for moment in worst_moments(row, segments)
    ]
    return FileCard(
        row=row,
        name=row.path.removeprefix(folder),
        path=path,
        link=link,
        worse=worse_segment(row),
        facts=facts_of(row),
        remarks=remarks_of(row),
        timeline=(timeline(segments, [moment.at_s for moment in moments]) if segments else None),
        moments=moments,
        note="; ".join(notes),
    )


def segments_of_score(row: ReportRow, known: Sequence[SegmentRow]) -> list[SegmentRow]:
    """The segments that the score is the mean of; none if they are not there or of another run."""
    segments = sorted(known, key=lambda segment: segment.start_s)
    figures = [
        figure
        for each in segments
        for figure in (each.start_s, each.end_s, each.score, each.score_low, each.score_high)
    ]
    if not segments or not all(map(math.isfinite, figures)):
        return []
    mean = statistics.fmean(segment.score for segment in segments)
    return segments if abs(mean - (row.score or 0.0)) < _SAME_SCORE else []


def worst_moments(row: ReportRow, segments: Sequence[SegmentRow]) -> list[Moment]:
    """The middles of the segments with the lowest scores, the lowest first.

    Those as good as the video are left out, but for the lowest.
    """
    if segments:
        lowest = sorted(segments, key=lambda segment: segment.score)[:NUM_MOMENTS]
        worse = [each for each in lowest if each.score < (row.score or 0.0)] or lowest[:1]
        return [Moment((each.start_s + each.end_s) / 2, each.score) for each in worse]
    if row.worst_at_s is None:
        return []
    left_s = max(0.0, (row.duration_s or 0.0) - row.worst_at_s)
    return [Moment(row.worst_at_s + min(_MOMENT_S, left_s / 2), row.score_min)]


def find_video(row: ReportRow, sources: Sequence[Path]) -> tuple[Path | None, str]:
    """The file of a row, from here or from the folder of a report, or why there is none."""
    reason = "no pictures: the file is not here"
    for folder in dict.fromkeys([Path(), *(source.parent for source in sources)]):
        path = as_path(row.path) if is_url(row.path) else folder / row.path
        try:
            stamp = FileStamp.of(path)
        except (LadderError, OSError, ValueError):
            continue
        if stamp == (row.size_bytes, row.modified):
            return path, ""
        reason = "no pictures: the file has changed since it was scored, so score it again"
    return None, reason


def link_to(path: Path, out: Path) -> str:
    """The address of a file as seen from the page, so that both can be moved together."""
    if isinstance(path, RemotePath):
        return quote(str(path), safe=":/?&=%")
    relative = os.path.relpath(path.absolute(), out.absolute().parent)
    return quote(os.fsencode(relative))


def with_pictures(
    cards: Sequence[P], room: int, jobs: int | None, on_pictures: Callable[[int, int], None]
) -> list[P]:
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
    card: P,
    seen: Mapping[Path, list[Pixels] | DecodeFailure],
    images: Mapping[Path, list[Image]],
) -> P:
    found = seen.get(card.path) if card.path else None
    if isinstance(found, DecodeFailure):
        return _with_note(card, f"no pictures: {found.reason}")
    own = images.get(card.path, []) if card.path else []
    shown = [replace(moment, image=image) for moment, image in zip(card.moments, own, strict=False)]
    return replace(card, moments=[*shown, *card.moments[len(shown) :]])


def _with_note(card: P, note: str) -> P:
    return replace(card, note="; ".join(text for text in (card.note, note) if text))
