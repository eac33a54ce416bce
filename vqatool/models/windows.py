"""Windows over maps of video tokens, and what a pair of tokens in one has to know of each other.

After "Video Swin Transformer" (arXiv 2106.13230, section 3): windows tile the map; in every second
block they are shifted by half a window, done by rolling the map, so that some windows hold parts
that are no neighbours and must not see each other. Ours: tokens that only fill up the last windows
are hidden, too.

Shapes: B videos, T, H, W tokens along time, height and width, C channels, V windows of a map,
N tokens of a window.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Size3 = tuple[int, int, int]
"""Tokens, frames or pixels along time, height and width."""


class WindowPartition(NamedTuple):
    """How windows lie on a map of `size`, none of them larger than it."""

    size: Size3
    window: Size3
    shift: Size3 = (0, 0, 0)

    @property
    def _counts(self) -> Size3:
        """Windows along each axis."""
        t, h, w = (-(-n // length) for n, length in zip(self.size, self.window, strict=True))
        return t, h, w

    @property
    def _missing(self) -> Size3:
        """Tokens along each axis that fill up the last windows."""
        t, h, w = (-n % length for n, length in zip(self.size, self.window, strict=True))
        return t, h, w

    def split(self, map_BTHWC: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B * V, N, C)."""
        if any(self._missing):
            t, h, w = self._missing
            map_BTHWC = F.pad(map_BTHWC, (0, 0, 0, w, 0, h, 0, t))
        if any(self.shift):
            map_BTHWC = map_BTHWC.roll([-by for by in self.shift], (1, 2, 3))
        (t, h, w), (depth, rows, columns) = self._counts, self.window
        blocks = map_BTHWC.reshape(-1, t, depth, h, rows, w, columns, map_BTHWC.shape[-1])
        return blocks.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(0, 3)

    def join(self, windows_MNC: Tensor) -> Tensor:
        """What `split` took apart, back in place."""
        blocks = windows_MNC.reshape(-1, *self._counts, *self.window, windows_MNC.shape[-1])
        map_BTHWC = blocks.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 2).flatten(2, 3).flatten(3, 4)
        if any(self.shift):
            map_BTHWC = map_BTHWC.roll(self.shift, (1, 2, 3))
        t, h, w = self.size
        return map_BTHWC[:, :t, :h, :w]

    def marks(self, mark_THW: Tensor) -> Tensor:
        """(V, N) of one number a token; tokens that only fill up have 0."""
        return self.split(mark_THW[None, ..., None]).squeeze(-1)

    @property
    def hides(self) -> bool:
        """Whether a window holds tokens that must not see each other."""
        return any(self.shift) or any(self._missing)


class Pairs(NamedTuple):
    """Of all pairs of tokens in a window."""

    offset_NN: Tensor  # number of their relative place, for a table of biases
    is_apart_VNN: Tensor  # whether they lie in different fragments of the canvas
    is_hidden_VNN: Tensor | None  # whether the one must not see the other; None: all do


def pairs(tiling: WindowPartition, table_window: Size3, grid: int, device: torch.device) -> Pairs:
    """The pairs of every window.

    Args:
        tiling: windows no larger than `table_window`.
        table_window: window that the table of biases is made for.
        grid: fragments a side of the canvas, in space; they do not end in time.
        device: of the result.
    """
    fragment_VN = tiling.marks(_fragments(tiling.size, grid, device))
    hidden = _differ(tiling.marks(_regions(tiling, device))) if tiling.hides else None
    offset_NN = _offsets(tiling.window, table_window, device)
    return Pairs(offset_NN, _differ(fragment_VN), hidden)


def _differ(mark_VN: Tensor) -> Tensor:
    return mark_VN[:, :, None] != mark_VN[:, None, :]


def _offsets(window: Size3, table_window: Size3, device: torch.device) -> Tensor:
    places_N3 = torch.cartesian_prod(*(torch.arange(n, device=device) for n in window))
    t, h, w = (
        (place_N[:, None] - place_N[None, :]) + length - 1
        for place_N, length in zip(places_N3.unbind(1), table_window, strict=True)
    )
    _, height, width = (2 * length - 1 for length in table_window)
    return (t * height + h) * width + w


def _fragments(size: Size3, grid: int, device: torch.device) -> Tensor:
    row_H, column_W = (torch.arange(n, device=device) * grid // n for n in size[1:])
    return (row_H[:, None] * grid + column_W[None, :]).expand(size)


def _regions(tiling: WindowPartition, device: torch.device) -> Tensor:
    """(T, H, W) 1 to 8: along each axis, tokens that rolling takes round the end are apart."""
    t, h, w = (
        (torch.arange(n, device=device) < by).long()
        for n, by in zip(tiling.size, tiling.shift, strict=True)
    )
    return 1 + 4 * t[:, None, None] + 2 * h[:, None] + w
