"""Q-Mamba, tiny, through the promises of every model; what it learns, and its prompts."""

import json
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from vqatool.models.q_mamba import PROMPTS, QMamba, StylePrompt
from vqatool.models.quality import Quality
from vqatool.models.shapes import VMAMBA_SIZES, QMambaConfig

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
def test_the_score_of_a_video_is_the_mean_of_its_frames(model: QMamba) -> None:
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


PLAIN = QMambaConfig(size="pico")
PROMPTED = QMambaConfig(size="pico", prompts=PROMPTS)


def built(config: QMambaConfig, seed: int = 0) -> QMamba:
    torch.manual_seed(seed)
    return QMamba(config).eval()


def moved(prompt: StylePrompt) -> StylePrompt:
    """The same prompt after some learning."""
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return prompt


def test_a_prompt_changes_nothing_at_the_start() -> None:
    torch.manual_seed(0)
    map_BHWC = torch.randn(3, 4, 5, 16)
    assert torch.equal(StylePrompt(16)(map_BHWC), map_BHWC)


def test_gain_and_shift_set_means_and_deviations() -> None:
    torch.manual_seed(0)
    prompt, map_BHWC = moved(StylePrompt(16)), torch.randn(3, 6, 5, 16) + 2
    with torch.no_grad():
        gain, shift = prompt.style(map_BHWC)
        found = prompt(map_BHWC)
    mean, deviation = map_BHWC.mean((1, 2)), map_BHWC.std((1, 2))
    assert gain.abs().min() > 1e-4
    assert shift.abs().min() > 1e-4
    assert torch.allclose(found.mean((1, 2)), mean * (1 + gain) + shift, atol=1e-5)
    assert torch.allclose(found.std((1, 2)), deviation * (1 + gain).abs(), atol=1e-5)


@torch.no_grad()
def test_a_style_is_a_mix_of_prompts_weighted_by_the_map() -> None:
    torch.manual_seed(0)
    prompt, map_BHWC = moved(StylePrompt(16, prompts=2)), torch.randn(2, 6, 5, 16)
    gain, _ = prompt.style(map_BHWC)
    assert not torch.allclose(gain[0], gain[1], atol=1e-3)
    turned = map_BHWC.flip(1).roll(2, 2)
    assert torch.allclose(prompt.style(turned)[0], gain, atol=1e-6)  # where it shows it is all one
    bank, choice = prompt.get_parameter("_bank"), prompt.get_parameter("_choice.bias")
    pure = []
    for chosen in range(2):
        choice.copy_(torch.eye(2)[chosen] * 1000)
        pure.append(prompt.style(map_BHWC)[0])
        assert torch.allclose(pure[-1][0], pure[-1][1])
    choice.copy_(torch.zeros(2))
    prompt.get_parameter("_choice.weight").zero_()
    assert torch.allclose(prompt.style(map_BHWC)[0], (pure[0] + pure[1]) / 2, atol=1e-6)
    bank.copy_(bank.flip(0))
    assert torch.allclose(prompt.style(map_BHWC)[0], (pure[0] + pure[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("size", VMAMBA_SIZES)
def test_prompts_are_a_twentieth_of_the_backbone_at_most(size: str) -> None:
    with torch.device("meta"):  # a gate would only make the backbone larger
        model = QMamba(QMambaConfig(size=size, prompts=PROMPTS, has_gate=False))
    counts = {name: p.numel() for name, p in model.named_parameters()}
    prompts = sum(n for name, n in counts.items() if name.startswith("_prompts."))
    backbone = sum(n for name, n in counts.items() if name.startswith("_backbone."))
    assert 0 < prompts <= 0.05 * backbone


@torch.no_grad()
def test_a_model_without_prompts_loads_into_one_with_them() -> None:
    plain, prompted = built(PLAIN, seed=1), built(PROMPTED)
    prompted.load_weights(plain.state_dict())
    assert torch.equal(plain(pixels(2)).score_B, prompted(pixels(2)).score_B)


@torch.no_grad()
def test_a_model_with_prompts_loads_whole() -> None:
    one, other = built(PROMPTED, seed=1), built(PROMPTED)
    for module in one.modules():
        if isinstance(module, StylePrompt):
            moved(module)
    assert not torch.allclose(one(pixels(2)).score_B, other(pixels(2)).score_B, atol=1e-4)
    other.load_weights(one.state_dict())
    assert torch.equal(one(pixels(2)).score_B, other(pixels(2)).score_B)


def test_weights_that_do_not_fit_are_refused() -> None:
    prompted, weights = built(PROMPTED), built(PLAIN).state_dict()
    lost = next(name for name in weights if "_stages" in name)
    with pytest.raises(RuntimeError, match=lost):
        prompted.load_weights({n: w for n, w in weights.items() if n != lost})
    with pytest.raises(RuntimeError, match="stranger"):
        prompted.load_weights({**weights, "stranger": torch.zeros(1)})


def test_prompts_and_head_alone_have_a_gradient() -> None:
    model = built(PROMPTED)
    for module in model.modules():
        if isinstance(module, StylePrompt):
            moved(module)
    model.freeze_except("prompts")
    model(pixels(2)).score_B.sum().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning == {n for n, _ in model.named_parameters() if not n.startswith("_backbone.")}


def test_training_prompts_does_not_change_the_backbone() -> None:
    model = built(PROMPTED)
    model.freeze_except("prompts")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(2):  # the bank has no gradient before gain and shift have moved
        optimizer.zero_grad()
        model(pixels(2)).score_B.sum().backward()
        optimizer.step()
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {n for n, _ in model.named_parameters() if not n.startswith("_backbone.")}


def test_a_model_without_prompts_cannot_train_prompts() -> None:
    model = built(PLAIN)
    with pytest.raises(ValueError, match="no prompts to tune"):
        model.freeze_except("prompts")
    assert all(parameter.requires_grad for parameter in model.parameters())
