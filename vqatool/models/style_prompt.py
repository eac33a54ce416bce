"""StylePrompt: a frozen model is tuned by the style of its maps.

"Q-Mamba: On First Exploration of Vision Mamba for Image Quality Assessment" (arXiv 2406.09546). As
published: behind every stage a bank of learned prompts, mixed by what the map itself shows, gives
each channel a gain and a shift. The paper's number and inner width of prompts are not known: ours
stay below 5 % of the backbone at every size. Ours too: gain and shift start at zero, so a model
with prompts begins as the same model without.

Shapes: B pictures, H height, W width, C channels, N prompts, D inner width.
"""

import torch
from torch import Tensor, nn

PROMPTS = 4
"""How many a stage: with these, prompts are at most 5 % of the backbone at every size."""


class StylePrompt(nn.Module):
    """A map (B, H, W, C) with the mean and the deviation of every channel moved."""

    def __init__(self, channels: int, *, prompts: int = PROMPTS, reduction: int = 4) -> None:
        super().__init__()
        inner = channels // reduction
        self._bank = nn.Parameter(torch.randn(prompts, channels))
        self._choice = nn.Linear(channels, prompts)
        self._inner = nn.Linear(channels, inner)
        self._gain, self._shift = _zeros(inner, channels), _zeros(inner, channels)

    def forward(self, map_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        gain_BC, shift_BC = self.style(map_BHWC)
        return map_BHWC * (1 + gain_BC)[:, None, None] + shift_BC[:, None, None]

    def style(self, map_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and shift (B, C): means m become m (1 + gain) + shift, deviations those by 1 + gain.

        0 is no change.
        """
        weight_BN = self._choice(map_BHWC.mean((1, 2))).softmax(-1)
        inner_BD = self._inner(weight_BN @ self._bank)
        return self._gain(inner_BD), self._shift(inner_BD)


def _zeros(width_in: int, width: int) -> nn.Linear:
    layer = nn.Linear(width_in, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
