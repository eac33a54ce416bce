"""The model's features: similarity inside and between bitrate groups, and their principal axes.

Shapes: N encodes, D features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vqatool.metrics import Values


class Similarity(NamedTuple):
    """Mean cosine of the angle between features of two encodes, -1 to 1; NaN without such pairs.

    Both means are over pairs of different sources, so that the two encodes of a pair have
    different content.
    """

    inside: float
    between: float


def similarity(feature_ND: Values, groups: Sequence[str], sources: Sequence[str]) -> Similarity:
    """Mean cosine similarity inside bitrate groups, and between them."""
    unit_ND = _unit(feature_ND)
    group_N, source_N = _codes(groups), _codes(sources)
    group_and_source_N = group_N * (source_N.max() + 1) + source_N
    # all pairs minus the pairs of one source: over the whole set, and inside each group
    overall = _pairs(unit_ND, np.zeros_like(group_N)) - _pairs(unit_ND, source_N)
    inside = _pairs(unit_ND, group_N) - _pairs(unit_ND, group_and_source_N)
    return Similarity(_mean(*inside), _mean(*(overall - inside)))


def plane(feature_ND: Values) -> tuple[Values, Values]:
    """Unit features on their two principal axes, (N, 2), and each axis's share of variance, (2,).

    The principal components come from a singular value decomposition.
    """
    unit_ND = _unit(feature_ND)
    left, size, _ = np.linalg.svd(unit_ND - unit_ND.mean(0), full_matrices=False)
    position_N2, share_2 = np.zeros((len(unit_ND), 2)), np.zeros(2)
    axis_count = min(2, len(size))
    position_N2[:, :axis_count] = left[:, :axis_count] * size[:axis_count]
    share_2[:axis_count] = size[:axis_count] ** 2 / max(float((size**2).sum()), 1e-12)
    return position_N2, share_2


def _pairs(unit_ND: Values, code_N: np.ndarray) -> Values:
    """Sum of cosines over all ordered pairs of equal code (also i, i), and the number of pairs."""
    sum_GD = np.zeros((code_N.max() + 1, unit_ND.shape[1]))
    np.add.at(sum_GD, code_N, unit_ND)
    return np.array([np.square(sum_GD).sum(), np.square(np.bincount(code_N)).sum()])


def _mean(total: float, count: float) -> float:
    return float(total / count) if count else float("nan")


def _unit(feature_ND: Values) -> Values:
    length_N1 = np.linalg.norm(feature_ND, axis=1, keepdims=True)
    return np.asarray(feature_ND / np.maximum(length_N1, 1e-12), dtype=np.float64)


def _codes(names: Sequence[str]) -> np.ndarray:
    index = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([index[name] for name in names])
