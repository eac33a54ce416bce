"""Q-Mamba (arXiv 2406.09546): crops of single frames; how near scores are, and nothing else."""

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
    cut = partial(fragments, grid=config.grid, patch=config.patch)
    rank = partial(rank_loss, margin=weights.margin)
    return Recipe(
        inputs=(Input(cut, mirrored),),
        frame_group=FrameGroup(),
        build=lambda: QMamba(config),
        loss=partial(weighted_terms, weights.with_defaults({}), quality_loss, rank),
        shape=asdict(config),
        preprocessing=f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, "
        "untouched, of each frame scaled (bicubic) to its display",
    )
