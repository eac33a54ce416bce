"""Zoom-VQA (arXiv 2304.06440): stills patch by patch and runs of frames, fused late."""

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
from vqatool.models.quality import Quality
from vqatool.models.zoom import Zoom, ZoomConfig

_RANK = 0.3  # weight of the order of the runs' scores, as published


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
        preprocessing=f"of the display (bicubic), a crop of {config.crop_px} px at "
        f"{config.still_short_px} px high, and {config.grid} x {config.grid} patches of "
        f"{config.patch} px at {config.run_short_px} px",
    )


def zoom_terms(
    weights: LossWeights,
    quality: Quality,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """Those of the fused score, and each branch's own, as each of them is trained in the paper.

    Without its own a branch would learn nothing where the other one is right already.
    """
    terms = weighted_terms(
        weights, quality_loss, whole_batch_rank, quality, label_B, group_B, frame_label_BT
    )
    stills, runs = (branch.score_B for branch in quality.branches)
    terms["stills"] = quality_loss(stills, label_B)
    order = plcc_loss(runs, label_B) + _RANK * whole_batch_rank(runs, label_B, group_B)
    terms["runs"] = quality_loss(runs, label_B) + order
    return terms
