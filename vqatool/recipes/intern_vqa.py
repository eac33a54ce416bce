"""InternVQA (arXiv 2502.19026): InternVideo2's transformer on fragments; squared distance alone.

The paper's student has a teacher beside it: see `taught`, which is there for every method.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from vqatool.clips import Burst
from vqatool.losses import rank_loss, squared_loss
from vqatool.models.internvideo import InternVideo, InternVideoConfig
from vqatool.recipes.base import Input, LossWeights, Recipe, configured, weighted_terms
from vqatool.views.fragments import fragments, rearranged


def intern_vqa(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `InternVideoConfig`."""
    config = configured(InternVideoConfig, shape)
    cut = partial(fragments, grid=config.grid, patch=config.patch)
    rank = partial(rank_loss, margin=weights.margin)
    return Recipe(
        inputs=(Input(cut, partial(rearranged, patch=config.patch)),),
        burst=Burst(),
        is_seen_whole=True,
        build=lambda: InternVideo(config),
        loss=partial(weighted_terms, weights.over({}), squared_loss, rank),
        shape=asdict(config),
        preprocessing=f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, "
        "untouched, of each frame scaled (bicubic) to its display",
    )
