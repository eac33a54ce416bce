"""Bilinear scaling of frames, as a weighted mean of rows, then of columns.

Decoded frames come scaled to their display already (libswscale, in `ladder.media.decode`); this is
for views that want another size. The weights are those of torch and Pillow: a triangle over the
centres of the pixels, as wide as a step of the result where antialiasing scales down.

Shapes: T frames, C channels, H height, W width, N pixels of the result along an axis.
"""

import functools

import numpy as np
import numpy.typing as npt

from vqatool.inputs.clip import Array


def resized(pixels_TCHW: Array, size: tuple[int, int], *, is_antialiased: bool) -> Array:
    """Frames in another size.

    Args:
        pixels_TCHW: uint8 or float.
        size: (height, width) of the result, px.
        is_antialiased: whether all pixels count where scaling down; else the nearest four do.

    Returns:
        (T, C, height, width) of the same dtype; integers are rounded.
    """
    height, width = pixels_TCHW.shape[-2:]
    if size == (height, width):
        return pixels_TCHW
    rows_NH = bilinear_weights(height, size[0], is_antialiased)
    columns_NW = bilinear_weights(width, size[1], is_antialiased)
    scaled = [
        # one channel at a time: as floats, a whole clip would take gigabytes
        [rows_NH @ plane_HW.astype(np.float32) @ columns_NW.T for plane_HW in frame_CHW]
        for frame_CHW in pixels_TCHW
    ]
    result_TCHW: Array = np.array(scaled, np.float32)
    if np.issubdtype(pixels_TCHW.dtype, np.integer):
        result_TCHW = result_TCHW.round()
    return result_TCHW.astype(pixels_TCHW.dtype)


@functools.lru_cache(maxsize=16)  # a run has a few sizes, and a clip many frames of one
def bilinear_weights(length: int, scaled: int, is_antialiased: bool) -> npt.NDArray[np.float32]:
    """(N, length): how much each pixel of an axis counts in each of N = `scaled` of the result."""
    step = length / scaled
    reach = max(1.0, step) if is_antialiased else 1.0
    centre_N = (np.arange(scaled) + 0.5) * step - 0.5
    if not is_antialiased:
        centre_N = centre_N.clip(0, length - 1)
    distance_NH = np.abs(np.arange(length) - centre_N[:, None])
    weight_NH = np.maximum(0.0, 1 - distance_NH / reach)
    weight_NH /= weight_NH.sum(1, keepdims=True)
    return weight_NH.astype(np.float32)
