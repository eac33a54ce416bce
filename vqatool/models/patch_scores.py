"""Scores and weights for the patches of a frame: the frame branch of Zoom-VQA.

"Zoom-VQA: Patches, Frames and Clips Integration for Video Quality Assessment" (arXiv 2304.06440).
As published: the four stages of a ConvNeXt pooled to one grid, a patch of 32 px a cell, and joined
to hyper-columns; one head scores each patch, another says how much it counts. Different: a score
ends in a softplus, because the published ReLU gives no gradient where it gives 0, from where a
head does not come back; the ReLU is a switch, and then starts at a middling score.

Shapes: B frames, C channels, H height, W width; inside the grid H and W count patches.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.quality import in_float32

PATCH_PX = 32
"""Side of the patch that a hyper-column stands for."""

Activation = Literal["softplus", "relu"]

_START = 0.6  # score of an untaught head: a middling label
_SHARPNESS = 10.0  # a softplus this sharp is linear over nearly all of 0 to 1


class PatchScores(NamedTuple):
    """What the frame branch says of the patches of B frames.

    `score_BHW` is on the label's scale divided by 100, `weight_BHW` in (0, 1), `features_BCHW` is
    what the scores were read from.
    """

    score_BHW: Tensor
    weight_BHW: Tensor
    features_BCHW: Tensor

    def mean(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C), each patch as much as its weight says."""
        weight_B1HW = self.weight_BHW[:, None]
        return (values_BCHW * weight_B1HW).sum((2, 3)) / weight_B1HW.sum((2, 3))

    @property
    def score_B(self) -> Tensor:
        """The weighted mean of the scores of each frame."""
        return self.mean(self.score_BHW[:, None])[:, 0]


def hyper_columns(maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Maps (B, C_s, H_s, W_s) -> (B, sum of C_s, *grid): the mean of each map in each cell."""
    return torch.cat([F.adaptive_avg_pool2d(map_BCHW, grid) for map_BCHW in maps], dim=1)


class PatchHeads(nn.Module):
    """Hyper-columns -> a score and a weight for each patch, two layers for each of them."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        activation: Activation = "softplus",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self._activation = activation
        self._hidden = _hidden(channels, hidden, dropout)
        self._score = nn.Conv2d(hidden, 1, 1)
        self._weight = nn.Sequential(_hidden(channels, hidden, dropout), nn.Conv2d(hidden, 1, 1))
        before_softplus = math.log(math.expm1(_SHARPNESS * _START)) / _SHARPNESS
        start = _START if activation == "relu" else before_softplus
        nn.init.constant_(cast(Tensor, self._score.bias), start)

    def forward(self, columns_BCHW: Tensor) -> PatchScores:
        """(B, C, H, W) -> scores, weights and features of H x W patches."""
        features_BCHW = self._hidden(columns_BCHW).float()
        score_BHW = in_float32(self._score, features_BCHW).squeeze(1)
        weight_BHW = self._weight(columns_BCHW).squeeze(1).float().sigmoid()
        return PatchScores(self._activated(score_BHW), weight_BHW, features_BCHW)

    def _activated(self, score_BHW: Tensor) -> Tensor:
        if self._activation == "relu":
            return F.relu(score_BHW)
        return F.softplus(score_BHW, beta=_SHARPNESS)


def _hidden(channels: int, hidden: int, dropout: float) -> nn.Sequential:
    # a convolution of one patch is a linear layer that leaves the grid as it lies
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Dropout(dropout))
