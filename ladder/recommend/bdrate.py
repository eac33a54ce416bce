"""BD-rate and BD-VMAF: how two sets of rate-quality points compare on average.

Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33 (2001): BD-rate
is the mean difference of log rate over the qualities that both curves reach, BD-VMAF the mean
difference of quality over the log rates that both have. The curves are piecewise, by PCHIP and
Akima, as in Herglotz et al., "The Bjøntegaard Bible", arXiv 2304.12852. Its authors' program
`bjontegaard` gives the same values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from ladder.errors import CurveError
from ladder.recommend.curves import Curve, Method
from ladder.recommend.points import Point, rising

MIN_POINTS = 3
"""Points that a curve must have, after those that do not rise are left out."""

MIN_OVERLAP = 0.5
"""Least share of the range of both curves together that both must cover."""

_RESAMPLES = 1000
_POINT_RESAMPLES = 400  # each has curves of its own, which takes a millisecond
_MIN_RESAMPLES = 100  # of four points, three different ones are drawn in two of three
_CONFIDENCE = 0.95
_FULL_QUALITY = 100.0  # VMAF


class Basis(StrEnum):
    """What is drawn with replacement for the interval."""

    SOURCES = "sources"
    POINTS = "points"


class Interval(NamedTuple):
    """Bounds of the middle 95 % of resampled values; NaN if they cannot be told."""

    low: float
    high: float

    def is_verdict(self, value: float) -> bool:
        """Whether `value` is clear: the interval holds no 0 and is narrower than the value."""
        return self.low * self.high > 0 and abs(value) > self.high - self.low


class Delta(NamedTuple):
    """A mean difference, B against A, and its 95 % interval."""

    value: float
    interval: Interval

    @property
    def is_verdict(self) -> bool:
        """Whether it is larger than what the choice of sources or points changes."""
        return self.interval.is_verdict(self.value)


@dataclass(frozen=True)
class SourceDelta:
    """The differences of one source: BD-rate in percent, BD-VMAF in points, by method.

    `num_left_out` counts the points of A and B that do not rise with the rate.
    """

    source: str
    rate: Mapping[Method, float]
    quality: Mapping[Method, float]
    num_points: tuple[int, int]
    num_left_out: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """B against A: means over sources with 95 % intervals, and what could not be compared.

    Attributes:
        sources: the sources that were compared.
        failed: source -> the reason why it was not.
        rate: BD-rate by method, percent; negative: B needs less bitrate.
        quality: BD-VMAF by method, points; positive: B is better.
        basis: what the intervals were drawn over; points where there is one source.
        is_log_vmaf: whether BD-rate is over a logarithmic axis of VMAF.
    """

    sources: tuple[SourceDelta, ...]
    failed: Mapping[str, str]
    rate: Mapping[Method, Delta]
    quality: Mapping[Method, Delta]
    basis: Basis
    is_log_vmaf: bool

    @property
    def is_verdict(self) -> bool:
        """Whether BD-rate is clear by both methods, and both have the same sign."""
        deltas = list(self.rate.values())
        signs = {math.copysign(1.0, delta.value) for delta in deltas}
        return all(delta.is_verdict for delta in deltas) and len(signs) == 1


@dataclass(frozen=True)
class DeltaOptions:
    """How points become differences.

    Attributes:
        is_log_vmaf: BD-rate is a mean over -log10(1 - VMAF / 100) instead of VMAF.
        min_overlap: least share of the range of both curves together that both must cover.
        seed: of the resampling.
    """

    is_log_vmaf: bool = False
    min_overlap: float = MIN_OVERLAP
    seed: int = field(default=0, kw_only=True)


PLAIN = DeltaOptions()


def compare(
    anchor: Mapping[str, Sequence[Point]],
    test: Mapping[str, Sequence[Point]],
    options: DeltaOptions = PLAIN,
) -> Comparison:
    """Compare B (`test`) with A (`anchor`), source by source.

    The interval is a percentile bootstrap over sources (Efron 1979). One source has no spread over
    sources: there, points of both curves are drawn, which tells only how much the result hangs on
    single points.

    Raises:
        CurveError: no source can be compared; the message has the first reason.
    """
    compared: list[SourceDelta] = []
    failed: dict[str, str] = {}
    for source in dict.fromkeys([*anchor, *test]):
        try:
            compared.append(
                _source_delta(source, anchor.get(source, ()), test.get(source, ()), options)
            )
        except CurveError as error:
            failed[source] = str(error)
    if not compared:
        raise CurveError(next(iter(failed.values())))
    rng = np.random.default_rng(options.seed)
    if len(compared) > 1:
        drawn = _drawn_sources(compared, rng)
    else:
        source = compared[0].source
        drawn = _drawn_points(anchor[source], test[source], options, rng)
    return Comparison(
        sources=tuple(compared),
        failed=failed,
        rate={m: _delta([each.rate[m] for each in compared], drawn.rate[m]) for m in Method},
        quality={
            m: _delta([each.quality[m] for each in compared], drawn.quality[m]) for m in Method
        },
        basis=Basis.SOURCES if len(compared) > 1 else Basis.POINTS,
        is_log_vmaf=options.is_log_vmaf,
    )


def bd_rate(anchor: Sequence[Point], test: Sequence[Point], method: Method) -> float:
    """BD-rate of `test` against `anchor` in percent; negative: it needs less bitrate.

    Args:
        anchor: points that rise strictly in rate and quality.
        test: the same.
        method: of interpolation.

    Raises:
        CurveError: no quality is reached by both.
    """
    curves = [
        Curve([p.quality for p in points], [math.log10(p.rate_kbps) for p in points], method)
        for points in (anchor, test)
    ]
    return 100 * (10 ** _mean_difference(*curves) - 1)


def bd_quality(anchor: Sequence[Point], test: Sequence[Point], method: Method) -> float:
    """The mean quality of `test` above `anchor` at equal rates; see `bd_rate`.

    Raises:
        CurveError: no rate is reached by both.
    """
    curves = [
        Curve([math.log10(p.rate_kbps) for p in points], [p.quality for p in points], method)
        for points in (anchor, test)
    ]
    return _mean_difference(*curves)


def log_quality(points: Sequence[Point]) -> list[Point]:
    """Points with -log10(1 - VMAF / 100) as their quality, without those of VMAF 100.

    90 is 1, 99 is 2. Equal steps halve the distance to 100 equally often, so what happens near
    the top of VMAF's scale counts as much as it does for viewers of good encodes.

    Raises:
        CurveError: a quality is not between 0 and 100.
    """
    for point in points:
        if not 0 <= point.quality <= _FULL_QUALITY:
            raise CurveError(
                f"a quality is {point.quality:g}, not VMAF from 0 to 100: leave out --log-vmaf"
            )
    return [
        Point(point.rate_kbps, -math.log10(1 - point.quality / _FULL_QUALITY))
        for point in points
        if point.quality < _FULL_QUALITY
    ]


def _mean_difference(anchor: Curve, test: Curve) -> float:
    low, high = max(anchor.low, test.low), min(anchor.high, test.high)
    if low >= high:
        raise CurveError("the two curves have no range in common")
    return (test.integral(low, high) - anchor.integral(low, high)) / (high - low)


def _source_delta(
    source: str, anchor: Sequence[Point], test: Sequence[Point], options: DeltaOptions
) -> SourceDelta:
    """The differences of one source.

    Raises:
        CurveError: too few points rise, or the ranges overlap too little.
    """
    name = f"source {source}" if source else "the table"
    sides = {"A": rising(anchor), "B": rising(test)}
    for side, points in sides.items():
        if len(points) < MIN_POINTS:
            given = len(anchor if side == "A" else test)
            raise CurveError(
                f"{name}: {side} has {given} points, of which {len(points)} rise in rate and "
                f"quality; a curve needs {MIN_POINTS}: encode at more rates"
            )
    _require_overlap(name, "qualities", sides, options.min_overlap)
    _require_overlap(name, "rates", sides, options.min_overlap)
    rate, quality = _deltas(sides["A"], sides["B"], options)
    return SourceDelta(
        source=source,
        rate=rate,
        quality=quality,
        num_points=(len(sides["A"]), len(sides["B"])),
        num_left_out=(len(anchor) - len(sides["A"]), len(test) - len(sides["B"])),
    )


def _deltas(
    anchor: Sequence[Point], test: Sequence[Point], options: DeltaOptions
) -> tuple[dict[Method, float], dict[Method, float]]:
    """BD-rate and BD-VMAF of rising points, by method."""
    rated = (anchor, test)
    if options.is_log_vmaf:
        rated = (log_quality(anchor), log_quality(test))
        if min(map(len, rated)) < 2:
            raise CurveError("fewer than two points are below VMAF 100: leave out --log-vmaf")
    return (
        {method: bd_rate(*rated, method) for method in Method},
        {method: bd_quality(anchor, test, method) for method in Method},
    )


def _require_overlap(
    name: str, what: str, sides: Mapping[str, Sequence[Point]], min_overlap: float
) -> None:
    """Raise CurveError unless both curves share enough of their range."""
    ranges = {}
    for side, points in sides.items():
        values = [
            math.log10(point.rate_kbps) if what == "rates" else point.quality for point in points
        ]
        ranges[side] = (values[0], values[-1])
    (low_a, high_a), (low_b, high_b) = ranges.values()
    shared = min(high_a, high_b) - max(low_a, low_b)
    share = max(0.0, shared) / (max(high_a, high_b) - min(low_a, low_b))
    if share >= min_overlap and share > 0:
        return
    texts = [
        f"{side} has {what} from {_shown(what, low)} to {_shown(what, high)}"
        for side, (low, high) in ranges.items()
    ]
    raise CurveError(
        f"{name}: {' and '.join(texts)}: they share {100 * share:.0f} % of their range, below "
        f"{100 * min_overlap:.0f} %: encode both over the same range"
        + (", or lower --min-overlap" if share > 0 else "")
    )


def _shown(what: str, value: float) -> str:
    return f"{10**value:.0f} kbit/s" if what == "rates" else f"{value:.1f}"


@dataclass(frozen=True)
class _Drawn:
    """Resampled values by method."""

    rate: dict[Method, list[float]]
    quality: dict[Method, list[float]]


def _drawn_sources(compared: Sequence[SourceDelta], rng: np.random.Generator) -> _Drawn:
    """Means over as many sources as there are, drawn with replacement."""
    picks = rng.integers(len(compared), size=(_RESAMPLES, len(compared)))

    def means(values: Sequence[float]) -> list[float]:
        found: list[float] = np.asarray(values)[picks].mean(axis=1).tolist()
        return found

    return _Drawn(
        {method: means([each.rate[method] for each in compared]) for method in Method},
        {method: means([each.quality[method] for each in compared]) for method in Method},
    )


def _drawn_points(
    anchor: Sequence[Point], test: Sequence[Point], options: DeltaOptions, rng: np.random.Generator
) -> _Drawn:
    """The differences of one source between curves over points drawn with replacement."""
    drawn = _Drawn({method: [] for method in Method}, {method: [] for method in Method})
    for _ in range(_POINT_RESAMPLES):
        sides = [
            rising({points[pick] for pick in rng.integers(len(points), size=len(points))})
            for points in (anchor, test)
        ]
        if min(map(len, sides)) < MIN_POINTS:
            continue
        try:
            rate, quality = _deltas(sides[0], sides[1], options)
        except CurveError:  # what is left of the two curves does not overlap
            continue
        for method in Method:
            drawn.rate[method].append(rate[method])
            drawn.quality[method].append(quality[method])
    return drawn


def _delta(values: Sequence[float], drawn: Sequence[float]) -> Delta:
    """The mean over sources, with the interval of the resampled means."""
    mean = float(np.mean(values))
    if len(drawn) < _MIN_RESAMPLES:
        return Delta(mean, Interval(math.nan, math.nan))
    low, high = np.quantile(drawn, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Delta(mean, Interval(float(low), float(high)))
