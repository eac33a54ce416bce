"""Method -> Recipe: what it sees, is, and learns from; the only file that sees all three."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, assert_never

import torch
from torch import Tensor

from vqatool.losses import (
    ByLabel,
    Contrast,
    frame_quality_loss,
    group_contrast_loss,
    plcc_loss,
    quality_loss,
    rank_loss,
)
from vqatool.methods import Method
from vqatool.models.coarse_to_fine import CoarseToFine, CoarseToFineConfig
from vqatool.models.quality import Quality, QualityModel
from vqatool.views.fragments import fragments

GRID, PATCH = 2, 64


class View(Protocol):
    """A clip (T, C, H, W) of any dtype -> one model input; None for the generator: no chance."""

    def __call__(self, clip_TCHW: Tensor, *, generator: torch.Generator | None) -> Tensor: ...


class Loss(Protocol):
    """(what the model says, labels 0 to 1, bitrate groups, labels of frames) -> named terms.

    Their sum is learnt. Frames without a label have NaN.
    """

    def __call__(
        self, quality: Quality, label_B: Tensor, group_B: Tensor, frame_label_BT: Tensor
    ) -> dict[str, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms beside the smooth L1 term, which has weight 1, and their settings.

    `temperature` and `contrast` are of the group contrast, `margin` of the rank term.
    """

    plcc: float = 0.3
    group: float = 0.1
    rank: float = 1.0
    frame: float = 0.3
    temperature: float = 0.1
    contrast: Contrast = "ours"
    margin: float | ByLabel = 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One published method as data.

    `views` make a clip into the inputs of `build()`'s model, in the order `forward` takes them;
    `shape` is what has to be stored beside the weights to build the model again.
    """

    views: tuple[View, ...]
    build: Callable[[], QualityModel]
    loss: Loss
    shape: Mapping[str, Any]


def recipe_for(
    method: Method, shape: Mapping[str, Any] | None = None, weights: LossWeights | None = None
) -> Recipe:
    """The recipe of `method`; mypy refuses this file while a method has none.

    Args:
        method: published method.
        shape: arguments of the model's config, as stored in a model file; None: the defaults.
        weights: of the loss terms; None: the defaults.
    """
    match method:
        case Method.COARSE_TO_FINE:
            config = CoarseToFineConfig(**(shape or {}))
            return Recipe(
                views=(partial(fragments, grid=GRID, patch=PATCH),),
                build=lambda: CoarseToFine(config, side_px=GRID * PATCH),
                loss=partial(coarse_to_fine_loss, weights or LossWeights()),
                shape=asdict(config),
            )
        case _:
            assert_never(method)


def coarse_to_fine_loss(
    weights: LossWeights,
    quality: Quality,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """The weighted terms: quality (smooth L1, PLCC, frames), group (coarse), rank (fine)."""
    group = group_contrast_loss(
        quality.features_BD,
        group_B,
        temperature=weights.temperature,
        contrast=weights.contrast,
    )
    rank = rank_loss(quality.score_B, label_B, group_B, margin=weights.margin)
    return {
        "quality": quality_loss(quality.score_B, label_B),
        "plcc": weights.plcc * plcc_loss(quality.score_B, label_B),
        "group": weights.group * group,
        "rank": weights.rank * rank,
        "frame": weights.frame * frame_quality_loss(quality.frame_score_BT, frame_label_BT),
    }
