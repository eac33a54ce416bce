"""The best quality at each bitrate over all sizes: one curve a size, their envelope, its hull.

All qualities are measured at one display, that of the source, so that sizes can be compared: a
small encode measured at its own size looks better than it is shown. Rates are on a logarithmic
axis, where the curves are close to straight and a step is a ratio.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ladder.errors import CurveError
from ladder.recommend.curves import Curve, Method, Values
from ladder.recommend.points import Point

MIN_SAMPLES = 3
"""Encodes of one size that make a curve."""

_GRID = 512  # rates over the whole range; finer than any chart
_HALVINGS = 50  # of a range of log rates: far below a bit per second


@dataclass(frozen=True)
class Sample:
    """One labelled encode of a size.

    Attributes:
        height_px: the short side.
        control: what the encoder was asked for: a CRF, or kbit/s.
        rate_kbps: what it spent.
        vmaf: mean over frames, 0 to 100.
        vmaf_p5: 5th percentile of frames.
    """

    height_px: int
    control: int
    rate_kbps: float
    vmaf: float
    vmaf_p5: float

    def quality(self, is_p5: bool) -> float:
        """The 5th percentile or the mean."""
        return self.vmaf_p5 if is_p5 else self.vmaf


class SizeCurve:
    """Quality over bitrate of one size, between its cheapest and its dearest sample.

    Args:
        samples: of one size and one kind of control.
        is_p5: take the 5th percentile of frames for the quality; else the mean.

    Raises:
        CurveError: too few of the samples rise in rate and quality.
    """

    def __init__(self, samples: Sequence[Sample], *, is_p5: bool = False) -> None:
        self.height_px = samples[0].height_px
        rising = _rising(samples, is_p5)
        if len(rising) < MIN_SAMPLES:
            raise CurveError(
                f"{self.height_px}p has {len(samples)} labelled encodes, of which {len(rising)} "
                f"rise in rate and quality; a curve needs {MIN_SAMPLES}"
            )
        log_rates = [math.log(sample.rate_kbps) for sample in rising]
        self.points = [Point(s.rate_kbps, s.quality(is_p5)) for s in rising]
        self._quality = Curve(log_rates, [p.quality for p in self.points], Method.PCHIP)
        controls = [float(sample.control) for sample in rising]
        self._control = Curve(log_rates, controls, Method.PCHIP)
        by_control = sorted(zip(controls, log_rates, strict=True))
        self._log_rate = Curve(
            [control for control, _ in by_control], [rate for _, rate in by_control], Method.PCHIP
        )

    @property
    def low_kbps(self) -> float:
        """Rate of the cheapest sample."""
        return self.points[0].rate_kbps

    @property
    def high_kbps(self) -> float:
        """Rate of the dearest sample."""
        return self.points[-1].rate_kbps

    @property
    def qualities(self) -> tuple[float, float]:
        """The lowest and the highest quality of its samples."""
        return self.points[0].quality, self.points[-1].quality

    def quality_at(self, rate_kbps: float) -> float:
        """The quality at a rate; beyond its ends that of the nearest sample."""
        return float(self._quality(math.log(rate_kbps)))

    def reached_at(self, log_rates: Values) -> Values:
        """The quality for at most each of these rates: -inf below the cheapest sample."""
        # above the dearest sample the same encode still does
        return np.where(log_rates < self._quality.low, -np.inf, self._quality(log_rates))

    def rate_for(self, quality: float) -> float:
        """The lowest rate, kbit/s, that reaches a quality; inf if none of its samples does."""
        lowest, highest = self.qualities
        low, high = self._quality.low, self._quality.high
        # the curve's end may be a last digit above its sample, and it has to reach what it gives
        if quality > max(highest, float(self._quality(high))):
            return math.inf
        if quality <= lowest:
            return self.low_kbps
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._quality(middle) < quality else (low, middle)
        return math.exp(high)

    def control_for(self, rate_kbps: float) -> float:
        """What to ask the encoder for to spend a rate, not rounded."""
        return float(self._control(math.log(rate_kbps)))

    def measured(self, control: int) -> int:
        """`control`, or the nearest that lies between those of the samples."""
        return min(max(control, round(self._log_rate.low)), round(self._log_rate.high))

    def rate_of(self, control: float) -> float:
        """The rate, kbit/s, that the encoder spends if asked for `control`."""
        return math.exp(float(self._log_rate(control)))


def _rising(samples: Sequence[Sample], is_p5: bool) -> list[Sample]:
    """Samples by ascending rate whose quality rises, and whose control rises or falls with it."""
    kept: list[Sample] = []
    ascending = sorted(samples, key=lambda s: (s.rate_kbps, -s.quality(is_p5)))
    sign = 1 if ascending[-1].control > ascending[0].control else -1
    for sample in ascending:
        last = kept[-1] if kept else None
        if last is None or (
            sample.rate_kbps > last.rate_kbps
            and sample.quality(is_p5) > last.quality(is_p5)
            and sign * (sample.control - last.control) > 0
        ):
            kept.append(sample)
    return kept


@dataclass(frozen=True)
class Crossover:
    """Where another size becomes the best, by ascending rate.

    `is_bound`: the new size has no sample below this rate, so it may be the best before.
    """

    rate_kbps: float
    quality: float
    from_height_px: int
    to_height_px: int
    is_bound: bool


class Envelope:
    """The best quality at each rate, over the curves of all sizes.

    Args:
        curves: one a size.

    Raises:
        CurveError: there is no curve.
    """

    def __init__(self, curves: Iterable[SizeCurve]) -> None:
        self.curves = sorted(curves, key=lambda curve: curve.height_px)
        if not self.curves:
            raise CurveError("no size has a curve")
        self.low_kbps = min(curve.low_kbps for curve in self.curves)
        self.high_kbps = max(curve.high_kbps for curve in self.curves)

    def best_at(self, rate_kbps: float) -> SizeCurve:
        """The curve of the size that is best for at most this rate; of equals the smallest."""
        log_rate = np.asarray([math.log(rate_kbps)])
        reached = [float(curve.reached_at(log_rate)[0]) for curve in self.curves]
        return self.curves[int(np.argmax(reached))]

    def quality_at(self, rate_kbps: float) -> float:
        """The best quality for at most this rate, within the range of all samples."""
        inside = min(max(rate_kbps, self.low_kbps), self.high_kbps)
        return self.best_at(inside).quality_at(inside)

    def cheapest_for(self, quality: float) -> tuple[SizeCurve, float]:
        """The size that reaches a quality at the lowest rate, and that rate in kbit/s.

        Raises:
            CurveError: no sample reaches it.
        """
        curve = min(self.curves, key=lambda curve: curve.rate_for(quality))
        rate_kbps = curve.rate_for(quality)
        if math.isinf(rate_kbps):
            best = max(curve.qualities[1] for curve in self.curves)
            raise CurveError(f"no encode reaches {quality:.1f}: the best has {best:.1f}")
        return curve, rate_kbps

    def line(self) -> list[Point]:
        """The envelope as points at evenly spaced log rates, ascending."""
        log_rates, best, _ = self._sampled()
        rates = np.exp(log_rates)
        return [Point(float(r), float(q)) for r, q in zip(rates, best, strict=True)]

    def hull(self) -> list[Point]:
        """The upper convex hull of the envelope in log rate, by ascending rate.

        What lies below it is a mixture of its corners at the same mean log rate.
        """
        corners: list[tuple[float, float]] = []
        log_rates, best, _ = self._sampled()
        for corner in zip(log_rates.tolist(), best.tolist(), strict=True):
            while len(corners) > 1 and _is_below(corners[-1], corners[-2], corner):
                corners.pop()
            corners.append(corner)
        return [Point(math.exp(log_rate), quality) for log_rate, quality in corners]

    def crossovers(self) -> Iterator[Crossover]:
        """Where the best size changes, by ascending rate."""
        log_rates, _, index = self._sampled()
        for left, (a, b) in enumerate(itertools.pairwise(index.tolist())):
            if a != b:
                yield self._crossover(float(log_rates[left]), float(log_rates[left + 1]), a, b)

    def _crossover(self, low: float, high: float, before: int, after: int) -> Crossover:
        ends = [self.curves[before], self.curves[after]]

        def is_after(log_rate: float) -> bool:
            old, new = (float(curve.reached_at(np.asarray([log_rate]))[0]) for curve in ends)
            return new > old

        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if is_after(middle) else (middle, high)
        rate_kbps = math.exp(high)
        return Crossover(
            rate_kbps=rate_kbps,
            quality=ends[1].quality_at(rate_kbps),
            from_height_px=ends[0].height_px,
            to_height_px=ends[1].height_px,
            is_bound=math.isclose(rate_kbps, ends[1].low_kbps, rel_tol=1e-6),
        )

    def _sampled(self) -> tuple[Values, Values, npt.NDArray[np.intp]]:
        """Log rates, the best quality at each, and the index of its curve."""
        log_rates = np.linspace(math.log(self.low_kbps), math.log(self.high_kbps), _GRID)
        reached = np.array([curve.reached_at(log_rates) for curve in self.curves])
        index = np.argmax(reached, axis=0)
        return log_rates, reached[index, np.arange(_GRID)], index


def _is_below(
    point: tuple[float, float], left: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Whether a point is on or below the line from `left` to `right`."""
    run, rise = right[0] - left[0], right[1] - left[1]
    return (point[1] - left[1]) * run <= rise * (point[0] - left[0])
