"""SAMA (arXiv 2401.02614): fragments of many scales on one canvas, linear agreement and order."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from vqatool.clips import Burst, View
from vqatool.losses import quality_loss
from vqatool.models.sama import SamaConfig, sama_model
from vqatool.recipes.base import (
    Input,
    LossWeights,
    Recipe,
    configured,
    weighted_terms,
    whole_batch_rank,
)
from vqatool.views import sama as sampler
from vqatool.views.fragments import mirrored

USUAL_WEIGHTS = {"plcc": 1.0, "rank": 0.3}


def sama(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `SamaConfig`.

    The published loss of videos knows order and linear agreement alone; the smooth L1 term beside
    it, that of images, says where on the label's scale the scores lie.
    """
    config = configured(SamaConfig, shape)
    is_video = config.kind == "video"
    usual = weights.over(USUAL_WEIGHTS if is_video else {})
    return Recipe(
        inputs=(Input(_view(config), mirrored),),
        burst=Burst(config.burst_frames, config.stride) if is_video else Burst(),
        is_seen_whole=is_video,
        build=lambda: sama_model(config),
        loss=partial(weighted_terms, usual, quality_loss, whole_batch_rank),
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
