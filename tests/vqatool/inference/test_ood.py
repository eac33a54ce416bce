import numpy as np
import pytest
import torch
from torch.nn import functional

from vqatool.inference.engine import Output
from vqatool.inference.ood import OodDetector, expose_to_outliers, fit_ood_detector
from vqatool.inference.torch_engine import limits_of

GENERATOR = torch.Generator().manual_seed(0)
STRETCH = torch.tensor([10.0, 1.0, 0.1])


def samples(count: int) -> torch.Tensor:
    return 5 + STRETCH * torch.randn(count, 3, generator=GENERATOR)


def contains(ood: OodDetector, features_ND: torch.Tensor) -> bool:
    """Whether the median of these clips is inside, as a predictor tells."""
    values = np.zeros(len(features_ND), np.float32)
    output = Output(values, values[:, None], values[:, None])
    output = output._replace(distance_B=ood.distances(features_ND).numpy())
    if ood.classifier:
        output = output._replace(outlier_B=ood.classifier.logits(features_ND).numpy())
    return limits_of(ood).contains([output.clip(index) for index in range(len(values))])


def test_distances_are_in_deviations_along_each_direction() -> None:
    ood = fit_ood_detector(samples(20_000), samples(500))
    steps = 5 + 4 * torch.diag(STRETCH)
    # the ridge lowers the weight of the narrowest direction a little
    assert torch.allclose(ood.distances(steps)[:2], torch.tensor([4.0, 4.0]), rtol=0.05)
    assert 1 < ood.distances(steps)[2] < 4


def test_new_clips_of_the_same_distribution_are_inside_and_others_outside() -> None:
    ood = fit_ood_detector(samples(2000), samples(300))
    inside = [contains(ood, clip[None]) for clip in samples(300)]
    assert sum(inside) >= 0.99 * len(inside)
    assert not contains(ood, torch.tensor([[5.0, 25.0, 5.0]]))


def test_the_majority_of_segments_decides() -> None:
    ood = fit_ood_detector(samples(2000), samples(300))
    odd = torch.tensor([[5.0, 25.0, 5.0]])
    assert contains(ood, torch.cat([samples(3), odd]))
    assert not contains(ood, torch.cat([samples(1), odd, odd]))


def test_fewer_clips_than_features_still_give_a_detector() -> None:
    few = torch.randn(4, 16, generator=GENERATOR)
    ood = fit_ood_detector(few, few)
    assert contains(ood, few)
    assert not contains(ood, few + 100)


def ring(count: int) -> torch.Tensor:
    """Clips at about one distance from the middle, where there are none."""
    points = torch.randn(count, 3, generator=GENERATOR)
    return 5 + STRETCH * (3 * functional.normalize(points) + 0.1 * points)


def outliers(count: int) -> torch.Tensor:
    """Clips in the middle of the ring, at no Mahalanobis distance."""
    return 5 + STRETCH * 0.5 * torch.randn(count, 3, generator=GENERATOR)


def test_outliers_near_the_mean_are_found_where_the_detector_has_learned_from_some() -> None:
    torch.manual_seed(0)
    blind = fit_ood_detector(ring(1000), ring(300))
    ood = expose_to_outliers(blind, ring(500), ring(300), outliers(50))
    assert all(contains(blind, clip[None]) for clip in outliers(50))
    assert not any(contains(ood, clip[None]) for clip in outliers(50))
    inside = [contains(ood, clip[None]) for clip in ring(300)]
    assert sum(inside) >= 0.9 * len(inside)
    assert not contains(ood, torch.tensor([[5.0, 25.0, 5.0]]))  # far from both


def test_the_same_features_give_the_same_detector() -> None:
    train, held_out, odd = ring(100), ring(50), outliers(20)
    blind = fit_ood_detector(train, held_out)
    first, second = (expose_to_outliers(blind, train, held_out, odd) for _ in range(2))
    pairs = zip(first.tensors().values(), second.tensors().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_tensors_of_a_detector_give_it_back() -> None:
    blind = fit_ood_detector(ring(100), ring(50))
    ood = expose_to_outliers(blind, ring(100), ring(50), outliers(20))
    for each in (ood, blind):
        again = OodDetector.from_tensors(each.tensors())
        assert (again.classifier is None) == (each.classifier is None)
        assert again.tensors().keys() == each.tensors().keys()
    with pytest.raises(TypeError, match="colour"):
        OodDetector.from_tensors({**ood.tensors(), "colour": torch.zeros(1)})


def test_a_detector_of_wide_features_is_small() -> None:
    train = torch.randn(50, 256, generator=GENERATOR)
    blind = fit_ood_detector(train, train)
    ood = expose_to_outliers(blind, train, train, train[:20] + 9)
    learned = ood.tensors().keys() - blind.tensors().keys()
    assert sum(ood.tensors()[name].nbytes for name in learned) < 100_000
