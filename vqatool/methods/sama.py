"""SAMA (arXiv 2401.02614): fragments of several scales on one canvas.

"Scaling and Masking: A New Paradigm of Data Sampling for Image and Video Quality Assessment". As
published: the sampler (`inputs.sama`), FAST-VQA's network for videos and SwinV2 for images
(`models.sama`), and for videos the PLCC loss with 0.3 of the rank loss of FAST-VQA. Different: a
smooth L1 term is added for videos, as the published video loss does not depend on the scale of the
scores; it is the published loss of images.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from vqatool.inputs import sama as sampler
from vqatool.inputs.clip import FrameGroup, View
from vqatool.inputs.fragments import mirrored
from vqatool.methods.recipe import Input, Loss, LossWeights, Recipe, build_config
from vqatool.models.shapes import SamaConfig

if TYPE_CHECKING:  # for annotations alone: it needs torch
    from vqatool.models.quality import QualityModel

DEFAULT_WEIGHTS = {"plcc": 1.0, "rank": 0.3}


def sama(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `SamaConfig`."""
    config = build_config(SamaConfig, shape)
    is_video = config.kind == "video"
    defaults = weights.with_defaults(DEFAULT_WEIGHTS if is_video else {})

    def build() -> "QualityModel":
        from vqatool.models.sama import sama_model

        return sama_model(config)

    def make_loss() -> Loss:
        from vqatool.losses import quality_loss
        from vqatool.methods.terms import weighted_terms, whole_batch_rank

        return partial(weighted_terms, defaults, quality_loss, whole_batch_rank)

    return Recipe(
        inputs=(Input(_view(config), mirrored),),
        frame_group=FrameGroup(config.burst_frames, config.stride) if is_video else FrameGroup(),
        needs_all_frames=is_video,
        build=build,
        make_loss=make_loss,
        shape=asdict(config),
        preprocessing=f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, at "
        f"the scales of the mask {config.mask}, of frames scaled (bicubic) to their display",
    )


def _view(config: SamaConfig) -> View:
    settings: dict[str, Any] = {
        name: getattr(config, name) for name in ("mask", "grid", "patch", "is_antialiased")
    }
    if config.kind == "image":
        return partial(sampler.sama_image, **settings)
    return partial(sampler.sama, levels=config.levels, **settings)
