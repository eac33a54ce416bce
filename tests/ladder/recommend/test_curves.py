"""Curves through points: scipy's PCHIP and Akima, evaluated and integrated."""

import numpy as np
import pytest
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

from ladder.recommend.curves import Curve, Method

REFERENCE = {Method.PCHIP: PchipInterpolator, Method.AKIMA: Akima1DInterpolator}

POINTS = {
    "two": ([0.0, 2.0], [1.0, 5.0]),
    "three": ([0.0, 1.0, 3.0], [1.0, 2.0, 1.5]),
    "straight": ([0.0, 1.0, 2.0, 5.0], [3.0, 3.0, 3.0, 3.0]),
    "corner": ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]),
    "up and down": ([0.0, 1.0, 1.5, 4.0, 4.5], [0.0, 3.0, -1.0, 2.0, 2.0]),
    "ends that bend": ([0.0, 1.0, 2.0, 3.0], [0.0, 10.0, 9.0, 30.0]),
}


def random_points(seed: int) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 12))
    return list(np.cumsum(rng.uniform(0.01, 2, count))), list(rng.normal(size=count))


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("points", [*POINTS.values(), *map(random_points, range(20))])
def test_a_curve_is_scipys(method: Method, points: tuple[list[float], list[float]]) -> None:
    ours, theirs = Curve(*points, method), REFERENCE[method](*points)
    at = np.linspace(points[0][0], points[0][-1], 201)
    assert ours(at) == pytest.approx(theirs(at), abs=1e-12)
    for low, high in [(at[0], at[-1]), (at[13], at[160]), (at[50], at[51])]:
        assert ours.integral(low, high) == pytest.approx(theirs.integrate(low, high), abs=1e-12)


def test_a_pchip_curve_rises_where_its_points_do() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = np.cumsum(rng.uniform(0.01, 3, (2, 6)), axis=1)
        assert np.all(np.diff(Curve(x, y, Method.PCHIP)(np.linspace(x[0], x[-1], 500))) > -1e-12)


@pytest.mark.parametrize("method", Method)
def test_beyond_its_ends_a_curve_keeps_its_value(method: Method) -> None:
    curve = Curve([1.0, 2.0, 4.0], [5.0, 6.0, 9.0], method)
    assert curve([-3.0, 1.0, 4.0, 100.0]).tolist() == [5.0, 5.0, 9.0, 9.0]
    assert (curve.low, curve.high) == (1.0, 4.0)


@pytest.mark.parametrize("x", [[1.0], [1.0, 1.0], [2.0, 1.0], [1.0, 2.0, 3.0]])
def test_points_that_give_no_curve_are_refused(x: list[float]) -> None:
    with pytest.raises(ValueError, match="strictly ascending"):
        Curve(x, [0.0] * min(len(x), 2), Method.PCHIP)
