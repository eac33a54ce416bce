"""The geometry of a page's charts: scores -> points of SVG, and the words that tell the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vqatool.scoring.rows import SegmentRow

_BIN_POINTS = 5
_BIN_WIDTH = 32.0
_BIN_HEIGHT = 120.0  # of the fullest bin
_TIMELINE_WIDTH = 600.0
_TIMELINE_HEIGHT = 100.0  # a score is a height
_MAX_STEPS = 240  # more cannot be told apart, and long videos would fill the page
_MAX_TICKS = 6
_TICK_STEPS_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


@dataclass(frozen=True)
class Bin:
    """A bar of a histogram: the scores from `low` to below `high`, and where it is drawn."""

    low: int
    high: int
    count: int
    x: float
    y: float
    width: float
    height: float


def histogram(scores: Sequence[float]) -> list[Bin]:
    """Bars of 5 points for scores of 0 to 100; the last bar holds 100 too."""
    counts = [0] * (100 // _BIN_POINTS)
    for score in scores:
        index = int(score // _BIN_POINTS)
        counts[max(0, min(index, len(counts) - 1))] += 1
    scale = _BIN_HEIGHT / max(1, *counts)
    return [
        Bin(
            low=index * _BIN_POINTS,
            high=(index + 1) * _BIN_POINTS,
            count=count,
            x=round(index * _BIN_WIDTH, 1),
            y=round(_BIN_HEIGHT - count * scale, 1),
            width=_BIN_WIDTH,
            height=round(count * scale, 1),
        )
        for index, count in enumerate(counts)
    ]


@dataclass(frozen=True)
class Tick:
    """A place on the axis of time."""

    x: float
    label: str


@dataclass(frozen=True)
class Timeline:
    """The scores of a video over its time, as SVG draws them: 600 wide, 100 high.

    Attributes:
        line: points of the scores, a step for each segment.
        band: points of the outline of the band; empty if it is not known.
        flags: where segments with warnings begin.
        marks: the chosen moments, by number.
        ticks: the axis of time.
        description: what the picture shows, for those who do not see it.
    """

    line: str
    band: str
    flags: tuple[Tick, ...]
    marks: tuple[Tick, ...]
    ticks: tuple[Tick, ...]
    description: str


def timeline(segments: Sequence[SegmentRow], marked_s: Sequence[float] = ()) -> Timeline:
    """The timeline of one video's segments, in order; there is at least one.

    `marked_s` are moments in seconds, which are numbered from 1 on.

    Of more than 240 segments, each step is the one with the lowest score of its neighbours.
    """
    start_s, end_s = segments[0].start_s, segments[-1].end_s
    scale = _TIMELINE_WIDTH / max(end_s - start_s, 1e-6)

    def x_of(seconds: float) -> float:
        return round((seconds - start_s) * scale, 1)

    def steps(figure: str) -> list[str]:
        return [
            f"{x_of(time_s)},{_y_of(getattr(step, figure))}"
            for step in drawn
            for time_s in (step.start_s, step.end_s)
        ]

    drawn = _pooled(segments)
    flagged = [segment for segment in segments if segment.warnings]
    lowest = min(segments, key=lambda segment: segment.score)
    return Timeline(
        line=" ".join(steps("score")),
        band=" ".join(steps("score_high") + steps("score_low")[::-1]),
        flags=tuple(
            Tick(x_of(segment.start_s), segment.warnings.replace(";", ", ")) for segment in flagged
        )[:_MAX_STEPS],
        marks=tuple(Tick(x_of(at_s), str(number)) for number, at_s in enumerate(marked_s, 1)),
        ticks=tuple(Tick(x_of(at_s), clock(at_s)) for at_s in _tick_times(start_s, end_s)),
        description=(
            f"{len(segments)} segment{'s' * (len(segments) > 1)} from {clock(start_s)} to "
            f"{clock(end_s)}: the lowest score is {lowest.score:.1f} at {clock(lowest.start_s)}, "
            f"the highest {max(segment.score for segment in segments):.1f}"
            + (f"; {len(flagged)} with warnings" if flagged else "")
        ),
    )


def clock(seconds: float) -> str:
    """A time as players show it: `0:12.5`, `1:02:03`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{text}:{rest // 10:02}" + (f".{rest % 10}" if rest % 10 else "")


def _y_of(score: float) -> float:
    return round(_TIMELINE_HEIGHT - max(0.0, min(score, 100.0)), 1)


def _pooled(segments: Sequence[SegmentRow]) -> list[SegmentRow]:
    """At most `_MAX_STEPS` steps without gaps, each with the figures of its lowest segment."""
    count = min(len(segments), _MAX_STEPS)
    borders = [index * len(segments) // count for index in range(count + 1)]
    steps = []
    for first, last in pairwise(borders):
        together = segments[first:last]
        lowest = min(together, key=lambda segment: segment.score)
        steps.append(
            SegmentRow(
                path=lowest.path,
                start_s=together[0].start_s,
                end_s=together[-1].end_s,
                score=lowest.score,
                score_low=lowest.score_low,
                score_high=lowest.score_high,
            )
        )
    return steps


def _tick_times(start_s: float, end_s: float) -> list[float]:
    """Round times, at most six."""
    span_s = end_s - start_s
    step_s = next((step for step in _TICK_STEPS_S if span_s / step < _MAX_TICKS), span_s or 1.0)
    return [start_s + index * step_s for index in range(int(span_s / step_s + 1e-6) + 1)]
