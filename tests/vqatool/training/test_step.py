from pathlib import Path

import pytest
import torch
from torch import nn

from tests.vqatool.shapes import SMALL
from vqatool.inference.card import ModelCard
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.methods import Method, recipe_for
from vqatool.models.quality import Quality, QualityModel
from vqatool.training.step import (
    OptimizerConfig,
    TrainStep,
    averaged_model,
    lr_factor,
    make_accelerator,
    parameter_groups,
)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_0() -> None:
    factors = [lr_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[:10] == sorted(factors[:10])
    assert factors[9] == factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.5)  # half of the cosine
    assert factors[-1] < 0.001


def test_only_matrices_have_weight_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    decayed, free = parameter_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [(2, 3)]
    assert [p.shape for p in free["params"]] == [(2,), (2,), (2,)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_the_average_follows_faster_in_the_first_updates() -> None:
    ones = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(ones.weight)
    average = averaged_model(ones, 0.9)
    nn.init.ones_(ones.weight)
    expected = 0.0
    for update in range(1, 100):
        average.update_parameters(ones)
        expected += (1 - min(0.9, (1 + update) / (10 + update))) * (1 - expected)
        assert average.state_dict()["module.weight"].item() == pytest.approx(expected, abs=1e-6)
    assert not any(p.grad_fn for p in average.parameters())


def test_the_average_equals_the_recurrence_in_its_docstring_exactly() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    average = averaged_model(model, 0.998)
    expected = [p.detach().clone() for p in model.parameters()]
    for update in range(1, 30):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        average.update_parameters(model)
        decay = min(0.998, (1 + update) / (10 + update))
        for mean, p in zip(expected, model.parameters(), strict=True):
            mean.lerp_(p.detach(), 1 - decay)
    for mean, averaged in zip(expected, average.module.parameters(), strict=True):
        assert torch.equal(mean, averaged)


def test_running_statistics_are_copied_and_stored(tmp_path: Path) -> None:
    recipe = recipe_for(Method.ZOOM_VQA, SMALL[Method.ZOOM_VQA])
    model = recipe.build().train()
    average = averaged_model(model, 0.9)
    views = [torch.rand(4, 2, 3, 64, 64), torch.rand(4, 8, 3, 96, 96)]
    for _ in range(3):
        model(*views)
        average.update_parameters(model)
    of_model, of_average = dict(model.named_buffers()), dict(average.module.named_buffers())
    (mean,) = [name for name in of_model if name.endswith("_fusion.mean")]
    assert of_model[mean].abs().max() > 0.01
    assert torch.equal(of_model[mean], of_average[mean])
    card = ModelCard(method=Method.ZOOM_VQA.value, shape=recipe.shape, clip_frames=2, label="v")
    save_checkpoint(Checkpoint(card, average.module.state_dict()), tmp_path / "zoom.safetensors")
    again = load_checkpoint(tmp_path / "zoom.safetensors").model()
    torch.testing.assert_close(again.state_dict()[mean], of_average[mean], atol=1e-3, rtol=0)
    with torch.no_grad():
        both, alone = again(*views).score_B, again(*(view[:1] for view in views)).score_B
    torch.testing.assert_close(both[:1], alone, atol=1e-4, rtol=0)


class Constant(QualityModel):
    """Scores every video with its one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1, 1))

    def forward(self, *views: torch.Tensor) -> Quality:
        score_B = self.level[0].expand(len(views[0]))
        return Quality(score_B, score_B[:, None], score_B[:, None])


def test_a_step_updates_the_average() -> None:
    train_step = TrainStep(
        Constant(), OptimizerConfig(lr=0.1), make_accelerator("cpu"), steps=10, is_from_scratch=True
    )
    view = torch.zeros(4, 1)
    for step in range(3):
        train_step.step(
            [view], lambda output: {"up": -output.quality.score_B.sum()}, share=step / 10
        )
    state = train_step.state_dict()
    average = train_step.ema_model.state_dict()["level"].item()
    assert 0 < average < state["model"]["level"].item()
