"""Whether an encode shows what its source shows, and how many frames apart, by their previews.

At places all over the film, those where the encode moves most, a few frames are compared with the
source's at every shift within reach. A place counts where one shift fits clearly better than the
others do, so that a still title says nothing, and a shift is an answer where most places agree.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ladder.label.pairing import FrameNumbers
from ladder.label.previews import PREVIEW_SIZE, Planes, Previews

Array = npt.NDArray[np.float32]

_LENGTH, _MAX_PLACES = 16, 16  # frames of a place; places
_SPARSE = 5  # every n-th pixel is enough to tell shifts

_VALLEY = 0.6  # the error at the shift that fits, by the median over all: then a place counts
_CLEAR_WIN = 0.6  # the error at a shift by that without one: then one place prefers the shift
_WIN_TOGETHER, _MIN_TOGETHER = 0.9, 3  # the same where nearly all places name one shift
_EXPLAINED = 0.5  # what a shift wins, by how much the source differs from itself over that time
_DEEP, _EXPLAINED_BY_DEEP = 0.15, 0.3  # the error by the median, where less has to be won
_MOST, _NEARLY_ALL, _MANY = 0.5, 0.75, 0.25  # shares of places

_ELSEWHERE, _SURE = 0.5, 0.8  # another frame fits: half of what correlation lacks to 1; correlation
_FITTING = 0.98  # a correlation with which nothing is looked for elsewhere
_ALIKE = 0.5  # correlation of pictures that show the same
_NEAR = 3  # frames to either side
_GREY = 128  # taken off, so that sums stay small
_FLAT = 2.0  # deviation of luma in a picture that shows nothing
_INSIDE = 0.65  # the same of one that is searched for inside the other
_SIZES = tuple(round(0.6 + 0.05 * step, 2) for step in range(8))
# of one picture inside the other, by width and height
_ZOOMS = (
    (1.0, 1.0),
    *((size, size) for size in _SIZES),
    *((1.0, size) for size in _SIZES),
    *((size, 1.0) for size in _SIZES),
)


@dataclass(frozen=True)
class Match:
    """How an encode lies on its source.

    Attributes:
        shift: the frame of the source that an encode's frame shows, less the one it is paired with;
            positive: the encode is ahead.
        is_unaligned: many places show other frames of the source, and no shift fits them all.
        is_other: most places show nothing of the source, or the source mirrored.
    """

    shift: int = 0
    is_unaligned: bool = False
    is_other: bool = False


def find_match(encode: Previews, source: Previews, partners: FrameNumbers, reach: int) -> Match:
    """Compare an encode with its source.

    Args:
        encode: its previews.
        source: those of the source.
        partners: for each frame of the encode the frame of the source it is paired with.
        reach: the largest shift that is looked for, in frames of the source.
    """
    if not len(encode.numbers) or not len(source.numbers):
        return Match()
    few, few_of_source = _sparse(encode), _sparse(source)
    rows, places = _rows(few_of_source), _places(few)
    errors = np.array(
        [_errors(few, few_of_source, rows, partners, place, reach) for place in places]
    )
    shift = _shift(errors, reach) if len(places) else 0
    if shift and not _is_explained(errors, few, few_of_source, rows, partners, places, shift):
        shift = 0
    middles = np.array([place.start + len(place) // 2 for place in places], np.int64)
    ours, theirs = _pairs(encode, source, rows, partners, middles, shift)
    if not len(ours):
        return Match(shift)
    here = _correlation(ours, theirs)
    if float(np.median(here)) >= _FITTING and here.min() >= _SURE:
        return Match(shift)
    is_other = _is_mirrored(ours, theirs, here) or (
        float(np.median(here)) < _ALIKE and not _is_cropped(ours, theirs)
    )
    anywhere = _products(_standard(ours), _standard(source.planes))
    is_elsewhere = (1 - anywhere.max(1) < _ELSEWHERE * (1 - here)) & (anywhere.max(1) > _SURE)
    is_unaligned = bool((is_elsewhere & (here < _FITTING)).mean() >= _MANY)
    if is_other and not is_unaligned:
        return Match(is_other=True)
    return Match(shift, is_unaligned)


def misfit(encode: Previews, source: Previews, partners: FrameNumbers, shift: int = 0) -> float:
    """How much paired frames differ: the mean square of the difference of their luma.

    Infinite where no pair has previews; `shift` as in `Match`.
    """
    if not len(encode.numbers) or not len(source.numbers):
        return math.inf
    indices = np.arange(len(encode.numbers))
    ours, theirs = _pairs(encode, source, _rows(source), partners, indices, shift)
    if not len(ours):
        return math.inf
    return float(np.square(ours.astype(np.float32) - theirs).mean())


def misfit_nearby(encode: Previews, source: Previews, partners: FrameNumbers) -> float:
    """`misfit` where each frame has the best partner among those near its own."""
    rows = _rows(source)
    own = partners[np.minimum(encode.numbers, len(partners) - 1)]
    errors = np.full((2 * _NEAR + 1, len(own)), np.inf, np.float32)
    for place, away in enumerate(range(-_NEAR, _NEAR + 1)):
        found = _found(rows, own + away)
        is_pair = (found >= 0) & (_found(rows, own) >= 0) & (_deviation(encode.planes) > _FLAT)
        difference = encode.planes[is_pair].astype(np.float32) - source.planes[found[is_pair]]
        errors[place, is_pair] = np.square(difference).mean(1)
    least = errors.min(0)
    return float(least[np.isfinite(least)].mean()) if np.isfinite(least).any() else math.inf


def _sparse(previews: Previews) -> Previews:
    return Previews(previews.numbers, np.ascontiguousarray(previews.planes[:, ::_SPARSE]))


def _places(encode: Previews) -> list[range]:
    """Where the video moves most, in each of up to 16 parts of it: indices of its previews."""
    planes, numbers = encode.planes, encode.numbers
    length = min(_LENGTH, max(1, len(planes) // 2))
    moved = np.zeros(len(planes), np.float32)
    moved[1:] = np.abs(np.diff(planes.astype(np.int16), axis=0)).mean(1)
    is_flat = _deviation(planes) <= _FLAT
    moved[is_flat | np.roll(is_flat, 1)] = 0  # the end of black frames has no partner
    starts = np.arange(0, len(planes) - length + 1, max(1, length // 4))
    spans = numbers[starts + length - 1] - numbers[starts]
    starts = starts[spans == spans.min()]  # within one window
    sums = np.array([moved[start + 1 : start + length].sum() for start in starts])
    count = max(1, min(_MAX_PLACES, len(planes) // length))
    parts = [part for part in np.array_split(np.arange(len(starts)), count) if len(part)]
    best = [int(starts[part[np.argmax(sums[part])]]) for part in parts]
    return [range(start, start + length) for start in best]


def _rows(source: Previews) -> FrameNumbers:
    """The index of the preview of each frame; -1: it has none, or shows nothing."""
    rows = np.full(int(source.numbers[-1]) + 1, -1, np.int64)
    rows[source.numbers] = np.where(
        _deviation(source.planes) > _FLAT, np.arange(len(source.numbers)), -1
    )
    return rows


def _found(rows: FrameNumbers, numbers: FrameNumbers) -> FrameNumbers:
    is_known = (numbers >= 0) & (numbers < len(rows))
    return np.where(is_known, rows[np.clip(numbers, 0, len(rows) - 1)], -1)


def _errors(
    encode: Previews,
    source: Previews,
    rows: FrameNumbers,
    partners: FrameNumbers,
    place: range,
    reach: int,
) -> Array:
    """The error of a place at each shift from -reach to reach; NaN where half of it has no partner.

    It is what the correlation of all luma of the place lacks to 1: other levels change nothing.
    """
    shifts = np.arange(-reach, reach + 1)
    seen = np.array(place)[_deviation(encode.planes[place.start : place.stop]) > _FLAT]
    base = partners[np.minimum(encode.numbers[seen], len(partners) - 1)]
    indices = _found(rows, base[:, None] + shifts[None])
    known = np.unique(indices[indices >= 0])
    if not len(known):
        return np.full(len(shifts), np.nan, np.float32)
    ours = encode.planes[seen].astype(np.float32) - _GREY
    theirs = source.planes[known].astype(np.float32) - _GREY
    columns, is_pair = np.clip(np.searchsorted(known, indices), 0, len(known) - 1), indices >= 0

    def over_pairs(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        return np.asarray((values * is_pair).sum(0, dtype=np.float64))

    count = np.maximum(is_pair.sum(0) * ours.shape[1], 1)
    sums = over_pairs(ours.sum(1)[:, None]), over_pairs(theirs.sum(1)[columns])
    squares = (
        over_pairs(np.square(ours).sum(1)[:, None]) - sums[0] ** 2 / count,
        over_pairs(np.square(theirs).sum(1)[columns]) - sums[1] ** 2 / count,
    )
    products = over_pairs(np.take_along_axis(_products(ours, theirs), columns, 1))
    covariance = products - sums[0] * sums[1] / count
    errors = 1 - covariance / np.sqrt(np.maximum(squares[0] * squares[1], 1.0))
    is_enough = 2 * is_pair.sum(0) >= len(place)
    return np.where(is_enough, errors, np.nan).astype(np.float32)


def _shift(errors: Array, reach: int) -> int:
    """The shift that the places agree on; 0: none, or none within reach.

    Args:
        errors: (P, 2 reach + 1) error of each place at each shift.
        reach: the largest shift.
    """
    known = errors[~np.isnan(errors).all(1)]
    if not len(known):
        return 0
    medians, least = np.nanmedian(known, axis=1), np.nanmin(known, axis=1)
    counting = known[least < _VALLEY * medians]
    if not len(counting):
        return 0
    relative = counting / np.nanmedian(counting, axis=1, keepdims=True)
    is_common = (~np.isnan(relative)).mean(0) >= _MOST
    total = np.where(is_common, np.nanmean(np.where(np.isnan(relative), 1, relative), axis=0), 2)
    order = np.lexsort((np.abs(np.arange(-reach, reach + 1)), total))
    best = int(order[0])
    if best in (0, reach, 2 * reach):  # an optimum at the edge is none
        return 0
    without = np.where(np.isnan(counting[:, reach]), np.inf, counting[:, reach])
    wins = (counting[:, best] < _CLEAR_WIN * without).mean()
    agree = (np.nanargmin(counting, axis=1) == best).mean()
    together = len(counting) >= _MIN_TOGETHER and agree >= _NEARLY_ALL
    is_clear = wins >= _MOST or (together and total[best] < _WIN_TOGETHER * total[reach])
    return best - reach if is_clear else 0


def _is_explained(
    errors: Array,
    encode: Previews,
    source: Previews,
    rows: FrameNumbers,
    partners: FrameNumbers,
    places: list[range],
    shift: int,
) -> bool:
    """Whether a shift wins as much as the source differs from itself over that time.

    A very poor encode holds old pictures and is a little more like earlier frames than its own.
    """
    reach = errors.shape[1] // 2
    won, moved = 0.0, 0.0
    for place, curve in zip(places, errors, strict=True):
        numbers = partners[np.minimum(encode.numbers[place], len(partners) - 1)]
        now, then = _found(rows, numbers), _found(rows, numbers + shift)
        is_known = (now >= 0) & (then >= 0)
        gain = float(curve[reach] - curve[reach + shift])
        if is_known.any() and math.isfinite(gain):
            both = source.planes[now[is_known]].ravel(), source.planes[then[is_known]].ravel()
            moved += 1 - float(np.corrcoef(*both)[0, 1])
            won += gain
    known = errors[np.isfinite(errors[:, reach + shift])]
    depth = float(np.median(known[:, reach + shift] / np.nanmedian(known, axis=1)))
    return won >= moved * (_EXPLAINED_BY_DEEP if depth < _DEEP else _EXPLAINED)


def _pairs(
    encode: Previews,
    source: Previews,
    rows: FrameNumbers,
    partners: FrameNumbers,
    indices: FrameNumbers,
    shift: int,
) -> tuple[Planes, Planes]:
    """Planes of the encode at `indices` and their partners, without pairs that show nothing."""
    base = partners[np.minimum(encode.numbers[indices], len(partners) - 1)]
    found = _found(rows, base + shift)
    ours, theirs = encode.planes[indices[found >= 0]], source.planes[found[found >= 0]]
    is_seen = _deviation(ours) > _FLAT
    return ours[is_seen], theirs[is_seen]


def _is_mirrored(ours: Planes, theirs: Planes, here: Array) -> bool:
    """Whether most pictures fit far better when they are mirrored or turned."""
    width, height = PREVIEW_SIZE
    pictures = ours.reshape(-1, height, width)
    turned = (pictures[:, :, ::-1], pictures[:, ::-1], pictures[:, ::-1, ::-1])
    best = np.max([_correlation(each.reshape(len(ours), -1), theirs) for each in turned], axis=0)
    is_better = (1 - best < _ELSEWHERE * (1 - here)) & (best > _ALIKE)
    return bool(is_better.mean() > _MOST)


def _is_cropped(ours: Planes, theirs: Planes) -> bool:
    """Whether most encodes' pictures are a part of their source's, or have it inside."""
    fits = [max(_fit_inside(a, b), _fit_inside(b, a)) for a, b in zip(ours, theirs, strict=True)]
    return float(np.median(fits)) >= _INSIDE


def _fit_inside(small: npt.NDArray[np.uint8], large: npt.NDArray[np.uint8]) -> float:
    """The best correlation of a picture, made smaller, with any part of another."""
    width, height = PREVIEW_SIZE
    inner, outer = (p.reshape(height, width).astype(np.float32) for p in (small, large))
    best = -1.0
    for zoom_x, zoom_y in _ZOOMS:
        size = round(height * zoom_y), round(width * zoom_x)
        scaled = _resampled(_resampled(inner, size[0]).T, size[1]).T
        parts = np.lib.stride_tricks.sliding_window_view(outer, size)
        flat = parts.reshape(-1, size[0] * size[1])
        fits = _products(_standard(flat), _standard(scaled.reshape(1, -1)))
        best = max(best, float(fits.max()))
    return best


def _resampled(picture: Array, rows: int) -> Array:
    """A picture with fewer rows, each the mean of those that it covers."""
    edges, cells = np.linspace(0, len(picture), rows + 1), np.arange(len(picture))
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    shares = np.clip(overlap, 0, None).astype(np.float32)
    return np.asarray(shares @ picture / shares.sum(1, keepdims=True), np.float32)


def _products(first: Array, second: Array) -> Array:
    """All products of rows; in one thread, because those of a BLAS cost more than they save."""
    products: Array = np.einsum("ik,jk->ij", first, second)
    return products


def _deviation(planes: Planes) -> Array:
    return np.asarray(planes.std(1, dtype=np.float32), np.float32)


def _standard(planes: npt.NDArray[np.generic]) -> Array:
    """Rows with a mean of 0 and a length of 1: their products are correlations."""
    values = planes.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, 1e-6), np.float32)


def _correlation(ours: Planes, theirs: Planes) -> Array:
    return np.asarray((_standard(ours) * _standard(theirs)).sum(1), np.float32)
