"""The loss terms that the methods share. Loads torch.

Shapes: B videos, T frame groups or frames.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vqatool.losses import (
    batch_rank_loss,
    frame_quality_loss,
    group_contrast_loss,
    plcc_loss,
    quality_loss,
    spread_loss,
    tile_quality_loss,
)
from vqatool.methods.recipe import LossWeights
from vqatool.models.quality import TrainingOutput

DistanceTerm = Callable[[Tensor, Tensor], Tensor]
"""(scores, labels) -> their distance."""

RankTerm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(scores, labels, bitrate groups) -> the distance of the scores from the order of the labels."""

_SPREAD_WEIGHT = 0.05
_RUNS_RANK_WEIGHT = 0.3  # as published (arXiv 2304.06440)


def whole_batch_rank(score_B: Tensor, label_B: Tensor, group_B: Tensor) -> Tensor:
    """The rank loss of FAST-VQA over all pairs of a batch, as a `RankTerm`."""
    return batch_rank_loss(score_B, label_B)


def weighted_terms(
    weights: LossWeights,
    distance: DistanceTerm,
    rank: RankTerm,
    output: TrainingOutput,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """The terms `quality` (`distance`), `plcc`, `group`, `rank` and `frame`, times their weights.

    `spread` is there for a model that has one. It trains nothing but the layers of the spread, so
    its weight matters little.
    `tile` is there where the quality of parts of the frames is known.
    `pixels` is the sum of the terms for `output.pixels_only`, where there is one; tiles have none.
    Arguments are those of `Loss`; the weights of `weights` are not None.
    """
    quality = output.quality
    group = group_contrast_loss(
        quality.features_BD,
        group_B,
        temperature=weights.temperature,
        contrast=weights.contrast,
    )
    values = {
        "plcc": plcc_loss(quality.score_B, label_B),
        "group": group,
        "rank": rank(quality.score_B, label_B, group_B),
        "frame": frame_quality_loss(quality.frame_score_BT, frame_label_BT),
    }
    terms = {"quality": distance(quality.score_B, label_B)}
    terms |= {name: getattr(weights, name) * value for name, value in values.items()}
    if quality.spread_B is not None:
        loss = spread_loss(quality.score_B, quality.spread_B, label_B)
        terms["spread"] = _SPREAD_WEIGHT * loss
    if output.tiles is not None:
        terms["tile"] = (weights.tile or 0.0) * tile_quality_loss(*output.tiles)
    if output.pixels_only is not None:
        pixels_output = TrainingOutput(output.pixels_only)
        pixels_terms = weighted_terms(
            weights, distance, rank, pixels_output, label_B, group_B, frame_label_BT
        )
        terms["pixels"] = (weights.pixels or 0.0) * torch.stack(list(pixels_terms.values())).sum()
    return terms


def branch_terms(
    weights: LossWeights,
    output: TrainingOutput,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """Zoom-VQA: the terms of the fused score, and `stills` and `runs`, those of each branch.

    Without its own term a branch would not learn where the other one is right already. Arguments
    are those of `Loss`.
    """
    terms = weighted_terms(
        weights, quality_loss, whole_batch_rank, output, label_B, group_B, frame_label_BT
    )
    stills, runs = (branch.score_B for branch in output.quality.branches)
    terms["stills"] = quality_loss(stills, label_B)
    rank = _RUNS_RANK_WEIGHT * whole_batch_rank(runs, label_B, group_B)
    terms["runs"] = quality_loss(runs, label_B) + plcc_loss(runs, label_B) + rank
    return terms
