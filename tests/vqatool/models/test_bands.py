"""Detail in octaves, against what is known of it, and the traces of coding."""

import pytest
import torch

from ladder.media.decode import frames_at
from ladder.media.probe import probe
from vqatool.cli.demo import demo_clip
from vqatool.models.bands import BandContrast, detail_fall, haar_energies, quietness


def bands(picture: torch.Tensor, log2_step: float = 3.0, has_step: float = 1.0) -> torch.Tensor:
    figures: torch.Tensor = BandContrast()(
        picture, torch.tensor([log2_step]), torch.tensor([has_step])
    )
    return figures


def test_a_flat_picture_has_no_energy() -> None:
    assert all(energy.max() == 0 for energy in haar_energies(torch.full((1, 1, 64, 64), 90.0), 5))


@pytest.mark.parametrize("level", range(4))
def test_stripes_are_energy_of_their_own_octave_alone(level: int) -> None:
    stripes = 50 * (torch.arange(64) // 2**level % 2).float().expand(1, 1, 64, 64)
    energies = [energy.mean().item() for energy in haar_energies(stripes, 5)]
    assert energies[level] == pytest.approx(50**2 / 3, rel=1e-4)
    assert sum(energies) == pytest.approx(energies[level])


def test_white_noise_has_its_variance_in_the_finest_octave() -> None:
    torch.manual_seed(0)
    energies = haar_energies(10 * torch.randn(1, 1, 256, 256), 3)
    # each octave is the mean of four samples of the one before, a quarter of the variance
    for level, energy in enumerate(energies):
        assert energy.mean().item() == pytest.approx(100 / 4**level, rel=0.1)


def test_a_finer_step_leaves_more_above_it() -> None:
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 128, 128)
    fine, coarse = bands(picture, 1.0), bands(picture, 6.0)
    ratios = [2 + 4 * level + part for level in range(5) for part in (2, 3)]
    others = sorted(set(range(fine.shape[1])) - set(ratios))
    assert (fine[0, ratios] > coarse[0, ratios]).all()
    assert torch.equal(fine[0, others], coarse[0, others])


def test_without_a_step_its_figures_are_zero() -> None:
    torch.manual_seed(0)
    known, unknown = (bands(torch.rand(1, 3, 64, 64), 3.0, has) for has in (1.0, 0.0))
    assert (unknown == 0).sum() == 10
    assert (known == 0).sum() == 0


def test_seams_of_a_mosaic_stay_out_of_it() -> None:
    flat = torch.zeros(1, 1, 64, 64)
    flat[..., 32:] = 200
    flat[..., 32:, :] += 30
    assert all(energy.max() == 0 for energy in haar_energies(flat, 5))


def picture() -> torch.Tensor:
    """Luma of one real frame, 320x192."""
    pixels_THWC = frames_at(probe(demo_clip()), [2.0], (320, 192))
    return torch.from_numpy(pixels_THWC).permute(0, 3, 1, 2).float().mean(1, keepdim=True)


def test_what_was_scaled_up_has_a_steep_fall_at_its_edges() -> None:
    sharp = picture()
    small = torch.nn.functional.interpolate(sharp, scale_factor=0.5, mode="bicubic", antialias=True)
    soft = torch.nn.functional.interpolate(small, scale_factor=2, mode="bicubic")
    falls = [detail_fall(haar_energies(luma, 5)) for luma in (sharp, soft)]
    assert falls[1][0] < falls[0][0] - 1


def test_noise_is_told_of_the_quietest_cell() -> None:
    torch.manual_seed(0)
    for deviation in (1.0, 4.0):
        quiet, middle, loud, equal = quietness(90 + deviation * torch.randn(1, 1, 64, 64), 32)
        # the mask's gain is 6 for white noise, of which this is the mean of the absolute values
        told = 2 ** (middle - 2) - 0.05
        assert told.item() == pytest.approx(deviation * (2 / torch.pi) ** 0.5, rel=0.05)
        assert quiet < middle < loud
        assert equal < 0


def test_a_flat_picture_is_equal_everywhere() -> None:
    quiet, middle, loud, equal = quietness(torch.full((2, 1, 64, 64), 90.0), 32)
    assert (equal == 2.5).all()
    assert torch.equal(quiet, loud)
    assert torch.equal(quiet, middle)


def test_seams_of_a_mosaic_are_not_looked_across() -> None:
    flat = torch.zeros(1, 1, 64, 64)
    flat[..., 32:] = 200
    assert torch.allclose(torch.stack(quietness(flat, 32)), torch.stack(quietness(0 * flat, 32)))
