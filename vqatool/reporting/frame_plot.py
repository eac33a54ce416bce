"""The values of every frame as a drawing: an SVG with a curve for each encode."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from ladder.storage import atomic_write
from vqatool.files import SVG_MARK
from vqatool.terminal import shown

MAX_CURVES = 10
"""More curves cannot be told apart."""

_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00",
    "#56b4e9", "#000000", "#8c564b", "#7f7f7f", "#999933",
)  # fmt: skip
_WIDTH, _HEIGHT = 900, 340  # of the axes, px
_LEFT, _TOP, _BOTTOM, _LINE = 56, 34, 44, 20
_MAX_POINTS = 2000  # of a curve; two for each pixel
_MAX_TICKS = 10


@dataclass(frozen=True)
class Curve:
    """The values of the compared frames of one encode, and the seconds between two of them."""

    name: str
    values: Sequence[float]
    step_s: float


def write_frame_plot(curves: Sequence[Curve], title: str, path: Path) -> None:
    """Draw curves over time and write them to `path`, an SVG.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write("\n".join(_lines(curves, title)).encode("utf-8"))


def _lines(curves: Sequence[Curve], title: str) -> Iterator[str]:
    low, high = _range([value for curve in curves for value in curve.values])
    length_s = max(max(len(curve.values) - 1, 1) * curve.step_s for curve in curves)
    width = _LEFT + _WIDTH + 20
    height = _TOP + _HEIGHT + _BOTTOM + _LINE * len(curves) + 10
    yield SVG_MARK
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{width}" height="{height}" fill="white"/>'
    yield _text(_LEFT, 20, title, size=14)
    for value in _ticks(low, high):
        y = _y(value, low, high)
        yield f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}" stroke="#dddddd"/>'
        yield _text(_LEFT - 6, y + 4, f"{value:g}", anchor="end")
    for at_s in _ticks(0.0, length_s):
        x = _x(at_s, length_s)
        yield f'<path d="M{x:.1f} {_TOP + _HEIGHT}v5" stroke="#555555"/>'
        yield _text(x, _TOP + _HEIGHT + 18, f"{at_s:g}", anchor="middle")
    yield _text(_LEFT + _WIDTH / 2, _TOP + _HEIGHT + 36, "seconds", anchor="middle")
    yield (
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
        'stroke="#555555"/>'
    )
    for number, (curve, colour) in enumerate(zip(curves, _COLOURS, strict=False)):
        points = " ".join(
            f"{_x(index * curve.step_s, length_s):.1f},{_y(value, low, high):.1f}"
            for index, value in thinned(curve.values)
        )
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        y = _TOP + _HEIGHT + _BOTTOM + _LINE * (number + 0.5)
        yield f'<path d="M{_LEFT} {y:.1f}h20" stroke="{colour}" stroke-width="3"/>'
        yield _text(_LEFT + 28, y + 4, _legend(curve))
    yield "</svg>\n"


def thinned(values: Sequence[float]) -> list[tuple[int, float]]:
    """Index and value of at most 2000 frames: of equal parts, the lowest and the highest."""
    if len(values) <= _MAX_POINTS:
        return list(enumerate(values))
    num_parts = _MAX_POINTS // 2
    edges = [part * len(values) // num_parts for part in range(num_parts + 1)]
    chosen: list[int] = []
    for start, end in itertools.pairwise(edges):
        part = range(start, end)
        chosen += sorted({min(part, key=values.__getitem__), max(part, key=values.__getitem__)})
    return [(index, values[index]) for index in chosen]


def _legend(curve: Curve) -> str:
    lowest = min(range(len(curve.values)), key=curve.values.__getitem__)
    mean = sum(curve.values) / len(curve.values)
    at_s = lowest * curve.step_s
    return f"{curve.name}: mean {mean:.2f}, lowest {curve.values[lowest]:.2f} at {at_s:.2f} s"


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The values that the axis ends at: tens around all of them."""
    low, high = 10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10)
    return (low, high) if low < high else (low - 10, high)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, ten steps at most."""
    least = (high - low) / _MAX_TICKS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 9) for number in range(first, int(high / step + 1e-9) + 1)]


def _x(at_s: float, length_s: float) -> float:
    return _LEFT + _WIDTH * at_s / length_s


def _y(value: float, low: float, high: float) -> float:
    return _TOP + _HEIGHT * (high - value) / (high - low)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    # names of files may have bytes that no XML may hold
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(shown(text))}</text>"
    )
