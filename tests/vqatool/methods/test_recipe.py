"""Recipes: each method learns, and its loss terms follow their settings."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM
from vqatool.inputs.clip import Array, Clip, collate
from vqatool.inputs.deep_features import NUM_DEEP_FEATURES
from vqatool.inputs.motion import NUM_MOTION_FEATURES
from vqatool.inputs.probing import NUM_PROBING_FEATURES
from vqatool.methods import Method, recipe_for
from vqatool.methods.recipe import LossWeights
from vqatool.metrics import srcc
from vqatool.models.quality import Quality, TileOutput, TrainingOutput

METHOD = Method.COARSE_TO_FINE
SHAPE: dict[Method, dict[str, Any]] = {
    Method.COARSE_TO_FINE: {"size": "pico", "features": 32, "grid": 2},
    Method.SAMA: {"size": "pico", "grid": 2},
    Method.ZOOM_VQA: {
        "size": "pico", "crop_px": 64, "still_short_px": 128, "grid": 2, "run_short_px": 128,
        "burst_frames": 2,
    },
    Method.Q_MAMBA: {"size": "pico", "patch": 64},
    Method.INTERN_VQA: {"size": "pico", "grid": 2},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", Method)
def test_a_method_learns_to_order_blur(method: Method) -> None:
    torch.manual_seed(0)
    recipe = recipe_for(method, SHAPE[method])
    pictures = 255 * torch.rand(2, 3, 128, 128)
    levels = torch.arange(4)
    frames = recipe.frame_group.num_frames
    clips = [
        Clip(np.stack([_blurred(picture, int(level))] * frames), frames)
        for level in levels
        for picture in pictures
    ]
    label = 1 - levels.repeat_interleave(2) / 4
    group = levels.repeat_interleave(2)
    model = recipe.build()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    views = [
        torch.from_numpy(collate([view(clip, generator=None) for clip in clips]))
        for view in recipe.views
    ]
    found = 0.0
    for step in range(1, 41):
        terms = recipe.loss(
            model.training_output(*views), label, group, torch.full((8, 1), torch.nan)
        )
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        if step % 10 == 0:
            with torch.no_grad():
                scores = model.eval()(*views).score_B
            found = srcc(scores.tolist(), label.tolist())
            if found > 0.9:
                break
            model.train()
    assert found > 0.9


@pytest.mark.parametrize("method", Method)
def test_a_method_has_an_arxiv_number(method: Method) -> None:
    year, _, number = method.paper.partition(".")
    assert len(year) == 4
    assert number.isdigit()


def test_a_term_without_weight_is_zero() -> None:
    recipe = recipe_for(
        Method.COARSE_TO_FINE,
        SHAPE[Method.COARSE_TO_FINE],
        LossWeights(plcc=0, group=0, rank=0, frame=0, tile=0, pixels=0),
    )
    widths = (NUM_PROBING_FEATURES, NUM_DEEP_FEATURES, len(UNKNOWN_BITSTREAM))
    shapes = ((4, 2, NUM_MOTION_FEATURES), *((4, width) for width in widths))
    views = [torch.rand(4, 2, 4, 64, 64), *map(torch.zeros, shapes)]
    labels, groups = torch.tensor([0.1, 0.9, 0.2, 0.7]), torch.tensor([0, 0, 1, 1])
    terms = recipe.loss(recipe.build().training_output(*views), labels, groups, torch.rand(4, 2))
    quality = terms.pop("quality")
    del terms["spread"]  # it trains layers of its own, whatever the weights of the others are
    assert quality > 0
    assert {name: term.item() for name, term in terms.items()} == {
        "plcc": 0, "group": 0, "rank": 0, "frame": 0, "tile": 0, "pixels": 0
    }  # fmt: skip


@torch.no_grad()
def test_no_output_of_an_unfitted_model_depends_on_views_that_no_step_learns_from() -> None:
    recipe = recipe_for(METHOD, SHAPE[METHOD])
    (unused,) = [number for number, each in enumerate(recipe.inputs) if each.unused]
    clips = [Clip(np.random.default_rng(9).integers(256, size=(4, 3, 96, 96), dtype=np.uint8), 2)]
    views = [
        torch.from_numpy(collate([view(clip, generator=None) for clip in clips]))
        for view in recipe.step_views
    ]
    assert views[unused].shape == (1, recipe.inputs[unused].unused)
    others = [torch.randn_like(v) if n == unused else v for n, v in enumerate(views)]
    model = recipe.build()
    for mode in (True, False):
        scores = []
        for each in (views, others):
            torch.manual_seed(4)  # of dropout
            output = model.train(mode).training_output(*each)
            assert output.pixels_only
            scores.append(torch.cat([output.quality.score_B, output.pixels_only.score_B]))
        assert torch.equal(*scores)


def test_each_setting_of_the_loss_changes_its_own_term() -> None:
    torch.manual_seed(0)
    features, score = torch.rand(6, 8), torch.tensor([0.1, 0.2, 0.5, 0.4, 0.6, 0.3])
    label = torch.tensor([0.1, 0.9, 0.2, 0.7, 0.4, 0.6])
    group, frames = torch.tensor([0, 0, 0, 1, 1, 1]), label[:, None].expand(6, 2)
    tiles = TileOutput(torch.rand(12, 16), torch.rand(12, 16))
    output = TrainingOutput(Quality(score, features, score[:, None].expand(6, 2)), tiles=tiles)

    def terms(**settings: Any) -> dict[str, float]:
        weights = LossWeights(**settings)
        terms = recipe_for(METHOD, None, weights).loss(output, label, group, frames)
        return {name: term.item() for name, term in terms.items()}

    defaults = terms()
    for settings, changed in (
        ({"contrast": "tta"}, "group"),
        ({"contrast": "supcon"}, "group"),
        ({"temperature": 0.5}, "group"),
        ({"margin": 0.2}, "rank"),
        ({"frame": 0.6}, "frame"),
        ({"tile": 0.6}, "tile"),
    ):
        now = terms(**settings)
        assert {name for name in now if now[name] != defaults[name]} == {changed}
    assert terms(frame=0.6)["frame"] == pytest.approx(2 * defaults["frame"])


def test_the_output_without_bitstream_features_has_the_same_terms() -> None:
    score, label = torch.tensor([0.1, 0.2, 0.5, 0.4]), torch.tensor([0.1, 0.9, 0.2, 0.7])
    group, frames = torch.tensor([0, 0, 1, 1]), torch.full((4, 2), torch.nan)
    pixels_only = Quality(score, torch.rand(4, 8), score[:, None].expand(4, 2))
    both = TrainingOutput(pixels_only._replace(score_B=label), pixels_only)
    weights = LossWeights(pixels=0.25)
    loss = recipe_for(METHOD, None, weights).loss
    terms = loss(both, label, group, frames)
    pixels_terms = loss(TrainingOutput(pixels_only), label, group, frames)
    assert terms["pixels"].item() == pytest.approx(
        0.25 * sum(term.item() for term in pixels_terms.values())
    )
    assert "pixels" not in pixels_terms


def _blurred(image: torch.Tensor, level: int) -> Array:
    for _ in range(level):
        image = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    pixels: Array = image.round().byte().numpy()
    return pixels
