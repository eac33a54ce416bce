"""SAMA (arXiv 2401.02614): fragments of many scales on one canvas, linear agreement and order."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from vqatool.inputs import sama as sampler
from vqatool.inputs.clip import FrameGroup, View
from vqatool.inputs.fragments import mirrored
from vqatool.losses import quality_loss
from vqatool.methods.recipe import (
    Input,
    LossWeights,
    Recipe,
    build_config,
    weighted_terms,
    whole_batch_rank,
)
from vqatool.models.sama import SamaConfig, sama_model

DEFAULT_WEIGHTS = {"plcc": 1.0, "rank": 0.3}


def sama(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `SamaConfig`.

    The published loss of videos knows order and linear agreement alone; the smooth L1 term beside
    it, that of images, says where on the label's scale the scores lie.
    """
    config = build_config(SamaConfig, shape)
    is_video = config.kind == "video"
    defaults = weights.with_defaults(DEFAULT_WEIGHTS if is_video else {})
    return Recipe(
        inputs=(Input(_view(config), mirrored),),
        frame_group=FrameGroup(config.burst_frames, config.stride) if is_video else FrameGroup(),
        needs_all_frames=is_video,
        build=lambda: sama_model(config),
        loss=partial(weighted_terms, defaults, quality_loss, whole_batch_rank),
        shape=asdict(config),
        preprocessing=f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, of "
        f"scales that the mask {config.mask} chooses, of frames scaled (bicubic) to their display",
    )


def _view(config: SamaConfig) -> View:
    settings: dict[str, Any] = {
        name: getattr(config, name) for name in ("mask", "grid", "patch", "is_antialiased")
    }
    if config.kind == "image":
        return partial(sampler.sama_image, **settings)
    return partial(sampler.sama, levels=config.levels, **settings)
