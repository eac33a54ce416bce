"""One curve a size, the envelope over them, its hull, crossovers."""

import math

import numpy as np
import pytest

from ladder.errors import CurveError
from ladder.recommend.envelope import Envelope, Sample, SizeCurve


def quality_of(height_px: int, rate_kbps: float) -> float:
    """A larger size has a higher ceiling and needs more bits: smooth, so curves can be checked."""
    ceiling = 100 * (1 - math.exp(-height_px / 250))
    return ceiling * (1 - math.exp(-((rate_kbps / (0.9 * height_px)) ** 0.8)))


def samples(height_px: int, rates: list[float]) -> list[Sample]:
    """Samples whose CRF falls by 6 where the rate doubles."""
    return [
        Sample(
            height_px=height_px,
            control=round(50 - 6 * math.log2(rate / 50)),
            rate_kbps=rate,
            vmaf=quality_of(height_px, rate),
            vmaf_p5=quality_of(height_px, rate) - 4,
        )
        for rate in rates
    ]


def doubled(low: float, count: int) -> list[float]:
    return [low * 2**step for step in range(count)]


def test_a_curve_reaches_the_quality_of_its_own_end() -> None:
    # cubics are off by rounding at their ends: without care some curves did not reach themselves
    for top in np.linspace(60, 99, 200):
        rising = [
            Sample(height_px=54, control=44 - 12 * step, rate_kbps=37.3 * 2.7**step,
                   vmaf=vmaf, vmaf_p5=vmaf)
            for step, vmaf in enumerate((13.7, 41.1, float(top)))
        ]  # fmt: skip
        alone = Envelope([SizeCurve(rising)])
        assert alone.cheapest_for(alone.quality_at(alone.high_kbps))[1] <= alone.high_kbps * 1.0001


SIZES = {270: doubled(50, 6), 540: doubled(100, 6), 1080: doubled(200, 6)}


@pytest.fixture(scope="module")
def envelope() -> Envelope:
    return Envelope(SizeCurve(samples(size, rates)) for size, rates in SIZES.items())


def test_a_curve_goes_through_its_samples_and_is_close_between_them() -> None:
    curve = SizeCurve(samples(540, doubled(100, 6)))
    assert (curve.low_kbps, curve.high_kbps) == (100, 3200)
    for rate in (100, 400, 3200):
        assert curve.quality_at(rate) == pytest.approx(quality_of(540, rate))
    for rate in (140, 570, 2000):
        assert curve.quality_at(rate) == pytest.approx(quality_of(540, rate), abs=0.7)


def test_rate_and_quality_are_inverse() -> None:
    curve = SizeCurve(samples(540, doubled(100, 6)))
    for rate in (130.0, 500.0, 3100.0):
        assert curve.rate_for(curve.quality_at(rate)) == pytest.approx(rate, rel=1e-6)
    assert curve.rate_for(99.9) == math.inf
    assert curve.rate_for(1) == 100  # nothing cheaper was measured


def test_a_rate_and_what_to_ask_the_encoder_for_are_inverse() -> None:
    curve = SizeCurve(samples(540, doubled(100, 6)))
    assert curve.control_for(400) == pytest.approx(32)
    assert curve.rate_of(32) == pytest.approx(400)
    assert curve.rate_of(29) == pytest.approx(400 * 2**0.5, rel=0.01)
    assert (curve.measured(60), curve.measured(30), curve.measured(1)) == (44, 30, 14)


def test_bitrates_ascend_with_the_rate() -> None:
    asked = [
        Sample(540, control, rate, quality, quality)
        for control, rate, quality in [(1000, 950, 80), (250, 240, 50), (500, 480, 65)]
    ]
    curve = SizeCurve(asked)
    assert curve.control_for(480) == pytest.approx(500)
    assert curve.rate_of(1000) == pytest.approx(950)


def test_samples_that_do_not_rise_are_not_on_the_curve() -> None:
    odd = Sample(540, 20, 3300, 60.0, 50.0)  # dear and bad
    assert SizeCurve([*samples(540, SIZES[540]), odd]).high_kbps == 3200
    with pytest.raises(CurveError, match="540p has 3 labelled encodes, of which 1 rise"):
        SizeCurve([Sample(540, 30 + n, 100 + n, 50 - n, 40) for n in range(3)])


def test_the_5th_percentile_has_a_curve_of_its_own() -> None:
    plain, p5 = (SizeCurve(samples(540, SIZES[540]), is_p5=is_p5) for is_p5 in (False, True))
    assert plain.quality_at(500) - p5.quality_at(500) == pytest.approx(4)


def test_the_envelope_is_the_best_of_all_sizes(envelope: Envelope) -> None:
    for rate in (55.0, 300.0, 900.0, 5000.0):
        reached = [c.quality_at(rate) for c in envelope.curves if c.low_kbps <= rate]
        assert envelope.quality_at(rate) == max(reached)
        assert envelope.best_at(rate).quality_at(rate) == max(reached)
    line = np.asarray(envelope.line())
    assert np.all(np.diff(line, axis=0) >= -1e-9)  # more bits are never worse
    assert (envelope.low_kbps, envelope.high_kbps) == (50, 6400)


def test_the_cheapest_size_for_a_quality(envelope: Envelope) -> None:
    sizes = [envelope.cheapest_for(quality)[0].height_px for quality in (20, 60, 95)]
    assert sizes == [270, 540, 1080]
    for quality in (20, 60, 95):
        assert envelope.quality_at(envelope.cheapest_for(quality)[1]) == pytest.approx(quality)
    with pytest.raises(CurveError, match=r"no encode reaches 99\.9: the best has 97"):
        envelope.cheapest_for(99.9)


def test_crossovers_are_where_two_curves_meet(envelope: Envelope) -> None:
    first, second = envelope.crossovers()
    assert (first.from_height_px, first.to_height_px) == (270, 540)
    assert (second.from_height_px, second.to_height_px) == (540, 1080)
    for crossover, (small, large) in ((first, (270, 540)), (second, (540, 1080))):
        curves = {curve.height_px: curve for curve in envelope.curves}
        meeting = [curves[size].quality_at(crossover.rate_kbps) for size in (small, large)]
        assert meeting[0] == pytest.approx(meeting[1], abs=1e-6)
        assert crossover.quality == pytest.approx(meeting[0], abs=1e-6)
        # where the true curves meet, up to what lies between the samples
        true = [quality_of(size, crossover.rate_kbps) for size in (small, large)]
        assert true[0] == pytest.approx(true[1], abs=1.5)
        assert not crossover.is_bound


def test_a_crossover_at_the_cheapest_sample_is_a_bound() -> None:
    small, large = samples(270, SIZES[270]), samples(1080, [1600, 3200, 6400])
    (only,) = Envelope([SizeCurve(small), SizeCurve(large)]).crossovers()
    assert only.is_bound
    assert only.rate_kbps == pytest.approx(1600, rel=0.02)


def test_the_hull_is_above_the_envelope_and_bends_one_way(envelope: Envelope) -> None:
    corners = np.asarray([(math.log(rate), quality) for rate, quality in envelope.hull()])
    slopes = np.diff(corners[:, 1]) / np.diff(corners[:, 0])
    assert np.all(np.diff(slopes) < 1e-9)
    line = np.asarray([(math.log(rate), quality) for rate, quality in envelope.line()])
    gap = np.interp(line[:, 0], corners[:, 0], corners[:, 1]) - line[:, 1]
    assert gap.min() > -1e-9
    assert gap.max() > 0.05  # near a crossover the envelope has a dent
