"""InternVQA (arXiv 2502.19026): InternVideo2's transformer on fragments; squared distance alone.

The paper's student has a teacher beside it: see `distilled`, which is there for every method.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from vqatool.inputs.clip import FrameGroup
from vqatool.inputs.fragments import fragments, rearranged
from vqatool.losses import rank_loss, squared_loss
from vqatool.methods.recipe import Input, LossWeights, Recipe, build_config, weighted_terms
from vqatool.models.internvideo import InternVideo, InternVideoConfig


def intern_vqa(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `InternVideoConfig`."""
    config = build_config(InternVideoConfig, shape)
    cut = partial(fragments, grid=config.grid, patch=config.patch)
    rank = partial(rank_loss, margin=weights.margin)
    return Recipe(
        inputs=(Input(cut, partial(rearranged, patch=config.patch)),),
        frame_group=FrameGroup(),
        needs_all_frames=True,
        build=lambda: InternVideo(config),
        loss=partial(weighted_terms, weights.with_defaults({}), squared_loss, rank),
        shape=asdict(config),
        preprocessing=f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, "
        "untouched, of each frame scaled (bicubic) to its display",
    )
