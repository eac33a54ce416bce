"""Hyper-columns of ConvNeXt, and the heads that score and weigh patches."""

from typing import get_args

import pytest
import torch
from torch import nn

from vqatool.models.backbones import CONVNEXT_SIZES, ConvNeXtPyramid
from vqatool.models.patch_scores import Activation, PatchHeads, PatchScores, hyper_columns


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_crop_of_320_has_100_hyper_columns_of_1440_channels() -> None:
    with torch.device("meta"):
        pyramid = ConvNeXtPyramid(CONVNEXT_SIZES["tiny"], in_channels=3, has_conv_stem=False)
        maps = pyramid(torch.empty(1, 3, 320, 320))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (96, 80, 80),
        (192, 40, 40),
        (384, 20, 20),
        (768, 10, 10),
    ]
    assert hyper_columns(maps, (10, 10)).shape == (1, 1440, 10, 10)


def test_hyper_columns_hold_the_mean_of_each_cell_of_each_stage() -> None:
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    coarse = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    columns = hyper_columns([fine, coarse], (2, 2))
    assert columns[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert torch.equal(columns[0, 1], coarse[0, 0])


@pytest.mark.parametrize(
    ("size", "parameters"),
    # tiny, small and base as published (arXiv 2201.03545), less their classifier of 1000 classes
    [
        ("tiny", 28.59e6 - 0.77e6),
        ("small", 50.22e6 - 0.77e6),
        ("base", 88.59e6 - 1.03e6),
        ("nano", 4.83e6),
        ("pico", 0.2323e6),
    ],
)
def test_convnext_has_the_parameters_of_its_size(size: str, parameters: float) -> None:
    with torch.device("meta"):
        pyramid = ConvNeXtPyramid(CONVNEXT_SIZES[size], in_channels=3, has_conv_stem=False)
    assert count(pyramid) == pytest.approx(parameters, rel=0.001)


@torch.no_grad()
@pytest.mark.parametrize("has_conv_stem", [True, False])
def test_convnext_gives_four_maps_finest_first(has_conv_stem: bool) -> None:
    pyramid = ConvNeXtPyramid(CONVNEXT_SIZES["pico"], in_channels=4, has_conv_stem=has_conv_stem)
    shapes = [tuple(m.shape) for m in pyramid(torch.rand(2, 4, 64, 96))]
    assert shapes == [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]


def test_equal_scores_give_that_score_for_any_weights() -> None:
    torch.manual_seed(0)
    weight = torch.rand(5, 3, 4)
    patches = PatchScores(torch.full((5, 3, 4), 0.37), weight, torch.zeros(5, 1, 3, 4))
    assert torch.allclose(patches.score_B, torch.full((5,), 0.37))


def test_a_score_is_the_weighted_mean_of_its_patches() -> None:
    score, weight = torch.tensor([[[0.2, 0.8]]]), torch.tensor([[[0.9, 0.3]]])
    # (0.2 * 0.9 + 0.8 * 0.3) / 1.2
    assert PatchScores(score, weight, score[:, None]).score_B.item() == pytest.approx(0.35)


@torch.no_grad()
def test_weights_are_between_0_and_1() -> None:
    torch.manual_seed(0)
    heads = PatchHeads(8, 4).eval()
    patches = heads(3 * torch.randn(2, 8, 5, 5))
    assert ((patches.weight_BHW > 0) & (patches.weight_BHW < 1)).all()
    assert patches.weight_BHW.std() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("activation", get_args(Activation))
def test_an_untaught_head_says_a_middling_score(activation: Activation) -> None:
    heads = PatchHeads(8, 4, activation=activation).eval()
    nn.init.zeros_(heads.get_parameter("_score.weight"))
    found = heads(torch.rand(1, 8, 2, 2)).score_BHW
    assert torch.allclose(found, torch.tensor(0.6), atol=0.001)


def test_a_softplus_still_learns_where_a_relu_is_dead() -> None:
    gradients = {}
    for activation in get_args(Activation):
        torch.manual_seed(0)
        heads = PatchHeads(8, 4, activation=activation).eval()
        columns = torch.zeros(1, 8, 2, 2)
        bias = heads.get_parameter("_score.bias")
        nn.init.constant_(bias, -0.5)
        heads(columns).score_B.sum().backward()
        assert bias.grad is not None
        gradients[activation] = bias.grad.item()
    assert gradients["relu"] == 0
    assert gradients["softplus"] > 1e-3


@torch.no_grad()
@torch.no_grad()
def test_scores_of_patches_keep_fine_steps_in_bfloat16() -> None:
    torch.manual_seed(0)
    heads = PatchHeads(8, 4, activation="relu").eval()
    with torch.autocast("cpu", torch.bfloat16):
        score_BHW = heads(torch.randn(1, 8, 5, 5)).score_BHW
    assert not torch.equal(score_BHW, score_BHW.bfloat16().float())


def test_a_softplus_is_linear_over_the_labels() -> None:
    heads = PatchHeads(1, 1)
    nn.init.zeros_(heads.get_parameter("_score.weight"))
    told = []
    for label in (0.3, 0.6, 0.9):
        nn.init.constant_(heads.get_parameter("_score.bias"), label)
        told.append(heads(torch.zeros(1, 1, 1, 1)).score_B.item())
    assert told == pytest.approx([0.3, 0.6, 0.9], abs=0.01)
