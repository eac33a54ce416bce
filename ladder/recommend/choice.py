"""Choose rungs on an envelope: spaced evenly in VMAF or in log bitrate, within limits."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from ladder.codecs import CODECS
from ladder.encode.rungs import Rung
from ladder.errors import CurveError
from ladder.recommend.envelope import Envelope, SizeCurve
from ladder.recommend.points import Point

_SPACING = re.compile(r"(vmaf|log):(\d+(?:\.\d+)?)")
_ROUND_KBPS = 2  # significant digits of a bitrate, and one more from 1000 kbit/s on
_TINY = 1e-9


class Axis(StrEnum):
    """What is even between two rungs: a difference of VMAF, or a ratio of bitrates."""

    VMAF = "vmaf"
    LOG = "log"


@dataclass(frozen=True)
class Spacing:
    """The step from one rung to the next: VMAF points above 0, or a ratio above 1."""

    axis: Axis = Axis.VMAF
    step: float = 6.0


def parse_spacing(text: str) -> Spacing:
    """Parse `vmaf:6` or `log:1.7`; raise ValueError for other text."""
    found = _SPACING.fullmatch(text.strip())
    least = {"vmaf": 0.0, "log": 1.0}
    if not found or float(found[2]) <= least[found[1]]:
        raise ValueError(
            f"{text!r} is neither vmaf:POINTS above 0, such as vmaf:6, nor log:RATIO above 1, such "
            "as log:1.7"
        )
    return Spacing(Axis(found[1]), float(found[2]))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the rungs must keep.

    Attributes:
        spacing: from rung to rung, from the top down.
        top_quality: quality of the top rung, or the best that is reached.
        bottom_quality: no rung is below it, but for the top one.
        min_kbps: lowest bitrate of a rung; None: that of the cheapest sample.
        max_kbps: highest bitrate of a rung; None: no limit.
        max_rungs: most rungs; where the spacing gives more, the steps are widened evenly.

    Raises:
        CurveError: a limit is not a finite number.
    """

    spacing: Spacing = Spacing()
    top_quality: float = 95.0
    bottom_quality: float = 40.0
    min_kbps: float | None = None
    max_kbps: float | None = None
    max_rungs: int = 10

    def __post_init__(self) -> None:
        for key in ("top_quality", "bottom_quality", "min_kbps", "max_kbps"):
            if not math.isfinite(getattr(self, key) or 0.0):
                raise CurveError(f"{key} is {getattr(self, key)}, not a finite number")


@dataclass(frozen=True)
class Delivery:
    """How rungs are encoded, the same for probes and chosen rungs.

    Attributes:
        codec: a key of `ladder.codecs.CODECS`.
        is_crf: by CRF; else by bitrate.
        preset: effort; None takes the codec's default.
    """

    codec: str = "libx264"
    is_crf: bool = True
    preset: str | None = None

    def rung(self, height_px: int, control: int) -> Rung:
        """The rung of a size at a CRF or a bitrate in kbit/s."""
        key = "crf" if self.is_crf else "bitrate_kbps"
        settings = {key: control, "codec": self.codec, "preset": self.preset}
        return Rung(height_px=height_px, **settings)  # type: ignore[arg-type]

    def rounded(self, control: float, *, is_up: bool | None = None) -> int:
        """A CRF or bitrate that an encoder takes: the nearest, or the next to spend more or less.

        Args:
            control: what would be exact.
            is_up: True spends more bits, False fewer; None takes the nearest.
        """
        step = 1 if self.is_crf else _kbps_step(control)
        is_larger = is_up != self.is_crf  # a larger CRF spends fewer bits
        turn = round if is_up is None else (math.ceil if is_larger else math.floor)
        whole = int(turn(control / step)) * step
        low, high = (1, CODECS[self.codec].max_crf) if self.is_crf else (10, 1_000_000)
        return min(max(whole, low), high)


def _kbps_step(kbps: float) -> int:
    digits = _ROUND_KBPS + (kbps >= 1000)
    return max(1, int(10 ** (math.floor(math.log10(max(kbps, 1))) + 1 - digits)))


@dataclass(frozen=True)
class Choice:
    """A chosen rung, and what the curve of its size predicts of it.

    Attributes:
        rung: what to encode.
        rate_kbps: predicted bitrate.
        quality: predicted quality, as chosen by.
        below_hull: how far the prediction is below the convex hull of all sizes.
    """

    rung: Rung
    rate_kbps: float
    quality: float
    below_hull: float


def choose_rungs(envelope: Envelope, delivery: Delivery, limits: Limits) -> list[Choice]:
    """The rungs of a ladder, the best first; each is the cheapest size for its quality.

    Raises:
        CurveError: nothing that was measured lies within the limits.
    """
    hull = envelope.hull()
    chosen: list[Choice] = []
    for curve, rate_kbps in _operating_points(envelope, limits):
        control = _control_within(curve, rate_kbps, delivery, limits)
        rate = curve.rate_of(control)
        choice = Choice(
            rung=delivery.rung(curve.height_px, control),
            rate_kbps=rate,
            quality=curve.quality_at(rate),
            below_hull=0.0,
        )
        # rounding may take two points to one rung, or to a rung that is not worse but cheaper
        if all(
            choice.quality < before.quality and choice.rate_kbps < before.rate_kbps
            for before in chosen
        ):
            gap = _on_line(hull, math.log(rate)) - choice.quality
            chosen.append(replace(choice, below_hull=max(0.0, gap)))
    return chosen


def _operating_points(envelope: Envelope, limits: Limits) -> Iterator[tuple[SizeCurve, float]]:
    """The size and the rate of each step, from the top down."""
    low_kbps = max(limits.min_kbps or 0.0, envelope.low_kbps)
    high_kbps = min(limits.max_kbps or math.inf, envelope.high_kbps)
    if low_kbps > high_kbps:
        raise CurveError(
            f"no encode lies between the limits of bitrate: what was measured has "
            f"{envelope.low_kbps:.0f} to {envelope.high_kbps:.0f} kbit/s"
        )
    lowest = envelope.quality_at(low_kbps)
    top = min(limits.top_quality, envelope.quality_at(high_kbps))
    bottom = min(max(limits.bottom_quality, lowest), top)
    if lowest > top:
        raise CurveError(
            f"the cheapest encode within the limits, {low_kbps:.0f} kbit/s, has {lowest:.1f}, "
            f"above the wanted top of {limits.top_quality:.1f}: lower --min-kbps or raise "
            "--top-vmaf"
        )
    spacing = limits.spacing
    if spacing.axis == Axis.VMAF:
        for quality in even_steps(top, bottom, spacing.step, limits.max_rungs):
            yield envelope.cheapest_for(quality)
        return
    first, last = (math.log(envelope.cheapest_for(quality)[1]) for quality in (top, bottom))
    for log_rate in even_steps(first, last, math.log(spacing.step), limits.max_rungs):
        rate_kbps = max(math.exp(log_rate), envelope.low_kbps)
        yield envelope.best_at(rate_kbps), rate_kbps


def even_steps(top: float, bottom: float, step: float, max_count: int) -> list[float]:
    """Values from `top` down to `bottom` or just above it, `step` apart, at most `max_count`.

    If there would be more, the steps are widened so that the last value is `bottom`.
    """
    count = int((top - bottom) / step + _TINY) + 1
    if count > max_count:
        count, step = max_count, (top - bottom) / max(1, max_count - 1)
    return [top - index * step for index in range(count)]


def _control_within(curve: SizeCurve, rate_kbps: float, delivery: Delivery, limits: Limits) -> int:
    """The CRF or bitrate nearest to a rate of a size, rounded so that no limit is passed."""
    exact = curve.control_for(rate_kbps)
    control = curve.measured(delivery.rounded(exact))
    rate = curve.rate_of(control)
    if limits.max_kbps and rate > limits.max_kbps:
        return curve.measured(delivery.rounded(exact, is_up=False))
    # a top rung may be below the bottom, and stays there
    bottom = min(limits.bottom_quality, curve.quality_at(rate_kbps) - _TINY)
    if rate < (limits.min_kbps or 0.0) or curve.quality_at(rate) < bottom:
        return curve.measured(delivery.rounded(exact, is_up=True))
    return control


def _on_line(corners: Sequence[Point], log_rate: float) -> float:
    """The quality at a log rate on straight lines between points of (kbit/s, quality)."""
    log_rates = [math.log(rate) for rate, _ in corners]
    return float(np.interp(log_rate, log_rates, [quality for _, quality in corners]))
