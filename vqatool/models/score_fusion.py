"""Scores of several branches -> one score: the late fusion of Zoom-VQA, for one video alone too.

"Zoom-VQA: Patches, Frames and Clips Integration for Video Quality Assessment" (arXiv 2304.06440).
As published: each branch's scores are standardised, go through a sigmoid, and are averaged with
equal weights. Different: mean and deviation are those of the training set and not of the set that
is scored, so that a score does not hang on its neighbours; a line then takes the average to the
label's scale, which the paper does not need.

Shapes: B videos, K branches, N videos of the training set.
"""

import torch
from torch import Tensor, nn

_LEAST = 1e-6  # a branch that says the same of every video has a deviation of 0


class ScoreFusion(nn.Module):
    """One score out of those of `branches` branches; what it knows is stored with the weights."""

    mean: Tensor  # (K,)
    deviation: Tensor  # (K,)
    line: Tensor  # (2,) offset and slope

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(branches))
        self.register_buffer("deviation", torch.ones(branches))
        self.register_buffer("line", torch.tensor([0.0, 1.0]))

    def forward(self, score_BK: Tensor) -> Tensor:
        """(..., K) scores of the branches -> (...) on the label's scale divided by 100.

        Before `settle` it is the mean of the sigmoids of the scores as they are.
        """
        return self.line[0] + self.line[1] * self._average(score_BK.float())

    @torch.no_grad()
    def settle(self, score_NK: Tensor, label_N: Tensor) -> None:
        """Learn the scales of branches and label.

        Args:
            score_NK: what the branches say of the training set with the weights they will have.
            label_N: its labels divided by 100; the line is the least squares one.
        """
        score_NK, label_N = score_NK.to(self.mean), label_N.to(self.mean)
        # as halves, which model files hold, so that the line is fitted to what will be used
        self.mean.copy_(score_NK.mean(0).half())
        self.deviation.copy_(score_NK.std(0, unbiased=False).clamp_min(_LEAST).half())
        fused_N = self._average(score_NK)
        off_N = fused_N - fused_N.mean()
        slope = (off_N * label_N).sum() / off_N.square().sum().clamp_min(_LEAST)
        self.line.copy_(torch.stack([label_N.mean() - slope * fused_N.mean(), slope]))

    def _average(self, score_BK: Tensor) -> Tensor:
        return ((score_BK - self.mean) / self.deviation).sigmoid().mean(-1)
