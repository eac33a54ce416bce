"""An explanation as files: a page for people, tables of segments and frames, and all of it as JSON.

The page is one file that fetches nothing, as that of a report is.
"""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from ladder.media.probe import Size
from ladder.media.remote import as_path
from ladder.storage import Row, Table, atomic_write
from vqatool import __version__
from vqatool.files import require_own_files, require_own_texts
from vqatool.inputs.decode_pool import DecodeFailure
from vqatool.reporting.advice import remarks_of
from vqatool.reporting.attention import TURBO
from vqatool.reporting.charts import Strip, Waterfall, clock, strip, timeline, waterfall
from vqatool.reporting.explanation import (
    ALL,
    GROUPS,
    ExplainedSegment,
    Explanation,
    FrameScore,
    Moment,
    Reading,
)
from vqatool.reporting.file_cards import link_to
from vqatool.reporting.html import render
from vqatool.reporting.nearest_contents import NOT_KNOWN, NearestContents
from vqatool.reporting.row_texts import facts_of, screen_text, worse_segment
from vqatool.reporting.thumbnails import Image, ThumbnailTimes, embedded, read_thumbnails
from vqatool.scoring.formats import as_json
from vqatool.scoring.verdicts import Verdict

GROUP_MEANINGS = {
    "bitstream": "quantiser steps and bits of the pictures, codec, sizes and frame rate, as the "
    "headers tell them",
    "motion": "how much the picture changes from one frame to the next",
    "detail": "bits and losses of encoding frames again at fixed quantisers: how complex the "
    "picture is, and what coding has already removed",
    "pixels": "what a network that knows compression sees in patches of the frames (deep features)",
}
"""What each group of inputs is."""

_BOX = Size(480, 270)
_FAR = 3.0  # deviations from a typical clip
_KINDS = {Verdict.GOOD: ("good", "\u2713"), Verdict.BAD: ("bad", "\u2717")}
_UNSURE = ("unsure", "!")
_ALIKE = 5.0  # points below the median segment, at most, of the lowest one


@dataclass(frozen=True)
class ExplanationFiles:
    """Where an explanation is written: the page, and tables and JSON of the same name beside it."""

    page: Path

    @property
    def segments(self) -> Path:
        """The table of `ExplainedSegment`."""
        return self.page.with_name(f"{self.page.stem}-segments.csv")

    @property
    def frames(self) -> Path:
        """The table of `FrameScore`."""
        return self.page.with_name(f"{self.page.stem}-frames.csv")

    @property
    def json(self) -> Path:
        """All figures."""
        return self.page.with_name(f"{self.page.stem}.json")

    def require_own(self) -> None:
        """Refuse to overwrite a file of another program; call it before any work.

        Raises:
            OutputNameError: one of the files exists and is of another program.
        """
        require_own_texts([self.page, self.json])
        tables = {
            self.segments: Table(self.segments, ExplainedSegment).columns,
            self.frames: Table(self.frames, FrameScore).columns,
        }
        require_own_files(tables)


def write_explanation(
    found: Explanation, files: ExplanationFiles, *, jobs: int | None = None, tonemap: bool = False
) -> int:
    """Write all files; returns the size of the page in bytes.

    Args:
        found: what is written.
        files: where to; the folder is made.
        jobs: worker processes that decode the pictures.
        tonemap: show HDR as SDR.

    Raises:
        OutputError: a file cannot be written.
    """
    files.page.parent.mkdir(parents=True, exist_ok=True)
    Table(files.segments, ExplainedSegment).rewrite(found.segments)
    Table(files.frames, FrameScore).rewrite(found.frame_scores)
    with atomic_write(files.json) as file:
        file.write(f"{explanation_json(found)}\n".encode("ascii"))
    page = render("explanation.html.jinja", _values(found, files.page, jobs, tonemap))
    with atomic_write(files.page) as file:
        file.write(page)
    return len(page)


def explanation_json(found: Explanation) -> str:
    """All figures of an explanation, on one line: those of its row, and what they are made of."""
    shown = {"made_by": f"vqatool {__version__}", **as_json(found.row)}
    shown |= {
        "base": found.base,
        "contributions": found.points,
        "segments": [_without_path(segment) for segment in found.segments],
        "frames": [_without_path(frame) for frame in found.frame_scores],
        "moments": [
            {"segment": moment.segment, "at_s": round(moment.at_s, 4)} for moment in found.moments
        ],
        "figures": [_figure(reading) for reading in found.readings],
        "limits": found.limits and found.limits._asdict(),
        "nearest_contents": _nearest(found.nearest),
    }
    return json.dumps(_finite(shown), allow_nan=False)


def _nearest(nearest: NearestContents | None) -> dict[str, Any] | None:
    if not nearest:
        return None
    return {
        "contents": [each._asdict() for each in nearest.nearest],
        "far": nearest.contents.far,
        "far_segments": nearest.far_segments,
    }


def _without_path(row: Row) -> dict[str, Any]:
    return {name: value for name, value in as_json(row).items() if name != "path"}


def _figure(reading: Reading) -> dict[str, Any]:
    figure = reading.figure
    known = [None if value is None else figure.read(value) for value in reading.values]
    return {
        "group": reading.group,
        "name": figure.name,
        "unit": figure.unit,
        "typical": figure.read(reading.typical),
        "segments": known,
        "deviations": [reading.deviations(value) for value in reading.values],
    }


def _finite(value: Any) -> Any:
    """Rounded as in a table; null for what is not a finite number, which JSON cannot hold."""
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


class Stretch(NamedTuple):
    """Segments in a row that are far below the others, around the lowest one."""

    start_s: float
    end_s: float
    score: float  # their mean
    rest: float  # the median of all segments


def worst_stretch(found: Explanation) -> Stretch:
    """The segments around the lowest that are nearer to it than to the median of all."""
    scores = [segment.score for segment in found.segments]
    lowest, middle = min(scores), median(scores)
    is_low = [score <= (lowest + middle) / 2 for score in scores]
    first = last = scores.index(lowest)
    while first > 0 and is_low[first - 1]:
        first -= 1
    while last + 1 < len(scores) and is_low[last + 1]:
        last += 1
    start_s, end_s = found.segments[first].start_s, found.segments[last].end_s
    return Stretch(start_s, end_s, fmean(scores[first : last + 1]), middle)


def reasons(found: Explanation) -> list[str]:
    """Why the video has its score, in sentences without their points."""
    sentences = []
    if found.base is not None:
        parts = ", ".join(f"{name} {points:+.1f}" for name, points in ranked(found.points))
        sentences.append(
            f"a typical clip of the training data scores {found.base:.1f}; what differs in this "
            f"video makes it {found.row.score:.1f}: {parts} points"
        )
    sentences += _of_segments(found) if len(found.segments) > 1 else []
    return [*sentences, found.nearest.sentence()] if found.nearest else sentences


def _of_segments(found: Explanation) -> list[str]:
    """What is to be said of segments, where there are several."""
    worst = worst_stretch(found)
    lowest = min(found.segments, key=lambda segment: segment.score)
    if worst.rest - lowest.score < _ALIKE:
        return [
            f"its segments are alike: the lowest scores {lowest.score:.1f}, the median segment "
            f"{worst.rest:.1f}"
        ]
    sentences = [
        f"the worst stretch is {clock(worst.start_s)} to {clock(worst.end_s)}: it scores "
        f"{worst.score:.1f}, the median segment {worst.rest:.1f}"
    ]
    apart = {name: points - found.points[name] for name, points in lowest.points.items()}
    if apart:
        name, points = ranked(apart)[0]
        sentences.append(
            f"what sets its lowest segment apart from the mean of the video most is {name} "
            f"({points:+.1f})"
        )
    return sentences


def ranked(points: Mapping[str, float]) -> list[tuple[str, float]]:
    """Those that move the score most first."""
    return sorted(points.items(), key=lambda pair: -abs(pair[1]))


@dataclass(frozen=True, kw_only=True)
class MomentCard:
    """One of the moments that the page shows."""

    heading: str
    segment: ExplainedSegment
    at: str
    link: str
    image: Image | None
    fall: Waterfall | None
    maps: Sequence[tuple[str, str, Image]]  # part, time, picture


class FigureLine(NamedTuple):
    """A line of the table of figures, as texts."""

    group: str
    name: str
    typical: str
    mean: str
    worst: str
    deviations: str
    is_far: bool


def _values(found: Explanation, page: Path, jobs: int | None, tonemap: bool) -> dict[str, Any]:
    row, segments = found.row, found.segments
    pictures, note = _pictures(found, jobs, tonemap)
    frames = [(each.at_s, each.score) for each in found.frame_scores if each.part == ALL]
    worse = worse_segment(row)
    kind, mark = _UNSURE if worse else _KINDS.get(Verdict(row.verdict), _UNSURE)
    return {
        "title": f"Why {as_path(row.path).name} has its score",
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "row": row,
        "outcome": {"kind": kind, "mark": mark},
        "screen": screen_text(row.display),
        "worse": worse and f"{worse}, from {clock(row.worst_at_s or 0.0)}",
        "counts": _counts(found),
        "reasons": reasons(found),
        "remarks": remarks_of(row),
        "facts": facts_of(row),
        "timeline": timeline(segments, _middles(found), frames),
        "fall": found.base is not None
        and waterfall(("typical clip", found.base), _in_order(found.points), "this video"),
        "strips": _strips(found),
        "branches": _branch_strips(found),
        "meanings": [(name, GROUP_MEANINGS[name]) for name in GROUPS if name in found.points],
        "moments": [
            _card(moment, found, page, picture)
            for moment, picture in zip(found.moments, pictures, strict=True)
        ],
        "note": note,
        "key": _key(),
        "lines": [_line(reading, found.moments[0].segment) for reading in found.readings],
        "likeness": _likeness(found),
        "nearest": found.nearest,
        "not_known": NOT_KNOWN,
        "row_count": len(segments),
        "files": [path.name for path in _others(ExplanationFiles(page))],
    }


def _others(files: ExplanationFiles) -> list[Path]:
    return [files.segments, files.frames, files.json]


def _counts(found: Explanation) -> list[tuple[str, str]]:
    row = found.row
    return [
        ("score", f"{row.score:.1f}"),
        ("90 % band", f"{row.score_low:.1f} to {row.score_high:.1f}"),
        ("lowest segment", f"{row.score_min:.1f}"),
        ("which begins at", clock(row.worst_at_s or 0.0)),
        ("segments", f"{len(found.segments):,}"),
        ("frames seen", f"{row.frames_scored:,}"),
    ]


def _in_order(points: Mapping[str, float]) -> dict[str, float]:
    return {name: points[name] for name in GROUPS if name in points}


def _middles(found: Explanation) -> list[float]:
    """Of the segments that are shown: moments of neighbours may lie too close to be told apart."""
    shown = [found.segments[moment.segment] for moment in found.moments]
    return [(segment.start_s + segment.end_s) / 2 for segment in shown]


def _times(segments: Iterable[ExplainedSegment]) -> list[tuple[float, float]]:
    return [(segment.start_s, segment.end_s) for segment in segments]


def _strips(found: Explanation) -> list[Strip]:
    """What each group adds over time, all on one scale."""
    names = list(_in_order(found.points))
    values = {name: [segment.points[name] for segment in found.segments] for name in names}
    largest = max((abs(each) for column in values.values() for each in column), default=0.0)
    end = 10.0 * max(1, int(np.ceil(largest / 10)))
    times_s = _times(found.segments)
    return [strip(name, times_s, values[name], -end, end, "+.1f") for name in names]


def _branch_strips(found: Explanation) -> list[Strip]:
    """The mean score of each branch in each segment."""
    strips = []
    for name in found.branches:
        own = [each for each in found.frame_scores if each.part == name]
        values = [
            fmean([each.score for each in own if first <= each.at_s < last] or [0.0])
            for first, last in _times(found.segments)
        ]
        strips.append(strip(name, _times(found.segments), values, 0.0, 100.0, ".1f"))
    return strips


def _pictures(
    found: Explanation, jobs: int | None, tonemap: bool
) -> tuple[Sequence[Image | None], str]:
    """A picture of each moment, or none and why."""
    wanted = ThumbnailTimes(as_path(found.row.path), tuple(each.at_s for each in found.moments))
    ((_, pictures),) = read_thumbnails([wanted], jobs=jobs, box=_BOX, tonemap=tonemap)
    if isinstance(pictures, DecodeFailure):
        return [None] * len(found.moments), f"no pictures: {pictures.reason}"
    return [embedded(picture) for picture in pictures], ""


def _card(moment: Moment, found: Explanation, page: Path, image: Image | None) -> MomentCard:
    segment = found.segments[moment.segment]
    start, end = clock(segment.start_s), clock(segment.end_s)
    base = segment.base
    return MomentCard(
        heading=f"{start} to {end}",
        segment=segment,
        at=clock(moment.at_s),
        link=f"{link_to(as_path(found.row.path), page)}#t={moment.at_s:.1f}",
        image=image,
        fall=None
        if base is None
        else waterfall(("typical clip", base), _in_order(segment.points), "this segment"),
        maps=[
            (each.part, clock(each.at_s), embedded(each.picture)) for each in moment.attention_maps
        ],
    )


def _line(reading: Reading, worst: int) -> FigureLine:
    figure, value = reading.figure, reading.values[worst]
    apart = reading.deviations(value)
    return FigureLine(
        group=reading.group,
        name=f"{figure.name}, {figure.unit}" if figure.unit else figure.name,
        typical=_shown(reading, reading.typical),
        mean=_shown(reading, reading.mean),
        worst=_shown(reading, value),
        deviations="" if apart is None else f"{apart:+.1f}",
        is_far=apart is not None and abs(apart) > _FAR,
    )


def _shown(reading: Reading, value: float | None) -> str:
    figure = reading.figure
    return "not known" if value is None else f"{figure.read(value):.{figure.digits}f}"


def _likeness(found: Explanation) -> list[str]:
    """How like the training data the video is, in sentences without their points."""
    if not found.limits:
        return []
    told = []
    for what, figure, limit in (
        ("distance of the features from the training data", "distance", found.limits.distance),
        ("likeness to known outliers", "outlier", found.limits.outlier),
    ):
        values = [getattr(segment, figure) for segment in found.segments]
        known = [value for value in values if value is not None]
        if known and np.isfinite(limit):
            beyond = sum(value > limit for value in known)
            told.append(
                f"{what}: median {median(known):.1f}, largest {max(known):.1f}; the limit is "
                f"{limit:.1f}, and {beyond} of {len(known)} segments are beyond it"
            )
    return told


class KeyColour(NamedTuple):
    """A colour of the key of attention maps, and the place that it stands at, in percent."""

    offset: float
    colour: str


def _key() -> list[KeyColour]:
    last = len(TURBO) - 1
    return [
        KeyColour(round(100 * place / last, 2), f"#{colour}") for place, colour in enumerate(TURBO)
    ]
