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
from typing import TYPE_CHECKING, Any

from vqatool.inputs.clip import FrameGroup
from vqatool.inputs.fragments import mirrored
from vqatool.inputs.zoom import run_fragments, still_crops
from vqatool.methods.recipe import Input, Loss, LossWeights, Recipe, build_config
from vqatool.models.shapes import ZoomConfig

if TYPE_CHECKING:  # for annotations alone: it needs torch
    from vqatool.models.quality import QualityModel


def zoom_vqa(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `ZoomConfig`."""
    config = build_config(ZoomConfig, shape)
    stills = partial(still_crops, short_px=config.still_short_px, crop_px=config.crop_px)
    runs = partial(
        run_fragments, short_px=config.run_short_px, grid=config.grid, patch=config.patch
    )

    def build() -> "QualityModel":
        from vqatool.models.zoom import Zoom

        return Zoom(config)

    def make_loss() -> Loss:
        from vqatool.methods.terms import branch_terms

        return partial(branch_terms, weights.with_defaults({}))

    return Recipe(
        inputs=(Input(stills, mirrored), Input(runs, mirrored)),
        frame_group=FrameGroup(config.burst_frames, config.stride),
        build=build,
        make_loss=make_loss,
        shape=asdict(config),
        preprocessing=f"of frames scaled (bicubic) to their display, a crop of {config.crop_px} px "
        f"at {config.still_short_px} px high, and {config.grid} x {config.grid} patches of "
        f"{config.patch} px at {config.run_short_px} px",
    )
