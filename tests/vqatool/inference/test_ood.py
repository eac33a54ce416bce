import torch

from vqatool.inference.ood import fit_ood_detector

GENERATOR = torch.Generator().manual_seed(0)
STRETCH = torch.tensor([10.0, 1.0, 0.1])


def samples(count: int) -> torch.Tensor:
    return 5 + STRETCH * torch.randn(count, 3, generator=GENERATOR)


def test_distances_are_in_deviations_along_each_direction() -> None:
    ood = fit_ood_detector(samples(20_000), samples(500))
    steps = 5 + 4 * torch.diag(STRETCH)
    # the ridge lowers the weight of the narrowest direction a little
    assert torch.allclose(ood.distances(steps)[:2], torch.tensor([4.0, 4.0]), rtol=0.05)
    assert 1 < ood.distances(steps)[2] < 4


def test_new_clips_of_the_same_distribution_are_inside_and_others_outside() -> None:
    ood = fit_ood_detector(samples(2000), samples(300))
    inside = [ood.contains(clip[None]) for clip in samples(300)]
    assert sum(inside) >= 0.99 * len(inside)
    assert not ood.contains(torch.tensor([[5.0, 25.0, 5.0]]))


def test_the_majority_of_segments_decides() -> None:
    ood = fit_ood_detector(samples(2000), samples(300))
    odd = torch.tensor([[5.0, 25.0, 5.0]])
    assert ood.contains(torch.cat([samples(3), odd]))
    assert not ood.contains(torch.cat([samples(1), odd, odd]))


def test_fewer_clips_than_features_still_give_a_detector() -> None:
    few = torch.randn(4, 16, generator=GENERATOR)
    ood = fit_ood_detector(few, few)
    assert ood.contains(few)
    assert not ood.contains(few + 100)
