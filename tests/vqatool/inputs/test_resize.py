import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vqatool.inputs.clip import Array
from vqatool.inputs.resize import bilinear_weights, resized

SIZES = [
    ((40, 60), (80, 120)),
    ((40, 60), (20, 30)),
    ((37, 53), (101, 64)),
    ((101, 64), (37, 53)),
    ((108, 192), (13, 7)),
    ((31, 200), (64, 50)),
    ((40, 60), (40, 17)),
    ((1, 1), (5, 3)),
    ((5, 3), (2, 2)),
]
"""Before and after; torch 2.14 goes wrong where it scales to one column."""


def noise(size: tuple[int, int]) -> Array:
    """(T, C, H, W) as float32, 8 bit samples."""
    return np.random.default_rng(0).uniform(0, 255, (2, 3, *size)).astype(np.float32)


def by_torch(pixels_TCHW: Array, size: tuple[int, int], is_antialiased: bool) -> Array:
    scaled_TCHW: Array = F.interpolate(
        torch.from_numpy(pixels_TCHW),
        size,
        mode="bilinear",
        align_corners=False,
        antialias=is_antialiased,
    ).numpy()
    return scaled_TCHW


@pytest.mark.parametrize("is_antialiased", [False, True])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_floats_are_scaled_as_torch_does(
    before: tuple[int, int], after: tuple[int, int], is_antialiased: bool
) -> None:
    pixels = noise(before)
    found = resized(pixels, after, is_antialiased=is_antialiased)
    assert found.dtype == np.float32
    assert found.shape == (2, 3, *after)
    # of 255; torch computes places in float32
    assert found == pytest.approx(by_torch(pixels, after, is_antialiased), abs=0.005)


@pytest.mark.parametrize("is_antialiased", [False, True])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_integers_are_scaled_as_torch_does_but_for_rounding(
    before: tuple[int, int], after: tuple[int, int], is_antialiased: bool
) -> None:
    pixels = noise(before).astype(np.uint8)
    found = resized(pixels, after, is_antialiased=is_antialiased)
    assert found.dtype == np.uint8
    gap = found.astype(int) - by_torch(pixels, after, is_antialiased)
    assert np.abs(gap).max() <= 1


@pytest.mark.parametrize("is_antialiased", [False, True])
def test_integers_are_the_nearest_to_the_scaled_floats(is_antialiased: bool) -> None:
    pixels = noise((40, 60)).astype(np.uint8)
    found, exact = (
        resized(each, (27, 91), is_antialiased=is_antialiased)
        for each in (pixels, pixels.astype(np.float32))
    )
    assert np.abs(found - exact).max() <= 0.501


@pytest.mark.parametrize("is_antialiased", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_equal_size_has_the_same_pixels(dtype: type, is_antialiased: bool) -> None:
    pixels: np.ndarray = noise((37, 53)).astype(dtype)
    found = resized(pixels, (37, 53), is_antialiased=is_antialiased)
    assert found.dtype == dtype
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("is_antialiased", [False, True])
@pytest.mark.parametrize("level", [0, 77, 255])
def test_one_colour_stays_what_it_is(level: int, is_antialiased: bool) -> None:
    pixels = np.full((1, 3, 1080, 37), level, np.uint8)
    for size in ((512, 200), (1081, 5)):
        assert (resized(pixels, size, is_antialiased=is_antialiased) == level).all()


def test_frames_that_are_not_contiguous_are_scaled_alike() -> None:
    pixels_THWC = np.random.default_rng(0).integers(256, size=(4, 30, 50, 3), dtype=np.uint8)
    shown = pixels_THWC.transpose(0, 3, 1, 2)[::2, :, ::-1, 3:40]
    found = resized(shown, (20, 61), is_antialiased=True)
    assert np.array_equal(found, resized(shown.copy(), (20, 61), is_antialiased=True))


def test_antialiasing_takes_all_pixels_and_the_rest_the_nearest_two_of_an_axis() -> None:
    all_pixels, nearest = (bilinear_weights(60, 7, choice) for choice in (True, False))
    assert (all_pixels.sum(0) > 0).all()
    assert ((nearest > 0).sum(1) <= 2).all()
    for weights in (all_pixels, nearest):
        assert weights.sum(1) == pytest.approx(np.ones(7))
