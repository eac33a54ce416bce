"""Piecewise cubic curves through points, with exact integrals: PCHIP and Akima, numpy only.

The light install has no scipy; the tests hold that these are scipy's curves. Both are cubic Hermite
curves and differ only in the slopes at the points.

PCHIP: Fritsch and Butland, "A method for constructing local monotone piecewise cubic
interpolants", SIAM J. Sci. Stat. Comput. 5 (1984). It is monotone where the points are.
Akima: "A new method of interpolation and smooth curve fitting based on local procedures",
J. ACM 17 (1970). It bends less at the points, and may overshoot between them.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_FLAT = 1e-9  # relative; changes of slope below it are rounding (scipy's threshold)


class Method(StrEnum):
    """How a curve is laid through points."""

    PCHIP = "pchip"
    AKIMA = "akima"


class Curve:
    """A piecewise cubic through points; beyond its ends it keeps the value that it has there.

    Args:
        x: at least two values, strictly ascending.
        y: the values there.
        method: chooses the slopes at the points.
    """

    def __init__(self, x: Sequence[float], y: Sequence[float], method: Method) -> None:
        self._x, value = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if len(value) != len(self._x) or len(value) < 2 or np.any(np.diff(self._x) <= 0):
            raise ValueError("a curve needs two points or more, with x strictly ascending")
        width, rise = np.diff(self._x), np.diff(value)
        slope = _SLOPES[method](width, rise / width) if len(value) > 2 else (rise / width)[[0, 0]]
        secant = rise / width
        # y + t * (c1 + t * (c2 + t * c3)), t from the left point of each piece
        self._pieces = np.array(
            [
                value[:-1],
                slope[:-1],
                (3 * secant - 2 * slope[:-1] - slope[1:]) / width,
                (slope[:-1] + slope[1:] - 2 * secant) / width**2,
            ]
        )
        areas = self._area_of(np.arange(len(width)), width)
        self._area_left = np.concatenate([[0.0], np.cumsum(areas)])

    @property
    def low(self) -> float:
        """The smallest x of the points."""
        return float(self._x[0])

    @property
    def high(self) -> float:
        """The largest x of the points."""
        return float(self._x[-1])

    def __call__(self, x: npt.ArrayLike) -> Values:
        """The curve at each x, in the shape of `x`."""
        piece, t = self._place(x)
        c0, c1, c2, c3 = self._pieces[:, piece]
        return np.asarray(c0 + t * (c1 + t * (c2 + t * c3)))

    def integral(self, low: float, high: float) -> float:
        """The exact integral from `low` to `high`, both between the first and the last point."""
        ends = []
        for x in (low, high):
            piece, t = self._place(x)
            ends.append(float(self._area_left[piece] + self._area_of(piece, t)))
        return ends[1] - ends[0]

    def _place(self, x: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], Values]:
        """The piece that each x is in, and how far it is from the left point of that piece."""
        inside = np.clip(np.asarray(x, dtype=np.float64), self._x[0], self._x[-1])
        piece = np.clip(np.searchsorted(self._x, inside, side="right") - 1, 0, len(self._x) - 2)
        return piece, np.asarray(inside - self._x[piece])

    def _area_of(self, piece: npt.NDArray[np.intp], t: Values) -> Values:
        c0, c1, c2, c3 = self._pieces[:, piece]
        return np.asarray(t * (c0 + t * (c1 / 2 + t * (c2 / 3 + t * c3 / 4))))


def _pchip_slopes(width: Values, secant: Values) -> Values:
    """Weighted harmonic means of the secants on both sides; 0 where they differ in sign."""
    left, right = secant[:-1], secant[1:]
    weight_left, weight_right = width[:-1] + 2 * width[1:], 2 * width[:-1] + width[1:]
    is_monotone = left * right > 0
    safe_left, safe_right = np.where(is_monotone, left, 1.0), np.where(is_monotone, right, 1.0)
    # a side's weight is larger the longer the other side is
    mean = (weight_left + weight_right) / (weight_right / safe_right + weight_left / safe_left)
    inner = np.where(is_monotone, mean, 0.0)
    first = _pchip_end(width[0], width[1], secant[0], secant[1])
    last = _pchip_end(width[-1], width[-2], secant[-1], secant[-2])
    return np.concatenate([[first], inner, [last]])


def _pchip_end(width: float, next_width: float, secant: float, next_secant: float) -> float:
    """A slope from three points, limited so that the first piece stays monotone."""
    slope = ((2 * width + next_width) * secant - width * next_secant) / (width + next_width)
    if np.sign(slope) != np.sign(secant):
        return 0.0
    if np.sign(secant) != np.sign(next_secant) and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return float(slope)


def _akima_slopes(width: Values, secant: Values) -> Values:
    """Means of the neighbouring secants: the side that bends less beyond them counts more."""
    before = [3 * secant[0] - 2 * secant[1], 2 * secant[0] - secant[1]]
    after = [2 * secant[-1] - secant[-2], 3 * secant[-1] - 2 * secant[-2]]
    m = np.concatenate([before, secant, after])  # m[i + 1] and m[i + 2] meet at point i
    bend = np.abs(np.diff(m))
    weight_left, weight_right = bend[2:], bend[:-2]
    total = weight_left + weight_right
    is_bent = total > _FLAT * total.max(initial=-np.inf)
    safe_total = np.where(is_bent, total, 1.0)
    mean = (weight_left * m[1:-2] + weight_right * m[2:-1]) / safe_total
    return np.asarray(np.where(is_bent, mean, (m[:-3] + m[3:]) / 2))


_SLOPES: dict[Method, Callable[[Values, Values], Values]] = {
    Method.PCHIP: _pchip_slopes,
    Method.AKIMA: _akima_slopes,
}
