"""Probing: what encoding the decoded picture again, at known quantisers, costs and destroys.

How much VMAF a quantiser takes depends on the content: a sky keeps its quality where a lawn loses
it. The bits and the error of an encode at a fixed quantiser measure that complexity in the units of
a codec, which no statistic of the pixels does as directly. A picture that was coded coarsely before
gives itself away as well: a finer probe finds little to code and destroys nothing. The first pass
of two-pass rate control measures complexity in the same way. How much detail a probe keeps is
measured as VMAF measures detail, but with Haar's wavelets and no model of the eye: "Image Quality
Assessment by Separately Evaluating Detail Losses and Additive Impairments" (Li et al., IEEE TMM
2011). The other figures are ours.

Shapes: T frame groups or frames, H height, W width, P figures, B bands.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ladder.media.reencode import Luma, reencode
from ladder.media.upright import Pixels
from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.readable import ReadableFigure

_Floats = npt.NDArray[np.float32]

QUANTISERS = (20, 26, 32, 38, 44)
"""QP of the probes, from hardly visible to poor."""

FIGURES_PER_QUANTISER = 4
NUM_PROBING_FEATURES = FIGURES_PER_QUANTISER * len(QUANTISERS)

OCTAVES = 4
NUM_OCTAVE_FEATURES = OCTAVES * len(QUANTISERS)
"""Of those that `probes` adds if asked."""

_WIDTH_PX, _HEIGHT_PX = 512, 288  # of the part in the middle that is encoded
_PLACES = (0.25, 0.75)  # of the clip: the frame groups that are encoded
_MIDDLE = (0.5,)
_MIN_GROUPS = 8  # in a clip of more than one place
_MIN_BITS = 1e-5  # per pixel, added before the logarithm
_MIN_ERROR = 0.02  # squares of 8 bit samples, so that equal pictures have a finite PSNR
_MIN_GRADIENT = 1e-3
_MIN_DETAIL = 1e-3  # so that a flat picture keeps all


_SHOWN = FIGURES_PER_QUANTISER * QUANTISERS.index(32)  # the probe of middling quality


def _bits(value: float) -> float:
    return float(2 ** (2 * value))


def _decibels(value: float) -> float:
    return 6 * value + 38


def _percent(value: float) -> float:
    return 100 * (value / 4 + 0.8)


READABLE_PROBES = (
    ReadableFigure("bits of a probe at QP 32", "bit/px", _SHOWN, _bits, 3),
    ReadableFigure("PSNR of that probe", "dB", _SHOWN + 2, _decibels, 1),
    ReadableFigure("detail it keeps", "%", _SHOWN + 3, _percent, 0),
)
"""What of the figures people can read."""


def probing_vector(
    clip: Clip, *, generator: np.random.Generator | None = None, has_octaves: bool = False
) -> Array:
    """Figures (P,) of a clip, float32, about unit deviation; for each of `QUANTISERS` in turn.

    log2 of the bits per pixel of a key frame and of the frame after it (0 for groups of one frame,
    such as pictures); PSNR of luma; mean absolute gradient after over before. Means over the frame
    groups at a quarter and three quarters of the clip; of less than eight, the one in the middle.

    With `has_octaves` the share of detail that is kept, 0 to 1, follows: of each quantiser, in each
    of `OCTAVES` octaves, the finest first.

    Args:
        clip: frames of any size of at least 16 px, uint8.
        generator: not used; a view has it.
        has_octaves: whether to add the detail that is kept.
    """
    return mean_of_probes([probes(clip, generator=generator, has_octaves=has_octaves)])


def probes(
    clip: Clip, *, generator: np.random.Generator | None = None, has_octaves: bool = False
) -> Array:
    """Figures (G, P) of those G of the frame groups that are encoded; as `probing_vector`."""
    here = range(clip.first_group, clip.first_group + len(clip.first_TCHW))
    groups = clip.groups_in_all or len(here)
    places = _PLACES if groups >= _MIN_GROUPS else _MIDDLE
    chosen = sorted(int(place * groups) for place in places)
    middles = [_middles(clip, here.index(index)) for index in chosen if index in here]
    width = NUM_PROBING_FEATURES + NUM_OCTAVE_FEATURES * has_octaves
    figures = [_probe(frames, has_octaves=has_octaves) for frames in middles]
    return np.stack(figures) if figures else np.empty((0, width), np.float32)


def mean_of_probes(figures_GP: Sequence[Array]) -> Array:
    """The means of what `probes` gives of all parts of a clip."""
    mean_P: Array = np.concatenate(figures_GP).mean(axis=0)
    return mean_P


def _middles(clip: Clip, index: int) -> list[Pixels]:
    """The middle of the first two frames of a group, or of its only one, (H, W, 3) each."""
    start = index * clip.group_size
    frames_TCHW = clip.pixels_TCHW[start : start + min(2, clip.group_size)]
    height, width = frames_TCHW.shape[2:]
    high, wide = min(height // 2 * 2, _HEIGHT_PX), min(width // 2 * 2, _WIDTH_PX)
    top, left = (height - high) // 2, (width - wide) // 2
    middle_TCHW = frames_TCHW[:, :, top : top + high, left : left + wide]
    return list(middle_TCHW.transpose(0, 2, 3, 1))


def _probe(frames: Sequence[Pixels], *, has_octaves: bool) -> _Floats:
    before_THW, encodes = reencode(frames, QUANTISERS)
    gradient = _gradient(before_THW) + _MIN_GRADIENT
    bands = list(map(_Detail, _octaves(before_THW))) if has_octaves else []
    figures: list[float] = []
    kept: list[float] = []
    for encode in encodes:
        error_N = (before_THW - encode.luma_THW).astype(np.float32).ravel()
        error = float(np.dot(error_N, error_N)) / error_N.size
        key, *inter = (8 * size / before_THW[0].size for size in encode.sizes_bytes)
        figures += [
            math.log2(key + _MIN_BITS) / 2,
            math.log2(inter[0] + _MIN_BITS) / 4 + 1 if inter else 0.0,
            (10 * math.log10(255**2 / (error + _MIN_ERROR)) - 38) / 6,
            4 * (_gradient(encode.luma_THW) / gradient - 0.8),
        ]
        if has_octaves:
            after = _octaves(encode.luma_THW)
            kept += [each.kept(after_BTHW) for each, after_BTHW in zip(bands, after, strict=True)]
    return np.array(figures + kept, np.float32)


def _octaves(luma_THW: Luma) -> list[_Floats]:
    """Haar's three bands of detail, (B, T, h, w), in each of `OCTAVES` octaves, finest first."""
    found: list[_Floats] = []
    rest_THW: _Floats = luma_THW.astype(np.float32)
    for _ in range(OCTAVES):
        high, wide = (length // 2 * 2 for length in rest_THW.shape[1:])
        upper, lower = rest_THW[:, :high:2, :wide], rest_THW[:, 1:high:2, :wide]
        mean, down = upper + lower, upper - lower
        rest_THW = np.multiply(mean[..., ::2] + mean[..., 1::2], 0.25, dtype=np.float32)
        across = mean[..., ::2] - mean[..., 1::2]
        both = [down[..., ::2] + down[..., 1::2], down[..., ::2] - down[..., 1::2]]
        found.append(np.stack([across, *both]))
    return found


class _Detail:
    """The detail of an octave before coding, (B, T, H, W)."""

    def __init__(self, before_BTHW: _Floats) -> None:
        self._lowest_BTHW = np.minimum(before_BTHW, 0)
        self._highest_BTHW = np.maximum(before_BTHW, 0)
        self._amount_T = _amounts(before_BTHW)

    def kept(self, after_BTHW: _Floats) -> float:
        """The share of it, sign and amount of each coefficient, that an encode kept."""
        kept_BTHW = np.maximum(after_BTHW, self._lowest_BTHW)
        np.minimum(kept_BTHW, self._highest_BTHW, out=kept_BTHW)
        return float((_amounts(kept_BTHW) / self._amount_T).mean())


def _amounts(detail_BTHW: _Floats) -> _Floats:
    """The amount of detail of each picture (T,): coefficients count by their cubes, as in VMAF."""
    cubes_BTHW = np.square(detail_BTHW)
    cubes_BTHW *= np.abs(detail_BTHW)
    amounts_T: _Floats = np.cbrt(cubes_BTHW.sum((2, 3))).sum(0) + _MIN_DETAIL
    return amounts_T


def _gradient(luma_THW: Luma) -> float:
    """Sum of the mean absolute differences of neighbours along both axes."""
    changes = [np.diff(luma_THW, axis=axis) for axis in (1, 2)]
    return sum(float(np.abs(each, out=each).sum(dtype=np.int64)) / each.size for each in changes)
