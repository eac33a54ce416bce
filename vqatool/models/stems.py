"""Pixels of a video -> its first tokens, one for each patch of a few frames, rows and columns.

One convolution over whole patches as in "Video Swin Transformer" (arXiv 2106.13230), or three of
ours, which nets need that start from scratch: see `backbones.ConvStem`. None is a convolution over
time: patches do not overlap there, so a layer over the frames of a patch side by side is the same,
and in bfloat16 those over time crash some CPUs (learning by oneDNN's for AMX, as of torch 2.15).

Shapes: B videos, C channels, T frames, H height, W width, D features; primed ones count tokens.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.windows import Size3


class PatchStem3D(nn.Module):
    """Pixels -> one token a patch, as published; channels last."""

    def __init__(self, in_channels: int, width: int, patch: Size3) -> None:
        super().__init__()
        self._frames, *sides = patch
        side = (sides[0], sides[1])
        self._of_patch = nn.Conv2d(self._frames * in_channels, width, side, stride=side)
        self._norm = nn.LayerNorm(width)

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) of whole patches -> (B, T', H', W', width)."""
        frames_NCHW = pixels_BCTHW.transpose(1, 2).flatten(0, 1)
        return _tokens(self._of_patch, self._norm, frames_NCHW, len(pixels_BCTHW), self._frames)


class ConvStem3D(nn.Module):
    """Three convolutions to as many tokens, the first at full resolution; channels last."""

    def __init__(self, in_channels: int, width: int, patch: Size3) -> None:
        super().__init__()
        self._frames, *sides = patch
        if any(side % 2 for side in sides):
            raise ValueError(f"sides of a patch must be even for the convolutions, got {patch}")
        stride = (sides[0] // 2, sides[1] // 2)
        half = max(8, width // 3)
        self._of_frame = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(half, 2 * half, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self._of_patch = nn.Conv2d(self._frames * 2 * half, width, 3, stride=stride, padding=1)
        self._norm = nn.LayerNorm(width)

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) of whole patches -> (B, T', H', W', width)."""
        maps_NCHW = self._of_frame(pixels_BCTHW.transpose(1, 2).flatten(0, 1))
        return _tokens(self._of_patch, self._norm, maps_NCHW, len(pixels_BCTHW), self._frames)


def _tokens(
    of_patch: nn.Module, norm: nn.Module, frames_NCHW: Tensor, videos: int, frames: int
) -> Tensor:
    """Maps of all frames -> (B, T', H', W', D), those of a patch's frames side by side."""
    channels, *sides = frames_NCHW.shape[1:]
    tokens_NDHW = of_patch(frames_NCHW.reshape(-1, frames * channels, *sides))
    return cast(Tensor, norm(tokens_NDHW.unflatten(0, (videos, -1)).movedim(2, -1)))


def filled(pixels_BCTHW: Tensor, patch: Size3) -> Tensor:
    """Frames and borders repeated up to whole patches."""
    t, h, w = (-n % length for n, length in zip(pixels_BCTHW.shape[2:], patch, strict=True))
    if not (t or h or w):
        return pixels_BCTHW
    return F.pad(pixels_BCTHW, (0, w, 0, h, 0, t), mode="replicate")
