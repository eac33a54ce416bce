"""Grid fragments: patches at native resolution from all over the frame, side by side on a canvas.

After "FAST-VQA: Efficient End-to-end Video Quality Assessment with Fragment Sampling" (arXiv
2207.02595, section 3.1). As published: a uniform grid, and one patch of raw pixels from a random
place in each cell, not resized. Different: each frame may have its own places (`is_aligned` False),
so that a few frames cover most of the picture; without a generator the places follow a fixed
sequence that fills a cell evenly, so that a score is the same every time; frames smaller than the
canvas are enlarged as a whole, and the grid is computed for the enlarged frame.

Shapes: T frames, C channels, H height, W width, G cells a side of the grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqatool.inputs.clip import Clip

_PLASTIC = 1.32471795724474602596  # the R2 sequence of its powers fills a square evenly


def fragments(
    clip: Clip,
    *,
    grid: int = 4,
    patch: int = 64,
    is_aligned: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A mosaic of raw patches, one from each cell of a grid, of each frame group's first frame.

    Args:
        clip: its pixels are enlarged first if a side is below `grid * patch`.
        grid: cells a side.
        patch: side of a patch, px.
        is_aligned: whether all frames have the same places.
        generator: for random places; None: a fixed sequence, which starts in the middle.

    Returns:
        (T, C, grid * patch, grid * patch), dtype and device of the clip.
    """
    side = grid * patch
    clip_TCHW = _at_least(clip.first_TCHW, side)
    frames, channels, height, width = clip_TCHW.shape
    places_TGG2 = _places(1 if is_aligned else frames, grid, generator).expand(frames, -1, -1, -1)
    rows_TGG = _starts(height, grid, patch, places_TGG2[..., 0], axis=0)
    columns_TGG = _starts(width, grid, patch, places_TGG2[..., 1], axis=1)
    mosaic_TCHW = clip_TCHW.new_empty(frames, channels, side, side)
    for t in range(frames):
        for i in range(grid):
            for j in range(grid):
                y, x = int(rows_TGG[t, i, j]), int(columns_TGG[t, i, j])
                mosaic_TCHW[t, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] = (
                    clip_TCHW[t, :, y : y + patch, x : x + patch]
                )
    return mosaic_TCHW


def rearranged(mosaic_TCHW: Tensor, *, patch: int, generator: torch.Generator) -> Tensor:
    """An augmentation: patches in random order, each flipped and rotated, the same in all frames.

    It keeps the quality and changes the content, so that a network cannot learn contents by heart.

    Args:
        mosaic_TCHW: of `fragments`.
        patch: side of its patches, px.
        generator: for order, flips and rotations.
    """
    frames, channels, side, _ = mosaic_TCHW.shape
    grid = side // patch
    cells = mosaic_TCHW.reshape(frames, channels, grid, patch, grid, patch)
    cells_NTCHW = cells.permute(2, 4, 0, 1, 3, 5).flatten(0, 1)
    order_N = torch.randperm(grid * grid, generator=generator)
    turns_N = torch.randint(
        8, (grid * grid,), generator=generator
    )  # four rotations, each with and without a flip
    turned = [
        torch.rot90(cells_NTCHW[cell].flip(-1) if turn > 3 else cells_NTCHW[cell], turn, (-2, -1))
        for cell, turn in zip(order_N.tolist(), turns_N.tolist(), strict=True)
    ]
    cells = torch.stack(turned).reshape(grid, grid, frames, channels, patch, patch)
    return cells.permute(2, 3, 0, 4, 1, 5).reshape(frames, channels, side, side)


def mirrored(pixels_TCHW: Tensor, *, generator: torch.Generator) -> Tensor:
    """An augmentation: all frames mirrored left to right with chance 1/2."""
    is_mirrored = bool(torch.randint(2, (), generator=generator))
    return pixels_TCHW.flip(-1) if is_mirrored else pixels_TCHW


def _at_least(clip_TCHW: Tensor, side: int) -> Tensor:
    height, width = clip_TCHW.shape[-2:]
    factor = side / min(height, width)
    if factor <= 1:
        return clip_TCHW
    size = (max(side, round(height * factor)), max(side, round(width * factor)))
    enlarged = F.interpolate(clip_TCHW.float(), size, mode="bilinear", align_corners=False)
    return enlarged.to(clip_TCHW.dtype)


def _places(frames: int, grid: int, generator: torch.Generator | None) -> Tensor:
    """(T, G, G, 2) in [0, 1): start of each patch as a share of its cell's slack; rows first."""
    if generator is not None:
        return torch.rand(frames, grid, grid, 2, generator=generator)
    step = torch.tensor([1 / _PLASTIC, 1 / _PLASTIC**2], dtype=torch.float64)
    index = torch.arange(frames, dtype=torch.float64)
    places_T2 = (0.5 + index[:, None] * step) % 1
    return places_T2[:, None, None, :].expand(frames, grid, grid, 2)


def _starts(length: int, grid: int, patch: int, place_TGG: Tensor, *, axis: int) -> Tensor:
    """(T, G, G) first pixel of each patch along one axis; the cells cover the whole length."""
    edges = torch.arange(grid + 1) * length // grid
    shape = (1, -1, 1) if axis == 0 else (1, 1, -1)
    first, slack = edges[:-1].view(shape), (edges.diff() - patch).view(shape)
    return first + (place_TGG * (slack + 1)).long()
