"""The published methods by name, and the recipe of each: what it sees, is, and learns from.

A method is a file here that puts views, a model and a loss together, and a line in `recipe_for`.
Importing this package loads no torch, so `--help` is instant; a recipe loads what it needs.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, assert_never

if TYPE_CHECKING:  # a recipe needs torch
    from vqatool.methods.recipe import LossWeights, Recipe


class Method(Enum):
    """A published method; its value is its name on the command line and in model files."""

    COARSE_TO_FINE = "coarse-to-fine"
    SAMA = "sama"
    ZOOM_VQA = "zoom-vqa"
    Q_MAMBA = "q-mamba"
    INTERN_VQA = "intern-vqa"

    @property
    def paper(self) -> str:
        """arXiv number of the paper that the method is built from."""
        return {
            Method.COARSE_TO_FINE: "2401.08522",
            Method.SAMA: "2401.02614",
            Method.ZOOM_VQA: "2304.06440",
            Method.Q_MAMBA: "2406.09546",
            Method.INTERN_VQA: "2502.19026",
        }[self]


def recipe_for(
    method: Method, shape: Mapping[str, Any] | None = None, weights: "LossWeights | None" = None
) -> "Recipe":
    """The recipe of `method`; mypy refuses this file while a method has none.

    Args:
        method: published method.
        shape: arguments of the model's config, as stored in a model file; None: the defaults.
        weights: of the loss terms; None: the method's own.

    Raises:
        TypeError: the model has no such argument.
        ValueError: the argument is of another type or out of range.
    """
    from vqatool.methods.recipe import LossWeights

    asked, weights = shape or {}, weights or LossWeights()
    match method:  # only the net that is asked for is loaded
        case Method.COARSE_TO_FINE:
            from vqatool.methods.coarse_to_fine import coarse_to_fine

            return coarse_to_fine(asked, weights)
        case Method.SAMA:
            from vqatool.methods.sama import sama

            return sama(asked, weights)
        case Method.ZOOM_VQA:
            from vqatool.methods.zoom_vqa import zoom_vqa

            return zoom_vqa(asked, weights)
        case Method.Q_MAMBA:
            from vqatool.methods.q_mamba import q_mamba

            return q_mamba(asked, weights)
        case Method.INTERN_VQA:
            from vqatool.methods.intern_vqa import intern_vqa

            return intern_vqa(asked, weights)
        case _:
            assert_never(method)
