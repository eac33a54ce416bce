"""The four stages of a frame fused into one feature: local statistics beside a global summary.

Shapes: B frames, C channels, H height, W width, N tokens, D features.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StageFusion(nn.Module):
    """Maps of several stages -> one quality-aware feature a frame (arXiv 2401.08522).

    Each stage becomes a small grid of tokens; a transformer over all of them gives the global
    feature; the stages' own statistics are the local one; both are joined by a linear layer. As
    published in outline; grid, widths and the deviation beside the mean are ours.
    """

    def __init__(
        self, channels: Sequence[int], features: int, *, grid: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        self._grid = grid
        self._tokens = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * count, features), nn.LayerNorm(features))
            for count in channels
        )
        self._stage = nn.Parameter(0.02 * torch.randn(len(channels), 1, features))
        self._place = nn.Parameter(0.02 * torch.randn(grid * grid, features))
        self._summary = nn.Parameter(0.02 * torch.randn(1, 1, features))
        self._mixer = transformer(features, layers)
        local = 2 * sum(channels)
        self._join = nn.Sequential(
            nn.LayerNorm(local + features), nn.Linear(local + features, features), nn.GELU()
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_s, H_s, W_s), sides multiples of the grid -> (B, D)."""
        tokens = [
            layer(mean_and_deviation(map_BCHW, self._grid)) + self._place + stage
            for layer, map_BCHW, stage in zip(self._tokens, maps, self._stage, strict=True)
        ]
        summary = self._summary.expand(maps[0].shape[0], -1, -1)
        global_BD = self._mixer(torch.cat([summary, *tokens], dim=1))[:, 0]
        local_BD = torch.cat([mean_and_deviation(m, 1)[:, 0] for m in maps], dim=1)
        return cast(Tensor, self._join(torch.cat([local_BD, global_BD], dim=1)))


def mean_and_deviation(map_BCHW: Tensor, grid: int) -> Tensor:
    """(B, C, H, W) -> (B, grid * grid, 2 C): mean and deviation of each cell, in float32."""
    map_BCHW = map_BCHW.float()
    mean = F.adaptive_avg_pool2d(map_BCHW, grid)
    variance = F.adaptive_avg_pool2d(map_BCHW.square(), grid) - mean.square()
    # the root's slope is infinite at 0, and a cell of one value has a variance of 0
    both = torch.cat([mean, (variance.clamp_min(0) + 1e-5).sqrt()], dim=1)
    return both.flatten(2).transpose(1, 2)


def transformer(features: int, layers: int) -> nn.Module:
    """Pre-norm encoder layers of the width `features`; none at all change nothing."""
    if not layers:
        return nn.Identity()
    layer = nn.TransformerEncoderLayer(
        features,
        nhead=max(1, features // 32),
        dim_feedforward=2 * features,
        dropout=0.1,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
