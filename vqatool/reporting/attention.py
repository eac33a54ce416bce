"""Attention maps: how much each patch of a frame counts for a branch of a model, as a picture."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ladder.media.upright import Pixels

_STRENGTH = 0.5  # of the colour; the rest is the frame in grey

# "Turbo, An Improved Rainbow Colormap for Visualization" (Google, 2019), the polynomials of
# R. Du: coefficients of red, green and blue from the power 0 on
_TURBO = np.array(
    [
        [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
        [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
        [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
    ]
)


class AttentionMap(NamedTuple):
    """How much each patch of one frame counts for a branch, as a picture."""

    part: str
    at_s: float
    picture: Pixels


def colours(share: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Shares (...,) of 0 to 1 -> colours (..., 3), RGB of 0 to 255: from blue by green to red."""
    powers = np.clip(share, 0, 1)[..., None] ** np.arange(_TURBO.shape[1])
    return np.asarray(255 * (powers @ _TURBO.T).clip(0, 1))


def draw_attention_map(frame_HWC: Pixels, weight_HW: npt.NDArray[np.floating]) -> Pixels:
    """The frame in grey, each patch in the colour of its weight: from blue (smallest) to red.

    Colours are relative to this frame; equal weights have the middle colour.

    Args:
        frame_HWC: uint8 RGB, the model's input.
        weight_HW: a weight for each patch, fewer rows and columns than the frame has.

    Returns:
        uint8 RGB of the frame's size.
    """
    colours_HWC = colours(_relative(weight_HW))
    rows, columns = (
        np.arange(length) * patches // length
        for length, patches in zip(frame_HWC.shape[:2], weight_HW.shape, strict=True)
    )
    painted_HWC = colours_HWC[rows[:, None], columns]
    grey_HW1 = frame_HWC.mean(axis=2, keepdims=True)
    blend_HWC = _STRENGTH * painted_HWC + (1 - _STRENGTH) * grey_HW1
    return np.asarray(blend_HWC.round(), dtype=np.uint8)


def _relative(weight_HW: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """0 for the smallest weight, 1 for the largest."""
    smallest, largest = float(weight_HW.min()), float(weight_HW.max())
    if smallest == largest:
        return np.full(weight_HW.shape, 0.5)
    return np.asarray((weight_HW - smallest) / (largest - smallest), dtype=np.float64)
