"""SwinV2 frames, fused stages, a temporal transformer: the model of arXiv 2401.08522.

"Video Quality Assessment Based on Swin TransformerV2 and Coarse to Fine Strategy". As published:
SwinV2 gives four stages of local features a frame, transformer layers fuse them to a global
feature, both are joined to a quality-aware frame feature, a temporal transformer mixes the frames.
Open in the paper and chosen here: all sizes, the number of frames, the positions. Ours: the locally
normalised luma channel and the convolutional stem (both can be turned off), without which the net
learns next to nothing when it starts from scratch.

Shapes: B videos, T frames, C channels, H height, W width, D features.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.backbones import SWIN_SIZES, SwinPyramid
from vqatool.models.fusion import StageFusion, transformer
from vqatool.models.quality import PixelInput, Quality, QualityModel

_POSITIONS = 8  # learned at this length, interpolated to any other


@dataclass(frozen=True, kw_only=True)
class CoarseToFineConfig:
    """Everything that makes the model's shape; stored in its file."""

    size: str = "nano"
    features: int = 128
    window: int = 8
    has_conv_stem: bool = True
    has_local_luma: bool = True
    fusion_layers: int = 2
    temporal_layers: int = 1

    def __post_init__(self) -> None:
        if self.size not in SWIN_SIZES:
            raise ValueError(f"size {self.size!r} is none of {', '.join(SWIN_SIZES)}")


class CoarseToFine(QualityModel):
    """One view (B, T, 3, side, side) -> Quality.

    Any side will do: timm pads the maps that windows do not divide.
    """

    def __init__(self, config: CoarseToFineConfig, *, side_px: int = 256) -> None:
        super().__init__()
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self._frames = SwinPyramid(
            SWIN_SIZES[config.size],
            in_channels=self._pixels.channels,
            side_px=side_px,
            window=config.window,
            has_conv_stem=config.has_conv_stem,
        )
        self._fusion = StageFusion(
            self._frames.channels, config.features, layers=config.fusion_layers
        )
        self._position = nn.Parameter(0.02 * torch.randn(1, config.features, _POSITIONS))
        self._temporal = transformer(config.features, config.temporal_layers)
        self._head = nn.Sequential(
            nn.LayerNorm(config.features),
            nn.Linear(config.features, config.features // 2),
            nn.GELU(),
            nn.Linear(config.features // 2, 1),
        )
        nn.init.constant_(cast(nn.Linear, self._head[-1]).bias, 0.6)  # a middling label

    def forward(self, *views: Tensor) -> Quality:
        """One view (B, T, 3, H, W), float in [0, 1] -> Quality of the B videos."""
        (view_BTCHW,) = views
        videos, frames = view_BTCHW.shape[:2]
        maps = self._frames(self._pixels(view_BTCHW.flatten(0, 1)))
        frames_BTD = self._fusion(maps).unflatten(0, (videos, frames))
        mixed_BTD = self._temporal(frames_BTD + self._positions(frames))
        features_BD = mixed_BTD.mean(dim=1).float()
        return Quality(
            self._head(features_BD).squeeze(1).float(),
            features_BD,
            self._head(mixed_BTD).squeeze(2).float(),
        )

    def _positions(self, frames: int) -> Tensor:
        if frames == _POSITIONS:
            return self._position.transpose(1, 2)
        stretched = F.interpolate(self._position, frames, mode="linear", align_corners=False)
        return stretched.transpose(1, 2)
