"""The published methods by name, and the recipe of each: its inputs, its model and its loss.

A method is a file here and a case in `recipe_for`. Importing this package does not load torch, so
`--help` is instant; `recipe_for` loads what the method needs.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, assert_never

if TYPE_CHECKING:  # these need torch
    from vqatool.methods.recipe import LossWeights, Recipe


class Method(Enum):
    """A published method; the value is its name on the command line and in model files."""

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
    """The recipe of `method`.

    Args:
        method: which one.
        shape: arguments of the model's config, as a model file stores them; None: the defaults.
        weights: weights of the loss terms; None: the method's own.

    Raises:
        TypeError: the model's config has no such argument.
        ValueError: an argument is of another type or out of range.
    """
    from vqatool.methods.recipe import LossWeights

    shape, weights = shape or {}, weights or LossWeights()
    match method:  # loads the chosen method only
        case Method.COARSE_TO_FINE:
            from vqatool.methods.coarse_to_fine import coarse_to_fine

            return coarse_to_fine(shape, weights)
        case Method.SAMA:
            from vqatool.methods.sama import sama

            return sama(shape, weights)
        case Method.ZOOM_VQA:
            from vqatool.methods.zoom_vqa import zoom_vqa

            return zoom_vqa(shape, weights)
        case Method.Q_MAMBA:
            from vqatool.methods.q_mamba import q_mamba

            return q_mamba(shape, weights)
        case Method.INTERN_VQA:
            from vqatool.methods.intern_vqa import intern_vqa

            return intern_vqa(shape, weights)
        case _:
            assert_never(method)
