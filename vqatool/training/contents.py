"""The contents of a training, for its model file: `explain` names those that a video looks like.

Shapes: N contents, M encodes, F figures of a clip, D dimensions.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from vqatool.data.cached_inputs import CachedInputs
from vqatool.inference.contents import Contents, content_figures, placed
from vqatool.methods.recipe import Recipe

_DIMENSIONS = 16
_RIDGE = 0.3  # of the variance of each figure: encodes are few, and figures are many
_OWN = 0.95  # of the encodes
_LEAST_DEVIATION = 1e-3  # a figure that never varied stays finite

_Doubles = npt.NDArray[np.float64]
_Numbers = npt.NDArray[np.intp]


def training_contents(
    recipe: Recipe, inputs: CachedInputs, start: Contents | None = None
) -> Contents | None:
    """The contents that `inputs` are encodes of, each named as its source.

    Args:
        recipe: of the model.
        inputs: of the training side.
        start: of the model that the training began with. Where that tells them by the same figures,
            the new ones are placed among them.

    Returns:
        None for a model that takes no figures but those of the bitstream, and for one source.
    """
    figures = [
        content_figures(recipe.inputs, inputs.evaluation_views(index))
        for index in range(len(inputs.encodes))
    ]
    figures_MF = np.stack(figures).astype(np.float64)
    names, content_M = np.unique([encode.source for encode in inputs.encodes], return_inverse=True)
    if start and len(start.projection_FD) == figures_MF.shape[1]:
        return _placed_among(start, figures_MF, names, content_M)
    if len(names) < 2 or not figures_MF.shape[1]:
        return None
    projection_FD = _discriminants(figures_MF, content_M).astype(np.float16)
    place_MD = placed(figures_MF.astype(np.float32), projection_FD).astype(np.float64)
    places = _places(place_MD, names, content_M)
    return Contents(
        tuple(places), np.stack([*places.values()]), projection_FD,
        _own_distance(place_MD, content_M),
    )  # fmt: skip


def _placed_among(
    start: Contents, figures_MF: _Doubles, names: npt.NDArray[np.str_], content_M: _Numbers
) -> Contents:
    place_MD = placed(figures_MF.astype(np.float32), start.projection_FD).astype(np.float64)
    places = dict(zip(start.names, start.place_ND, strict=True))
    places |= _places(place_MD, names, content_M)
    return replace(start, names=tuple(places), place_ND=np.stack([*places.values()]))


def _places(
    place_MD: _Doubles, names: npt.NDArray[np.str_], content_M: _Numbers
) -> dict[str, npt.NDArray[np.float16]]:
    """The mean place of each content's encodes, by its name."""
    return {
        str(name): place_MD[content_M == number].mean(0).astype(np.float16)
        for number, name in enumerate(names)
    }


def _discriminants(figures_MF: _Doubles, content_M: _Numbers) -> _Doubles:
    """The directions (F, D) along which contents differ most against their encodes."""
    deviation_F = figures_MF.std(0) + _LEAST_DEVIATION
    unit_MF = (figures_MF - figures_MF.mean(0)) / deviation_F
    count = content_M.max() + 1
    mean_NF = np.array([unit_MF[content_M == n].mean(0) for n in range(count)])
    inside_MF, between_MF = unit_MF - mean_NF[content_M], mean_NF[content_M]
    inside_FF = inside_MF.T @ inside_MF / len(unit_MF) + _RIDGE * np.eye(unit_MF.shape[1])
    between_FF = between_MF.T @ between_MF / len(unit_MF)
    width = len(inside_FF)
    dimensions = min(_DIMENSIONS, count - 1, width)
    _, vectors_FD = eigh(between_FF, inside_FF, subset_by_index=[width - dimensions, width - 1])
    directions_FD: _Doubles = vectors_FD / deviation_F[:, None]
    return directions_FD


def _own_distance(place_MD: _Doubles, content_M: _Numbers) -> float:
    """What 95 % of the encodes stay below, each against the others of its content; 0: unknown."""
    found = []
    for number, place_D in enumerate(place_MD):
        others_M = content_M == content_M[number]
        others_M[number] = False
        if others_M.any():
            found.append(float(np.linalg.norm(place_D - place_MD[others_M].mean(0))))
    return float(np.quantile(found, _OWN)) if found else 0.0
