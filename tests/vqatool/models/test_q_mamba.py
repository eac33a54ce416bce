"""Q-Mamba, tiny, through the promises of every model; what it learns, and its prompts."""

import json
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from vqatool.models.q_mamba import QMamba, QMambaConfig
from vqatool.models.quality import Quality
from vqatool.models.vmamba import VMAMBA_SIZES

SHAPES = {
    "LQMamba": QMambaConfig(size="pico"),
    "QMamba": QMambaConfig(size="pico", has_local_scan=False, has_gate=False),
    "no luma": QMambaConfig(size="pico", has_local_luma=False),
    "prompts": QMambaConfig(size="pico", prompts=2),
}


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> QMamba:
    torch.manual_seed(0)
    return QMamba(SHAPES[request.param]).eval()


def pixels(videos: int, frames: int = 2, height: int = 64, width: int = 64) -> Tensor:
    chance = torch.Generator().manual_seed(5)
    return torch.rand(videos, frames, 3, height, width, generator=chance)


@torch.no_grad()
def test_a_model_gives_scores_and_features(model: QMamba) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        quality: Quality = model(pixels(2, 3))
    assert quality.score_B.shape == (2,)
    assert quality.features_BD.shape == (2, 128)
    assert quality.frame_score_BT.shape == (2, 3)
    for tensor in quality[:3]:
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()


@torch.no_grad()
def test_a_video_scores_as_its_frames_do_on_average(model: QMamba) -> None:
    view = pixels(2, 3)
    quality = model(view)
    assert torch.allclose(quality.score_B, quality.frame_score_BT.mean(1))
    alone = torch.stack([model(view[:, t : t + 1]).score_B for t in range(3)], dim=1)
    assert torch.allclose(quality.frame_score_BT, alone, atol=1e-5)


@torch.no_grad()
def test_the_score_is_read_from_the_features(model: QMamba) -> None:
    quality = model(pixels(3))
    weight, bias = (
        model.state_dict()["_head._score.weight"],
        model.state_dict()["_head._score.bias"],
    )
    read = quality.features_BD @ weight[0] + bias
    assert torch.allclose(read, quality.score_B, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 70), (16, 100)])
def test_frames_may_have_any_size(model: QMamba, height: int, width: int) -> None:
    assert model(pixels(1, 1, height, width)).score_B.isfinite().all()


@torch.no_grad()
def test_a_score_does_not_depend_on_batch_mates(model: QMamba) -> None:
    view = pixels(3)
    alone = torch.cat([model(view[i : i + 1]).score_B for i in range(3)])
    assert torch.allclose(model(view).score_B, alone, atol=1e-5)


def test_every_parameter_learns(model: QMamba) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            # prompts start as identities, which hides their banks from the gradient
            parameter.add_(0.1 * torch.randn_like(parameter))
    quality = model(pixels(2))
    (quality.score_B.sum() + quality.features_BD.square().sum()).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@torch.no_grad()
def test_bfloat16_agrees_with_float32(model: QMamba) -> None:
    view = pixels(2)
    exact = model(view).score_B
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(view).score_B
    assert torch.allclose(exact, rounded, atol=0.02)  # eight bits of mantissa, several layers


@pytest.mark.parametrize("size", VMAMBA_SIZES)
def test_a_shape_survives_its_file(size: str) -> None:
    config = QMambaConfig(size=size, prompts=3)
    assert QMambaConfig(**json.loads(json.dumps(asdict(config)))) == config
    with torch.device("meta"):
        names = QMamba(config).state_dict().keys()
        assert names == QMamba(QMambaConfig(**asdict(config))).state_dict().keys()


def test_an_impossible_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="size 'huge' is none of nano"):
        QMambaConfig(size="huge")
    with pytest.raises(ValueError, match="0 or more, got -1"):
        QMambaConfig(prompts=-1)
