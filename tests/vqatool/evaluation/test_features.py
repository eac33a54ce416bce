import math

import numpy as np
import pytest

from vqatool.evaluation.features import plane, similarity


def test_similarity_of_three_vectors_is_as_computed_by_hand() -> None:
    # a and b of group g are parallel; c of group h is orthogonal to both; lengths do not matter
    features = np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]])
    assert similarity(features, ["g", "g", "h"], ["a", "b", "c"]) == pytest.approx((1, 0))


def test_similarity_is_the_mean_over_pairs_of_different_sources() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(24, 5))
    groups = [f"g{number % 3}" for number in range(24)]
    sources = [
        f"s{number // 5}" for number in range(24)
    ]  # a source may have two encodes in a group
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    inside: list[float] = []
    between: list[float] = []
    for i in range(24):
        for j in range(i):
            if sources[i] != sources[j]:
                (inside if groups[i] == groups[j] else between).append(float(unit[i] @ unit[j]))
    means = similarity(features, groups, sources)
    assert means == pytest.approx((np.mean(inside), np.mean(between)))


def test_one_source_has_no_pairs_to_compare() -> None:
    means = similarity(np.eye(3), ["g", "g", "h"], ["a"] * 3)
    assert all(map(math.isnan, means))


def test_the_plane_keeps_the_largest_directions_and_their_distances() -> None:
    angle = np.linspace(-0.5, 0.5, 21)
    features = np.stack([np.cos(angle), np.sin(angle), np.zeros(21)], axis=1)
    position, share = plane(features)
    # an arc lies in a plane: two axes hold all of the variance
    assert share.sum() == pytest.approx(1)
    assert share[0] > share[1] > 0
    distance = np.linalg.norm(features[0] - features[-1])
    assert np.linalg.norm(position[0] - position[-1]) == pytest.approx(distance)


@pytest.mark.parametrize("features", [np.ones((1, 4)), np.ones((5, 4)), np.zeros((2, 1))])
def test_equal_features_lie_on_one_point(features: np.ndarray) -> None:
    position, share = plane(features)
    assert position == pytest.approx(np.zeros((len(features), 2)))
    assert share == pytest.approx(np.zeros(2))
