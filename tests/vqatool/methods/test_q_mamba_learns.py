"""Q-Mamba learns the level of faint noise on grey, and transfers to coarser noise."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.losses import quality_loss
from vqatool.metrics import srcc
from vqatool.models.q_mamba import PROMPTS, QMamba
from vqatool.models.shapes import QMambaConfig

SIDE = 32
Pictures = Callable[[int, int], tuple[Tensor, Tensor]]
Score = Callable[[Tensor], Tensor]


def fine(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Grey pictures (B, 1, 3, H, W) with noise of up to 2.5 levels, and labels: 1 is no noise."""
    noise = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return pictures_with(noise)


def coarse(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """As `fine`, with noise in blocks of 4 x 4 px."""
    side = SIDE // 4
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return pictures_with(F.interpolate(noise, scale_factor=4))


def pictures_with(noise: Tensor) -> tuple[Tensor, Tensor]:
    label = torch.linspace(0, 1, len(noise))
    return (0.5 + 0.01 * (1 - label).view(-1, 1, 1, 1) * noise)[:, None], label


def train(module: nn.Module, score: Score, pictures: Pictures, *, steps: int, lr: float) -> None:
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / 10) * (1 - step / steps)
        picture_BTCHW, label = pictures(8, 100 + step)
        optimizer.zero_grad()
        quality_loss(score(picture_BTCHW), label).backward()
        optimizer.step()


@torch.no_grad()
def agreement(score: Score, pictures: Pictures) -> float:
    picture_BTCHW, label = pictures(48, 1)
    return srcc(score(picture_BTCHW).numpy(), label.numpy())


def scores(model: QMamba) -> Score:
    return lambda picture_BTCHW: model(picture_BTCHW).score_B


def untrained() -> QMamba:
    torch.manual_seed(1)
    return QMamba(QMambaConfig(size="pico"))


@pytest.fixture(scope="module")
def trained() -> QMamba:
    model = untrained()
    train(model, scores(model), fine, steps=40, lr=1e-3)
    return model


@pytest.mark.slow
def test_q_mamba_learns_what_a_linear_layer_cannot(trained: QMamba) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(3 * SIDE * SIDE, 1)

    def linear(picture_BTCHW: Tensor) -> Tensor:
        score_B: Tensor = layer(picture_BTCHW.flatten(1)).squeeze(-1)
        return score_B

    train(layer, linear, fine, steps=40, lr=1e-3)
    assert agreement(scores(trained), fine) > 0.7
    assert agreement(linear, fine) < 0.5
    assert agreement(scores(untrained()), fine) < 0.5


@pytest.mark.slow
def test_prompts_transfer_better_than_the_head_alone(trained: QMamba) -> None:
    agreements = []
    for part in ("head", "prompts"):
        torch.manual_seed(5)
        model = QMamba(QMambaConfig(size="pico", prompts=PROMPTS))
        model.load_weights(trained.state_dict())
        model.freeze_except(part)
        train(model, scores(model), coarse, steps=25, lr=5e-3)
        agreements.append(agreement(scores(model), coarse))
    head_alone, prompts = agreements
    assert agreement(scores(trained), coarse) < head_alone < prompts
