"""Where in a frame a model looks: what its patches count for, as colours over the picture."""

import numpy as np
import numpy.typing as npt

from ladder.frames import Pixels

_STRENGTH = 0.5  # of the colour; the rest is the picture


def heat_picture(frame_HWC: Pixels, weight_HW: npt.NDArray[np.floating]) -> Pixels:
    """The frame in grey, each patch in the colour of its weight: blue the least, red the most.

    Colours are relative to this frame; weights that are all the same are of the middle colour.

    Args:
        frame_HWC: uint8 RGB, what the model was shown.
        weight_HW: a weight for each patch, fewer rows and columns than the frame has.

    Returns:
        uint8 RGB of the frame's size.
    """
    from matplotlib import colormaps  # takes a second, which only this needs

    colours_HWC = 255 * colormaps["turbo"](_relative(weight_HW))[..., :3]
    rows, columns = (
        np.arange(length) * patches // length
        for length, patches in zip(frame_HWC.shape[:2], weight_HW.shape, strict=True)
    )
    spread_HWC = colours_HWC[rows[:, None], columns]
    grey_HW1 = frame_HWC.mean(axis=2, keepdims=True)
    blend_HWC = _STRENGTH * spread_HWC + (1 - _STRENGTH) * grey_HW1
    return np.asarray(blend_HWC.round(), dtype=np.uint8)


def _relative(weight_HW: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """0 for the least weight, 1 for the largest."""
    least, largest = float(weight_HW.min()), float(weight_HW.max())
    if least == largest:
        return np.full(weight_HW.shape, 0.5)
    return np.asarray((weight_HW - least) / (largest - least), dtype=np.float64)
