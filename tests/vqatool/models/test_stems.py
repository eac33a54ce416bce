"""The first layers of the nets that see space and time: what they compute, and in which format."""

import pytest
import torch
from torch import nn

from vqatool.models.stems import ConvStem3D, PatchStem3D

PATCH = (2, 4, 4)
Stem = type[ConvStem3D] | type[PatchStem3D]
either = pytest.mark.parametrize("stem", [ConvStem3D, PatchStem3D])


def test_a_token_of_the_published_stem_is_that_of_a_convolution_over_its_patch() -> None:
    torch.manual_seed(0)
    stem, pixels = PatchStem3D(4, 24, PATCH), torch.rand(2, 4, 6, 16, 24)
    embed = stem.get_submodule("_of_patch")
    assert isinstance(embed, nn.Conv2d)
    weight = embed.weight.unflatten(1, (2, 4)).transpose(1, 2)
    tokens = nn.functional.conv3d(pixels, weight, embed.bias, stride=PATCH)
    expected = nn.functional.layer_norm(tokens.movedim(1, -1), (24,))
    torch.testing.assert_close(stem(pixels), expected, atol=1e-5, rtol=1e-4)


@either
def test_a_token_hangs_on_the_frames_of_its_patch_alone(stem: Stem) -> None:
    torch.manual_seed(0)
    made, pixels = stem(4, 24, PATCH), torch.rand(2, 4, 6, 16, 24)
    other = pixels.clone()
    other[:, :, 3] = 0.5
    moved = (made(other) != made(pixels)).any(-1).flatten(2).any(-1)
    assert moved.tolist() == [[False, True, False]] * 2
    assert made(pixels).shape == (2, 3, 4, 6, 24)


@either
def test_learning_in_bfloat16_goes_where_float32_does(stem: Stem) -> None:
    # of this size convolutions over time crashed on CPUs with AMX
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
