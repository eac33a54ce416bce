"""A score for every token of a video: the head of FAST-VQA, kept as a map.

"FAST-VQA: Efficient End-to-end Video Quality Assessment with Fragment Sampling" (arXiv 2207.02595,
section 3.3), its intra-patch non-linear regression: scores are read from tokens before anything is
averaged.

Shapes: B videos, D features, T, H, W tokens along time, height and width.
"""

from torch import Tensor, nn

from vqatool.models.quality import in_float32


class ScoreMap(nn.Module):
    """Features of tokens -> scores of tokens, by two layers, the same for every token."""

    def __init__(self, channels: int, *, hidden: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        self._hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(channels, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self._score = nn.Linear(hidden, 1)
        nn.init.constant_(self._score.bias, 0.6)  # a middling label

    def forward(self, map_BDTHW: Tensor) -> Tensor:
        """(B, D, T, H, W) -> (B, T, H, W)."""
        hidden_BTHWD: Tensor = self._hidden(map_BDTHW.movedim(1, -1))
        return in_float32(self._score, hidden_BTHWD).squeeze(-1)


def scores_of_frames(score_BT: Tensor, tubelet: int, frames: int) -> Tensor:
    """(B, tokens) -> (B, frames): each token's score for every frame that it was made of.

    Args:
        score_BT: a score for each token of time.
        tubelet: frames that make a token.
        frames: of the clip; the last token may have been filled up.
    """
    return score_BT.repeat_interleave(tubelet, dim=1)[:, :frames]
