"""BD-rate and BD-VMAF: the values of `bjontegaard`, intervals, verdicts, and what is refused."""

import math
from collections.abc import Sequence

import bjontegaard
import numpy as np
import pytest

from ladder.errors import CurveError
from ladder.recommend.bdrate import (
    Basis,
    DeltaOptions,
    Interval,
    bd_quality,
    bd_rate,
    compare,
    log_quality,
)
from ladder.recommend.curves import Method
from ladder.recommend.points import Point, rising

A = [Point(400, 61.2), Point(800, 74.9), Point(1600, 85.0), Point(3200, 91.8), Point(6400, 95.1)]
B = [Point(330, 60.0), Point(700, 75.1), Point(1300, 84.8), Point(2700, 92.1), Point(5600, 95.4)]


def random_curve(seed: int) -> list[Point]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(4, 9))
    rates = 200 * np.exp(np.cumsum(rng.uniform(0.2, 0.9, count)))
    quality = 40 + 50 * np.cumsum(rng.uniform(0.1, 1, count)) / count
    return [Point(float(r), float(q)) for r, q in zip(rates, quality, strict=True)]


def scaled(points: Sequence[Point], factor: float, more: float = 0.0) -> list[Point]:
    return [Point(point.rate_kbps * factor, point.quality + more) for point in points]


def twice(points: list[Point]) -> dict[str, list[Point]]:
    """Two sources, of which whole ones are drawn: faster than points."""
    return {"one": points, "two": points}


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize(
    ("anchor", "test"),
    [(A, B), (B, A), (A[1:], B[:4]), *((random_curve(n), random_curve(n + 99)) for n in range(12))],
)
def test_the_values_are_those_of_bjontegaard(
    method: Method, anchor: list[Point], test: list[Point]
) -> None:
    given = [list(map(list, zip(*points, strict=True))) for points in (anchor, test)]
    options = {"method": method.value, "require_matching_points": False, "min_overlap": 0}
    (rate_a, quality_a), (rate_b, quality_b) = given
    theirs = bjontegaard.bd_rate(rate_a, quality_a, rate_b, quality_b, **options)
    assert bd_rate(anchor, test, method) == pytest.approx(theirs, abs=1e-6)
    theirs = bjontegaard.bd_psnr(rate_a, quality_a, rate_b, quality_b, **options)
    assert bd_quality(anchor, test, method) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("method", Method)
def test_known_differences_come_out(method: Method) -> None:
    assert bd_rate(A, scaled(A, 0.8), method) == pytest.approx(-20)
    assert bd_quality(A, scaled(A, 1, 1.5), method) == pytest.approx(1.5)


def test_a_logarithmic_axis_weighs_the_top_of_the_scale() -> None:
    rates, values = zip(*log_quality([Point(1, 90), Point(2, 99), Point(3, 100)]), strict=True)
    assert rates == (1, 2)
    assert values == pytest.approx((1, 2))
    # the same saving everywhere is the same on any axis; one at the top alone weighs more
    top = [*A[:3], *scaled(A[3:], 0.5)]
    plain = compare(twice(A), twice(top)).rate[Method.PCHIP].value
    logarithmic = compare(twice(A), twice(top), DeltaOptions(is_log_vmaf=True))
    assert logarithmic.rate[Method.PCHIP].value < plain < 0
    even = compare(twice(A), twice(scaled(A, 0.8)), DeltaOptions(is_log_vmaf=True))
    assert even.rate[Method.AKIMA].value == pytest.approx(-20)


def test_quality_beyond_vmafs_scale_has_no_logarithm() -> None:
    with pytest.raises(CurveError, match="not VMAF from 0 to 100"):
        compare({"": scaled(A, 1, 20)}, {"": scaled(A, 1, 20)}, DeltaOptions(is_log_vmaf=True))


# ---- intervals and verdicts


def test_sources_that_agree_give_a_narrow_interval_and_a_verdict() -> None:
    anchor = {f"s{n}": random_curve(n) for n in range(8)}
    test = {name: scaled(points, 0.78 + 0.005 * n)
            for n, (name, points) in enumerate(anchor.items())}  # fmt: skip
    found = compare(anchor, test)
    assert found.basis == Basis.SOURCES
    rate = found.rate[Method.PCHIP]
    assert rate.value == pytest.approx(-20.25, abs=0.01)
    assert rate.value - 2 < rate.interval.low < rate.value < rate.interval.high < rate.value + 2
    assert found.is_verdict


def test_sources_that_differ_give_no_verdict() -> None:
    anchor = {f"s{n}": A for n in range(6)}
    test = {f"s{n}": scaled(A, 0.7 if n % 2 else 1.25) for n in range(6)}
    found = compare(anchor, test)
    low, high = found.rate[Method.PCHIP].interval
    assert low < 0 < high
    assert not found.is_verdict


def test_an_interval_wider_than_the_value_is_no_verdict() -> None:
    assert Interval(-12, -8).is_verdict(-10)
    assert not Interval(-12, -1).is_verdict(-6)  # all below 0, and 11 wide
    assert not Interval(-1, 1).is_verdict(9)
    assert not Interval(math.nan, math.nan).is_verdict(-10)


def test_one_source_draws_points() -> None:
    found = compare({"s": A}, {"s": scaled(A, 0.8)})
    assert found.basis == Basis.POINTS
    rate = found.rate[Method.AKIMA]
    assert rate.value == pytest.approx(-20)
    assert rate.interval.low < -20 < rate.interval.high
    assert compare({"s": A}, {"s": scaled(A, 0.8)}) == found  # drawn with a fixed seed


def test_four_points_are_enough_for_an_interval() -> None:
    interval = compare({"s": A[:4]}, {"s": scaled(A[:4], 0.8)}).rate[Method.PCHIP].interval
    assert all(map(math.isfinite, interval))


# ---- what is refused


def test_points_that_do_not_rise_are_left_out_and_counted() -> None:
    saturated = [*A, Point(9000, 95.1), Point(12000, 95.0)]
    assert rising(reversed(saturated)) == A
    found = compare(twice(saturated), twice(scaled(A, 0.8)))
    assert found.sources[0].num_left_out == (2, 0)
    assert found.sources[0].num_points == (5, 5)
    assert found.rate[Method.PCHIP].value == pytest.approx(-20)


def test_of_two_points_of_one_rate_the_better_one_counts() -> None:
    assert rising([Point(1, 50), Point(1, 60), Point(2, 70)]) == [Point(1, 60), Point(2, 70)]


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ([Point(400, 20), Point(800, 30), Point(1600, 40)],
         "qualities from 61.2 to 95.1.*qualities from 20.0 to 40.0.*share 0 %"),
        ([Point(10, 60), Point(20, 80), Point(30, 95)], "rates from 400 kbit/s to 6400 kbit/s"),
        ([Point(400, 61), Point(800, 75)], "B has 2 points, of which 2 rise"),
        ([Point(400, 61), Point(800, 60), Point(900, 59)], "B has 3 points, of which 1 rise"),
        ([], "B has 0 points"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_with_its_ranges(
    test: list[Point], message: str
) -> None:
    with pytest.raises(CurveError, match=message):
        compare({"s": A}, {"s": test})


def test_a_small_overlap_is_refused_unless_it_is_asked_for() -> None:
    high = [Point(3000, 90), Point(6000, 95), Point(12000, 98), Point(20000, 99)]
    with pytest.raises(CurveError, match=r"share 13 % .*below 50 %.*--min-overlap"):
        compare({"s": A}, {"s": high})
    found = compare(twice(A), twice(high), DeltaOptions(min_overlap=0.1))
    assert math.isfinite(found.rate[Method.PCHIP].value)


def test_a_source_that_cannot_be_compared_does_not_stop_the_others() -> None:
    found = compare({**twice(A), "t": A, "only-a": A}, {**twice(B), "t": B[:2], "only-b": B})
    assert [each.source for each in found.sources] == ["one", "two"]
    assert set(found.failed) == {"t", "only-a", "only-b"}
    assert "source only-a: B has 0 points" in found.failed["only-a"]
