"""Fragments of many scales on one canvas: patches of a pyramid, a mask says where which level is.

After "Scaling and Masking: A New Paradigm of Data Sampling for Image and Video Quality Assessment"
(SAMA, arXiv 2401.02614). As published: a pyramid from the native size down to where the short side
is that of the canvas; on every level a grid of cells and one patch of raw pixels of each, at one
relative place for all levels; a mask in time or in space that keeps one level everywhere, so that
the canvas is that of plain fragments and costs a model nothing. Different: any number of frames;
levels are 8 bit samples like the clip; a picture smaller than the canvas is enlarged to it, and the
grid is laid on what came out.

Shapes: T frames, C channels, H height, W width, G cells a side.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vqatool.inputs.clip import Clip

VideoMask = Literal["sama", "sama-c", "sama-mix", "sama-swm", "sama-spm", "fragments"]


ImageMask = Literal["sama", "sama-spm", "fragments"]


_TOKEN_PX = 4  # side of what a Swin makes one token of


_TUBELET = 2  # frames of it


def sama(
    clip: Clip,
    *,
    mask: VideoMask = "sama",
    grid: int = 7,
    patch: int = 32,
    levels: int = 16,
    is_antialiased: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A mosaic of patches for every frame, of the levels that `mask` chooses.

    - `sama`: every two frames one level, finer ones first, again from the finest after `levels`;
    - `sama-c`: every two frames, the finest and the coarsest level by turns;
    - `sama-mix`: as `sama`, with half of the levels, so that they come twice;
    - `sama-swm`: patches of `sama` and of the finest level on a checkerboard of whole patches;
    - `sama-spm`: the same on a checkerboard of 4 x 4 px;
    - `fragments`: the finest level alone.

    Two frames and 4 x 4 px make one token of a video Swin, so none of these mixes levels in one.

    Args:
        clip: frames of any size; a clip of one or two knows the finest level alone.
        mask: which level is where.
        grid: cells a side.
        patch: side of a patch, px.
        levels: of the pyramid, spread evenly in scale; a clip too short for all has fewer.
        is_antialiased: whether levels are made without aliasing, which the published ones are not.
        generator: where in their cells patches lie; None: in the middle.

    Returns:
        (T, C, grid * patch, grid * patch), dtype and device of the clip.
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
    generator: torch.Generator | None = None,
) -> Tensor:
    """A mosaic for every frame by itself: patches of the finest and of the coarsest level.

    - `sama`: on a checkerboard of whole patches;
    - `sama-spm`: on a checkerboard of 4 x 4 px;
    - `fragments`: the finest level alone.

    Arguments and what is returned are those of `sama`.
    """
    depth = 0.0 if mask == "fragments" else 1.0
    square = {"sama": patch, "sama-spm": _TOKEN_PX}.get(mask)
    pixels_TCHW = clip.pixels_TCHW
    depths = [depth] * len(pixels_TCHW)
    return _masked(pixels_TCHW, depths, square, _places(grid, generator), patch, is_antialiased)


def level_size(height: int, width: int, side: int, depth: float) -> tuple[int, int]:
    """(height, width) of a frame on a level of its pyramid.

    Args:
        height: of the frame, px.
        width: of the frame, px.
        side: of the canvas, px.
        depth: 0 is the frame as it is, 1 has a short side of `side`; frames below that are
            enlarged to it on all levels.
    """
    coarsest = side / min(height, width)
    finest = max(1.0, coarsest)
    factor = finest + depth * (coarsest - finest)
    return max(side, round(height * factor)), max(side, round(width * factor))


def _depths(mask: VideoMask, frames: int, levels: int) -> list[float]:
    tubes = -(-frames // _TUBELET)
    most = min(levels, tubes)
    count = {"fragments": 1, "sama-c": 2, "sama-mix": -(-most // 2)}.get(mask, most)
    return [(t // _TUBELET) % count / max(1, count - 1) for t in range(frames)]


def _places(grid: int, generator: torch.Generator | None) -> Tensor:
    """(G, G, 2) in [0, 1): where in its cell each patch lies, vertically, across."""
    if generator is None:
        return torch.full((grid, grid, 2), 0.5)
    return torch.rand(grid, grid, 2, generator=generator)


def _masked(
    pixels_TCHW: Tensor,
    depths: Sequence[float],
    square: int | None,
    places_GG2: Tensor,
    patch: int,
    is_antialiased: bool,
) -> Tensor:
    """Patches of each frame's depth; with squares, every second one is of depth 0."""
    canvas_TCHW = _mosaic(pixels_TCHW, depths, places_GG2, patch, is_antialiased)
    if square is None:
        return canvas_TCHW
    finest_TCHW = _mosaic(pixels_TCHW, [0.0] * len(depths), places_GG2, patch, is_antialiased)
    side = torch.arange(canvas_TCHW.shape[-1], device=canvas_TCHW.device) // square
    is_finest_HW = (side[:, None] + side[None, :]) % 2 == 0
    return torch.where(is_finest_HW, finest_TCHW, canvas_TCHW)


def _mosaic(
    pixels_TCHW: Tensor,
    depths: Sequence[float],
    places_GG2: Tensor,
    patch: int,
    is_antialiased: bool,
) -> Tensor:
    frames, channels, height, width = pixels_TCHW.shape
    side = len(places_GG2) * patch
    canvas_TCHW = pixels_TCHW.new_empty(frames, channels, side, side)
    for depth in set(depths):
        size = level_size(height, width, side, depth)
        y_HW, x_HW = (axis.to(pixels_TCHW.device) for axis in _taken(size, places_GG2, patch))
        for t in range(frames):
            if depths[t] == depth:
                canvas_TCHW[t] = _gathered(pixels_TCHW[t], size, y_HW, x_HW, is_antialiased)
    return canvas_TCHW


def _gathered(
    frame_CHW: Tensor, size: tuple[int, int], y_HW: Tensor, x_HW: Tensor, is_antialiased: bool
) -> Tensor:
    """Pixels (y, x) of the frame scaled (bilinear) to `size`."""
    if frame_CHW.shape[1:] == size:
        return frame_CHW[:, y_HW, x_HW]
    if is_antialiased:
        level_1CHW = F.interpolate(
            frame_CHW[None], size, mode="bilinear", align_corners=False, antialias=True
        )
        return level_1CHW[0, :, y_HW, x_HW]
    # of a level, only what is taken is ever made
    above, below, down = _neighbours(y_HW, size[0], frame_CHW.shape[1])
    left, right, across = _neighbours(x_HW, size[1], frame_CHW.shape[2])
    upper, lower = (
        torch.lerp(frame_CHW[:, y, left].float(), frame_CHW[:, y, right].float(), across)
        for y in (above, below)
    )
    taken_CHW = torch.lerp(upper, lower, down)
    is_whole = not frame_CHW.is_floating_point()
    return (taken_CHW.round() if is_whole else taken_CHW).to(frame_CHW.dtype)


def _neighbours(place_HW: Tensor, scaled: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels before and behind a place on a scaled axis, and where between them it lies, 0 to 1."""
    source_HW = ((place_HW + 0.5) * (length / scaled) - 0.5).clamp(0, length - 1)
    before_HW = source_HW.long()
    return before_HW, (before_HW + 1).clamp_max(length - 1), source_HW - before_HW


def _taken(size: tuple[int, int], places_GG2: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Row and column on a level, each (H, W), of every pixel of the canvas."""
    grid, px = len(places_GG2), torch.arange(patch)
    cells = torch.tensor([length // grid for length in size])
    cell_GG2 = torch.cartesian_prod(torch.arange(grid), torch.arange(grid)).view(grid, grid, 2)
    start_GG2 = cell_GG2 * cells + (places_GG2 * (cells - patch)).long()
    y_GPG = start_GG2[:, None, :, 0] + px[:, None]
    x_GGP = start_GG2[:, :, None, 1] + px
    y_HW = y_GPG.flatten(0, 1).repeat_interleave(patch, 1)
    x_HW = x_GGP.flatten(1, 2).repeat_interleave(patch, 0)
    return y_HW, x_HW
