"""Late fusion: scales of the training set, kept."""

import pytest
import torch
from torch import Tensor

from vqatool.models.score_fusion import ScoreFusion


def scores(videos: int = 12) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(3)
    label = torch.rand(videos, generator=chance)
    noise = 0.1 * torch.randn(videos, 2, generator=chance)
    return label[:, None] * torch.tensor([1.0, 4.0]) + noise, label


def settled(score_NK: Tensor, label_N: Tensor) -> ScoreFusion:
    fusion = ScoreFusion(branches=2)
    fusion.settle(score_NK, label_N)
    return fusion


def test_fusion_is_the_mean_of_the_sigmoids_of_standard_scores() -> None:
    score_NK, label = scores()
    standard = (score_NK - score_NK.mean(0)) / score_NK.std(0, unbiased=False)
    mean = standard.sigmoid().mean(1)
    line = torch.linalg.lstsq(torch.stack([torch.ones(12), mean], dim=1), label).solution
    wanted = line[0] + line[1] * mean
    assert torch.allclose(settled(score_NK, label)(score_NK), wanted, atol=2e-3)


@pytest.mark.parametrize("branch", [0, 1])
def test_fusion_ignores_scale_and_offset_of_a_branch(branch: int) -> None:
    score_NK, label = scores()
    changed = score_NK.clone()
    changed[:, branch] = 30 * changed[:, branch] - 7
    found = settled(changed, label)(changed)
    assert torch.allclose(found, settled(score_NK, label)(score_NK), atol=2e-3)


def test_fusion_of_one_video_is_that_in_a_batch() -> None:
    score_NK, label = scores()
    fusion = settled(score_NK, label)
    together = fusion(score_NK)
    alone = torch.stack([fusion(score_K[None])[0] for score_K in score_NK])
    assert torch.equal(alone, together)
    assert torch.equal(alone.argsort(), together.argsort())


def test_fused_scores_are_on_the_labels_scale() -> None:
    score_NK, label = scores()
    found = settled(score_NK, label)(score_NK)
    assert found.mean().item() == pytest.approx(label.mean().item(), abs=1e-3)
    assert (found - label).abs().mean() < 0.07


def test_a_branch_that_says_one_thing_leaves_the_other_in_charge() -> None:
    score_NK, label = scores()
    score_NK[:, 1] = 0.4
    found = settled(score_NK, label)(score_NK)
    assert found.isfinite().all()
    assert torch.equal(found.argsort(), score_NK[:, 0].argsort())


def test_scores_that_are_all_the_same_say_the_mean_label() -> None:
    label = torch.tensor([0.2, 0.5, 0.8])
    assert settled(torch.ones(3, 2), label)(torch.ones(1, 2)).item() == pytest.approx(0.5, abs=1e-3)
