"""The chart of a recommendation as SVG text: curves, envelope, hull, crossovers, rungs.

It is written by hand, because the light install has no plotting library.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from ladder.recommend.envelope import SizeCurve
from ladder.recommend.points import Point
from ladder.recommend.run import Recommendation

_WIDTH, _HEIGHT = 860, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 196, 44, 54  # margins; the legend is right of the plot
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb5566", "#999933",
            "#44aa99")  # fmt: skip
"""Paul Tol's bright and muted colours, which readers with any colour vision can tell apart."""

_GREY, _DARK = "#999999", "#222222"
_LEGEND_PX, _LINE_PX = 18, 17
_CURVE_STEPS = 48
_TICKS = (1, 1.5, 2, 3, 5, 7)


@dataclass(frozen=True)
class _Axes:
    """Maps log rates and qualities to the plot's pixels."""

    low_kbps: float
    high_kbps: float
    low: float
    high: float

    def x(self, rate_kbps: float) -> float:
        """The horizontal place of a rate."""
        share = math.log(rate_kbps / self.low_kbps) / math.log(self.high_kbps / self.low_kbps)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, quality: float) -> float:
        """The vertical place of a quality."""
        share = (quality - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def path(self, points: Iterable[Point]) -> str:
        """A line through points, as the attribute `points`."""
        return " ".join(f"{self.x(rate):.1f},{self.y(quality):.1f}" for rate, quality in points)


def chart_svg(found: Recommendation) -> str:
    """The chart, complete in itself: no script, no font and no picture from elsewhere."""
    axes = _axes(found)
    quality = "VMAF, 5th percentile of frames" if found.request.is_p5 else "VMAF, mean over frames"
    title = f"{found.probed.name}: {len(found.rungs)} rungs, {found.probed.delivery.codec}"
    body = [
        *_grid(axes, quality),
        *(line for index, curve in enumerate(found.envelope.curves)
          for line in _size(axes, curve, _COLOURS[index % len(_COLOURS)])),
        _line(axes.path(found.envelope.hull()), _DARK, "1", dashes="2 4"),
        _line(axes.path(found.envelope.line()), _DARK, "1.6"),
        *_crossovers(axes, found),
        *_against(axes, found),
        *_rungs(axes, found),
        *_legend(found),
    ]  # fmt: skip
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12" '
            f'role="img" aria-label={quoteattr(_printable(title))}>',
            "<!-- a chart by vqatool recommend -->",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            _text(_LEFT, 24, title, size=15),
            *body,
            "</svg>\n",
        ]
    )


def _axes(found: Recommendation) -> _Axes:
    points = [each.point for each in found.encodes if each.point]
    rates = [point.rate_kbps for point in points]
    lowest = min(min(curve.qualities) for curve in found.envelope.curves)
    return _Axes(min(rates) / 1.15, max(rates) * 1.15, max(0.0, 10 * (lowest // 10)), 100.0)


def _grid(axes: _Axes, quality: str) -> Iterator[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in range(int(axes.low), 101, 10):
        y = axes.y(value)
        yield f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield _text(_LEFT - 8, y + 4, str(value), anchor="end")
    for rate in _rate_ticks(axes):
        x = axes.x(rate)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" stroke="#eeeeee"/>'
        yield _text(x, bottom + 17, f"{rate:g}", anchor="middle")
    middle = (_LEFT + right) / 2
    yield _text(middle, _HEIGHT - 14, "kbit/s (logarithmic)", anchor="middle")
    place = f"16 {(_TOP + bottom) / 2:.0f}"
    yield (
        f'<text transform="translate({place}) rotate(-90)" text-anchor="middle" '
        f'fill="{_DARK}">{escape(quality)}</text>'
    )


def _rate_ticks(axes: _Axes) -> list[float]:
    """Round rates inside the axes that are far enough apart for their numbers."""
    ticks: list[float] = []
    for power in range(math.floor(math.log10(axes.low_kbps)), 7):
        for step in _TICKS:
            rate = step * 10.0**power
            is_inside = axes.low_kbps <= rate <= axes.high_kbps
            if is_inside and (not ticks or axes.x(rate) - axes.x(ticks[-1]) > 40):
                ticks.append(rate)
    return ticks


def _size(axes: _Axes, curve: SizeCurve, colour: str) -> Iterator[str]:
    """The curve of one size and its samples."""
    ratio = curve.high_kbps / curve.low_kbps
    rates = [curve.low_kbps * ratio ** (step / _CURVE_STEPS) for step in range(_CURVE_STEPS + 1)]
    points = [Point(rate, curve.quality_at(rate)) for rate in rates]
    yield _line(axes.path(points), colour, "2", opacity="0.75")
    for rate, quality in curve.points:
        yield f'<circle cx="{axes.x(rate):.1f}" cy="{axes.y(quality):.1f}" r="3" fill="{colour}"/>'


def _crossovers(axes: _Axes, found: Recommendation) -> Iterator[str]:
    for crossover in found.envelope.crossovers():
        x, y = axes.x(crossover.rate_kbps), axes.y(crossover.quality)
        yield (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{_HEIGHT - _BOTTOM}" '
            f'stroke="{_GREY}" stroke-dasharray="3 3"/>'
        )


def _against(axes: _Axes, found: Recommendation) -> Iterator[str]:
    for each in found.against:
        if each.measured.point:
            quality = _shown_quality(found, each.measured.label)
            yield _cross(axes.x(each.measured.point.rate_kbps), axes.y(max(quality, axes.low)))


def _shown_quality(found: Recommendation, label: object) -> float:
    """The value of a label that the chart shows."""
    column = "vmaf_p5" if found.request.is_p5 else "vmaf"
    return float(getattr(label, column) or 0.0)


def _cross(x: float, y: float) -> str:
    return (
        f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{_GREY}" stroke-width="2" '
        'fill="none"/>'
    )


def _rungs(axes: _Axes, found: Recommendation) -> Iterator[str]:
    """A ring for each prediction, a diamond where it was measured."""
    for rung in found.rungs:
        yield _ring(axes.x(rung.choice.rate_kbps), axes.y(rung.choice.quality))
        if rung.measured and rung.measured.point:
            quality = _shown_quality(found, rung.measured.label)
            yield _diamond(axes.x(rung.measured.point.rate_kbps), axes.y(max(quality, axes.low)))


def _ring(x: float, y: float) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="{_DARK}" stroke-width="1.5"/>'
    )


def _diamond(x: float, y: float) -> str:
    return f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" fill="{_DARK}"/>'


def _legend(found: Recommendation) -> Iterator[str]:
    """A line for each kind of mark, the largest size first."""
    x, y = _WIDTH - _RIGHT + _LEGEND_PX, _TOP + 8
    entries: list[tuple[str, str]] = []
    for index, curve in reversed(list(enumerate(found.envelope.curves))):
        mark = _line(f"{x},{{y}} {x + 22},{{y}}", _COLOURS[index % len(_COLOURS)], "2.5")
        entries.append((mark, f"{curve.height_px}p, {len(curve.points)} samples"))
    entries.append((_line(f"{x},{{y}} {x + 22},{{y}}", _DARK, "1.6"), "best size at each rate"))
    hull = _line(f"{x},{{y}} {x + 22},{{y}}", _DARK, "1", dashes="2 4")
    entries.append((hull, "its convex hull"))
    for index, (mark, text) in enumerate(entries):
        place = y + index * _LINE_PX
        yield mark.replace("{y}", f"{place}")
        yield _text(x + 30, place + 4, text)
    marks = [(_ring, "rung, predicted"), (_diamond, "rung, measured")]
    marks += [(_cross, found.request.against_name)] * bool(found.against)
    for number, (draw, text) in enumerate(marks, len(entries)):
        place = y + number * _LINE_PX
        yield draw(x + 11, place)
        yield _text(x + 30, place + 4, text)


def _line(points: str, colour: str, width: str, *, dashes: str = "", opacity: str = "") -> str:
    more = f' stroke-dasharray="{dashes}"' if dashes else ""
    more += f' opacity="{opacity}"' if opacity else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"{more}/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 0) -> str:
    more = f' font-size="{size}"' if size else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_DARK}"{more}>'
        f"{escape(_printable(text))}</text>"
    )


def _printable(text: str) -> str:
    """`text` without characters that XML refuses."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
