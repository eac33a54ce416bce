"""Q-Mamba (arXiv 2406.09546): a VMamba scores crops of single frames.

"Q-Mamba: On First Exploration of Vision Mamba for Image Quality Assessment". As published: the
network (`models.q_mamba`) on crops of 224 px, and a distance of scores and labels as the only loss.
The paper is about pictures; that a video's score is the mean of its frames' is ours. Which distance
the paper uses is not known to us: ours is smooth L1.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from vqatool.inputs.clip import FrameGroup
from vqatool.inputs.fragments import fragments, mirrored
from vqatool.methods.recipe import Input, Loss, LossWeights, Recipe, build_config
from vqatool.models.shapes import QMambaConfig

if TYPE_CHECKING:  # for annotations alone: it needs torch
    from vqatool.models.quality import QualityModel


def q_mamba(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `QMambaConfig`."""
    config = build_config(QMambaConfig, shape)

    def build() -> "QualityModel":
        from vqatool.models.q_mamba import QMamba

        return QMamba(config)

    def make_loss() -> Loss:
        from vqatool.losses import quality_loss, rank_loss
        from vqatool.methods.terms import weighted_terms

        rank = partial(rank_loss, margin=weights.margin)
        return partial(weighted_terms, weights.with_defaults({}), quality_loss, rank)

    return Recipe(
        inputs=(Input(partial(fragments, grid=config.grid, patch=config.patch), mirrored),),
        frame_group=FrameGroup(),
        build=build,
        make_loss=make_loss,
        shape=asdict(config),
        preprocessing=f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, "
        "not resized, of each frame scaled (bicubic) to its display",
    )
