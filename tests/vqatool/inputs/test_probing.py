from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ladder import probe
from vqatool.inputs.clip import Clip, FrameGroup
from vqatool.inputs.preprocessor import read_clip
from vqatool.inputs.probing import (
    FIGURES_PER_QUANTISER,
    NUM_PROBING_FEATURES,
    QUANTISERS,
    probing_vector,
)

KEY, INTER, PSNR, GRADIENT = range(FIGURES_PER_QUANTISER)


def pairs(picture_CHW: torch.Tensor, shift_px: int = 0) -> Clip:
    """Eight groups of two frames, the second moved to the side."""
    moved = picture_CHW.roll(shift_px, dims=-1)
    return Clip(torch.stack([picture_CHW, moved] * 8).to(torch.uint8), 2)


def figures(clip: Clip) -> torch.Tensor:
    """(quantiser, figure)"""
    return probing_vector(clip).reshape(len(QUANTISERS), FIGURES_PER_QUANTISER)


def noise(height: int = 90, width: int = 160) -> torch.Tensor:
    return 255 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


def smooth(height: int = 90, width: int = 160) -> torch.Tensor:
    coarse = F.avg_pool2d(noise(height, width)[None], 9, stride=1, padding=4)
    return F.avg_pool2d(coarse, 9, stride=1, padding=4)[0]


def test_a_coarser_quantiser_takes_fewer_bits_and_loses_more() -> None:
    for picture in (noise(), smooth()):
        found = figures(pairs(picture, 3))
        assert (found[:, KEY].diff() < 0).all()
        assert (found[:, PSNR].diff() < 0).all()


def test_detail_takes_more_bits_than_a_smooth_picture() -> None:
    assert (figures(pairs(noise()))[:, KEY] > figures(pairs(smooth()))[:, KEY] + 0.5).all()


def test_bits_of_the_second_frame_tell_motion() -> None:
    still, other = pairs(noise()), pairs(noise())
    other.pixels_TCHW[1::2] = noise().flip(1).to(torch.uint8)  # a cut
    assert (figures(other)[:3, INTER] > figures(still)[:3, INTER] + 0.5).all()


def test_a_picture_that_was_coded_coarsely_loses_nothing_to_a_fine_probe() -> None:
    blocks = F.interpolate(noise(6, 10)[None], scale_factor=16)[0]
    assert figures(pairs(blocks))[0, GRADIENT] > figures(pairs(noise()))[2, GRADIENT]
    assert abs(float(figures(pairs(blocks))[0, GRADIENT]) - 4 * 0.2) < 0.1  # a ratio of 1


def test_groups_of_one_frame_have_no_second_frame() -> None:
    one = Clip(noise()[None].to(torch.uint8))
    found = figures(one)
    assert found.isfinite().all()
    assert (found[:, INTER] == 0).all()
    assert (found[:, KEY] == figures(pairs(noise()))[:, KEY]).all()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (1080, 1920), (540, 303)])
def test_frames_of_any_size_are_probed(height: int, width: int) -> None:
    found = probing_vector(pairs(smooth(height, width), 2))
    assert found.shape == (NUM_PROBING_FEATURES,)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


@pytest.mark.parametrize("level", [0, 255])
def test_flat_pictures_have_finite_figures(level: int) -> None:
    assert probing_vector(pairs(torch.full((3, 64, 64), float(level)))).isfinite().all()


def test_real_videos_have_figures_of_about_unit_size(real_clips: list[Path]) -> None:
    for path in real_clips:
        clip = read_clip(probe(path), 8, FrameGroup(2), (640, 360))
        found = probing_vector(clip)
        assert torch.equal(found, probing_vector(clip))
        assert found.abs().max() < 4
        assert 0.3 < found.std() < 2
