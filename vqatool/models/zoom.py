"""Frames looked at closely and runs of frames looked at widely, fused late: arXiv 2304.06440.

"Zoom-VQA: Patches, Frames and Clips Integration for Video Quality Assessment". As published: a
ConvNeXt scores crops of two frames a second, patch by patch (`patch_scores`); the video Swin of
FAST-VQA scores fragments of runs of frames, with patches of 6 px instead of 4, and averages the
runs; both scores are standardised, squashed and averaged (`score_fusion`). Different: the mean and
deviation for that are kept in the model; `branches` has what each branch says, for a loss of each,
so both are trained in one go where the paper trains them apart; runs are short and many, as in
FasterVQA, and begin with the single frames. Ours, for nets that start from
scratch: the locally normalised luma channel and the convolutional stems, each with a switch, and
ConvNeXt blocks that start at a tenth of their strength, not at a millionth.

Shapes: B videos, T frames, C channels, H height, W width, D features; inside maps T, H and W count
tokens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.backbones import CONVNEXT_SIZES, SWIN_SIZES, ConvNeXtPyramid
from vqatool.models.quality import Branch, PixelInput, Quality, QualityModel, in_float32
from vqatool.models.swin3d import ScoreMap, Swin3D, scores_of_frames

PATCH_PX = 32
"""Side of the patch that a hyper-column stands for."""

Activation = Literal["softplus", "relu"]

_START = 0.6  # score of an untaught head: a middling label
_SHARPNESS = 10.0  # a softplus this sharp is linear over nearly all of 0 to 1


class PatchScores(NamedTuple):
    """What the frame branch says of the patches of B frames.

    `score_BHW` is on the label's scale divided by 100, `weight_BHW` in (0, 1), `features_BCHW` is
    what the scores were read from.
    """

    score_BHW: Tensor
    weight_BHW: Tensor
    features_BCHW: Tensor

    def mean(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C), each patch as much as its weight says."""
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
    """Hyper-columns -> a score and a weight for each patch, two layers for each of them."""

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
        before_softplus = math.log(math.expm1(_SHARPNESS * _START)) / _SHARPNESS
        start = _START if activation == "relu" else before_softplus
        nn.init.constant_(cast(Tensor, self._score.bias), start)

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
    # a convolution of one patch is a linear layer that leaves the grid as it lies
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Dropout(dropout))


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


_TUBELET = 2  # frames that make one token
_LAYER_SCALE = 0.1  # at the start


@dataclass(frozen=True, kw_only=True)
class ZoomConfig:
    """Everything that makes the model's shape, and what it looks at; stored in its file.

    At each place of a clip `burst_frames` frames are taken, every `stride`-th: a run, whose first
    frame is a still. Stills have their short side scaled to `still_short_px` and are cropped to
    `crop_px`; runs have theirs scaled to `run_short_px` and are seen as `grid` x `grid` patches of
    `patch` px that make tokens of `token_px`. The paper's own sizes are `PUBLISHED`; these are for
    a CPU.
    """

    size: str = "nano"
    still_short_px: int = 512
    crop_px: int = 224
    hidden: int = 384
    activation: Activation = "softplus"
    run_short_px: int = 480
    grid: int = 4
    patch: int = 48
    token_px: int = 6
    burst_frames: int = 4
    stride: int = 2
    has_conv_stem: bool = True
    has_local_luma: bool = True

    def __post_init__(self) -> None:
        known = [size for size in CONVNEXT_SIZES if size in SWIN_SIZES]
        if self.size not in known:
            raise ValueError(f"size {self.size!r} is none of {', '.join(known)}")
        if self.crop_px > self.still_short_px:
            raise ValueError(f"a crop of {self.crop_px} px of stills {self.still_short_px} px high")
        if self.has_conv_stem and self.token_px % 2:
            raise ValueError(f"token_px is even with has_conv_stem, not {self.token_px}")


PUBLISHED = ZoomConfig(
    size="tiny",
    crop_px=320,
    grid=7,
    burst_frames=32,
    has_conv_stem=False,
    has_local_luma=False,
)
"""The sizes of the paper; it looks at four places."""


class BranchOutput(NamedTuple):
    """What a branch says of B videos, and the features (B, D) it was read from."""

    branch: Branch
    features_BD: Tensor


class Zoom(QualityModel):
    """Views of stills (B, T, 3, h, w) and of runs (B, T * burst_frames, 3, side, side) -> Quality.

    The frames of the curve are the stills, each with its own run. `branches` are those of the
    stills and of the runs.
    """

    def __init__(self, config: ZoomConfig) -> None:
        super().__init__()
        self._stills = StillBranch(config)
        self._runs = RunBranch(config)
        self._fusion = ScoreFusion(branches=2)
        self.feature_width = self._stills.width + self._runs.width

    def forward(self, *views: Tensor) -> Quality:
        """Pixels of stills and of runs, float in [0, 1]."""
        stills_BTCHW, runs_BTCHW = views
        output = (self._stills(stills_BTCHW), self._runs(runs_BTCHW))
        stills, runs = (each.branch for each in output)
        run_curve_BT = F.adaptive_avg_pool1d(runs.frame_score_BT, stills_BTCHW.shape[1])
        both_BK = torch.stack([stills.score_B, runs.score_B], dim=-1)
        if self.training:
            self._fusion.watch(both_BK)
        return Quality(
            score_B=self._fusion(both_BK),
            features_BD=torch.cat([each.features_BD for each in output], dim=1),
            frame_score_BT=self._fusion(torch.stack([stills.frame_score_BT, run_curve_BT], dim=-1)),
            branches=(stills, runs),
        )

    def head_layers(self) -> Sequence[nn.Module]:
        """The heads of both branches."""
        return [self._stills.heads, self._runs.head]

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load weights of the same shape; what they saw is forgotten with the first batch learned.

        Raises:
            RuntimeError: they are of another shape.
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
    """Crops of single frames -> a score and a weight for each patch of 32 px of each."""

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
    """Fragments of runs of frames -> a score for each token; the runs of a video are averaged."""

    def __init__(self, config: ZoomConfig) -> None:
        super().__init__()
        self._run_frames = config.burst_frames
        self._pixels = PixelInput(has_local_luma=config.has_local_luma)
        self.swin = Swin3D(
            SWIN_SIZES[config.size],
            in_channels=self._pixels.channels,
            patch=(_TUBELET, config.token_px, config.token_px),
            grid=config.grid,
            has_conv_stem=config.has_conv_stem,
        )
        self.width = self.swin.channels
        self.head = ScoreMap(self.width)

    def forward(self, runs_BTCHW: Tensor) -> BranchOutput:
        """(B, T * burst_frames, 3, H, W) -> maps (B, tokens of all runs, H', W')."""
        videos, frames = runs_BTCHW.shape[:2]
        run = min(self._run_frames, frames)  # a picture is a run of one frame
        if frames % run:
            raise ValueError(f"{frames} frames are no whole runs of {run}")
        pixels_NCHW = self._pixels(runs_BTCHW.flatten(0, 1))
        map_RDTHW = self.swin(pixels_NCHW.unflatten(0, (-1, run)))
        score_RTHW = self.head(map_RDTHW)
        frame_score_RT = scores_of_frames(score_RTHW.mean((2, 3)), _TUBELET, run)
        branch = Branch(
            name="runs",
            score_B=score_RTHW.mean((1, 2, 3)).unflatten(0, (videos, -1)).mean(1),
            frame_score_BT=frame_score_RT.reshape(videos, frames),
            score_map_BTHW=score_RTHW.unflatten(0, (videos, -1)).flatten(1, 2),
        )
        features_RD = map_RDTHW.float().mean((2, 3, 4))
        return BranchOutput(branch, features_RD.unflatten(0, (videos, -1)).mean(1))
