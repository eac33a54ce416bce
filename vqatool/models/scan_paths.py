"""The orders in which a scan reads a map: across and down, from both ends, in windows or not.

"VMamba: Visual State Space Model" (arXiv 2401.10166) reads whole rows and columns, "LocalMamba:
Visual State Space Model with Windowed Selective Scan" (arXiv 2403.09338) reads window by window,
which keeps neighbours together.

Shapes: B pictures, C channels, H height, W width, L tokens, K = 4 paths.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PATHS = 4


def along_paths(map_BHWC: Tensor, *, window: int = 0) -> Tensor:
    """The tokens in four orders: rows, columns, and both from the end.

    Args:
        map_BHWC: of any size; zeros fill up windows at the right and at the bottom.
        window: side of the windows, which follow each other in the order of their tokens; 0: the
            whole map is one.

    Returns:
        (L, B, K, C); L is H W, and more where windows were filled up.
    """
    rows_LBC = _by_windows(map_BHWC, window)
    columns_LBC = _by_windows(map_BHWC.transpose(1, 2), window)
    return torch.stack([rows_LBC, columns_LBC, rows_LBC.flip(0), columns_LBC.flip(0)], dim=2)


def back_on_map(tokens_LBKC: Tensor, height: int, width: int, *, window: int = 0) -> Tensor:
    """The map of every path (K, B, H, W, C), without what filled up windows."""
    rows, columns, rows_back, columns_back = tokens_LBKC.unbind(2)
    maps = [
        _of_windows(rows, height, width, window),
        _of_windows(columns, width, height, window).transpose(1, 2),
        _of_windows(rows_back.flip(0), height, width, window),
        _of_windows(columns_back.flip(0), width, height, window).transpose(1, 2),
    ]
    return torch.stack(maps)


def _by_windows(map_BHWC: Tensor, window: int) -> Tensor:
    """(L, B, C): windows row by row, the tokens of each row by row."""
    height, width = map_BHWC.shape[1:3]
    tall, wide = (window, window) if window else (height, width)
    filled = F.pad(map_BHWC, (0, 0, 0, -width % wide, 0, -height % tall))
    pictures, high, broad, channels = filled.shape
    cells = filled.reshape(pictures, high // tall, tall, broad // wide, wide, channels)
    return cells.permute(1, 3, 2, 4, 0, 5).flatten(0, 3)


def _of_windows(tokens_LBC: Tensor, height: int, width: int, window: int) -> Tensor:
    """(B, H, W, C): the inverse of `_by_windows`."""
    tall, wide = (window, window) if window else (height, width)
    grid = (-(-height // tall), -(-width // wide))
    cells = tokens_LBC.reshape(*grid, tall, wide, *tokens_LBC.shape[1:])
    filled = cells.permute(4, 0, 2, 1, 3, 5).flatten(3, 4).flatten(1, 2)
    return filled[:, :height, :width]
