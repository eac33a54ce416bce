import math

import pytest
import torch

from vqatool.losses import group_contrast_loss, plcc_loss, quality_loss, rank_loss

LABEL = torch.tensor([1.0, 2.0, 3.0, 4.0])
SCORE = torch.tensor([1.0, 3.0, 2.0, 4.0])
ONE_GROUP = torch.zeros(4, dtype=torch.long)
TWO_GROUPS = torch.tensor([0, 0, 1, 1])
FAN = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 1.0]])


def test_plcc_loss_is_the_worked_value() -> None:
    # correlation 0.8: ((1 - 0.8) / 2 + (1 - 0.64) / 4) / 2
    assert plcc_loss(SCORE, LABEL).item() == pytest.approx(0.095, abs=1e-5)


def test_plcc_loss_of_the_opposite_is_a_half() -> None:
    assert plcc_loss(-LABEL, LABEL).item() == pytest.approx(0.5, abs=1e-5)


def test_plcc_loss_ignores_scale_and_offset() -> None:
    assert plcc_loss(7 * SCORE - 3, LABEL).item() == pytest.approx(
        plcc_loss(SCORE, LABEL).item(), abs=1e-5
    )


def test_quality_loss_is_quadratic_near_and_linear_far() -> None:
    # beta 0.1: 0.05^2 / 0.2 = 0.0125 near, 0.5 - 0.05 = 0.45 far
    assert quality_loss(torch.tensor([0.05]), torch.zeros(1)).item() == pytest.approx(0.0125)
    assert quality_loss(torch.tensor([0.5]), torch.zeros(1)).item() == pytest.approx(0.45)


def test_group_contrast_is_the_worked_value() -> None:
    # per anchor 0.00085, 0.69357, 0.69357, 0.00085
    assert group_contrast_loss(FAN, TWO_GROUPS).item() == pytest.approx(0.347211, abs=1e-5)


def test_group_contrast_of_equal_features_is_the_log_of_one_and_the_negatives() -> None:
    features = torch.ones(4, 3)
    assert group_contrast_loss(features, TWO_GROUPS).item() == pytest.approx(math.log(3), abs=1e-5)


def test_group_contrast_of_clean_clusters_is_near_zero() -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    assert group_contrast_loss(features, TWO_GROUPS).item() < 1e-3


def test_group_contrast_does_not_depend_on_the_order() -> None:
    order = torch.tensor([2, 0, 3, 1])
    shuffled = group_contrast_loss(FAN[order], TWO_GROUPS[order])
    assert shuffled.item() == pytest.approx(group_contrast_loss(FAN, TWO_GROUPS).item(), abs=1e-6)


def test_group_contrast_pulls_a_group_together() -> None:
    features = FAN.clone().requires_grad_()
    before = group_contrast_loss(features, TWO_GROUPS)
    before.backward()
    assert features.grad is not None
    after = group_contrast_loss((features - 0.1 * features.grad).detach(), TWO_GROUPS)
    assert after < before


@pytest.mark.parametrize("groups", [ONE_GROUP, torch.arange(4)])
def test_group_contrast_without_anything_to_compare_is_zero_and_has_a_gradient(
    groups: torch.Tensor,
) -> None:
    features = FAN.clone().requires_grad_()
    loss = group_contrast_loss(features, groups)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_rank_loss_is_zero_for_the_right_order() -> None:
    assert rank_loss(10 * LABEL, LABEL, ONE_GROUP).item() == 0


def test_rank_loss_charges_only_the_inverted_pair() -> None:
    # of six pairs only (2, 3) is inverted, by 1
    assert rank_loss(SCORE, LABEL, ONE_GROUP).item() == pytest.approx(1 / 6)


def test_rank_loss_ignores_pairs_of_different_groups() -> None:
    groups = torch.tensor([0, 1, 2, 0])
    assert rank_loss(SCORE, LABEL, groups).item() == 0
    assert rank_loss(-LABEL, LABEL, groups).item() == pytest.approx(3)  # the one pair (1, 4)


def test_rank_loss_asks_for_the_margin() -> None:
    close = torch.tensor([0.50, 0.51])
    groups = torch.zeros(2)
    assert rank_loss(close, torch.tensor([0.1, 0.9]), groups, margin=0.05).item() == pytest.approx(
        0.04
    )


def test_rank_loss_leaves_near_ties_alone() -> None:
    labels = torch.tensor([0.500, 0.505])
    assert rank_loss(torch.tensor([1.0, 0.0]), labels, torch.zeros(2)).item() == 0
