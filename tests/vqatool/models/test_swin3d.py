"""Swin3D, its windows, stems and score head; attention against a loop over pairs of tokens."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from vqatool.models.shapes import SWIN_SIZES, SwinSize
from vqatool.models.swin3d import (
    Block3D,
    ConvStem3D,
    GatedAttention,
    PatchStem3D,
    ScoreMap,
    Size3,
    Stage3D,
    Swin3D,
    WindowPartition,
    scores_of_frames,
    token_pairs,
    window_for,
)

TABLE = (8, 7, 7)
CPU = torch.device("cpu")
PARTITIONS = {
    "whole windows": WindowPartition((4, 4, 6), (2, 2, 3)),
    "shifted": WindowPartition((4, 4, 6), (2, 2, 3), (1, 1, 1)),
    "shifted in space only": WindowPartition((2, 6, 6), (2, 3, 2), (0, 1, 1)),
    "windows that do not fit": WindowPartition((3, 5, 4), (2, 2, 3)),
    "shifted windows that do not fit": WindowPartition((3, 5, 7), (2, 4, 3), (1, 2, 1)),
}


@pytest.fixture(params=PARTITIONS)
def partition(request: pytest.FixtureRequest) -> WindowPartition:
    return PARTITIONS[request.param]


def places(size: Size3) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(n) for n in size)))


def perturbed(module: nn.Module) -> nn.Module:
    """Move all weights: the initial biases are too small to change a result."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def small(**settings: object) -> Swin3D:
    torch.manual_seed(0)
    return Swin3D(SWIN_SIZES["pico"], **settings).eval()  # type: ignore[arg-type]  # by name


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_published_stem_has_the_initial_weights_of_a_convolution() -> None:
    weight = small(in_channels=3, patch=(2, 4, 4), grid=4, has_conv_stem=False).get_parameter(
        "_stem._of_patch.weight"
    )
    # torch initialises convolutions uniformly in +-1 / sqrt(inputs); the linear layers have 0.02
    assert weight.std().item() == pytest.approx((3 * 3 * 2 * 4 * 4) ** -0.5, rel=0.1)


def test_the_published_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        plain, gated = (Swin3D(SWIN_SIZES["tiny"], has_gate=gate) for gate in (False, True))
    assert parameters(plain) == 27_850_470  # Video Swin-T without its head
    # a second table of 15 x 13 x 13 places for the heads of three stages
    assert parameters(gated) - parameters(plain) == 15 * 13 * 13 * (2 * 3 + 2 * 6 + 6 * 12)


@pytest.mark.parametrize(
    ("size", "min_parameters", "max_parameters"), [("nano", 2e6, 7e6), ("pico", 1e5, 5e5)]
)
def test_the_small_sizes_are_small(size: str, min_parameters: float, max_parameters: float) -> None:
    with torch.device("meta"):
        assert min_parameters <= parameters(Swin3D(SWIN_SIZES[size])) <= max_parameters


@pytest.mark.parametrize(("patch", "side"), [((2, 4, 4), 224), ((2, 6, 6), 336)])
@torch.no_grad()
def test_the_published_input_gives_the_published_map(patch: Size3, side: int) -> None:
    assert small(patch=patch)(torch.rand(1, 2, 3, side, side)).shape == (1, 128, 1, 7, 7)


def test_join_inverts_split(partition: WindowPartition) -> None:
    map_BTHWC = torch.rand(2, *partition.size, 3)
    assert torch.equal(partition.join(partition.split(map_BTHWC)), map_BTHWC)


@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize("has_gate", [False, True])
@torch.no_grad()
def test_attention_equals_a_loop_over_pairs(
    partition: WindowPartition, grid: int, has_gate: bool
) -> None:
    attention = perturbed(GatedAttention(8, 2, has_gate=has_gate))
    map_BTHWC = torch.randn(2, *partition.size, 8)
    pairs = token_pairs(partition, TABLE, grid, CPU)
    found = partition.join(attention(partition.split(map_BTHWC), pairs))
    assert torch.allclose(found, looped(attention, map_BTHWC, partition, grid), atol=1e-5)


def looped(
    attention: nn.Module, map_BTHWC: Tensor, partition: WindowPartition, grid: int
) -> Tensor:
    """Attention over the whole map, with the bias of each pair looked up by itself."""
    heads, where = 2, places(partition.size)
    tables = dict(attention.named_parameters())
    bias = torch.full((heads, len(where), len(where)), -torch.inf)
    for (i, one), (j, other) in itertools.product(enumerate(where), repeat=2):
        if not is_same_window(one, other, partition):
            continue
        t, h, w = (a - b for a, b in zip(one, other, strict=True))
        place = ((t + 7) * 13 + h + 6) * 13 + w + 6
        is_inside = "_inside" in tables and is_same_fragment(one, other, partition.size, grid)
        bias[:, i, j] = tables["_inside" if is_inside else "_across"][:, place]
    tokens = map_BTHWC.flatten(1, 3)
    qkv = tokens @ tables["_qkv.weight"].T + tables["_qkv.bias"]
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + bias).softmax(-1)
    mixed: Tensor = (weights @ v).transpose(1, 2).flatten(2)
    return (mixed @ tables["_out.weight"].T + tables["_out.bias"]).view_as(map_BTHWC)


def is_same_window(
    one: tuple[int, ...], other: tuple[int, ...], partition: WindowPartition
) -> bool:
    """Windows as in the paper: moved over the map by the shift, clipped at its borders."""
    return all(
        (a - by) // length == (b - by) // length
        for a, b, by, length in zip(one, other, partition.shift, partition.window, strict=True)
    )


def is_same_fragment(
    one: tuple[int, ...], other: tuple[int, ...], size: tuple[int, ...], grid: int
) -> bool:
    return all(
        a * grid // n == b * grid // n for a, b, n in zip(one[1:], other[1:], size[1:], strict=True)
    )


@pytest.mark.parametrize(("tokens", "grid"), [(8, 4), (14, 7), (10, 4), (9, 3)])
def test_the_gate_knows_the_fragments_of_the_real_grid(tokens: int, grid: int) -> None:
    partition = WindowPartition((2, tokens, tokens), (2, 4, 4), (0, 2, 2))
    pairs = token_pairs(partition, TABLE, grid, CPU)
    number = torch.arange(1, 1 + 2 * tokens * tokens).view(partition.size)
    where = [(-1, -1, -1), *places(partition.size)]
    pair_VNN = pairs.is_across_VNN
    assert pair_VNN.dtype == torch.bool  # a distance of two fragments does not double the bias
    for window, numbers in enumerate(partition.split_ids(number).tolist()):
        for (i, a), (j, b) in itertools.product(enumerate(numbers), repeat=2):
            if a and b:
                is_same = is_same_fragment(where[a], where[b], partition.size, grid)
                assert pair_VNN[window, i, j] == (not is_same)


@torch.no_grad()
def test_with_two_equal_tables_the_gate_changes_nothing() -> None:
    attention = perturbed(GatedAttention(8, 2, has_gate=True))
    plain = GatedAttention(8, 2, has_gate=False).eval()
    weights = attention.state_dict()
    plain.load_state_dict({name: value for name, value in weights.items() if name != "_inside"})
    partition = WindowPartition((2, 4, 4), (2, 4, 4))
    pairs, windows = token_pairs(partition, TABLE, 2, CPU), torch.randn(3, 32, 8)
    assert not torch.allclose(attention(windows, pairs), plain(windows, pairs), atol=1e-2)
    weights["_inside"].copy_(weights["_across"])
    assert torch.allclose(attention(windows, pairs), plain(windows, pairs), atol=1e-6)


@torch.no_grad()
def test_the_second_block_of_a_stage_mixes_windows_of_the_first() -> None:
    def reached(blocks: int) -> set[tuple[int, ...]]:
        stage = perturbed(Stage3D(8, 1, [0.0] * blocks, has_gate=True))
        map_BTHWC = torch.randn(1, 1, 8, 8, 8)
        moved = map_BTHWC.clone()
        moved[0, 0, 3, 3] = torch.randn(8)  # the norm removes a constant
        change = (stage(moved, (1, 4, 4), 2) - stage(map_BTHWC, (1, 4, 4), 2)).abs().amax(-1)
        return {(h, w) for _, _, h, w in change.gt(1e-6).nonzero().tolist()}

    assert reached(1) == set(itertools.product(range(4), repeat=2))
    # the shifted window 2 to 5 of the second block overlaps that of the first
    assert reached(2) == set(itertools.product(range(6), repeat=2))


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 40, 50), (5, 96, 33), (9, 7, 64)])
@pytest.mark.parametrize("has_conv_stem", [False, True])
def test_any_number_of_frames_and_any_side_is_accepted(shape: Size3, has_conv_stem: bool) -> None:
    frames, height, width = shape
    model = small(has_conv_stem=has_conv_stem, grid=3)
    map_BDTHW = model(torch.rand(1, frames, 3, height, width))
    wanted = (math.ceil(frames / 2), math.ceil(height / 32), math.ceil(width / 32))
    assert map_BDTHW.shape == (1, 128, *wanted)
    assert map_BDTHW.isfinite().all()


@torch.no_grad()
def test_the_last_of_an_odd_number_of_frames_is_repeated() -> None:
    model, pixels = small(), torch.rand(1, 5, 3, 32, 32)
    assert torch.allclose(model(pixels), model(torch.cat([pixels, pixels[:, -1:]], 1)), atol=1e-6)


@torch.no_grad()
def test_the_grid_of_the_canvas_changes_the_result() -> None:
    pixels = torch.rand(1, 2, 3, 64, 64)
    one, other = (perturbed(small(grid=grid))(pixels) for grid in (2, 4))
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("tokens", "window"),
    [
        ((16, 56, 56), (8, 7, 7)),
        ((8, 32, 32), (4, 4, 4)),  # FasterVQA's 16 frames of 128 px
        ((16, 40, 40), (8, 5, 5)),  # and 32 of 160 px
        ((32, 80, 80), (8, 7, 7)),
        ((2, 32, 32), (2, 4, 4)),  # in a short run each token attends to all times
        ((1, 1, 1), (1, 1, 1)),
    ],
)
def test_windows_shrink_with_the_input(tokens: Size3, window: Size3) -> None:
    assert window_for(tokens) == window


@torch.no_grad()
def test_a_map_does_not_depend_on_batch_mates() -> None:
    model, pixels = perturbed(small(grid=2)), torch.rand(3, 4, 3, 64, 64)
    alone = torch.cat([model(pixels[i : i + 1]) for i in range(3)])
    assert torch.allclose(model(pixels), alone, atol=1e-5)


@pytest.mark.parametrize("has_conv_stem", [False, True])
def test_every_parameter_learns(has_conv_stem: bool) -> None:
    size = SwinSize(embed_dim=8, depths=(2, 2, 1, 1), heads=(1, 1, 2, 2))
    # fragments of 4, 2 and 1 tokens, windows of 3: both tables are used in every block
    model = perturbed(Swin3D(size, grid=5, has_conv_stem=has_conv_stem))
    model(torch.rand(1, 4, 3, 80, 80)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_scores_of_tokens_keep_fine_steps_in_bfloat16() -> None:
    torch.manual_seed(0)
    head, map_BDTHW = ScoreMap(16).eval(), torch.randn(1, 16, 2, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        score_BTHW = head(map_BDTHW)
    assert not torch.equal(score_BTHW, score_BTHW.bfloat16().float())


@torch.no_grad()
def test_bfloat16_agrees_with_float32() -> None:
    model, pixels = small(), torch.rand(1, 4, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(pixels)
    # of unit spread after the last norm; eight bits of mantissa, several layers
    assert (model(pixels) - rounded).abs().mean() < 0.02


@torch.no_grad()
def test_training_skips_a_block_for_some_videos_and_keeps_the_mean() -> None:
    block = Block3D(8, 1, 0.25, has_gate=False)
    partition = WindowPartition((1, 2, 2), (1, 2, 2))
    pairs = token_pairs(partition, TABLE, 1, CPU)
    video = torch.randn(1, 1, 2, 2, 8)
    torch.manual_seed(0)
    one = block.eval()(video, partition, pairs)
    many = block.train()(video.expand(4000, -1, -1, -1, -1), partition, pairs)
    is_skipped = (many == video).flatten(1).all(1)
    assert is_skipped.float().mean().item() == pytest.approx(0.25**2, abs=0.02)
    assert torch.allclose(many.mean(0), one[0], atol=0.05)


@torch.no_grad()
def test_each_token_has_a_score_of_its_own() -> None:
    torch.manual_seed(0)
    head, map_BDTHW = ScoreMap(8).eval(), torch.randn(1, 8, 2, 3, 3)
    before = head(map_BDTHW)
    map_BDTHW[0, :, 1, 2, 0] += 1
    (changed,) = (head(map_BDTHW) - before).nonzero().tolist()
    assert changed == [0, 1, 2, 0]


def test_the_published_head_is_small() -> None:
    assert parameters(ScoreMap(768)) == 768 * 64 + 64 + 64 + 1


def test_frames_have_the_score_of_their_token() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    assert scores_of_frames(scores, 2, 5).tolist() == [[1, 1, 2, 2, 3]]


PATCH = (2, 4, 4)
Stem = type[ConvStem3D] | type[PatchStem3D]
either = pytest.mark.parametrize("stem", [ConvStem3D, PatchStem3D])


def test_the_published_stem_equals_a_3d_convolution() -> None:
    torch.manual_seed(0)
    stem, pixels = PatchStem3D(4, 24, PATCH), torch.rand(2, 4, 6, 16, 24)
    embed = stem.get_submodule("_of_patch")
    assert isinstance(embed, nn.Conv2d)
    weight = embed.weight.unflatten(1, (2, 4)).transpose(1, 2)
    tokens = nn.functional.conv3d(pixels, weight, embed.bias, stride=PATCH)
    expected = nn.functional.layer_norm(tokens.movedim(1, -1), (24,))
    torch.testing.assert_close(stem(pixels), expected, atol=1e-5, rtol=1e-4)


@either
def test_a_token_depends_only_on_the_frames_of_its_patch(stem: Stem) -> None:
    torch.manual_seed(0)
    made, pixels = stem(4, 24, PATCH), torch.rand(2, 4, 6, 16, 24)
    other = pixels.clone()
    other[:, :, 3] = 0.5
    moved = (made(other) != made(pixels)).any(-1).flatten(2).any(-1)
    assert moved.tolist() == [[False, True, False]] * 2
    assert made(pixels).shape == (2, 3, 4, 6, 24)


@either
def test_bfloat16_gradients_point_where_float32_ones_do(stem: Stem) -> None:
    # at this size convolutions over time crashed on CPUs with AMX
    torch.manual_seed(0)
    made, pixels = stem(4, 16, PATCH), torch.rand(2, 4, 2, 128, 128)
    aim = torch.randn(made(pixels).shape)
    directions = []
    for is_rounded in (False, True):
        made.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_rounded):
            loss = (made(pixels).float() * aim).mean()
        loss.backward()
        slopes = [p.grad.flatten() for p in made.parameters() if p.grad is not None]
        directions.append(torch.cat(slopes))
    assert nn.functional.cosine_similarity(directions[0], directions[1], dim=0) > 0.99
