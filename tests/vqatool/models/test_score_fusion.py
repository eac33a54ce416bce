"""Late fusion: scales of what was learned from, kept."""

import pytest
import torch
from torch import Tensor

from vqatool.models.score_fusion import ScoreFusion


def scores(videos: int = 12) -> Tensor:
    chance = torch.Generator().manual_seed(3)
    label = 0.2 + 0.6 * torch.rand(videos, generator=chance)
    return label[:, None] + 0.05 * torch.randn(videos, 2, generator=chance)


def watched(score_NK: Tensor) -> ScoreFusion:
    fusion = ScoreFusion(branches=2)
    fusion.watch(score_NK)
    return fusion


def test_fusion_orders_as_the_mean_of_the_sigmoids_of_standard_scores() -> None:
    score_NK = scores()
    standard = (score_NK - score_NK.mean(0)) / score_NK.std(0, unbiased=False)
    published = standard.sigmoid().mean(1)
    found = watched(score_NK)(score_NK)
    assert torch.equal(found.argsort(), published.argsort())
    spread = score_NK.std(0, unbiased=False).mean()
    assert torch.allclose((found - score_NK.mean()) / spread, published.logit(), atol=1e-4)


@pytest.mark.parametrize("branch", [0, 1])
def test_fusion_ignores_scale_and_offset_of_a_branch(branch: int) -> None:
    score_NK = scores()
    changed = score_NK.clone()
    changed[:, branch] = 30 * changed[:, branch] - 7
    found, before = watched(changed)(changed), watched(score_NK)(score_NK)
    # but for the scale of the result, which is the branches'
    assert torch.corrcoef(torch.stack([found, before]))[0, 1] == pytest.approx(1, abs=1e-5)


def test_fusion_of_one_video_is_that_in_a_batch() -> None:
    score_NK = scores()
    fusion = watched(score_NK)
    alone = torch.stack([fusion(score_K[None])[0] for score_K in score_NK])
    assert torch.equal(alone, fusion(score_NK))


def test_branches_that_agree_are_followed() -> None:
    same = torch.linspace(0.1, 0.95, 9)[:, None].expand(9, 2)
    assert torch.allclose(watched(same)(same), same[:, 0], atol=1e-4)


def test_a_branch_that_says_one_thing_leaves_the_other_in_charge() -> None:
    score_NK = scores()
    score_NK[:, 1] = 0.4
    found = watched(score_NK)(score_NK)
    assert found.isfinite().all()
    assert torch.equal(found.argsort(), score_NK[:, 0].argsort())


def test_scales_are_those_of_all_batches_watched() -> None:
    score_NK = scores(4000)
    fusion = ScoreFusion(branches=2)
    for batch in score_NK.split(40):
        fusion.watch(batch)
    assert torch.allclose(fusion.mean, score_NK.mean(0), atol=0.01)
    assert torch.allclose(fusion.square.sqrt(), score_NK.std(0), atol=0.01)


def test_scales_follow_a_branch_that_has_moved() -> None:
    fusion = ScoreFusion(branches=2)
    for shift in (0.0, 0.5):
        for _ in range(600):
            fusion.watch(scores() + shift)
    assert torch.allclose(fusion.mean, scores().mean(0) + 0.5, atol=0.01)
