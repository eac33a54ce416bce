import math
from typing import get_args

import pytest
import torch

from vqatool.losses import (
    Contrast,
    batch_rank_loss,
    feature_distillation_loss,
    frame_quality_loss,
    group_contrast_loss,
    plcc_loss,
    quality_loss,
    rank_loss,
    spread_loss,
    squared_loss,
)

CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)
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


def test_group_contrast_variants_are_the_worked_values() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    groups = torch.tensor([0, 0, 1, 2])
    e = math.exp(1 / 0.5)
    q = e / (e + e + 1)  # both anchors: one positive at 1, negatives at 1 and 0
    for contrast in CONTRASTS:
        loss = group_contrast_loss(features, groups, temperature=0.5, contrast=contrast)
        assert loss.item() == pytest.approx(-math.log(q), abs=1e-6)


def test_tta_takes_the_log_outside_of_the_mean() -> None:
    # the anchors of FAN lose 0.00085 and 0.69357, two times each
    inside = [0.000850, 0.693570]
    wanted = -math.log(sum(math.exp(-loss) for loss in inside) / 2)
    found = group_contrast_loss(FAN, TWO_GROUPS, contrast="tta").item()
    assert found == pytest.approx(wanted, abs=1e-4)
    assert found < group_contrast_loss(FAN, TWO_GROUPS).item()  # Jensen


def test_supcon_takes_the_log_of_each_positive() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    groups = torch.tensor([0, 0, 0, 1])
    losses = []
    for i in range(3):
        s = [float(features[i] @ features[k]) for k in range(4)]
        each = [-math.log(math.exp(s[j]) / (math.exp(s[j]) + math.exp(s[3])))
                for j in range(3) if j != i]  # fmt: skip
        losses.append(sum(each) / 2)
    found = group_contrast_loss(features, groups, temperature=1.0, contrast="supcon")
    assert found.item() == pytest.approx(sum(losses) / 3, abs=1e-6)
    assert found > group_contrast_loss(features, groups, temperature=1.0)  # Jensen


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_group_contrast_of_equal_features_is_the_log_of_one_and_the_negatives(
    contrast: Contrast,
) -> None:
    features = torch.ones(5, 3)
    groups = torch.tensor([0, 0, 1, 1, 1])
    found = group_contrast_loss(features[1:], TWO_GROUPS, contrast=contrast)
    assert found.item() == pytest.approx(math.log(1 + 2), abs=1e-5)
    if contrast != "tta":
        wanted = (2 * math.log(1 + 3) + 3 * math.log(1 + 2)) / 5
        found = group_contrast_loss(features, groups, contrast=contrast)
        assert found.item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_group_contrast_of_clean_clusters_is_near_zero(contrast: Contrast) -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    assert group_contrast_loss(features, TWO_GROUPS, contrast=contrast).item() < 1e-3


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_group_contrast_does_not_depend_on_the_order(contrast: Contrast) -> None:
    order = torch.tensor([2, 0, 3, 1])
    shuffled = group_contrast_loss(FAN[order], TWO_GROUPS[order], contrast=contrast)
    plain = group_contrast_loss(FAN, TWO_GROUPS, contrast=contrast)
    assert shuffled.item() == pytest.approx(plain.item(), abs=1e-6)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_group_contrast_has_the_gradient_of_its_value(contrast: Contrast) -> None:
    features = FAN.double().requires_grad_()
    groups = torch.tensor([0, 0, 1, 2])  # also with videos that are no anchors

    def loss(features_BD: torch.Tensor) -> torch.Tensor:
        return group_contrast_loss(features_BD, groups, temperature=0.5, contrast=contrast)

    assert torch.autograd.gradcheck(loss, (features,))


def test_group_contrast_pulls_a_group_together() -> None:
    features = FAN.clone().requires_grad_()
    before = group_contrast_loss(features, TWO_GROUPS)
    before.backward()
    assert features.grad is not None
    after = group_contrast_loss((features - 0.1 * features.grad).detach(), TWO_GROUPS)
    assert after < before


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("groups", [ONE_GROUP, torch.arange(4)])
def test_group_contrast_without_anything_to_compare_is_zero_and_has_a_gradient(
    groups: torch.Tensor, contrast: Contrast
) -> None:
    features = FAN.clone().requires_grad_()
    loss = group_contrast_loss(features, groups, contrast=contrast)
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


def test_rank_loss_by_label_asks_for_the_gap_and_no_more_than_the_cap() -> None:
    label = torch.tensor([0.50, 0.53, 0.90])
    equal = torch.zeros(3)
    # pairs of equal scores owe their gaps: 0.03, and 0.05 for those of 0.40 and 0.37
    found = rank_loss(equal, label, torch.zeros(3), margin="label")
    assert found.item() == pytest.approx((0.03 + 0.05 + 0.05) / 3, abs=1e-6)
    assert rank_loss(label, label, torch.zeros(3), margin="label").item() == pytest.approx(0)


def test_rank_loss_has_the_gradient_of_its_value() -> None:
    score = torch.tensor([0.2, 0.6, 0.1, 0.9], dtype=torch.float64, requires_grad=True)
    label, groups = LABEL.double() / 4, torch.tensor([0, 0, 1, 1])
    assert torch.autograd.gradcheck(lambda s: rank_loss(s, label.flip(0), groups), (score,))


def test_batch_rank_loss_is_the_worked_value() -> None:
    # one pair is inverted by 1, and counts both ways round: 2 / (4 * 3 * (1 + 1))
    assert batch_rank_loss(SCORE, LABEL).item() == pytest.approx(0.083333, abs=1e-6)
    # 2 * (3 * 1 + 2 * 2 + 3) / (4 * 3 * (1 + 3))
    assert batch_rank_loss(-LABEL, LABEL).item() == pytest.approx(0.416667, abs=1e-6)


def test_batch_rank_loss_charges_neither_the_right_order_nor_ties_of_labels() -> None:
    assert batch_rank_loss(7 * LABEL, LABEL).item() == 0
    assert batch_rank_loss(SCORE, torch.ones(4)).item() == 0


def test_batch_rank_loss_of_one_video_is_zero_and_has_a_gradient() -> None:
    score = torch.ones(1, requires_grad=True)
    loss = batch_rank_loss(score, LABEL[:1])
    loss.backward()
    assert loss.item() == 0
    assert score.grad is not None
    assert not score.grad.any()


def test_batch_rank_loss_has_the_gradient_of_its_value() -> None:
    score = torch.tensor([0.2, 0.6, 0.1, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: batch_rank_loss(s, LABEL.double()), (score,))


def test_frames_without_a_label_are_left_out() -> None:
    nan = math.nan
    score = torch.tensor([[0.5, 9.0], [0.05, 9.0]], requires_grad=True)
    loss = frame_quality_loss(score, torch.tensor([[0.0, nan], [0.0, nan]]))
    assert loss.item() == pytest.approx((0.45 + 0.0125) / 2)
    loss.backward()
    assert score.grad is not None
    assert (score.grad[:, 1] == 0).all()
    assert (score.grad[:, 0] > 0).all()


def test_frames_none_of_which_has_a_label_cost_nothing_and_have_a_gradient() -> None:
    score = torch.rand(2, 3, requires_grad=True)
    loss = frame_quality_loss(score, torch.full((2, 3), math.nan))
    loss.backward()
    assert loss.item() == 0
    assert score.grad is not None
    assert not score.grad.any()


def test_squared_loss_is_the_worked_value_in_full_precision() -> None:
    score, label = torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6])
    assert squared_loss(score, label).item() == pytest.approx((0.01 + 0.09) / 2)
    assert squared_loss(score.bfloat16(), label).dtype == torch.float32


@pytest.mark.parametrize(("distance", "wanted"), [(0.0, 0.0), (1.0, 0.25), (4.0, 3.0)])
def test_taught_feature_loss_is_quadratic_below_two_and_linear_above(
    distance: float, wanted: float
) -> None:
    target = torch.tensor([[1.0, -1.0, 1.0, -1.0]])  # normalised already
    found = feature_distillation_loss(target + distance, target)
    assert found.item() == pytest.approx(wanted, abs=1e-4)


def test_taught_feature_loss_forgets_size_and_offset_of_the_teacher_video_by_video() -> None:
    torch.manual_seed(0)
    features, taught = torch.randn(3, 16), torch.randn(3, 16)
    scale = torch.tensor([[1.0], [7.0], [30.0]])
    plain = feature_distillation_loss(features, taught).item()
    assert feature_distillation_loss(features, scale * taught + 5).item() == pytest.approx(
        plain, rel=1e-3
    )
    assert feature_distillation_loss(2 * features, taught).item() != pytest.approx(plain, rel=0.1)


@pytest.mark.parametrize("is_detached", [False, True])
def test_a_teacher_goes_to_meet_its_student_unless_detached(is_detached: bool) -> None:
    torch.manual_seed(0)
    features, taught = (torch.randn(2, 8, requires_grad=True) for _ in range(2))
    feature_distillation_loss(features, taught, is_detached=is_detached).backward()
    assert features.grad is not None
    assert features.grad.any()
    assert (taught.grad is None) == is_detached


def test_taught_feature_loss_is_computed_in_full_precision() -> None:
    torch.manual_seed(0)
    features, taught = torch.randn(2, 8).bfloat16(), torch.randn(2, 8).bfloat16()
    found = feature_distillation_loss(features, taught)
    assert found.dtype == torch.float32
    assert found.item() == feature_distillation_loss(features.float(), taught.float()).item()


def test_the_spread_that_costs_least_is_the_mean_error() -> None:
    score_B, label_B = torch.tensor([0.5, 0.5], requires_grad=True), torch.tensor([0.4, 0.7])
    costs = {
        spread: float(spread_loss(score_B, torch.full((2,), spread), label_B))
        for spread in (0.05, 0.1, 0.15, 0.2, 0.3)
    }
    assert min(costs, key=costs.__getitem__) == 0.15
    spread_B = torch.full((2,), 0.1, requires_grad=True)
    spread_loss(score_B, spread_B, label_B).backward()
    assert score_B.grad is None
    assert spread_B.grad is not None
