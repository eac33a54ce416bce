"""Grid fragments: patches at native resolution from all over the frame, side by side on a canvas.

After "FAST-VQA: Efficient End-to-end Video Quality Assessment with Fragment Sampling" (arXiv
2207.02595, section 3.1). As published: a uniform grid, and one patch of raw pixels from a random
place in each cell, not resized. Different: each frame may have its own places (`is_aligned` False),
so that a few frames cover most of the picture; without a generator the places follow a fixed
sequence that fills a cell evenly, so that a score is the same every time; frames smaller than the
canvas are enlarged as a whole, and the grid is computed for the enlarged frame.

Shapes: T frames, C channels, H height, W width, G cells a side of the grid.
"""

import numpy as np

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.resize import resized

_PLASTIC = 1.32471795724474602596  # the R2 sequence of its powers fills a square evenly


def fragments(
    clip: Clip,
    *,
    grid: int = 4,
    patch: int = 64,
    is_aligned: bool = False,
    generator: np.random.Generator | None = None,
) -> Array:
    """A mosaic of raw patches, one from each cell of a grid, of each frame group's first frame.

    Args:
        clip: its pixels are enlarged first if a side is below `grid * patch`.
        grid: cells a side.
        patch: side of a patch, px.
        is_aligned: whether all frames have the same places.
        generator: for random places; None: a fixed sequence, which starts in the middle.

    Returns:
        (T, C, grid * patch, grid * patch), dtype of the clip.
    """
    side = grid * patch
    clip_TCHW = _at_least(clip.first_TCHW, side)
    frames, channels, height, width = clip_TCHW.shape
    places_TGG2 = _places(1 if is_aligned else frames, grid, generator, clip.first_group)
    places_TGG2 = np.broadcast_to(places_TGG2, (frames, grid, grid, 2))
    rows_TGG = _starts(height, grid, patch, places_TGG2[..., 0], axis=0)
    columns_TGG = _starts(width, grid, patch, places_TGG2[..., 1], axis=1)
    mosaic_TCHW = np.empty((frames, channels, side, side), clip_TCHW.dtype)
    for t, i, j in np.ndindex(frames, grid, grid):
        y, x = rows_TGG[t, i, j], columns_TGG[t, i, j]
        mosaic_TCHW[t, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] = clip_TCHW[
            t, :, y : y + patch, x : x + patch
        ]
    return mosaic_TCHW


def rearranged(mosaic_TCHW: Array, *, patch: int, generator: np.random.Generator) -> Array:
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
    cells_NTCHW = cells.transpose(2, 4, 0, 1, 3, 5).reshape(-1, frames, channels, patch, patch)
    order_N = generator.permutation(grid * grid)
    turns_N = generator.integers(8, size=grid * grid)  # four rotations, with and without a flip
    turned = [
        np.rot90(cells_NTCHW[cell][..., ::-1] if turn > 3 else cells_NTCHW[cell], turn, (-2, -1))
        for cell, turn in zip(order_N, turns_N.tolist(), strict=True)
    ]
    cells = np.stack(turned).reshape(grid, grid, frames, channels, patch, patch)
    return cells.transpose(2, 3, 0, 4, 1, 5).reshape(frames, channels, side, side)


def mirrored(pixels_TCHW: Array, *, generator: np.random.Generator) -> Array:
    """An augmentation: all frames mirrored left to right with chance 1/2."""
    return pixels_TCHW[..., ::-1] if generator.integers(2) else pixels_TCHW


def _at_least(clip_TCHW: Array, side: int) -> Array:
    height, width = clip_TCHW.shape[-2:]
    factor = side / min(height, width)
    if factor <= 1:
        return clip_TCHW
    size = (max(side, round(height * factor)), max(side, round(width * factor)))
    return resized(clip_TCHW, size, is_antialiased=False)


def _places(frames: int, grid: int, generator: np.random.Generator | None, first: int) -> Array:
    """(T, G, G, 2) in [0, 1): start of each patch as a share of its cell's slack; rows first."""
    if generator is not None:
        return generator.random((frames, grid, grid, 2))
    step = np.array([1 / _PLASTIC, 1 / _PLASTIC**2])
    places_T2 = (0.5 + np.arange(first, first + frames)[:, None] * step) % 1
    return np.broadcast_to(places_T2[:, None, None, :], (frames, grid, grid, 2))


def _starts(length: int, grid: int, patch: int, place_TGG: Array, *, axis: int) -> Array:
    """(T, G, G) first pixel of each patch along one axis; the cells cover the whole length."""
    edges = np.arange(grid + 1) * length // grid
    shape = (1, -1, 1) if axis == 0 else (1, 1, -1)
    first, slack = edges[:-1].reshape(shape), (np.diff(edges) - patch).reshape(shape)
    starts_TGG: Array = first + (place_TGG * (slack + 1)).astype(int)
    return starts_TGG
