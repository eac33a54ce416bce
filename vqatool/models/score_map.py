"""A score for every token of a video: the head of FAST-VQA, kept as a map.

"FAST-VQA: Efficient End-to-end Video Quality Assessment with Fragment Sampling" (arXiv 2207.02595,
section 3.3), its intra-patch non-linear regression: scores are read from tokens before anything is
averaged.

Shapes: B videos, D features, T, H, W tokens along time, height and width.
"""

from typing import cast

from torch import Tensor, nn


class ScoreMap(nn.Module):
    """Features of tokens -> scores of tokens, by two layers of 1 x 1 x 1 convolutions."""

    def __init__(self, channels: int, *, hidden: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        last = nn.Conv3d(hidden, 1, 1)
        nn.init.constant_(cast(Tensor, last.bias), 0.6)  # a middling label
        self._layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv3d(channels, hidden, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            last,
        )

    def forward(self, map_BDTHW: Tensor) -> Tensor:
        """(B, D, T, H, W) -> (B, T, H, W)."""
        return cast(Tensor, self._layers(map_BDTHW).squeeze(1).float())


def scores_of_frames(score_BT: Tensor, tubelet: int, frames: int) -> Tensor:
    """(B, tokens) -> (B, frames): each token's score for every frame that it was made of.

    Args:
        score_BT: a score for each token of time.
        tubelet: frames that make a token.
        frames: of the clip; the last token may have been filled up.
    """
    return score_BT.repeat_interleave(tubelet, dim=1)[:, :frames]
