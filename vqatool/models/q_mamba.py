"""Q-Mamba: a VMamba, a linear head, and StylePrompts to adapt a frozen network.

"Q-Mamba: On First Exploration of Vision Mamba for Image Quality Assessment" (arXiv 2406.09546). As
published: the backbones, the mean of the last map, the linear head, and StylePrompt: after each
stage a bank of learned prompts, mixed by weights computed from the map, gives each channel a scale
and a shift. The paper is about pictures; that a video's score is the mean of its frames' is ours.
The number of prompts and their inner width are not known to us: ours stay below 5 % of the backbone
at every size, and start as no change. Ours too, with a switch: the locally normalised luma channel,
for networks trained from scratch.

Shapes: B videos, T frames, N frames of all videos, C channels, H height, W width, D features.
In StylePrompt B pictures, N prompts, D inner width.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vqatool.models.quality import PixelInput, Quality, QualityModel, in_float32
from vqatool.models.shapes import VMAMBA_SIZES, QMambaConfig
from vqatool.models.vmamba import LOCAL_WINDOWS, WHOLE_MAPS, VMamba

PROMPTS = 4
"""Prompts of a stage: with these, at most 5 % of the backbone at every size."""


class StylePrompt(nn.Module):
    """A map with another mean and deviation of each channel.

    Args:
        channels: of the map.
        prompts: learned prompts in the bank.
        reduction: channels over the inner width.
    """

    def __init__(self, channels: int, *, prompts: int = PROMPTS, reduction: int = 4) -> None:
        super().__init__()
        inner = channels // reduction
        self._bank = nn.Parameter(torch.randn(prompts, channels))
        self._choice = nn.Linear(channels, prompts)
        self._inner = nn.Linear(channels, inner)
        self._gain, self._shift = _zero_linear(inner, channels), _zero_linear(inner, channels)

    def forward(self, map_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        gain_BC, shift_BC = self.style(map_BHWC)
        return map_BHWC * (1 + gain_BC)[:, None, None] + shift_BC[:, None, None]

    def style(self, map_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and shift (B, C); 0 is no change.

        A channel's mean m becomes m * (1 + gain) + shift, its deviation is scaled by |1 + gain|.
        """
        weight_BN = self._choice(map_BHWC.mean((1, 2))).softmax(-1)
        inner_BD = self._inner(weight_BN @ self._bank)
        return self._gain(inner_BD), self._shift(inner_BD)


def _zero_linear(width_in: int, width: int) -> nn.Linear:
    layer = nn.Linear(width_in, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class QMamba(QualityModel):
    """A view of pixels (B, T, 3, H, W) of any size -> Quality, as built from `config`."""

    def __init__(self, config: QMambaConfig) -> None:
        super().__init__()
        self.config = config
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self._backbone = VMamba(
            VMAMBA_SIZES[config.size],
            in_channels=self._pixels.channels,
            windows=LOCAL_WINDOWS if config.has_local_scan else WHOLE_MAPS,
            has_gate=config.has_gate,
        )
        channels = self._backbone.channels
        stages = channels if config.prompts else []
        self._prompts = nn.ModuleList(StylePrompt(c, prompts=config.prompts) for c in stages)
        self._head = LinearHead(channels[-1])
        self.feature_width = channels[-1]

    def forward(self, *views: Tensor) -> Quality:
        """The Quality of one view: the mean of its frames'."""
        (view_BTCHW,) = views
        pixels_NCHW = self._pixels(view_BTCHW.flatten(0, 1))
        map_NHWC = self._backbone(pixels_NCHW, list(self._prompts))
        features_ND, score_N = self._head(map_NHWC)
        frame_score_BT = score_N.view(view_BTCHW.shape[:2])
        return Quality(
            score_B=frame_score_BT.mean(1),
            features_BD=features_ND.unflatten(0, view_BTCHW.shape[:2]).mean(1),
            frame_score_BT=frame_score_BT,
        )

    def head_layers(self) -> Sequence[nn.Module]:
        """The head with its norm."""
        return [self._head]

    def last_layers(self) -> Sequence[nn.Module]:
        """The last block and the head."""
        return [self._backbone.last_block, self._head]

    def trainable_layers(self, part: str) -> Sequence[nn.Module]:
        """`prompts`: the StylePrompts and the head; `head`.

        Raises:
            ValueError: the model has no such part.
        """
        if part == "prompts" and len(self._prompts):
            return [self._prompts, self._head]
        return super().trainable_layers(part)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load weights; prompts that the weights lack keep their values.

        Raises:
            RuntimeError: other names or shapes differ.
        """
        own = self.state_dict()
        prompts = {name: own[name] for name in own if name.startswith("_prompts.")}
        super().load_weights({**prompts, **weights})


class LinearHead(nn.Module):
    """A map's normalised mean, and the score by one linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._norm = nn.LayerNorm(channels)
        self._score = nn.Linear(channels, 1)
        nn.init.constant_(self._score.bias, 0.6)  # a typical label

    def forward(self, map_NHWC: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, C) -> features (N, C) and scores (N,), float32."""
        features_NC = self._norm(map_NHWC.float().mean((1, 2)))
        return features_NC.float(), in_float32(self._score, features_NC).squeeze(-1)
