"""Zoom-VQA (arXiv 2304.06440): one branch scores patches of stills, one runs of frames.

"Zoom-VQA: Patches, Frames and Clips Integration for Video Quality Assessment". As published: both
branches (`models.zoom`), their views (`inputs.zoom`), late fusion, and the loss of the runs: PLCC
loss with 0.3 of the rank loss of FAST-VQA. Different: both branches are trained at once, each by
its own terms beside those of the fused score; a smooth L1 term is added to the runs, because the
published loss does not depend on the scale of the scores.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import Tensor

from vqatool.inputs.clip import FrameGroup
from vqatool.inputs.fragments import mirrored
from vqatool.inputs.zoom import run_fragments, still_crops
from vqatool.losses import plcc_loss, quality_loss
from vqatool.methods.recipe import (
    Input,
    LossWeights,
    Recipe,
    build_config,
    weighted_terms,
    whole_batch_rank,
)
from vqatool.models.quality import TrainingOutput
from vqatool.models.zoom import Zoom, ZoomConfig

_RUNS_RANK_WEIGHT = 0.3  # as published


def zoom_vqa(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `ZoomConfig`."""
    config = build_config(ZoomConfig, shape)
    stills = partial(still_crops, short_px=config.still_short_px, crop_px=config.crop_px)
    runs = partial(
        run_fragments, short_px=config.run_short_px, grid=config.grid, patch=config.patch
    )
    return Recipe(
        inputs=(Input(stills, mirrored), Input(runs, mirrored)),
        frame_group=FrameGroup(config.burst_frames, config.stride),
        build=lambda: Zoom(config),
        loss=partial(zoom_terms, weights.with_defaults({})),
        shape=asdict(config),
        preprocessing=f"of frames scaled (bicubic) to their display, a crop of {config.crop_px} px "
        f"at {config.still_short_px} px high, and {config.grid} x {config.grid} patches of "
        f"{config.patch} px at {config.run_short_px} px",
    )


def zoom_terms(
    weights: LossWeights,
    output: TrainingOutput,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """The terms of the fused score, and `stills` and `runs`, those of each branch alone.

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
