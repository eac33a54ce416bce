"""The geometry of a page's charts: scores -> points of SVG, and the words that tell the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vqatool.scoring.rows import SegmentRow

_BIN_POINTS = 5
_BIN_WIDTH = 32.0
_BIN_HEIGHT = 120.0  # of the fullest bin
_TIMELINE_WIDTH = 600.0
_TIMELINE_HEIGHT = 100.0  # a score is a height
_STRIP_HEIGHT = 60.0
_WATERFALL_WIDTH = 400.0
_ROW_HEIGHT = 24.0
_MAX_STEPS = 240  # more cannot be told apart, and long videos would fill the page
_MAX_DOTS = 600
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
        dots: the scores of single frames.
        ticks: the axis of time.
        description: what the picture shows, for those who do not see it.
    """

    line: str
    band: str
    flags: tuple[Tick, ...]
    marks: tuple[Tick, ...]
    ticks: tuple[Tick, ...]
    description: str
    dots: tuple[tuple[float, float], ...] = ()


def timeline(
    segments: Sequence[SegmentRow],
    marked_s: Sequence[float] = (),
    frames: Sequence[tuple[float, float]] = (),
) -> Timeline:
    """The timeline of one video's segments, in order; there is at least one.

    `marked_s` are moments in seconds, which are numbered from 1 on. `frames` are times and scores
    of single frames; of too many none is drawn.

    Of more than 240 segments, each step is the one with the lowest score of its neighbours.
    """
    start_s, end_s = segments[0].start_s, segments[-1].end_s
    x_of, drawn = _scale(start_s, end_s), _pooled(segments)
    flagged = [segment for segment in segments if segment.warnings]
    return Timeline(
        line=" ".join(_steps(drawn, "score", x_of)),
        band=" ".join(_steps(drawn, "score_high", x_of) + _steps(drawn, "score_low", x_of)[::-1]),
        flags=tuple(
            Tick(x_of(segment.start_s), segment.warnings.replace(";", ", ")) for segment in flagged
        )[:_MAX_STEPS],
        marks=tuple(Tick(x_of(at_s), str(number)) for number, at_s in enumerate(marked_s, 1)),
        ticks=tuple(Tick(x_of(at_s), clock(at_s)) for at_s in _tick_times(start_s, end_s)),
        description=_summary(segments) + (f"; {len(flagged)} with warnings" if flagged else ""),
        dots=tuple((x_of(at_s), _y_of(score)) for at_s, score in frames)
        if len(frames) <= _MAX_DOTS
        else (),
    )


@dataclass(frozen=True)
class BeforeAfter:
    """The scores of a video before and after a change, over one time: 600 wide, 100 high.

    Attributes:
        lines: name and points of each, before first.
        marks: the chosen moments, by number.
        ticks: the axis of time.
        description: what the picture shows, for those who do not see it.
    """

    lines: tuple[tuple[str, str], ...]
    marks: tuple[Tick, ...]
    ticks: tuple[Tick, ...]
    description: str


def before_after(
    before: Sequence[SegmentRow], after: Sequence[SegmentRow], marked_s: Sequence[float] = ()
) -> BeforeAfter:
    """Both timelines of a video in one picture; the segments of one side may be missing.

    `marked_s` are moments in seconds, which are numbered from 1 on. Of more than 240 segments, each
    step is the one with the lowest score of its neighbours.
    """
    sides = {name: each for name, each in (("before", before), ("after", after)) if each}
    start_s = min(segments[0].start_s for segments in sides.values())
    end_s = max(segments[-1].end_s for segments in sides.values())
    x_of = _scale(start_s, end_s)
    return BeforeAfter(
        lines=tuple(
            (name, " ".join(_steps(_pooled(segments), "score", x_of)))
            for name, segments in sides.items()
        ),
        marks=tuple(Tick(x_of(at_s), str(number)) for number, at_s in enumerate(marked_s, 1)),
        ticks=tuple(Tick(x_of(at_s), clock(at_s)) for at_s in _tick_times(start_s, end_s)),
        description="; ".join(f"{name}, {_summary(each)}" for name, each in sides.items()),
    )


def _summary(segments: Sequence[SegmentRow]) -> str:
    lowest = min(segments, key=lambda segment: segment.score)
    return (
        f"{len(segments)} segment{'s' * (len(segments) > 1)} from {clock(segments[0].start_s)} to "
        f"{clock(segments[-1].end_s)}: the lowest score is {lowest.score:.1f} at "
        f"{clock(lowest.start_s)}, the highest {max(each.score for each in segments):.1f}"
    )


def _scale(start_s: float, end_s: float) -> Callable[[float], float]:
    """The place of a time in a timeline."""
    scale = _TIMELINE_WIDTH / max(end_s - start_s, 1e-6)
    return lambda seconds: round((seconds - start_s) * scale, 1)


def _steps(
    segments: Sequence[SegmentRow], figure: str, x_of: Callable[[float], float]
) -> list[str]:
    """The points of a line with a step for each segment."""
    return [
        f"{x_of(time_s)},{_y_of(getattr(step, figure))}"
        for step in segments
        for time_s in (step.start_s, step.end_s)
    ]


@dataclass(frozen=True)
class Bar:
    """A bar of a chart; `label` says what it is, and `value` how long."""

    x: float
    y: float
    width: float
    height: float
    label: str = ""
    value: str = ""


@dataclass(frozen=True)
class Strip:
    """Figures of a video's segments over its time, as bars that stand on 0: 600 wide, 60 high.

    Attributes:
        name: what the figures are.
        bars: one for each segment.
        axis_y: where 0 is.
        labels: values on the axis, from the top; `x` is their height here.
        ticks: the axis of time.
        description: what the picture shows, for those who do not see it.
    """

    name: str
    bars: tuple[Bar, ...]
    axis_y: float
    labels: tuple[Tick, ...]
    ticks: tuple[Tick, ...]
    description: str


def strip(
    name: str,
    times_s: Sequence[tuple[float, float]],
    values: Sequence[float],
    low: float,
    high: float,
    form: str = ".0f",
) -> Strip:
    """The strip of one figure; `low` and `high` are the ends of its axis, which holds 0.

    Of more than 240 segments, each bar is the value of its neighbours that is furthest from 0.

    Args:
        name: what the figure is.
        times_s: start and end of each segment, in order.
        values: of each segment.
        low: 0 or less.
        high: 0 or more.
        form: how a value is shown.
    """
    start_s, end_s = times_s[0][0], times_s[-1][1]
    scale = _TIMELINE_WIDTH / max(end_s - start_s, 1e-6)

    def y_of(value: float) -> float:
        return round(_STRIP_HEIGHT * (high - max(low, min(value, high))) / (high - low), 1)

    bars = []
    for first, last in _groups(len(values)):
        value = max(values[first:last], key=abs)
        left, right = (
            (at_s - start_s) * scale for at_s in (times_s[first][0], times_s[last - 1][1])
        )
        top, bottom = sorted((y_of(value), y_of(0.0)))
        width = round(max(right - left - 1, 0.5), 1)
        bars.append(Bar(round(left, 1), top, width, max(round(bottom - top, 1), 0.5)))
    lowest, highest = (choose(range(len(values)), key=values.__getitem__) for choose in (min, max))
    return Strip(
        name=name,
        bars=tuple(bars),
        axis_y=y_of(0.0),
        labels=tuple(Tick(y_of(each), f"{each:g}") for each in dict.fromkeys((high, 0.0, low))),
        ticks=tuple(
            Tick(round((at_s - start_s) * scale, 1), clock(at_s))
            for at_s in _tick_times(start_s, end_s)
        ),
        description=(
            f"{name}: lowest {values[lowest]:{form}} at {clock(times_s[lowest][0])}, "
            f"highest {values[highest]:{form}} at {clock(times_s[highest][0])}"
        ),
    )


@dataclass(frozen=True)
class Waterfall:
    """Parts that add up, one bar below the other: 400 wide, 24 for each bar.

    Attributes:
        bars: the base, each part, and the sum.
        joints: where one bar ends and the next begins.
        ticks: the axis of scores.
        height: of all bars.
        description: what the picture shows, for those who do not see it.
    """

    bars: tuple[Bar, ...]
    joints: tuple[float, ...]
    ticks: tuple[Tick, ...]
    height: float
    description: str


def waterfall(base: tuple[str, float], parts: Mapping[str, float], total: str) -> Waterfall:
    """The waterfall of a base, the parts that are added to it, and their sum, named `total`."""
    ends = [base[1]]
    for part in parts.values():
        ends.append(ends[-1] + part)
    low, high = min(0.0, *ends), max(100.0, *ends)

    def x_of(value: float) -> float:
        return round(_WATERFALL_WIDTH * (value - low) / (high - low), 1)

    spans = [(base[0], 0.0, base[1], f"{base[1]:.1f}")]
    spans += [
        (name, before, after, f"{after - before:+.1f}")
        for name, (before, after) in zip(parts, pairwise(ends), strict=True)
    ]
    # parts that add up to 0 may leave a rest
    spans.append((total, 0.0, ends[-1], f"{abs(ends[-1]):.1f}"))
    bars = [
        Bar(
            x=x_of(min(before, after)),
            y=index * _ROW_HEIGHT,
            width=max(round(x_of(max(before, after)) - x_of(min(before, after)), 1), 1.0),
            height=_ROW_HEIGHT - 6,
            label=name,
            value=value,
        )
        for index, (name, before, after, value) in enumerate(spans)
    ]
    return Waterfall(
        bars=tuple(bars),
        joints=tuple(x_of(end) for end in ends),
        ticks=tuple(Tick(x_of(score), str(score)) for score in range(0, 101, 25)),
        height=_ROW_HEIGHT * len(bars),
        description=", ".join(f"{bar.label} {bar.value}" for bar in bars),
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
    steps = []
    for first, last in _groups(len(segments)):
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


def _groups(number: int) -> Iterator[tuple[int, int]]:
    """At most `_MAX_STEPS` groups of neighbours: the first of each, and that of the next one."""
    count = min(number, _MAX_STEPS)
    return pairwise(index * number // count for index in range(count + 1))


def _tick_times(start_s: float, end_s: float) -> list[float]:
    """Round times, at most six."""
    span_s = end_s - start_s
    step_s = next((step for step in _TICK_STEPS_S if span_s / step < _MAX_TICKS), span_s or 1.0)
    return [start_s + index * step_s for index in range(int(span_s / step_s + 1e-6) + 1)]
