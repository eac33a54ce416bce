"""Scores of several branches -> one score: the late fusion of Zoom-VQA, for one video alone too.

"Zoom-VQA: Patches, Frames and Clips Integration for Video Quality Assessment" (arXiv 2304.06440).
As published: each branch's scores are standardised, go through a sigmoid, and are averaged with
equal weights. Different: mean and deviation are running ones of the videos learned from, and not of
the set that is scored, so that a score does not hang on its neighbours; and the average goes back
through the sigmoid, to the label's scale, which the branches learn and the paper does not need.

Shapes: B videos, K branches.
"""

import torch
from torch import Tensor, nn

_LEAST = 1e-3  # a branch that says the same of every video has a deviation of 0
_LATEST = 0.01  # weight of the latest batch, once there were a hundred


class ScoreFusion(nn.Module):
    """One score out of those of `branches` branches; what it saw is stored with the weights."""

    mean: Tensor  # (K,)
    square: Tensor  # (K,) mean of squares of what is left of the mean
    batches: Tensor  # ()

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(branches))
        self.register_buffer("square", torch.ones(branches))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, score_BK: Tensor) -> Tensor:
        """(..., K) scores of the branches, each on the label's scale divided by 100 -> (...).

        Branches that agree are followed, whatever was seen before.
        """
        score_BK = score_BK.float()
        deviation_K = self.square.clamp_min(_LEAST**2).sqrt()
        average = ((score_BK - self.mean) / deviation_K).sigmoid().mean(-1)
        return self.mean.mean() + deviation_K.mean() * torch.logit(average, eps=1e-6)

    @torch.no_grad()
    def watch(self, score_BK: Tensor) -> None:
        """Take note of the scores of a batch that is learned from."""
        score_BK = score_BK.float()
        weight = (1 / (self.batches + 1)).clamp_min(_LATEST)
        self.mean.lerp_(score_BK.mean(0), weight)
        self.square.lerp_((score_BK - self.mean).square().mean(0), weight)
        # beyond that count nothing changes, and model files hold halves
        self.batches.add_(1).clamp_max_(1 / _LATEST)
