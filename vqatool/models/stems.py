"""Pixels of a video -> its first tokens, one for each patch of a few frames, rows and columns.

One convolution over whole patches as in "Video Swin Transformer" (arXiv 2106.13230), or three of
ours, which nets need that start from scratch: see `backbones.ConvStem`.

Shapes: B videos, C channels, T frames, H height, W width, D features.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.windows import Size3


class PatchStem3D(nn.Module):
    """Pixels -> one token a patch, as published; channels last."""

    def __init__(self, in_channels: int, width: int, patch: Size3) -> None:
        super().__init__()
        self._embed = nn.Conv3d(in_channels, width, patch, stride=patch)
        self._norm = nn.LayerNorm(width)

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) of whole patches -> (B, T', H', W', width)."""
        return cast(Tensor, self._norm(self._embed(pixels_BCTHW).permute(0, 2, 3, 4, 1)))


class ConvStem3D(nn.Module):
    """Three convolutions to as many tokens, the first at full resolution; channels last."""

    def __init__(self, in_channels: int, width: int, patch: Size3) -> None:
        super().__init__()
        frames, *sides = patch
        if any(side % 2 for side in sides):
            raise ValueError(f"sides of a patch must be even for the convolutions, got {patch}")
        height, width_px = (side // 2 for side in sides)
        half = max(8, width // 3)
        self._layers = nn.Sequential(
            nn.Conv3d(in_channels, half, (1, 3, 3), padding=(0, 1, 1)),
            nn.GELU(),
            nn.Conv3d(half, 2 * half, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            nn.GELU(),
            nn.Conv3d(2 * half, width, (frames, 3, 3), (frames, height, width_px), (0, 1, 1)),
        )
        self._norm = nn.LayerNorm(width)

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) of whole patches -> (B, T', H', W', width)."""
        return cast(Tensor, self._norm(self._layers(pixels_BCTHW).permute(0, 2, 3, 4, 1)))


def filled(pixels_BCTHW: Tensor, patch: Size3) -> Tensor:
    """Frames and borders repeated up to whole patches."""
    t, h, w = (-n % length for n, length in zip(pixels_BCTHW.shape[2:], patch, strict=True))
    if not (t or h or w):
        return pixels_BCTHW
    return F.pad(pixels_BCTHW, (0, w, 0, h, 0, t), mode="replicate")
