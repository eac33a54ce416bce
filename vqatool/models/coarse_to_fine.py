"""Coarse-to-fine: SwinV2 frames, fused stages, features of the clip; the default model.

"Video Quality Assessment Based on Swin TransformerV2 and Coarse to Fine Strategy" (arXiv
2401.08522). As published: SwinV2 gives four stages of local features of each frame, transformer
layers fuse them to a global feature, a linear layer joins both to a quality-aware frame feature,
and a temporal transformer mixes the frames. The paper does not give sizes, the number of frames or
the positions: these are ours. Ours too, each with a switch: the locally normalised luma channel and
the convolutional stem, without which the network learns next to nothing from scratch; the quality
of each patch, which training compares with the source; band contrast and motion beside the frame
features; bitstream and probing features as one more token; noise on all that is no pixel; and a
mean with the score of small networks on these figures and on deep features of the pixels. The
temporal transformer is off by default: the mean of the frames and the token was as good with every
seed (docs/experiments.md).

Shapes: B videos, T frames, N frames of all videos, C channels, H height, W width, D features,
F bitstream features, K motion features, P probing features, E deep features.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.backbones import SwinPyramid
from vqatool.models.bands import BandContrast
from vqatool.models.figures import FigureNetwork
from vqatool.models.quality import (
    FIGURES,
    NO_FIGURES,
    PixelInput,
    Quality,
    QualityModel,
    TileOutput,
    TrainingOutput,
    TypicalView,
    in_float32,
)
from vqatool.models.shapes import SWIN_SIZES, BitstreamLayout, CoarseToFineConfig
from vqatool.vif import patch_quality


class StageFusion(nn.Module):
    """Maps of several stages -> one quality-aware feature a frame (arXiv 2401.08522).

    Each stage becomes a small grid of tokens; a transformer over all of them gives the global
    feature; means and deviations of the stages are the local feature; a linear layer joins both.
    The outline is the paper's; grid, widths and deviations are ours.

    Args:
        channels: of each stage.
        features: width of the result.
        grid: cells a side of each stage.
        layers: of the transformer; 0: none.
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


class TileQuality(nn.Module):
    """Maps of several stages -> the quality of each patch of a mosaic; ours.

    A patch has a label of its own in training, its VIF against the source, so one encode teaches
    hundreds of qualities where its VMAF teaches one.

    Args:
        channels: of each stage.
        features: width between the two layers.
        grid: patches a side.
    """

    num_figures = 3

    def __init__(self, channels: Sequence[int], features: int, grid: int) -> None:
        super().__init__()
        self._grid = grid
        width = 2 * sum(channels)
        self._layers = nn.Sequential(nn.LayerNorm(width), *_two_layers(width, features))
        self._layers.extend([nn.GELU(), nn.Linear(features, 1)])
        nn.init.constant_(cast(nn.Linear, self._layers[-1]).bias, 0.6)  # a typical label

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_s, H_s, W_s) -> (B, grid * grid) float32, about 0 to 1."""
        cells = torch.cat([mean_and_deviation(map_BCHW, self._grid) for map_BCHW in maps], dim=2)
        return in_float32(self._layers, cells).squeeze(-1)

    def figures(self, quality_BP: Tensor) -> Tensor:
        """Mean, deviation and minimum of the patches, (B, num_figures)."""
        deviation_B = (quality_BP.var(1, unbiased=False) + 1e-5).sqrt()
        return torch.stack([quality_BP.mean(1), deviation_B, quality_BP.amin(1)], dim=1)


def mean_and_deviation(map_BCHW: Tensor, grid: int) -> Tensor:
    """(B, C, H, W) -> (B, grid * grid, 2 C): mean and deviation of each cell, float32."""
    map_BCHW = map_BCHW.float()
    mean = F.adaptive_avg_pool2d(map_BCHW, grid)
    variance = F.adaptive_avg_pool2d(map_BCHW.square(), grid) - mean.square()
    # the gradient of the root is infinite at 0, the variance of a uniform cell
    both = torch.cat([mean, (variance.clamp_min(0) + 1e-5).sqrt()], dim=1)
    return both.flatten(2).transpose(1, 2)


def transformer(features: int, layers: int) -> nn.Module:
    """Pre-norm encoder layers of the width `features`; the identity for 0 layers."""
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


_LOG_SPREAD = (math.log(0.003), math.log(0.5))  # of an expected error of 0.3 to 50 points


_FIGURE_DROPOUT, _HEAD_DROPOUT = 0.4, 0.2
_SLOWEST_STEP = 1000.0  # the means of figures follow by a thousandth in each later step
_MIN_VARIANCE = 1e-4  # of a figure: one that never varied stays finite
_LARGEST_UNIT = 4.0  # deviations from the mean; what lies further out counts as that


_NUM_COLOURS = 3
_POSITIONS = 8  # frames that positions are learned for; they are interpolated for others


class _ClipFeatures(NamedTuple):
    """Features of whole clips; None for those that the model does not take."""

    stream_BF: Tensor | None
    probing_BP: Tensor | None
    deep_BE: Tensor | None
    motion_BTK: Tensor | None


class _FiguresByInput(NamedTuple):
    """Figures of a clip: means over the frames, and of motion the deviation too."""

    stream: Tensor
    probing: Tensor
    motion: Tensor
    swing: Tensor


class CoarseToFine(QualityModel):
    """Pixels (B, T, 3, side, side) and figures -> Quality.

    The figures are motion (B, T, K), probing (B, P) or, with `has_octaves`, (B, P + O), deep
    features (B, E) and bitstream (B, F).

    Any side is accepted: timm pads maps that windows do not divide.

    Args:
        config: the model's shape; it says which views there are.
        motion: K.
        stream: the layout of the bitstream features.
        probing: P.
        octaves: O.
        deep: E.
    """

    def __init__(
        self,
        config: CoarseToFineConfig,
        motion: int,
        stream: BitstreamLayout,
        probing: int,
        octaves: int,
        deep: int,
    ) -> None:
        super().__init__()
        width = config.features
        self.feature_width = 2 * width
        self._layout = stream
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self._frames = SwinPyramid(
            SWIN_SIZES[config.size],
            in_channels=self._pixels.channels,
            side_px=config.grid * config.patch,
            window=config.window,
            has_conv_stem=config.has_conv_stem,
        )
        self._fusion = StageFusion(self._frames.channels, width, layers=config.fusion_layers)
        self._grid, self._has_tiles = config.grid, config.has_tiles
        if config.has_tiles:
            self._tiles = TileQuality(self._frames.channels, width, config.grid)
            self._tile_figures = _two_layers(TileQuality.num_figures, width)
        self._bands = BandContrast() if config.has_bands else None
        if self._bands:
            self._contrast = _figure_layers(self._bands.width, width, config.figure_noise)
        self._has_stream, self._has_motion = config.has_stream, config.has_motion
        self._has_probing, self._has_spread = config.has_probing, config.has_spread
        self._num_motion, self._num_probing = motion * config.has_motion, probing
        self._has_swing = config.has_swing
        if config.has_motion:
            self._motion = _figure_layers(motion, width, config.figure_noise)
        figures = stream.width * config.has_stream + probing * config.has_probing
        if figures:  # what is known of the clip as a whole
            self._stream = _figure_layers(figures, width, config.figure_noise)
        self._figures = None
        if config.has_figure_score and config.has_stream:
            # the mean over the frames, and the deviation
            pooled = (1 + self._has_swing) * self._num_motion
            last = octaves * config.takes_octaves
            known = figures + pooled + last
            self._figures = FigureNetwork(known, stream.width, deep * config.has_deep, last)
        self._has_deep = config.takes_deep
        self._position = nn.Parameter(0.02 * torch.randn(1, width, _POSITIONS))
        self._temporal = transformer(width, config.temporal_layers)
        self._head = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 1)
        )
        self._dropout = nn.Dropout(_HEAD_DROPOUT if config.figure_noise else 0.0)
        nn.init.constant_(cast(nn.Linear, self._head[-1]).bias, 0.6)  # a typical label
        if config.has_spread:
            self._spread = nn.Sequential(nn.LayerNorm(2 * width), *_two_layers(2 * width, width))
            self._spread.append(nn.Linear(width, 1))
            nn.init.constant_(cast(nn.Linear, self._spread[-1]).bias, math.log(0.05))

    def forward(self, *views: Tensor) -> Quality:
        """The Quality of pixels, then motion, probing, deep features and bitstream.

        Those that the config has.
        """
        view_BTCHW, fused_ND, clip, _ = self._fused(views)
        return self._predict(view_BTCHW, fused_ND, clip)

    def training_output(self, *views: Tensor) -> TrainingOutput:
        """The output with and without bitstream features; the SwinV2 part is computed once.

        The pixels may have the quality of each place against the source as a fourth channel.
        """
        view_BTCHW = views[0]
        pixels_BTCHW, fused_ND, clip, quality_NP = self._fused(views)
        quality = self._predict(pixels_BTCHW, fused_ND, clip)
        tiles = self._tile_output(view_BTCHW, quality_NP)
        if clip.stream_BF is None:
            return TrainingOutput(quality, tiles=tiles)
        unknown = clip._replace(stream_BF=torch.zeros_like(clip.stream_BF))
        return TrainingOutput(quality, self._predict(pixels_BTCHW, fused_ND, unknown), tiles=tiles)

    def _tile_output(self, view_BTCHW: Tensor, quality_NP: Tensor | None) -> TileOutput | None:
        if quality_NP is None or view_BTCHW.shape[2] == _NUM_COLOURS:
            return None
        channel_NHW = view_BTCHW[:, :, _NUM_COLOURS].flatten(0, 1)
        return TileOutput(quality_NP, patch_quality(channel_NHW, self._grid))

    def head_layers(self) -> Sequence[nn.Module]:
        """The head alone."""
        return [self._head, *([self._spread] if self._has_spread else [])]

    def last_layers(self) -> Sequence[nn.Module]:
        """The temporal transformer, or the fusion where there is none, and the head."""
        has_transformer = any(True for _ in self._temporal.parameters())
        return [self._temporal if has_transformer else self._fusion, *self.head_layers()]

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load weights of the same shape; those of version 0.1 have no `spread` of figures.

        Raises:
            RuntimeError: other names or shapes differ.
        """
        unfitted = {n: w for n, w in self.state_dict().items() if n == "_figures.spread"}
        super().load_weights({**unfitted, **weights})

    def init_from(self, known: QualityModel) -> None:
        """Load the weights of another model as a start for training.

        A model without bitstream features takes all but the layers that read them in `known`; its
        layers for probing stay as new then, because those of `known` read both in one vector.

        Raises:
            RuntimeError: other names or shapes differ.
        """
        fitted_anew = ["_figures."]
        if not self._has_stream and isinstance(known, CoarseToFine) and known._has_stream:
            fitted_anew.append("_stream.")
        prefixes = tuple(fitted_anew)
        weights = {n: w for n, w in known.state_dict().items() if not n.startswith(prefixes)}
        weights |= {n: w for n, w in self.state_dict().items() if n.startswith(prefixes)}
        self.load_weights(weights)

    def _fused(
        self, views: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, "_ClipFeatures", Tensor | None]:
        """The pixels, the features (B * T, D) of each frame, those of the clip, and the patches'.

        The last is the quality (B * T, P) of P patches, None without `has_tiles`.
        """
        view_BTCHW, *others = views
        view_BTCHW = view_BTCHW[:, :, :_NUM_COLOURS]  # a teacher gets its student's views
        stream_BF = others.pop() if self._has_stream else None
        deep_BE = others.pop() if self._has_deep else None
        probing_BP = others.pop() if self._has_probing else None
        maps = self._frames(self._pixels(view_BTCHW.flatten(0, 1)))
        fused_ND, quality_NP = self._fusion(maps), None
        if self._has_tiles:
            quality_NP = self._tiles(maps)
            fused_ND = fused_ND + self._tile_figures(self._tiles.figures(quality_NP))
        motion_BTK = others.pop() if self._has_motion else None
        if motion_BTK is not None:
            fused_ND = fused_ND + self._motion(motion_BTK.flatten(0, 1))
        clip = _ClipFeatures(stream_BF, probing_BP, deep_BE, motion_BTK)
        return view_BTCHW, fused_ND, clip, quality_NP

    def _predict(self, view_BTCHW: Tensor, fused_ND: Tensor, clip: "_ClipFeatures") -> Quality:
        """The Quality of frames and clip; bitstream features of 0 are unknown."""
        frames_BTD = self._frame_features(view_BTCHW, fused_ND, clip.stream_BF)
        frames_BTD = frames_BTD + self._positions(frames_BTD.shape[1])
        probing_BP = None if clip.probing_BP is None else clip.probing_BP[:, : self._num_probing]
        figures = [each for each in (clip.stream_BF, probing_BP) if each is not None]
        token_BD = self._stream(torch.cat(figures, dim=1)) if figures else frames_BTD.mean(1)
        mixed_BTD = self._temporal(torch.cat([token_BD[:, None], frames_BTD], dim=1)).float()
        token_BD, frames_BTD = mixed_BTD[:, 0], mixed_BTD[:, 1:]
        token_BD, frames_BTD = self._dropout(token_BD), self._dropout(frames_BTD)
        features_BD = torch.cat([token_BD, frames_BTD.mean(1)], dim=1)
        each_BTD = torch.cat([token_BD[:, None].expand_as(frames_BTD), frames_BTD], dim=2)
        score_B = in_float32(self._head, features_BD).squeeze(-1)
        spread_B = self._spread_of(features_BD) if self._has_spread else None
        correction_B, spread_B = self._correction(clip, score_B, spread_B)
        return Quality(
            score_B=score_B + correction_B,
            features_BD=features_BD,
            frame_score_BT=in_float32(self._head, each_BTD).squeeze(-1) + correction_B[:, None],
            spread_B=spread_B,
        )

    @property
    def figure_network(self) -> FigureNetwork | None:
        """The network on bitstream, motion and probing figures and deep features."""
        return self._figures

    def figures_left_out(self, known: QualityModel) -> slice:
        """The deviations of motion, where only `known` takes them."""
        if self._has_swing or not isinstance(known, CoarseToFine) or not known._has_swing:
            return NO_FIGURES
        probing = known._num_probing * known._has_probing
        begin = known._layout.width + probing + known._num_motion
        return slice(begin, begin + known._num_motion)

    def trainable_layers(self, part: str) -> Sequence[nn.Module]:
        """As of every model, and `figures`, the figure network."""
        if part == FIGURES and self._figures is not None:
            return [self._figures]
        return super().trainable_layers(part)

    def clip_figures(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """All figures of a clip in the order of `_all_figures`, (F,), and deep features (E,)."""
        *others, stream_F = views[1:]
        # a copy: a view may be mapped from a file, which would stay open
        deep_E = others.pop().clone() if self._has_deep else stream_F.new_zeros(0)
        probing_P = others.pop() if self._has_probing else None
        motion_TK = others.pop() if self._has_motion else None
        return self._all_figures(stream_F, probing_P, motion_TK), deep_E

    def typical_views(self) -> Sequence[TypicalView | None]:
        """Of motion, probing, deep features and bitstream, as far as the model takes them."""
        network = self._figures
        if network is None or not network.is_fitted:
            return ()
        views: list[TypicalView | None] = [None]
        mean, deviation = map(
            self._by_input, (network.get_buffer("mean"), network.get_buffer("deviation"))
        )
        if self._has_motion:
            swing = mean.swing if self._has_swing else None
            views.append(TypicalView(mean.motion, deviation.motion, swing))
        if self._has_probing:
            views.append(TypicalView(mean.probing, deviation.probing))
        if self._has_deep:
            views.append(TypicalView(network.get_buffer("deep_mean")))
        return [*views, TypicalView(mean.stream, deviation.stream)]

    def _all_figures(self, stream: Tensor, probing: Tensor | None, motion: Tensor | None) -> Tensor:
        """(..., F), (..., P + O) and (..., T, K) -> figures of a clip, (..., F + P + K + O).

        With `has_swing` 2 K, the deviation over the frames being the second.

        Those that came last stand last, so that a network on fewer can be tuned with them.
        """
        figures = [stream] if probing is None else [stream, probing[..., : self._num_probing]]
        if motion is not None:
            figures.append(motion.mean(-2))
            if self._has_swing:
                figures.append(motion.std(-2, unbiased=False))
        if probing is not None:
            figures.append(probing[..., self._num_probing :])
        return torch.cat(figures, dim=-1)

    def _by_input(self, figures: Tensor) -> "_FiguresByInput":
        """What `_all_figures` joined."""
        motion = self._num_motion
        probing = self._num_probing * self._has_probing
        widths = [self._layout.width, probing, motion, motion * self._has_swing]
        widths.append(len(figures) - sum(widths))
        stream, probing_P, motion_K, swing_K, octaves_O = torch.split(figures, widths)
        return _FiguresByInput(stream, torch.cat([probing_P, octaves_O]), motion_K, swing_K)

    def _correction(
        self, clip: "_ClipFeatures", score_B: Tensor, spread_B: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """What the figure network adds to each score, and the expected errors after that."""
        # in training it is not fitted yet
        if self._figures is None or clip.stream_BF is None or self.training:
            return torch.zeros_like(score_B), spread_B
        figures_BF = self._all_figures(clip.stream_BF, clip.probing_BP, clip.motion_BTK)
        deep_BE = clip.stream_BF[:, :0] if clip.deep_BE is None else clip.deep_BE
        is_known_B = clip.stream_BF[:, self._layout.is_known]
        return self._figures.correction(figures_BF, deep_BE, is_known_B, score_B, spread_B)

    def _spread_of(self, features_BD: Tensor) -> Tensor:
        # detached: what makes a score uncertain must not change what the score is made from
        log_spread_B = in_float32(self._spread, features_BD.detach()).squeeze(-1)
        return log_spread_B.clamp(*_LOG_SPREAD).exp()

    def _frame_features(
        self, view_BTCHW: Tensor, fused_ND: Tensor, stream_BF: Tensor | None
    ) -> Tensor:
        videos, frames = view_BTCHW.shape[:2]
        features_ND = fused_ND
        if self._bands:
            step_B, has_step_B = self._step(stream_BF, view_BTCHW)
            # not by repeat_interleave, which torch exports for the example's number of clips alone
            step_N, has_step_N = (
                each_B[:, None].expand(videos, frames).flatten() for each_B in (step_B, has_step_B)
            )
            statistics_NS = self._bands(view_BTCHW.flatten(0, 1), step_N, has_step_N)
            features_ND = features_ND + self._contrast(statistics_NS)
        return features_ND.reshape(videos, frames, -1)

    def _step(self, stream_BF: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) log2 of the quantiser step, and 1 where it is known."""
        if stream_BF is None:
            unknown_B = like.new_zeros(len(like))
            return unknown_B, unknown_B
        layout = self._layout
        return stream_BF[:, layout.log2_step] + layout.step_origin, stream_BF[:, layout.has_step]

    def _positions(self, frames: int) -> Tensor:
        # without a special case: an exported graph would keep it for all numbers of frames
        position = F.interpolate(self._position, frames, mode="linear", align_corners=False)
        return position.transpose(1, 2)


class FigureLayers(nn.Module):
    """Two layers on figures (B, width_in), which they standardise, with noise and dropout.

    Figures say so much of one content that a network knows each content of a training set by them.
    Noise and dropout keep it from that. The means and deviations are those of the training: each
    step updates them, the first ones fastest, and they are fixed in evaluation.

    Args:
        width_in: figures.
        width: of the result.
        noise: deviation of the noise in training, in deviations of each figure.
    """

    def __init__(self, width_in: int, width: int, noise: float) -> None:
        super().__init__()
        self._noise = noise
        self.register_buffer("_mean", torch.zeros(width_in))
        self.register_buffer("_variance", torch.ones(width_in))
        self.register_buffer("_steps", torch.zeros(()))
        self._layers = nn.Sequential(
            nn.Linear(width_in, width),
            nn.GELU(),
            nn.Dropout(_FIGURE_DROPOUT),
            nn.Linear(width, width),
        )

    def forward(self, figures_BF: Tensor) -> Tensor:
        """(B, width_in) -> (B, width)."""
        figures_BF = figures_BF.float()
        mean, variance, steps = map(self.get_buffer, ("_mean", "_variance", "_steps"))
        if self.training:
            with torch.no_grad():
                steps.add_(1).clamp_(max=_SLOWEST_STEP)
                mean.lerp_(figures_BF.mean(0), 1 / steps)
                variance.lerp_((figures_BF - mean).square().mean(0), 1 / steps)
        unit_BF = ((figures_BF - mean) / (variance + _MIN_VARIANCE).sqrt()).clamp(
            -_LARGEST_UNIT, _LARGEST_UNIT
        )
        if self.training:
            unit_BF = unit_BF + self._noise * torch.randn_like(unit_BF)
        return cast(Tensor, self._layers(unit_BF))


def _figure_layers(width_in: int, width: int, noise: float) -> nn.Module:
    return FigureLayers(width_in, width, noise) if noise else _two_layers(width_in, width)


def _two_layers(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), nn.GELU(), nn.Linear(width, width))
