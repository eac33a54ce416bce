"""Q-Mamba (arXiv 2406.09546): a VMamba scores crops of single frames.

"Q-Mamba: On First Exploration of Vision Mamba for Image Quality Assessment". As published: the
network (`models.q_mamba`) on crops of 224 px, and a distance of scores and labels as the only loss.
The paper is about pictures; that a video's score is the mean of its frames' is ours. Which distance
the paper uses is not known to us: ours is smooth L1.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from vqatool.inputs.clip import FrameGroup
from vqatool.inputs.fragments import fragments, mirrored
from vqatool.losses import quality_loss, rank_loss
from vqatool.methods.recipe import Input, LossWeights, Recipe, build_config, weighted_terms
from vqatool.models.q_mamba import QMamba, QMambaConfig


def q_mamba(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `QMambaConfig`."""
    config = build_config(QMambaConfig, shape)
    rank = partial(rank_loss, margin=weights.margin)
    return Recipe(
        inputs=(Input(partial(fragments, grid=config.grid, patch=config.patch), mirrored),),
        frame_group=FrameGroup(),
        build=lambda: QMamba(config),
        loss=partial(weighted_terms, weights.with_defaults({}), quality_loss, rank),
        shape=asdict(config),
        preprocessing=f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, "
        "not resized, of each frame scaled (bicubic) to its display",
    )
