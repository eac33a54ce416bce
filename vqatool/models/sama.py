"""SAMA's models: one backbone over a canvas with patches of several scales.

"Scaling and Masking: A New Paradigm of Data Sampling for Image and Video Quality Assessment" (arXiv
2401.02614). As published: the scales are the sampler's work (`inputs.sama`), so the models are
FAST-VQA's network for videos and a plain SwinV2 for images, without extra cost; a score of each
token, averaged; as a switch, a weight of each time and so of each scale. Different: scores of
tokens are averaged in training, too, not summed; an image model scores several frames of a video
one by one. Ours, each with a switch: the locally normalised luma channel and the convolutional
stem, for networks trained from scratch; both mix a few pixels across the borders of the mask.

Shapes: B videos, T frames, C channels, H height, W width, D features; inside, T, H and W may count
tokens.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from vqatool.models.backbones import SwinPyramid
from vqatool.models.quality import PixelInput, Quality, QualityModel, in_float32
from vqatool.models.shapes import SWIN_SIZES, TUBELET, SamaConfig
from vqatool.models.swin3d import ScoreMap, Swin3D, scores_of_frames

_PATCH_PX = 4  # of one token


def sama_model(config: SamaConfig) -> QualityModel:
    """The model of the config's kind, with fresh weights."""
    return SamaVideo(config) if config.kind == "video" else SamaImage(config)


class SamaVideo(QualityModel):
    """One view of pixels (B, T, 3, side, side) -> Quality, by a Swin over space and time."""

    def __init__(self, config: SamaConfig) -> None:
        super().__init__()
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self._swin = Swin3D(
            SWIN_SIZES[config.size],
            in_channels=self._pixels.channels,
            patch=(TUBELET, _PATCH_PX, _PATCH_PX),
            grid=config.grid,
            has_gate=config.has_gate,
            has_conv_stem=config.has_conv_stem,
        )
        self.feature_width = self._swin.channels
        self._head = ScoreMap(self._swin.channels, dropout=config.dropout)
        self._weights = ScaleWeights(self._swin.channels) if config.has_scale_weights else None

    def forward(self, *views: Tensor) -> Quality:
        """The Quality of one view."""
        (view_BTCHW,) = views
        map_BDTHW = self._swin(_standardised(self._pixels, view_BTCHW))
        score_BT = self._head(map_BDTHW).mean((2, 3))
        token_BTD = map_BDTHW.float().mean((3, 4)).transpose(1, 2)
        if self._weights is None:
            score_B, features_BD = score_BT.mean(1), token_BTD.mean(1)
        else:
            weight_BT = self._weights(token_BTD)
            score_B = (weight_BT * score_BT).sum(1)
            features_BD = (weight_BT[..., None] * token_BTD).sum(1)
        return Quality(
            score_B=score_B,
            features_BD=features_BD,
            frame_score_BT=scores_of_frames(score_BT, TUBELET, view_BTCHW.shape[1]),
        )

    def head_layers(self) -> Sequence[nn.Module]:
        """The score head, and the scale weights if there are any."""
        return [self._head, *([self._weights] if self._weights else [])]

    def last_layers(self) -> Sequence[nn.Module]:
        """The last block, its norm and the head."""
        return [*self._swin.last_layers(), *self.head_layers()]


class ScaleWeights(nn.Module):
    """A weight of each time, and so of each scale, in the score; equal weights initially."""

    def __init__(self, channels: int, *, hidden: int = 64) -> None:
        super().__init__()
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        self._layers = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), last)

    def forward(self, token_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T), with sum 1 over T."""
        return cast(Tensor, self._layers(token_BTD).squeeze(-1).float().softmax(1))


class SamaImage(QualityModel):
    """One view of pixels (B, T, 3, side, side) -> Quality, frame by frame, by a SwinV2."""

    def __init__(self, config: SamaConfig) -> None:
        super().__init__()
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self._swin = SwinPyramid(
            SWIN_SIZES[config.size],
            in_channels=self._pixels.channels,
            side_px=config.grid * config.patch,
            window=config.window,
            has_conv_stem=config.has_conv_stem,
        )
        self.feature_width = channels = self._swin.channels[-1]
        hidden = 64
        self._norm = nn.LayerNorm(channels)
        last = nn.Linear(hidden, 1)
        nn.init.constant_(last.bias, 0.6)  # a typical label
        self._head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            last,
        )

    def forward(self, *views: Tensor) -> Quality:
        """The Quality of one view."""
        (view_BTCHW,) = views
        map_NDHW = self._swin(self._pixels(view_BTCHW.flatten(0, 1)))[-1]
        token_NHWD = self._norm(map_NDHW.permute(0, 2, 3, 1))
        feature_BTD = token_NHWD.float().mean((1, 2)).reshape(*view_BTCHW.shape[:2], -1)
        frame_score_BT = in_float32(self._head, feature_BTD).squeeze(-1)
        return Quality(
            score_B=frame_score_BT.mean(1),
            features_BD=feature_BTD.mean(1),
            frame_score_BT=frame_score_BT,
        )

    def head_layers(self) -> Sequence[nn.Module]:
        """The head and its norm."""
        return [self._norm, self._head]

    def last_layers(self) -> Sequence[nn.Module]:
        """The last block, the norm and the head."""
        return [self._swin.last_block, *self.head_layers()]


def _standardised(pixels: PixelInput, view_BTCHW: Tensor) -> Tensor:
    frames_NCHW = pixels(view_BTCHW.flatten(0, 1))
    return cast(Tensor, frames_NCHW.reshape(*view_BTCHW.shape[:2], *frames_NCHW.shape[1:]))
