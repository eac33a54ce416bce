from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqatool.models.backbones import layer_scale
from vqatool.models.internvideo import (
    Attention,
    AttentivePool,
    Block,
    InternVideo,
    RMSNorm,
    interpolate_grid,
    published_config,
    sincos_positions,
)
from vqatool.models.shapes import InternVideoConfig

CONFIGS = {
    "ours": InternVideoConfig(size="pico", grid=2, patch=28, frames=3),
    "as published": InternVideoConfig(
        size="pico", grid=1, patch=56, has_conv_stem=False, has_local_luma=False
    ),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> InternVideoConfig:
    return CONFIGS[request.param]


def built(config: InternVideoConfig) -> InternVideo:
    """A model whose parts all matter: as it starts, scales and head hide them."""
    torch.manual_seed(0)
    model = InternVideo(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def view(videos: int, frames: int = 3, height: int = 56, width: int = 56) -> Tensor:
    chance = torch.Generator().manual_seed(5)
    return torch.rand(videos, frames, 3, height, width, generator=chance)


def parameters(config: InternVideoConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in InternVideo(config).parameters())


@pytest.mark.parametrize(
    ("size", "count"), [("small", 23.0e6), ("base", 89.4e6), ("large", 308.9e6), ("1b", 1020.7e6)]
)
def test_a_published_size_has_the_published_parameters(size: str, count: float) -> None:
    assert parameters(published_config(size)) == pytest.approx(count, rel=0.005)


def test_our_sizes_are_small() -> None:
    assert 2e6 <= parameters(InternVideoConfig(size="nano")) <= 7e6
    assert parameters(InternVideoConfig(size="pico")) < 1e6


def test_the_small_student_sees_2049_tokens_and_gives_768_features() -> None:
    with torch.device("meta"):
        model = InternVideo(published_config("small"))
        seen: list[torch.Size] = []
        model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
        quality = model(torch.empty(2, 8, 3, 224, 224))
    assert seen == [(2, 2049, 384)]
    assert quality.features_BD.shape == (2, 768)
    assert quality.score_B.shape == (2,)
    assert quality.frame_score_BT.shape == (2, 8)


@torch.no_grad()
def test_a_model_gives_a_score_features_and_frame_scores(config: InternVideoConfig) -> None:
    model = built(config)
    quality = model(view(2))
    assert quality.score_B.shape == (2,)
    assert quality.features_BD.shape == (2, model.feature_width) == (2, 64)
    assert quality.frame_score_BT.shape == (2, 3)
    assert all(part.isfinite().all() and part.dtype == torch.float32 for part in quality[:3])


@torch.no_grad()
def test_a_new_model_says_a_middling_score_of_everything() -> None:
    quality = InternVideo(CONFIGS["as published"]).eval()(view(2))
    assert torch.allclose(quality.score_B, torch.tensor(0.6), atol=0.01)
    assert quality.score_B[0] != quality.score_B[1]  # the head is small, not nothing


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 8, 13])
def test_a_model_takes_any_number_of_frames(config: InternVideoConfig, frames: int) -> None:
    assert built(config)(view(1, frames)).score_B.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(14, 14), (84, 84), (42, 70)])
def test_a_side_is_any_multiple_of_14(config: InternVideoConfig, height: int, width: int) -> None:
    assert built(config)(view(1, 2, height, width)).score_B.isfinite().all()


def test_a_side_that_tokens_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="60x56 px"):
        built(CONFIGS["ours"])(view(1, 1, 56, 60))
    with pytest.raises(ValueError, match="4 patches of 32 px"):
        InternVideoConfig(patch=32)


def test_a_size_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'giant' is none of 1b"):
        InternVideoConfig(size="giant")


@torch.no_grad()
def test_a_score_does_not_depend_on_batch_mates(config: InternVideoConfig) -> None:
    model, seen = built(config), view(3)
    together = model(seen)
    for i in range(3):
        alone = model(seen[i : i + 1])
        assert torch.allclose(together.score_B[i], alone.score_B, atol=1e-4)
        assert torch.allclose(together.frame_score_BT[i], alone.frame_score_BT[0], atol=1e-4)


@torch.no_grad()
def test_a_picture_has_one_score(config: InternVideoConfig) -> None:
    quality = built(config)(view(2, frames=1))
    assert torch.allclose(quality.score_B, quality.frame_score_BT[:, 0], atol=1e-5)


@torch.no_grad()
def test_a_frame_changes_its_own_score_most() -> None:
    model, seen = built(CONFIGS["ours"]), view(1, frames=4)
    changed = seen.clone()
    changed[:, 2] = 0.5
    gaps = model(seen).frame_score_BT - model(changed).frame_score_BT
    assert gaps.abs().argmax() == 2


@torch.no_grad()
def test_the_order_of_frames_counts(config: InternVideoConfig) -> None:
    model, seen = built(config), view(1)
    assert not torch.allclose(model(seen).score_B, model(seen.flip(1)).score_B, atol=1e-4)


def test_every_parameter_learns(config: InternVideoConfig) -> None:
    model = built(config)
    quality = model(view(2, frames=3))
    (quality.score_B.sum() + quality.features_BD.square().sum()).backward()
    # what is added to all keys alike adds the same to all of a query's answers: softmax is blind
    blind = {"clip_projector.k.bias", "clip_projector.norm1_k.bias"}
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still <= blind


@torch.no_grad()
def test_bfloat16_agrees_with_float32_and_keeps_fine_steps(config: InternVideoConfig) -> None:
    model, seen = built(config), view(4)
    exact = model(seen).score_B
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(seen).score_B
    # eight bits of mantissa, several layers
    assert torch.allclose(exact, rounded, atol=0.05 * exact.abs().max().item())
    assert (rounded != rounded.bfloat16().float()).any()


@torch.no_grad()
def test_weights_put_into_another_model_give_the_same_scores(config: InternVideoConfig) -> None:
    model, other = built(config), InternVideo(config).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(view(1)).score_B, other(view(1)).score_B)


@torch.no_grad()
@pytest.mark.parametrize("times", [1, 4])
def test_weights_for_other_frames_and_sides_give_the_same_scores_there(
    config: InternVideoConfig, times: int
) -> None:
    frames = times * config.frames
    other = replace(config, grid=1, patch=84, frames=frames)
    known, model = built(config), built(other)
    pixels = view(2, frames=frames, height=84, width=84)
    model.init_from(known)
    assert model.grid != known.grid
    torch.testing.assert_close(model(pixels).score_B, known(pixels).score_B)
    with pytest.raises(RuntimeError, match="stranger"):
        model.load_weights({**model.state_dict(), "stranger": torch.zeros(1)})


def test_positions_of_no_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="frames must be 1 or more, got 0"):
        InternVideoConfig(frames=0)


def test_rms_norm_is_the_worked_value_and_keeps_the_mean() -> None:
    norm = RMSNorm(2)
    # root mean square of 3 and 4: sqrt(12.5)
    assert torch.allclose(norm(torch.tensor([3.0, 4.0])), torch.tensor([0.848528, 1.131371]))
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 1.0]))
    assert torch.allclose(norm(torch.ones(2)), torch.tensor([2.0, 1.0]))
    assert norm(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):  # torch warns of the two types otherwise
        assert norm(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert norm(torch.zeros(2)).isfinite().all()


@torch.no_grad()
def test_attention_equals_the_formula_with_norms_before_the_heads() -> None:
    torch.manual_seed(0)
    attention, x = Attention(8, heads=2), torch.randn(1, 5, 8)
    attention.q_norm.weight.copy_(torch.rand(8))
    q, k, v = (x @ part.T for part in attention.qkv.weight.chunk(3))
    q, k = F.rms_norm(q, (8,), eps=1e-6) * attention.q_norm.weight, F.rms_norm(k, (8,), eps=1e-6)
    heads = [
        (q[..., part] @ k[..., part].mT / 2).softmax(-1) @ v[..., part]
        for part in (slice(0, 4), slice(4, 8))
    ]
    wanted = attention.proj(torch.cat(heads, dim=-1))
    assert torch.allclose(attention(x), wanted, atol=1e-6)
    assert attention.qkv.bias is None


@torch.no_grad()
def test_the_pooling_asks_by_the_mean_of_all_tokens() -> None:
    torch.manual_seed(0)
    pool, x = AttentivePool(8, features=6, heads=1), torch.randn(2, 5, 8)
    query = pool.q(pool.norm1_q(x.mean(1)))
    share = (pool.k(pool.norm1_k(x)) @ query[..., None]).squeeze(-1).div(8**0.5).softmax(1)
    asked = (share[..., None] * pool.v(pool.norm1_v(x))).sum(1)
    assert torch.allclose(pool(x), pool.proj(asked), atol=1e-6)


def test_a_small_initial_scale_makes_a_block_almost_the_identity() -> None:
    assert layer_scale(3, 1e-5)(torch.ones(3)).tolist() == pytest.approx([1e-5] * 3)
    block = Block(16, 2, 64, initial_scale=1e-5, drop_path_rate=0).eval()
    x = torch.randn(1, 4, 16)
    assert 0 < (block(x) - x).abs().max() < 1e-3


@torch.no_grad()
def test_drop_path_drops_a_branch_of_whole_videos_and_scales_the_others() -> None:
    torch.manual_seed(0)
    block = Block(16, 2, 64, initial_scale=1.0, drop_path_rate=0.25)
    block.attn.register_forward_hook(lambda *_: torch.ones(4000, 1, 16))
    block.mlp.register_forward_hook(lambda *_: torch.zeros(4000, 1, 16))
    kept = block(torch.zeros(4000, 1, 16))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (kept == kept[..., :1]).all()
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert (block.eval()(torch.zeros(4000, 1, 16)) == 1).all()


def test_the_last_block_is_dropped_most_and_the_first_never() -> None:
    blocks = InternVideo(InternVideoConfig(size="pico", drop_path=0.2)).blocks
    assert [block.get_submodule("drop_path").drop_prob for block in blocks] == pytest.approx(
        [0, 0.1, 0.2]
    )


def test_positions_are_sines_and_cosines_of_frame_column_and_row() -> None:
    at = sincos_positions((2, 3, 4), 16).view(2, 3, 4, 16)
    frame, column, row = at[1, 2, 3].split((4, 6, 6))
    # frames have two waves, columns and rows three each, from 1 down towards 1 / 10000 a place
    waves = torch.tensor([1, 0.01])
    slow = (1, 10000 ** (-1 / 3), 10000 ** (-2 / 3))
    assert torch.allclose(frame, torch.cat([waves.sin(), waves.cos()]), atol=1e-6)
    for found, place in ((column, 3), (row, 2)):
        angle = place * torch.tensor(slow)
        assert torch.allclose(found, torch.cat([angle.sin(), angle.cos()]), atol=1e-6)


def test_a_model_starts_from_these_positions_and_learns_them() -> None:
    model = InternVideo(CONFIGS["ours"])
    assert torch.equal(model.pos_embed[0, 1:], sincos_positions((3, 4, 4), 64))
    assert not model.pos_embed[0, 0].any()  # the class token is nowhere
    assert model.pos_embed.requires_grad


def test_positions_are_stretched_along_each_axis_alone() -> None:
    time, row, column = torch.meshgrid(*(torch.arange(8.0) for _ in range(3)), indexing="ij")
    ramps_ND = torch.stack([time, row, column], dim=-1).flatten(0, 2)
    assert torch.equal(interpolate_grid(ramps_ND, (8, 8, 8), (8, 8, 8)), ramps_ND)
    found = interpolate_grid(ramps_ND, (8, 8, 8), (2, 4, 16)).view(2, 4, 16, 3)
    # middles of equal parts: two of eight frames are at 1.5 and 5.5
    assert torch.allclose(found[:, 0, 0, 0], torch.tensor([1.5, 5.5]))
    assert torch.allclose(found[0, 1:3, 0, 1], torch.tensor([2.5, 4.5]), atol=1e-5)
    assert torch.allclose(found[0, 0, 5:8, 2], torch.tensor([2.25, 2.75, 3.25]), atol=0.05)
    assert torch.allclose(found[..., 0], found[:, :1, :1, 0].expand(2, 4, 16), atol=1e-5)


def test_the_model_learns_the_noise_level_of_pictures() -> None:
    torch.manual_seed(0)
    model = InternVideo(InternVideoConfig(size="pico", grid=1, patch=28, frames=1))
    noise_B = torch.linspace(0, 0.5, 8)
    smooth = torch.rand(8, 1, 3, 4, 4).flatten(0, 1)
    pictures = F.interpolate(smooth, 28, mode="bilinear")[:, None]
    pictures = pictures + noise_B.view(8, 1, 1, 1, 1) * torch.randn(8, 1, 3, 28, 28)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(40):
        loss = F.mse_loss(model(pictures).score_B, 1 - noise_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found_B = model.eval()(pictures).score_B
    assert torch.corrcoef(torch.stack([found_B, -noise_B]))[0, 1] > 0.95
