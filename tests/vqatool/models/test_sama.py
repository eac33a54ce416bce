"""The models of SAMA, tiny, and what its masks cost them."""

import json
from dataclasses import asdict
from functools import partial
from typing import cast, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vqatool.inputs.clip import Array, Clip, collate
from vqatool.inputs.sama import ImageMask, VideoMask, sama, sama_image
from vqatool.models.quality import QualityModel
from vqatool.models.sama import ScaleWeights, sama_model
from vqatool.models.shapes import MASKS, SamaConfig

# of 24 tokens a side, which windows of 3 do not cut where fragments of 8 end
SMALL = partial(SamaConfig, size="pico", grid=3)
CONFIGS = {
    "video": SMALL(),
    "video as published": SMALL(has_conv_stem=False, has_local_luma=False),
    "video with weights of scales": SMALL(has_scale_weights=True),
    "video without a gate": SMALL(has_gate=False),
    "image": SMALL(kind="image"),
    "image as published": SMALL(kind="image", has_conv_stem=False, has_local_luma=False),
}
PUBLISHED = partial(SamaConfig, size="tiny", has_conv_stem=False, has_local_luma=False)


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> SamaConfig:
    return CONFIGS[request.param]


def built(config: SamaConfig) -> QualityModel:
    torch.manual_seed(0)
    return sama_model(config).eval()


def pixels(videos: int, frames: int) -> Tensor:
    chance = torch.Generator().manual_seed(5)
    return torch.rand(videos, frames, 3, 96, 96, generator=chance)


def view(config: SamaConfig, clip: Clip) -> Array:
    if config.kind == "image":
        return sama_image(clip, mask=cast(ImageMask, config.mask), grid=config.grid)
    return sama(clip, mask=cast(VideoMask, config.mask), grid=config.grid)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_a_model_takes_any_number_of_frames(config: SamaConfig, frames: int) -> None:
    quality = built(config)(pixels(2, frames))
    assert quality.score_B.shape == (2,)
    assert quality.features_BD.shape == (2, 128)
    assert quality.frame_score_BT.shape == (2, frames)
    assert all(part.isfinite().all() for part in quality[:3])
    assert {part.dtype for part in quality[:3]} == {torch.float32}


@torch.no_grad()
def test_a_score_does_not_depend_on_batch_mates(config: SamaConfig) -> None:
    model, seen = built(config), pixels(3, 4)
    alone = torch.cat([model(seen[i : i + 1]).score_B for i in range(3)])
    assert torch.allclose(model(seen).score_B, alone, atol=1e-5)


@torch.no_grad()
def test_a_fresh_score_is_the_mean_of_its_frames(config: SamaConfig) -> None:
    quality = built(config)(pixels(2, 6))
    assert torch.allclose(quality.score_B, quality.frame_score_BT.mean(1), atol=1e-6)
    assert (quality.score_B - 0.6).abs().max() < 0.3  # a middling label


@torch.no_grad()
def test_two_frames_of_a_token_share_their_score() -> None:
    scores_T = built(CONFIGS["video"])(pixels(1, 6)).frame_score_BT[0]
    assert torch.equal(scores_T[::2], scores_T[1::2])
    assert len(scores_T.unique()) == 3


@torch.no_grad()
def test_a_change_of_two_frames_changes_their_score_most() -> None:
    model, seen = built(CONFIGS["video"]), pixels(1, 8)
    gaps = []
    for token in range(4):
        changed = seen.clone()
        changed[:, 2 * token : 2 * token + 2] = 0
        gaps.append((model(seen).frame_score_BT - model(changed).frame_score_BT)[0, ::2].abs())
    gap_of_other = torch.stack(gaps)  # token that is changed, token whose score is told
    own, all_ = gap_of_other.diagonal().mean(), gap_of_other.mean()
    assert own > 1.5 * all_


def test_every_parameter_learns(config: SamaConfig) -> None:
    model = built(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # SwinV2's blocks start as identities, weights of scales alike: both hide others
            parameter.add_(0.1 * torch.randn_like(parameter))
    quality = model(pixels(2, 4))
    (quality.score_B.sum() + quality.features_BD.square().sum()).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@torch.no_grad()
def test_bfloat16_agrees_with_float32(config: SamaConfig) -> None:
    model, seen = built(config), pixels(2, 4)
    exact = model(seen).score_B
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(seen).score_B
    assert torch.allclose(exact, rounded, atol=0.05)  # eight bits of mantissa, several layers


@torch.no_grad()
def test_weights_of_scales_are_shares_of_one() -> None:
    torch.manual_seed(0)
    weights, moment_BTD = ScaleWeights(8), torch.randn(2, 5, 8)
    assert torch.allclose(weights(moment_BTD), torch.full((2, 5), 0.2))
    for parameter in weights.parameters():
        parameter.normal_()
    found = weights(moment_BTD)
    assert torch.allclose(found.sum(1), torch.ones(2))
    assert found.std() > 0.01


@torch.no_grad()
def test_a_weighted_score_lies_between_those_of_the_frames() -> None:
    model = built(CONFIGS["video with weights of scales"])
    for name, parameter in model.named_parameters():
        if name.startswith("_weights"):
            parameter.normal_()
    quality = model(pixels(2, 8))
    assert (quality.frame_score_BT.amin(1) <= quality.score_B).all()
    assert (quality.score_B <= quality.frame_score_BT.amax(1)).all()
    assert not torch.allclose(quality.score_B, quality.frame_score_BT.mean(1), atol=1e-5)


@pytest.mark.parametrize("kind", MASKS)
def test_no_mask_costs_more_than_plain_fragments(kind: str) -> None:
    """The same parameters, the same floating point operations."""
    frames = np.random.default_rng(0).integers(256, size=(4, 3, 120, 130), dtype=np.uint8)

    def cost(mask: str) -> tuple[int, int]:
        config = SMALL(kind=kind, mask=mask)
        model, seen = built(config), view(config, Clip(frames))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.from_numpy(collate([seen])))
        return parameters(model), counter.get_total_flops()

    plain = cost("fragments")
    assert plain[1] > 1e6
    assert {mask: cost(mask) for mask in MASKS[kind]} == dict.fromkeys(MASKS[kind], plain)


def test_the_published_models_have_the_published_size_and_cost() -> None:
    with torch.device("meta"), torch.no_grad():
        video = sama_model(PUBLISHED()).eval()
        with FlopCounterMode(display=False) as counter:
            video(torch.empty(1, 32, 3, 224, 224))
        image = sama_model(PUBLISHED(kind="image", grid=8))
    assert parameters(video) == 28_078_620 + 49_281  # Video Swin-T with a gate, head
    assert parameters(image) == pytest.approx(27.58e6 + 1536 + 49_281, rel=0.001)
    assert counter.get_total_flops() / 2 == pytest.approx(88e9, rel=0.01)  # as of Video Swin-T
    # FAST-VQA tells 279 G for four clips, and leaves the products inside attention out
    products = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
    assert 4 * (counter.get_total_flops() - products) / 2 == pytest.approx(279e9, rel=0.005)


@pytest.mark.parametrize("kind", MASKS)
def test_the_small_sizes_are_small(kind: str) -> None:
    with torch.device("meta"):
        nano, pico = (
            parameters(sama_model(SamaConfig(kind=kind, size=s))) for s in ("nano", "pico")
        )
    assert 2e6 <= nano <= 7e6
    assert pico < 5e5


def test_model_and_sampler_know_the_same_masks() -> None:
    assert {"video": get_args(VideoMask), "image": get_args(ImageMask)} == MASKS


def test_a_config_survives_the_file_of_its_model(config: SamaConfig) -> None:
    assert SamaConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    "wrong",
    [{"size": "huge"}, {"kind": "sound"}, {"mask": "x"}, {"kind": "image", "mask": "sama-c"}],
)
def test_a_config_refuses_what_is_not_there(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is none of"):
        SamaConfig(**wrong)  # type: ignore[arg-type]  # all of these are texts
