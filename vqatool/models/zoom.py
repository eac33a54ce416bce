"""Zoom-VQA: one branch scores patches of stills, one scores runs of frames, and both are fused.

"Zoom-VQA: Patches, Frames and Clips Integration for Video Quality Assessment" (arXiv 2304.06440).
As published: a ConvNeXt scores crops of single frames patch by patch, from its four stages pooled
to one grid with a cell for 32 px and joined to hyper-columns; one head scores each patch, another
weights it. FAST-VQA's video Swin scores fragments of runs of frames, with tokens of 6 px instead of
4, and averages the runs. Both scores are standardised, go through a sigmoid and are averaged.

Different:
- the mean and deviation that standardise the scores are running values of the training videos, not
  those of the scored set, so a score does not depend on the other videos of a batch; the average
  goes back through the inverse sigmoid to the label's scale;
- `Quality.branches` has the score of each branch, so that both are trained at once;
- runs are short and many, as in FasterVQA, and start with the stills;
- a patch's score ends in a softplus: the published ReLU has no gradient where it is 0, so a head
  cannot leave that state. The ReLU is a switch, and then starts at a typical label.

Ours, for networks trained from scratch: the locally normalised luma channel and the convolutional
stems, each with a switch, and ConvNeXt blocks with an initial scale of 0.1, not 1e-6.

Shapes: B videos or frames, K branches, T frames, C channels, H height, W width, D features; inside
maps T, H and W count tokens or patches.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.backbones import ConvNeXtPyramid
from vqatool.models.quality import Branch, PixelInput, Quality, QualityModel, in_float32
from vqatool.models.shapes import CONVNEXT_SIZES, SWIN_SIZES, TUBELET, Activation, ZoomConfig
from vqatool.models.swin3d import ScoreMap, Swin3D, scores_of_frames

PATCH_PX = 32
"""Side of the patch that one hyper-column describes."""


_INITIAL_SCORE = 0.6  # a typical label
_SHARPNESS = 10.0  # beta of the softplus: nearly linear for scores above 0.3


class PatchScores(NamedTuple):
    """Scores of the patches of B frames.

    `score_BHW` is on the label's scale divided by 100, `weight_BHW` is in (0, 1), `features_BCHW`
    is the representation that the scores were computed from.
    """

    score_BHW: Tensor
    weight_BHW: Tensor
    features_BCHW: Tensor

    def mean(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C), weighted by the patches' weights."""
        weight_B1HW = self.weight_BHW[:, None]
        return (values_BCHW * weight_B1HW).sum((2, 3)) / weight_B1HW.sum((2, 3))

    @property
    def score_B(self) -> Tensor:
        """The weighted mean of the scores of each frame."""
        return self.mean(self.score_BHW[:, None])[:, 0]


def hyper_columns(maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Maps (B, C_s, H_s, W_s) -> (B, sum of C_s, *grid): the mean of each map in each cell."""
    return torch.cat([F.adaptive_avg_pool2d(map_BCHW, grid) for map_BCHW in maps], dim=1)


class PatchHeads(nn.Module):
    """Hyper-columns -> a score and a weight of each patch, each by two layers."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        activation: Activation = "softplus",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self._activation = activation
        self._hidden = _hidden(channels, hidden, dropout)
        self._score = nn.Conv2d(hidden, 1, 1)
        self._weight = nn.Sequential(_hidden(channels, hidden, dropout), nn.Conv2d(hidden, 1, 1))
        before_softplus = math.log(math.expm1(_SHARPNESS * _INITIAL_SCORE)) / _SHARPNESS
        initial = _INITIAL_SCORE if activation == "relu" else before_softplus
        nn.init.constant_(cast(Tensor, self._score.bias), initial)

    def forward(self, columns_BCHW: Tensor) -> PatchScores:
        """(B, C, H, W) -> scores, weights and features of H x W patches."""
        features_BCHW = self._hidden(columns_BCHW).float()
        score_BHW = in_float32(self._score, features_BCHW).squeeze(1)
        weight_BHW = self._weight(columns_BCHW).squeeze(1).float().sigmoid()
        return PatchScores(self._activated(score_BHW), weight_BHW, features_BCHW)

    def _activated(self, score_BHW: Tensor) -> Tensor:
        if self._activation == "relu":
            return F.relu(score_BHW)
        return F.softplus(score_BHW, beta=_SHARPNESS)


def _hidden(channels: int, hidden: int, dropout: float) -> nn.Sequential:
    # a 1 x 1 convolution is a linear layer for each patch
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Dropout(dropout))


_MIN_DEVIATION = 1e-3  # a branch with one score for all videos has a deviation of 0
_MIN_WEIGHT = 0.01  # of the newest batch in the running values, from the hundredth on


class ScoreFusion(nn.Module):
    """Scores of `branches` branches -> one score; running values are stored with the weights."""

    mean: Tensor  # (K,)
    square: Tensor  # (K,) mean squared difference from the mean
    batches: Tensor  # ()

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(branches))
        self.register_buffer("square", torch.ones(branches))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, score_BK: Tensor) -> Tensor:
        """(..., K) scores of the branches, each on the label's scale divided by 100 -> (...)."""
        score_BK = score_BK.float()
        deviation_K = self.square.clamp_min(_MIN_DEVIATION**2).sqrt()
        average = ((score_BK - self.mean) / deviation_K).sigmoid().mean(-1)
        return self.mean.mean() + deviation_K.mean() * torch.logit(average, eps=1e-6)

    @torch.no_grad()
    def update(self, score_BK: Tensor) -> None:
        """Update the running values by the scores (B, K) of a training batch."""
        score_BK = score_BK.float()
        weight = (1 / (self.batches + 1)).clamp_min(_MIN_WEIGHT)
        self.mean.lerp_(score_BK.mean(0), weight)
        self.square.lerp_((score_BK - self.mean).square().mean(0), weight)
        # the weight no longer changes beyond that count, and half precision could not store it
        self.batches.add_(1).clamp_max_(1 / _MIN_WEIGHT)


_LAYER_SCALE = 0.1  # initial


class BranchOutput(NamedTuple):
    """A branch's output for B videos, and the features (B, D) it was computed from."""

    branch: Branch
    features_BD: Tensor


class Zoom(QualityModel):
    """Views of stills (B, T, 3, h, w) and of runs (B, T * burst_frames, 3, side, side) -> Quality.

    `frame_score_BT` has a score for each still, fused with that of its run. `branches` are `stills`
    and `runs`.
    """

    def __init__(self, config: ZoomConfig) -> None:
        super().__init__()
        self._stills = StillBranch(config)
        self._runs = RunBranch(config)
        self._fusion = ScoreFusion(branches=2)
        self.feature_width = self._stills.width + self._runs.width

    def forward(self, *views: Tensor) -> Quality:
        """The Quality of stills and runs; in training it updates the fusion's running values, too.

        Raises:
            ValueError: the frames are no whole runs.
        """
        stills_BTCHW, runs_BTCHW = views
        output = (self._stills(stills_BTCHW), self._runs(runs_BTCHW))
        stills, runs = (each.branch for each in output)
        run_score_BT = F.adaptive_avg_pool1d(runs.frame_score_BT, stills_BTCHW.shape[1])
        both_BK = torch.stack([stills.score_B, runs.score_B], dim=-1)
        if self.training:
            self._fusion.update(both_BK)
        return Quality(
            score_B=self._fusion(both_BK),
            features_BD=torch.cat([each.features_BD for each in output], dim=1),
            frame_score_BT=self._fusion(torch.stack([stills.frame_score_BT, run_score_BT], dim=-1)),
            branches=(stills, runs),
        )

    def head_layers(self) -> Sequence[nn.Module]:
        """The heads of both branches."""
        return [self._stills.heads, self._runs.head]

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load weights; the first training batch replaces the running values of the fusion.

        Raises:
            RuntimeError: names or shapes differ.
        """
        super().load_weights(weights)
        self._fusion.batches.zero_()

    def last_layers(self) -> Sequence[nn.Module]:
        """The last blocks and the heads of both branches."""
        return [
            self._stills.pyramid.last_block,
            *self._runs.swin.last_layers(),
            *self.head_layers(),
        ]


class StillBranch(nn.Module):
    """Crops of single frames -> a score and a weight of each patch of 32 px."""

    def __init__(self, config: ZoomConfig) -> None:
        super().__init__()
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self.pyramid = ConvNeXtPyramid(
            CONVNEXT_SIZES[config.size],
            in_channels=self._pixels.channels,
            has_conv_stem=config.has_conv_stem,
            layer_scale=_LAYER_SCALE,
        )
        self.width = config.hidden
        columns = sum(self.pyramid.channels)
        self.heads = PatchHeads(columns, config.hidden, activation=config.activation)

    def forward(self, stills_BTCHW: Tensor) -> BranchOutput:
        """(B, T, 3, H, W) -> maps (B, T, H // 32, W // 32); a video's score is its frames' mean."""
        frames = tuple(stills_BTCHW.shape[:2])
        height, width = (side // PATCH_PX for side in stills_BTCHW.shape[-2:])
        maps = self.pyramid(self._pixels(stills_BTCHW.flatten(0, 1)))
        patches = self.heads(hyper_columns(maps, (height, width)))
        score_BT = patches.score_B.unflatten(0, frames)
        branch = Branch(
            name="stills",
            score_B=score_BT.mean(1),
            frame_score_BT=score_BT,
            score_map_BTHW=patches.score_BHW.unflatten(0, frames),
            weight_map_BTHW=patches.weight_BHW.unflatten(0, frames),
        )
        return BranchOutput(
            branch, patches.mean(patches.features_BCHW).unflatten(0, frames).mean(1)
        )


class RunBranch(nn.Module):
    """Fragments of runs -> a score of each token; a video's score is the mean of its runs."""

    def __init__(self, config: ZoomConfig) -> None:
        super().__init__()
        self._run_frames = config.burst_frames
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self.swin = Swin3D(
            SWIN_SIZES[config.size],
            in_channels=self._pixels.channels,
            patch=(TUBELET, config.token_px, config.token_px),
            grid=config.grid,
            has_conv_stem=config.has_conv_stem,
        )
        self.width = self.swin.channels
        self.head = ScoreMap(self.width)

    def forward(self, runs_BTCHW: Tensor) -> BranchOutput:
        """(B, T * burst_frames, 3, H, W) -> maps (B, tokens of all runs, H', W')."""
        videos, frames = runs_BTCHW.shape[:2]
        run = min(self._run_frames, frames)  # of a picture: one
        if frames % run:
            raise ValueError(f"{frames} frames are no whole runs of {run}")
        pixels_NCHW = self._pixels(runs_BTCHW.flatten(0, 1))
        map_RDTHW = self.swin(pixels_NCHW.unflatten(0, (-1, run)))
        score_RTHW = self.head(map_RDTHW)
        frame_score_RT = scores_of_frames(score_RTHW.mean((2, 3)), TUBELET, run)
        branch = Branch(
            name="runs",
            score_B=score_RTHW.mean((1, 2, 3)).unflatten(0, (videos, -1)).mean(1),
            frame_score_BT=frame_score_RT.reshape(videos, frames),
            score_map_BTHW=score_RTHW.unflatten(0, (videos, -1)).flatten(1, 2),
        )
        features_RD = map_RDTHW.float().mean((2, 3, 4))
        return BranchOutput(branch, features_RD.unflatten(0, (videos, -1)).mean(1))
