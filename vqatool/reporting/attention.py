"""Attention maps: how much each patch of a frame counts for a branch of a model, as a picture."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ladder.media.upright import Pixels

_STRENGTH = 0.5  # of the colour; the rest is the frame in grey

TURBO = (
    "30123b", "4040a2", "466be3", "4294ff", "28bceb", "18ddc2",
    "32f298", "6dfe62", "a4fc3c", "cdec34", "eecf3a", "fdac34",
    "fb7e21", "eb500e", "d02f05", "a91601", "7a0403",
)  # fmt: skip
"""Colours at equal distances of "Turbo, An Improved Rainbow Colormap" (Google, 2019), RGB."""


class AttentionMap(NamedTuple):
    """How much each patch of one frame counts for a branch, as a picture."""

    part: str
    at_s: float
    picture: Pixels


def colours(share: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Shares (...,) of 0 to 1 -> colours (..., 3), RGB of 0 to 255: from blue by green to red."""
    stops_3N = np.array([list(bytes.fromhex(colour)) for colour in TURBO]).T
    places_N = np.linspace(0, 1, len(TURBO))
    return np.stack([np.interp(share, places_N, channel_N) for channel_N in stops_3N], axis=-1)


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
