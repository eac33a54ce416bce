"""Parts of InternVideo2's transformer: norm, attention, block, attentive pooling, positions.

"InternVideo2: Scaling Foundation Models for Multimodal Video Understanding" (arXiv 2403.15377).
Norms of one scale and no offset, queries and keys that are normed over all heads at once, and a
learned scale on each branch keep a net of a billion weights stable. Attention is PyTorch's own.
Names of weights are the published ones.

Shapes: B videos, N tokens, D width, T frames, H rows, W columns.
"""

from collections import OrderedDict
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int, int]
"""Frames, rows and columns of tokens."""


class RMSNorm(nn.Module):
    """x over its root mean square, times a learned scale: no mean is taken off, nothing added."""

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> the same shape and type, computed in float32."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._eps)
        return (wide * scale * self.weight).to(x.dtype)


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch; small at first, so blocks start as nothing."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return x * self.gamma


class Attention(nn.Module):
    """Self-attention; queries and keys are normed over the full width, before heads are split."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(width), RMSNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        q_BND, k_BND, v_BND = self.qkv(x_BND).chunk(3, dim=-1)
        mixed_BND = attend(self.q_norm(q_BND), self.k_norm(k_BND), v_BND, self._heads)
        return cast(Tensor, self.proj(mixed_BND))


class Block(nn.Module):
    """Attention, then two layers a token; each branch normed before and scaled after.

    `drop_path` is the chance of a branch to be left out for a video in training.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, layer_scale: float, drop_path: float
    ) -> None:
        super().__init__()
        self._drop_path = drop_path
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attn = Attention(width, heads)
        layers = {
            "fc1": nn.Linear(width, hidden),
            "act": nn.GELU(),
            "fc2": nn.Linear(hidden, width),
        }
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](layers))
        self.ls1, self.ls2 = LayerScale(width, layer_scale), LayerScale(width, layer_scale)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x_BND = x_BND + self._kept(self.ls1(self.attn(self.norm1(x_BND))))
        return x_BND + self._kept(self.ls2(self.mlp(self.norm2(x_BND))))

    def _kept(self, branch_BND: Tensor) -> Tensor:
        if not self.training or not self._drop_path:
            return branch_BND
        keep = 1 - self._drop_path
        is_kept_B = torch.rand(len(branch_BND), 1, 1, device=branch_BND.device) < keep
        return branch_BND * is_kept_B / keep


class AttentivePool(nn.Module):
    """Tokens -> one feature: what their mean asks for; queries, keys and values have own norms."""

    def __init__(self, width: int, features: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(width) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, features)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, features)."""
        query_B1D = self.q(self.norm1_q(x_BND.mean(1, keepdim=True)))
        keys_BND, values_BND = self.k(self.norm1_k(x_BND)), self.v(self.norm1_v(x_BND))
        asked_B1D = attend(query_B1D, keys_BND, values_BND, self._heads)
        return cast(Tensor, self.proj(asked_B1D.squeeze(1)))


def attend(q_BMD: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int) -> Tensor:
    """Attention of M queries to N keys in `heads` parts of the width -> (B, M, D)."""
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q_BMD, k_BND, v_BND))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def sincos_positions(grid: Grid, width: int) -> Tensor:
    """(T * H * W, width) of sines and cosines: a quarter tells the frame, the rest column and row.

    `width` is a multiple of 16.
    """
    frame, row, column = torch.meshgrid(*(torch.arange(count) for count in grid), indexing="ij")
    place = width // 8 * 3
    waves = [_waves(frame, width - 2 * place), _waves(column, place), _waves(row, place)]
    return torch.cat(waves, dim=1)


def regridded(positions_ND: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Positions of one grid stretched to another: linear in time, bicubic in space."""
    if grid == wanted:
        return positions_ND
    maps_TDHW = positions_ND.view(*grid, -1).permute(0, 3, 1, 2)
    maps_TDHW = F.interpolate(maps_TDHW, wanted[1:], mode="bicubic", align_corners=False)
    lines_DNT = maps_TDHW.flatten(2).permute(1, 2, 0)
    lines_DNT = F.interpolate(lines_DNT, wanted[0], mode="linear", align_corners=False)
    return lines_DNT.permute(2, 1, 0).flatten(0, 1)


def interpolate_pos_embed(positions_1ND: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Positions (1, N, D) of the class token, which stays, and of a grid, stretched to another."""
    grid_ND = regridded(positions_1ND[0, 1:], grid, wanted)
    return torch.cat([positions_1ND[0, :1], grid_ND])[None]


def _waves(position: Tensor, width: int) -> Tensor:
    """(positions, width): sines, then cosines, of wavelengths from 2 pi to 10000 times that."""
    half = width // 2
    slowness = 10000 ** (torch.arange(half) / half)
    angle = position.flatten()[:, None] / slowness
    return torch.cat([angle.sin(), angle.cos()], dim=1)
