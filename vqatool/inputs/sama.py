"""SAMA's sampler: fragments of several scales on one canvas.

After "Scaling and Masking: A New Paradigm of Data Sampling for Image and Video Quality Assessment"
(SAMA, arXiv 2401.02614). As published: a pyramid from the native size down to the size at which the
short side is that of the canvas; on each level a grid of cells and one patch of raw pixels from
each cell, at the same relative place on all levels; a mask in time or in space that selects one
level at each position, so that the canvas has the size of plain fragments and adds no cost to a
model. Different: any number of frames; levels have 8 bit samples like the clip; a frame smaller
than the canvas is enlarged to it, and the grid is computed for the enlarged frame.

Shapes: T frames, C channels, H height, W width, G cells a side of the grid, P px of a patch.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.resize import resized

VideoMask = Literal["sama", "sama-c", "sama-mix", "sama-swm", "sama-spm", "fragments"]
ImageMask = Literal["sama", "sama-spm", "fragments"]

_TOKEN_PX = 4  # side of one token of a Swin
_TUBELET = 2  # frames of one token


def sama(
    clip: Clip,
    *,
    mask: VideoMask = "sama",
    grid: int = 7,
    patch: int = 32,
    levels: int = 16,
    is_antialiased: bool = False,
    generator: np.random.Generator | None = None,
) -> Array:
    """A mosaic of patches for each frame, from the levels that `mask` selects.

    - `sama`: a level for each two frames, from the finest to the coarsest and again;
    - `sama-c`: the finest and the coarsest level in turn, each for two frames;
    - `sama-mix`: as `sama` with half as many levels, so each comes twice;
    - `sama-swm`: `sama` and the finest level in a checkerboard of whole patches;
    - `sama-spm`: the same in a checkerboard of 4 x 4 px;
    - `fragments`: the finest level only.

    Two frames and 4 x 4 px make one token of a video Swin, so no token mixes levels.

    Args:
        clip: frames of any size; a clip of one or two frames has the finest level only.
        mask: which level is at which position.
        grid: cells a side.
        patch: side of a patch, px.
        levels: of the pyramid, with equal steps of scale; a short clip has fewer.
        is_antialiased: whether levels are scaled with antialiasing; published: without.
        generator: for random places of the patches in their cells; None: the middle.

    Returns:
        (T, C, grid * patch, grid * patch), dtype of the clip.
    """
    depths = _depths(mask, len(clip.pixels_TCHW), levels)
    square = {"sama-swm": patch, "sama-spm": _TOKEN_PX}.get(mask)
    places_GG2 = _places(grid, generator)
    return _masked(clip.pixels_TCHW, depths, square, places_GG2, patch, is_antialiased)


def sama_image(
    clip: Clip,
    *,
    mask: ImageMask = "sama",
    grid: int = 8,
    patch: int = 32,
    is_antialiased: bool = False,
    generator: np.random.Generator | None = None,
) -> Array:
    """A mosaic of patches for each frame, of the finest and the coarsest level.

    - `sama`: in a checkerboard of whole patches;
    - `sama-spm`: in a checkerboard of 4 x 4 px;
    - `fragments`: the finest level only.

    Arguments and result are those of `sama`.
    """
    depth = 0.0 if mask == "fragments" else 1.0
    square = {"sama": patch, "sama-spm": _TOKEN_PX}.get(mask)
    pixels_TCHW = clip.pixels_TCHW
    depths = [depth] * len(pixels_TCHW)
    return _masked(pixels_TCHW, depths, square, _places(grid, generator), patch, is_antialiased)


def level_size(height: int, width: int, side: int, depth: float) -> tuple[int, int]:
    """(height, width) of a level of a frame's pyramid, px.

    Args:
        height: of the frame, px.
        width: of the frame, px.
        side: of the canvas, px.
        depth: 0 is the native size, 1 the size with a short side of `side`. All levels of a smaller
            frame are enlarged to that.
    """
    coarsest = side / min(height, width)
    finest = max(1.0, coarsest)
    factor = finest + depth * (coarsest - finest)
    return max(side, round(height * factor)), max(side, round(width * factor))


def _depths(mask: VideoMask, frames: int, levels: int) -> list[float]:
    tubes = -(-frames // _TUBELET)
    max_levels = min(levels, tubes)
    count = {"fragments": 1, "sama-c": 2, "sama-mix": -(-max_levels // 2)}.get(mask, max_levels)
    return [(t // _TUBELET) % count / max(1, count - 1) for t in range(frames)]


def _places(grid: int, generator: np.random.Generator | None) -> Array:
    """(G, G, 2) in [0, 1): place of each patch in its cell; rows first."""
    if generator is None:
        return np.full((grid, grid, 2), 0.5)
    return generator.random((grid, grid, 2))


def _masked(
    pixels_TCHW: Array,
    depths: Sequence[float],
    square: int | None,
    places_GG2: Array,
    patch: int,
    is_antialiased: bool,
) -> Array:
    """Patches of each frame's depth; with `square`, every second square px has depth 0."""
    canvas_TCHW = _mosaic(pixels_TCHW, depths, places_GG2, patch, is_antialiased)
    if square is None:
        return canvas_TCHW
    finest_TCHW = _mosaic(pixels_TCHW, [0.0] * len(depths), places_GG2, patch, is_antialiased)
    side = np.arange(canvas_TCHW.shape[-1]) // square
    is_finest_HW = (side[:, None] + side[None, :]) % 2 == 0
    return np.where(is_finest_HW, finest_TCHW, canvas_TCHW)


def _mosaic(
    pixels_TCHW: Array,
    depths: Sequence[float],
    places_GG2: Array,
    patch: int,
    is_antialiased: bool,
) -> Array:
    frames, channels, height, width = pixels_TCHW.shape
    side = len(places_GG2) * patch
    canvas_TCHW = np.empty((frames, channels, side, side), pixels_TCHW.dtype)
    for depth in set(depths):
        size = level_size(height, width, side, depth)
        y_HW, x_HW = _canvas_pixels(size, places_GG2, patch)
        for t in range(frames):
            if depths[t] == depth:
                canvas_TCHW[t] = _sampled(pixels_TCHW[t], size, y_HW, x_HW, is_antialiased)
    return canvas_TCHW


def _sampled(
    frame_CHW: Array, size: tuple[int, int], y_HW: Array, x_HW: Array, is_antialiased: bool
) -> Array:
    """The pixels (y, x) of the frame scaled (bilinear) to `size`; (C, H, W) of the canvas."""
    if frame_CHW.shape[1:] == size:
        return frame_CHW[:, y_HW, x_HW]
    if is_antialiased:
        level_CHW: Array = resized(frame_CHW[None], size, is_antialiased=True)[0]
        return level_CHW[:, y_HW, x_HW]
    # only the sampled pixels of a level are computed
    above, below, down = _interpolation(y_HW, size[0], frame_CHW.shape[1])
    left, right, across = _interpolation(x_HW, size[1], frame_CHW.shape[2])
    upper, lower = (
        _between(frame_CHW[:, y, left], frame_CHW[:, y, right], across) for y in (above, below)
    )
    sampled_CHW = _between(upper, lower, down)
    if np.issubdtype(frame_CHW.dtype, np.integer):
        sampled_CHW = sampled_CHW.round()
    return sampled_CHW.astype(frame_CHW.dtype)


def _between(start: Array, end: Array, share: Array) -> Array:
    between: Array = start.astype(np.float32) * (1 - share) + end.astype(np.float32) * share
    return between


def _interpolation(position_HW: Array, scaled: int, length: int) -> tuple[Array, Array, Array]:
    """The two source pixels around each position of a scaled axis, and the second one's weight."""
    source_HW = ((position_HW + 0.5) * (length / scaled) - 0.5).clip(0, length - 1)
    before_HW = source_HW.astype(int)
    weight_HW = (source_HW - before_HW).astype(np.float32)
    return before_HW, np.minimum(before_HW + 1, length - 1), weight_HW


def _canvas_pixels(size: tuple[int, int], places_GG2: Array, patch: int) -> tuple[Array, Array]:
    """Row and column on a level, each (H, W), of each pixel of the canvas."""
    grid, px = len(places_GG2), np.arange(patch)
    cells = np.array([length // grid for length in size])
    cell_GG2 = np.moveaxis(np.indices((grid, grid)), 0, -1)
    start_GG2 = cell_GG2 * cells + (places_GG2 * (cells - patch)).astype(int)
    y_GPG = start_GG2[:, None, :, 0] + px[:, None]
    x_GGP = start_GG2[:, :, None, 1] + px
    y_HW = y_GPG.reshape(-1, grid).repeat(patch, axis=1)
    x_HW = x_GGP.reshape(grid, -1).repeat(patch, axis=0)
    return y_HW, x_HW
