"""InternVQA (arXiv 2502.19026): InternVideo2's transformer with a score, trained by squared error.

"InternVQA: Advancing Compressed Video Quality Assessment with Distilling Large Foundation Model".
As published: the network (`models.internvideo`) and the squared error as the only loss of a model
without a teacher. The paper's student learns from a teacher: `methods.distillation` adds one to any
method. Different: the network reads fragments, not whole frames resized to 224 px, because resizing
removes compression artefacts.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from vqatool.inputs.clip import FrameGroup
from vqatool.inputs.fragments import fragments, rearranged
from vqatool.methods.recipe import Input, Loss, LossWeights, Recipe, build_config
from vqatool.models.shapes import InternVideoConfig

if TYPE_CHECKING:  # for annotations alone: it needs torch
    from vqatool.models.quality import QualityModel


def intern_vqa(shape: Mapping[str, Any], weights: LossWeights) -> Recipe:
    """The recipe; `shape` has arguments of `InternVideoConfig`."""
    config = build_config(InternVideoConfig, shape)
    view = partial(fragments, grid=config.grid, patch=config.patch)

    def build() -> "QualityModel":
        from vqatool.models.internvideo import InternVideo

        return InternVideo(config)

    def make_loss() -> Loss:
        from vqatool.losses import rank_loss, squared_loss
        from vqatool.methods.terms import weighted_terms

        rank = partial(rank_loss, margin=weights.margin)
        return partial(weighted_terms, weights.with_defaults({}), squared_loss, rank)

    return Recipe(
        inputs=(Input(view, partial(rearranged, patch=config.patch)),),
        frame_group=FrameGroup(),
        needs_all_frames=True,
        free_in_export="clips",
        build=build,
        make_loss=make_loss,
        shape=asdict(config),
        preprocessing=f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, "
        "not resized, of each frame scaled (bicubic) to its display",
    )
