"""Every model, tiny, through the same promises."""

import functools

import numpy as np
import pytest
import torch
from torch import Tensor

from vqatool.inference.card import ModelCard
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.inputs.bitstream import BitstreamFeatures
from vqatool.inputs.clip import Clip, collate
from vqatool.methods import Method, recipe_for
from vqatool.methods.recipe import Recipe
from vqatool.models.backbones import SwinPyramid
from vqatool.models.coarse_to_fine import StageFusion, mean_and_deviation
from vqatool.models.quality import PixelInput, QualityModel, local_contrast
from vqatool.models.shapes import SWIN_SIZES

SHAPES = {
    "conv stem": {"size": "pico", "features": 32},
    "patch stem, no luma": {
        "size": "pico",
        "features": 32,
        "has_conv_stem": False,
        "has_local_luma": False,
    },
    "pixels alone": {"size": "pico", "features": 32, "has_stream": False},
    "no bands": {"size": "pico", "features": 32, "has_bands": False},
    "no motion": {"size": "pico", "features": 32, "has_motion": False},
    "spread": {"size": "pico", "features": 32, "has_spread": True},
    "figure noise": {"size": "pico", "features": 32, "figure_noise": 0.3},
    "probing": {"size": "pico", "features": 32, "has_probing": True},
    "probing, no stream": {
        "size": "pico",
        "features": 32,
        "has_probing": True,
        "has_stream": False,
    },
}


@pytest.fixture(params=SHAPES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return recipe_for(Method.COARSE_TO_FINE, SHAPES[request.param])


def built(recipe: Recipe) -> QualityModel:
    torch.manual_seed(0)
    return recipe.build().eval()


def views(recipe: Recipe, videos: int, frames: int = 3) -> list[Tensor]:
    """Views of noise; made once, because deep features take longer than these models."""
    made = _every_view(recipe.shape["grid"], recipe.shape["patch"], videos, frames)
    return [made[each.name].clone() for each in recipe.inputs]


@functools.cache
def _every_view(grid: int, patch: int, videos: int, frames: int) -> dict[str, Tensor]:
    """The views that a model may take, by name: all the shapes above take some of them."""
    recipe = recipe_for(Method.COARSE_TO_FINE, {**SHAPES["probing"], "grid": grid, "patch": patch})
    chance = np.random.default_rng(5)
    shape, facts = (2 * frames, 3, 140, 180), len(BitstreamFeatures._fields)
    seen = [
        Clip(
            chance.integers(256, size=shape, dtype=np.uint8),
            2,
            BitstreamFeatures(*chance.random(facts).tolist()),
        )
        for _ in range(videos)
    ]
    return {
        each.name: torch.from_numpy(collate([each.view(clip, generator=None) for clip in seen]))
        for each in recipe.inputs
    }


@torch.no_grad()
def test_a_model_gives_a_score_and_features_for_each_video(recipe: Recipe) -> None:
    quality = built(recipe)(*views(recipe, 2))
    assert quality.score_B.shape == (2,)
    assert quality.features_BD.shape[0] == 2
    assert quality.features_BD.ndim == 2
    assert quality.score_B.isfinite().all()
    assert quality.score_B.dtype == torch.float32


@torch.no_grad()
def test_the_output_by_pixels_only_does_not_depend_on_bitstream_features() -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, SHAPES["conv stem"])
    model = built(recipe)
    *pixels, stream = views(recipe, 2)
    one, other = (model.training_output(*pixels, values) for values in (stream, stream + 1))
    assert one.pixels_only is not None
    assert other.pixels_only is not None
    assert torch.equal(one.pixels_only.score_B, other.pixels_only.score_B)
    assert not torch.equal(one.quality.score_B, other.quality.score_B)
    assert torch.equal(one.quality.score_B, model(*pixels, stream).score_B)
    unknown = model(*pixels, torch.zeros_like(stream))
    assert torch.allclose(one.pixels_only.score_B, unknown.score_B, atol=1e-5)


@torch.no_grad()
def test_the_output_by_pixels_only_still_depends_on_probing() -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, SHAPES["probing"])
    model = built(recipe)
    pixels, motion, probing, deep, stream = views(recipe, 2)
    scores = []
    for figures in (probing, probing + 1):
        output = model.training_output(pixels, motion, figures, deep, stream)
        assert output.pixels_only is not None
        scores.append(output.pixels_only.score_B)
    assert not torch.equal(*scores)


def test_the_spread_trains_no_other_layer() -> None:
    model = built(recipe_for(Method.COARSE_TO_FINE, SHAPES["spread"]))
    quality = model(*views(recipe_for(Method.COARSE_TO_FINE, SHAPES["spread"]), 2))
    assert quality.spread_B is not None
    assert (quality.spread_B > 0).all()
    quality.spread_B.sum().backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"_spread"}


def test_a_model_learns_the_quality_of_patches_from_a_fourth_channel() -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, SHAPES["spread"])
    model = built(recipe)
    pixels, *others = views(recipe, 2)
    assert model.training_output(pixels, *others).tiles is None
    channel = torch.rand(pixels[:, :, :1].shape).clamp_min(1 / 255)
    output = model.training_output(torch.cat([pixels, channel], dim=2), *others)
    assert output.tiles is not None
    assert output.tiles.score_NP.shape == output.tiles.label_NP.shape
    first = channel[0, 0, 0, :32, :32].mean()
    assert output.tiles.label_NP[0, 0] == pytest.approx(float(255 * first - 1) / 254, abs=1e-5)
    assert torch.equal(output.quality.score_B, model(pixels, *others).score_B)
    output.tiles.score_NP.sum().backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"_frames", "_tiles"}


@torch.no_grad()
def test_a_model_without_bitstream_features_has_one_output() -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, SHAPES["pixels alone"])
    assert built(recipe).training_output(*views(recipe, 2)).pixels_only is None


@torch.no_grad()
def test_motion_of_one_frame_changes_the_score_of_that_frame_most() -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, SHAPES["conv stem"])
    model, (pixels, motion, *others) = built(recipe), views(recipe, 1)
    moved = motion.clone()
    moved[:, 1] += 5
    still, moving = (model(pixels, each, *others).frame_score_BT for each in (motion, moved))
    gaps = still - moving
    assert gaps.abs().argmax() == 1


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 8, 13])
def test_a_model_takes_any_number_of_frames(recipe: Recipe, frames: int) -> None:
    assert built(recipe)(*views(recipe, 1, frames)).score_B.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("side", [64, 100, 128])
def test_a_side_need_not_fit_the_windows(side: int) -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, {**SHAPES["conv stem"], "grid": 1, "patch": side})
    assert built(recipe)(*views(recipe, 1)).score_B.isfinite().all()


@torch.no_grad()
def test_a_score_does_not_depend_on_batch_mates(recipe: Recipe) -> None:
    model, seen = built(recipe), views(recipe, 3)
    together = model(*seen).score_B
    alone = torch.cat([model(*(view[i : i + 1] for view in seen)).score_B for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_every_parameter_learns(recipe: Recipe) -> None:
    model = built(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            # SwinV2's blocks start as identities, which hides them from the gradient
            parameter.add_(0.1 * torch.randn_like(parameter))
    quality = model(*views(recipe, 2))
    spread = 0.0 if quality.spread_B is None else quality.spread_B.sum()
    (quality.score_B.sum() + quality.features_BD.square().sum() + spread).backward()
    learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    still = [n for n, p in learned if p.grad is None or not p.grad.any()]
    assert not still


@torch.no_grad()
def test_bfloat16_agrees_with_float32(recipe: Recipe) -> None:
    model, seen = built(recipe), views(recipe, 2)
    exact = model(*seen).score_B
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*seen).score_B
    assert torch.allclose(exact, rounded, atol=0.05)  # eight bits of mantissa, several layers


@torch.no_grad()
def test_a_saved_model_scores_as_before(recipe: Recipe, tmp_path) -> None:
    model, seen = built(recipe), views(recipe, 2)
    card = ModelCard(
        method="coarse-to-fine", shape=recipe.shape, clip_frames=3, label="vmaf_v0.6.1"
    )
    save_checkpoint(Checkpoint(card, model.state_dict()), tmp_path / "m.safetensors")
    loaded = load_checkpoint(tmp_path / "m.safetensors").model()
    # weights are stored in half precision
    assert torch.allclose(model(*seen).score_B, loaded(*seen).score_B, atol=0.01)


@torch.no_grad()
@pytest.mark.parametrize("stage", range(4))
def test_every_stage_of_the_backbone_counts(stage: int) -> None:
    torch.manual_seed(0)
    fusion = StageFusion([4, 8, 16, 32], 32).eval()
    maps = [torch.rand(1, 4 * 2**s, 32 // 2**s, 32 // 2**s) for s in range(4)]
    whole = fusion(maps)
    maps[stage] = torch.zeros_like(maps[stage])
    assert (fusion(maps) - whole).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("has_conv_stem", [True, False])
def test_the_backbone_gives_four_maps_finest_first(has_conv_stem: bool) -> None:
    pyramid = SwinPyramid(
        SWIN_SIZES["pico"], in_channels=4, side_px=128, has_conv_stem=has_conv_stem
    )
    shapes = [tuple(m.shape) for m in pyramid(torch.rand(2, 4, 128, 128))]
    assert shapes == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8), (2, 128, 4, 4)]


def test_the_published_size_has_the_published_parameters() -> None:
    tiny = SwinPyramid(SWIN_SIZES["tiny"], in_channels=3, side_px=256, has_conv_stem=False)
    count = sum(p.numel() for p in tiny.parameters())
    assert count == pytest.approx(27.58e6, rel=0.001)  # swinv2_tiny_window8_256 without a head


def test_the_default_size_is_small() -> None:
    count = sum(p.numel() for p in recipe_for(Method.COARSE_TO_FINE).build().parameters())
    assert 5e6 <= count <= 10e6


def test_mean_and_deviation_are_those_of_each_cell() -> None:
    map_BCHW = torch.tensor([[1.0, 3.0, 5.0, 5.0]]).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    cells = mean_and_deviation(map_BCHW, 2)
    assert cells.shape == (1, 4, 2)
    assert torch.allclose(cells[0, 0], torch.tensor([2.0, 1.0]), atol=0.01)
    assert torch.allclose(cells[0, 1], torch.tensor([5.0, 0.0]), atol=0.01)


def test_local_contrast_forgets_brightness_and_keeps_texture() -> None:
    torch.manual_seed(0)
    texture = 20 * torch.rand(1, 1, 32, 32)
    plain, brighter = local_contrast(texture, 7), local_contrast(texture + 100, 7)
    assert torch.allclose(plain, brighter, atol=1e-2)
    assert plain.std() > 0.5
    assert local_contrast(torch.full((1, 1, 16, 16), 80.0), 7).abs().max() < 1e-3


def test_colour_can_go_without_local_luma() -> None:
    pixels = torch.rand(2, 3, 16, 16)
    assert PixelInput(has_local_luma=False)(pixels).shape == (2, 3, 16, 16)
    assert PixelInput()(pixels).shape == (2, 4, 16, 16)
