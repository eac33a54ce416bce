"""A small network on figures of a whole clip, whose score joins that of the pixels; ours.

Figures of the bitstream, of motion and of probing tell more of an encode that was coded once than
a network learns from the pixels of a few hundred contents. This one has its own layers and its own
fit after the training (`vqatool.training.figures`), because it needs hundreds of epochs, and pixels
are learned by heart in as many. ITU-T P.1204.3 puts a forest on such figures in the same way.

Shapes: B clips, F figures.
"""

from typing import cast

import torch
from torch import Tensor, nn

from vqatool.models.quality import in_float32

_WIDTH, _DROPOUT = 128, 0.4
_LARGEST_UNIT = 4.0  # deviations from the mean; what lies further out counts as that


class FigureNetwork(nn.Module):
    """Figures (B, F) -> a score of each clip; no part of the training of the other layers.

    `share` is the weight of its score, 0 until it is fitted.

    Args:
        width_in: F.
    """

    def __init__(self, width_in: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width_in))
        self.register_buffer("deviation", torch.ones(width_in))
        self.register_buffer("share", torch.zeros(()))
        self._layers = nn.Sequential(
            nn.Linear(width_in, _WIDTH),
            nn.GELU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_WIDTH, _WIDTH),
            nn.GELU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_WIDTH, 1),
        )
        nn.init.constant_(cast(nn.Linear, self._layers[-1]).bias, 0.7)  # a typical label
        self.requires_grad_(False)

    def standardised(self, figures_BF: Tensor) -> Tensor:
        """Figures in deviations from the mean of those that it was fitted on, float32."""
        unit_BF = (figures_BF.float() - self.get_buffer("mean")) / self.get_buffer("deviation")
        return unit_BF.clamp(-_LARGEST_UNIT, _LARGEST_UNIT)

    def score(self, unit_BF: Tensor) -> Tensor:
        """Standardised figures -> (B,) scores, about 0 to 1."""
        return in_float32(self._layers, unit_BF).squeeze(-1)

    def correction(self, figures_BF: Tensor, is_known_B: Tensor, score_B: Tensor) -> Tensor:
        """(B,) what is to be added to the scores of pixels; 0 where the bitstream is unknown."""
        share_B = self.get_buffer("share") * is_known_B
        return share_B * (self.score(self.standardised(figures_BF)) - score_B)
