from pathlib import Path

import pytest
import torch
from torch import nn

from tests.vqatool.shapes import SMALL
from vqatool.inference.model_file import Checkpoint, ModelCard, load_checkpoint, save_checkpoint
from vqatool.methods import Method, recipe_for
from vqatool.models.quality import Quality, QualityModel
from vqatool.training.step import (
    OptimizerConfig,
    TrainStep,
    ema_update,
    lr_factor,
    make_accelerator,
    parameter_groups,
)


def test_the_learning_rate_rises_to_its_peak_and_comes_down_to_zero() -> None:
    course = [lr_factor(step, 100, 0.1) for step in range(100)]
    assert course[0] == pytest.approx(0.1)
    assert course[:10] == sorted(course[:10])
    assert course[9] == course[10] == 1
    assert course[10:] == sorted(course[10:], reverse=True)
    assert course[55] == pytest.approx(0.5)  # half of the cosine
    assert course[-1] < 0.001


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    decayed, free = parameter_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [(2, 3)]
    assert [p.shape for p in free["params"]] == [(2,), (2,), (2,)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_the_average_follows_faster_in_the_first_steps() -> None:
    def moved(step: int) -> float:
        average, model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.zeros_(average.weight)
        nn.init.ones_(model.weight)
        ema_update(average, model, step, 0.9)
        assert not average.weight.grad_fn
        return average.weight.item()

    assert moved(0) == pytest.approx(0.9)  # (1 + 0) / (10 + 0) is kept
    assert moved(10_000) == pytest.approx(0.1)
    torch.testing.assert_close(moved(8), 1 - 9 / 18)


def test_figures_of_what_was_seen_follow_at_once_and_survive_the_file(tmp_path: Path) -> None:
    recipe = recipe_for(Method.ZOOM_VQA, SMALL[Method.ZOOM_VQA])
    model, average = recipe.build().train(), recipe.build().eval()
    views = [torch.rand(4, 2, 3, 64, 64), torch.rand(4, 8, 3, 96, 96)]
    for step in range(3):
        model(*views)
        ema_update(average, model, step, 0.9)
    seen, kept = dict(model.named_buffers()), dict(average.named_buffers())
    (mean,) = [name for name in seen if name.endswith("_fusion.mean")]
    assert seen[mean].abs().max() > 0.01
    assert torch.equal(seen[mean], kept[mean])
    card = ModelCard(method=Method.ZOOM_VQA.value, shape=recipe.shape, clip_frames=2, label="v")
    save_checkpoint(Checkpoint(card, average.state_dict()), tmp_path / "zoom.safetensors")
    again = load_checkpoint(tmp_path / "zoom.safetensors").model()
    torch.testing.assert_close(again.state_dict()[mean], kept[mean], atol=1e-3, rtol=0)
    with torch.no_grad():
        both, alone = again(*views).score_B, again(*(view[:1] for view in views)).score_B
    torch.testing.assert_close(both[:1], alone, atol=1e-4, rtol=0)


class Constant(QualityModel):
    """Says of every video what its one weight is."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1, 1))

    def forward(self, *views: torch.Tensor) -> Quality:
        score_B = self.level[0].expand(len(views[0]))
        return Quality(score_B, score_B[:, None], score_B[:, None])


def test_a_step_moves_the_average_after_the_model() -> None:
    train_step = TrainStep(
        Constant(), OptimizerConfig(lr=0.1), make_accelerator("cpu"), steps=10, is_refined=False
    )
    view = torch.zeros(4, 1)
    for step in range(3):
        train_step.step(
            [view], lambda output: {"up": -output.quality.score_B.sum()}, step=step, share=step / 10
        )
    state = train_step.state()
    assert 0 < state["average"]["level"].item() < state["model"]["level"].item()
