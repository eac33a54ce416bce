"""Method -> Recipe: what it sees, is, and learns from; nothing else sees all three.

A method is a file here that puts views, a model and a loss together, and a line below.
"""

from collections.abc import Mapping
from typing import Any, assert_never

from vqatool.methods import Method
from vqatool.recipes.base import Input, Loss, LossWeights, Recipe, Vary
from vqatool.recipes.coarse_to_fine import coarse_to_fine
from vqatool.recipes.intern_vqa import intern_vqa
from vqatool.recipes.q_mamba import q_mamba
from vqatool.recipes.sama import sama
from vqatool.recipes.taught import beside, taught
from vqatool.recipes.zoom_vqa import zoom_vqa

__all__ = ["Input", "Loss", "LossWeights", "Recipe", "Vary", "beside", "recipe_for", "taught"]


def recipe_for(
    method: Method, shape: Mapping[str, Any] | None = None, weights: LossWeights | None = None
) -> Recipe:
    """The recipe of `method`; mypy refuses this file while a method has none.

    Args:
        method: published method.
        shape: arguments of the model's config, as stored in a model file; None: the defaults.
        weights: of the loss terms; None: the method's own.

    Raises:
        TypeError: the model has no such argument.
        ValueError: it has another range.
    """
    asked, weights = shape or {}, weights or LossWeights()
    match method:
        case Method.COARSE_TO_FINE:
            return coarse_to_fine(asked, weights)
        case Method.SAMA:
            return sama(asked, weights)
        case Method.ZOOM_VQA:
            return zoom_vqa(asked, weights)
        case Method.Q_MAMBA:
            return q_mamba(asked, weights)
        case Method.INTERN_VQA:
            return intern_vqa(asked, weights)
        case _:
            assert_never(method)
