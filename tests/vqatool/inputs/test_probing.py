from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from ladder import probe
from vqatool.inputs.clip import Array, Clip, FrameGroup
from vqatool.inputs.preprocessor import read_clip
from vqatool.inputs.probing import (
    FIGURES_PER_QUANTISER,
    NUM_OCTAVE_FEATURES,
    NUM_PROBING_FEATURES,
    OCTAVES,
    QUANTISERS,
    probing_vector,
)

KEY, INTER, PSNR, GRADIENT = range(FIGURES_PER_QUANTISER)


def pairs(picture_CHW: Array, shift_px: int = 0) -> Clip:
    """Eight groups of two frames, the second moved to the side."""
    moved = np.roll(picture_CHW, shift_px, axis=-1)
    return Clip(np.stack([picture_CHW, moved] * 8).astype(np.uint8), 2)


def figures(clip: Clip) -> Array:
    """(quantiser, figure)"""
    return probing_vector(clip).reshape(len(QUANTISERS), FIGURES_PER_QUANTISER)


def noise(height: int = 90, width: int = 160) -> Array:
    return 255 * np.random.default_rng(0).random((3, height, width))


def smooth(height: int = 90, width: int = 160) -> Array:
    return means_of_squares(means_of_squares(noise(height, width)))


def means_of_squares(picture_CHW: Array, side: int = 9) -> Array:
    """Of `side` px around each pixel; black surrounds the picture."""
    for axis in (1, 2):
        margin = [(0, 0), (0, 0), (0, 0)]
        margin[axis] = (side // 2, side // 2)
        padded = np.pad(picture_CHW, margin)
        picture_CHW = sliding_window_view(padded, side, axis).mean(-1)
    return picture_CHW


def octaves(clip: Clip) -> Array:
    """(quantiser, octave)"""
    return probing_vector(clip, has_octaves=True)[NUM_PROBING_FEATURES:].reshape(-1, OCTAVES)


def test_a_coarser_quantiser_keeps_less_detail_and_fine_detail_goes_first() -> None:
    found = octaves(pairs((noise(288, 512) + smooth(288, 512)) / 2, 3))
    assert found.shape == (len(QUANTISERS), OCTAVES)
    assert (np.diff(found, axis=0) < 0).all()
    assert (np.diff(found, axis=1) > 0).all()
    assert 0 <= found.min() < 0.5 < found.max() <= 1


def test_the_detail_that_is_kept_follows_the_other_figures() -> None:
    clip = pairs(noise(), 3)
    both = probing_vector(clip, has_octaves=True)
    assert np.array_equal(both[:NUM_PROBING_FEATURES], probing_vector(clip))
    assert len(both) == NUM_PROBING_FEATURES + NUM_OCTAVE_FEATURES


def test_a_flat_picture_keeps_all_detail() -> None:
    flat = Clip(np.full((2, 3, 16, 16), 90, np.uint8), 2)
    assert octaves(flat) == pytest.approx(1)


def test_a_coarser_quantiser_takes_fewer_bits_and_loses_more() -> None:
    for picture in (noise(), smooth()):
        found = figures(pairs(picture, 3))
        assert (np.diff(found[:, KEY]) < 0).all()
        assert (np.diff(found[:, PSNR]) < 0).all()


def test_detail_takes_more_bits_than_a_smooth_picture() -> None:
    assert (figures(pairs(noise()))[:, KEY] > figures(pairs(smooth()))[:, KEY] + 0.5).all()


def test_bits_of_the_second_frame_tell_motion() -> None:
    still, other = pairs(noise()), pairs(noise())
    other.pixels_TCHW[1::2] = noise()[:, ::-1].astype(np.uint8)  # a cut
    assert (figures(other)[:3, INTER] > figures(still)[:3, INTER] + 0.5).all()


def test_a_picture_that_was_coded_coarsely_loses_nothing_to_a_fine_probe() -> None:
    blocks = noise(6, 10).repeat(16, axis=1).repeat(16, axis=2)
    assert figures(pairs(blocks))[0, GRADIENT] > figures(pairs(noise()))[2, GRADIENT]
    assert abs(float(figures(pairs(blocks))[0, GRADIENT]) - 4 * 0.2) < 0.1  # a ratio of 1


def test_groups_of_one_frame_have_no_second_frame() -> None:
    one = Clip(noise()[None].astype(np.uint8))
    found = figures(one)
    assert np.isfinite(found).all()
    assert (found[:, INTER] == 0).all()
    assert (found[:, KEY] == figures(pairs(noise()))[:, KEY]).all()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (1080, 1920), (540, 303)])
def test_frames_of_any_size_are_probed(height: int, width: int) -> None:
    found = probing_vector(pairs(smooth(height, width), 2))
    assert found.shape == (NUM_PROBING_FEATURES,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize("level", [0, 255])
def test_flat_pictures_have_finite_figures(level: int) -> None:
    assert np.isfinite(probing_vector(pairs(np.full((3, 64, 64), level)))).all()


def test_real_videos_have_figures_of_about_unit_size(real_clips: list[Path]) -> None:
    for path in real_clips:
        clip = read_clip(probe(path), 8, FrameGroup(2), (640, 360))
        found = probing_vector(clip)
        assert np.array_equal(found, probing_vector(clip))
        assert np.abs(found).max() < 4
        assert 0.3 < found.std() < 2
