import itertools

import numpy as np
import pytest

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.fragments import fragments, mirrored, rearranged


def coordinates(frames: int, height: int, width: int) -> Array:
    """Channel 0 is the row, channel 1 the column, channel 2 the frame."""
    y, x = np.indices((height, width))
    clip = np.stack([np.stack([y, x, np.zeros_like(x)])] * frames)
    clip[:, 2] = np.arange(frames)[:, None, None]
    return clip


def places(mosaic_TCHW: Array, patch: int) -> Array:
    """(T, rows, columns, 2) top left source pixel of each patch."""
    return mosaic_TCHW[:, :2, ::patch, ::patch].transpose(0, 2, 3, 1)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("is_aligned", [False, True])
def test_each_fragment_is_an_untouched_block_of_its_own_cell(
    seed: int | None, is_aligned: bool
) -> None:
    height, width, grid, patch = 50, 95, 3, 16  # neither side divides by the grid
    generator = None if seed is None else np.random.default_rng(seed)
    mosaic = fragments(
        Clip(coordinates(4, height, width)),
        grid=grid,
        patch=patch,
        is_aligned=is_aligned,
        generator=generator,
    )
    assert mosaic.shape == (4, 3, grid * patch, grid * patch)
    for t, row, col in itertools.product(range(4), range(grid), range(grid)):
        block = mosaic[t, :, row * patch : (row + 1) * patch, col * patch : (col + 1) * patch]
        ys, xs, frame = block
        assert (np.diff(ys, axis=0) == 1).all()
        assert (np.diff(xs, axis=1) == 1).all()
        assert (frame == t).all()
        assert row * height // grid <= ys.min()
        assert ys.max() < (row + 1) * height // grid
        assert col * width // grid <= xs.min()
        assert xs.max() < (col + 1) * width // grid


def test_without_a_generator_places_are_fixed_and_start_in_the_middle() -> None:
    clip = coordinates(3, 100, 100)
    first, second = (fragments(Clip(clip), grid=2, patch=10) for _ in range(2))
    assert (first == second).all()
    # cells of 50, slack of 41 places: the middle one is the 20th
    assert places(first, 10)[0].tolist() == [[[20, 20], [20, 70]], [[70, 20], [70, 70]]]


def test_one_seed_gives_the_same_places_and_another_gives_others() -> None:
    def drawn(seed: int) -> Array:
        generator = np.random.default_rng(seed)
        return fragments(Clip(coordinates(2, 90, 90)), grid=3, patch=8, generator=generator)

    assert (drawn(1) == drawn(1)).all()
    assert (drawn(1) != drawn(2)).any()


def test_aligned_frames_share_their_places_and_others_do_not() -> None:
    clip = coordinates(4, 120, 120)
    aligned = places(fragments(Clip(clip), grid=2, patch=8, is_aligned=True), 8)
    free = places(fragments(Clip(clip), grid=2, patch=8), 8)
    assert (aligned == aligned[:1]).all()
    assert (free != free[:1]).any()


def test_a_few_frames_see_most_of_the_picture() -> None:
    clip = coordinates(16, 256, 256)
    mosaic = fragments(Clip(clip), grid=2, patch=64)
    seen = np.zeros((256, 256), bool)
    seen[mosaic[:, 0], mosaic[:, 1]] = True
    assert seen.mean() > 0.8  # 16 frames of 2 x 2 patches hold every pixel once


@pytest.mark.parametrize("size", [(20, 30), (64, 20), (1, 1)])
def test_a_small_picture_is_enlarged_as_a_whole(size: tuple[int, int]) -> None:
    mosaic = fragments(Clip(coordinates(1, *size)), grid=2, patch=32)
    assert mosaic.shape == (1, 3, 64, 64)
    rows = mosaic[0, 0]
    assert rows.min() <= size[0] * 0.3  # the top is there
    assert rows.max() >= (size[0] - 1) * 0.7  # and the bottom


def test_pixels_keep_their_type() -> None:
    clip = coordinates(1, 64, 64).astype(np.uint8)
    for patch in (16, 64):
        assert fragments(Clip(clip), grid=2, patch=patch).dtype == np.uint8


def test_rearranged_patches_are_the_same_patches_elsewhere_turned() -> None:
    mosaic = np.arange(3 * 3 * 12 * 12).reshape(3, 3, 12, 12) % 251
    other = rearranged(mosaic, patch=4, generator=np.random.default_rng(0))

    def cells(view: Array) -> list[list[int]]:
        parts = view.reshape(3, 3, 3, 4, 3, 4).transpose(2, 4, 0, 1, 3, 5)
        return sorted(sorted(cell) for cell in parts.reshape(9, -1).tolist())

    assert other.shape == mosaic.shape
    assert not np.array_equal(other, mosaic)
    assert cells(other) == cells(mosaic)


def test_a_patch_is_turned_and_flipped_in_all_eight_ways() -> None:
    patch = np.arange(9).reshape(1, 1, 3, 3)
    generator = np.random.default_rng(0)
    found = {rearranged(patch, patch=3, generator=generator).tobytes() for _ in range(200)}
    ways = [np.rot90(each, turn, (2, 3)) for each in (patch, patch[..., ::-1]) for turn in range(4)]
    assert found == {way.tobytes() for way in ways}


def test_frames_are_rearranged_alike() -> None:
    still = np.random.default_rng(0).random((1, 3, 8, 8)).repeat(5, axis=0)
    other = rearranged(still, patch=4, generator=np.random.default_rng(1))
    assert np.array_equal(other, other[:1].repeat(5, axis=0))


def test_half_of_the_clips_are_mirrored_as_a_whole() -> None:
    pixels = np.random.default_rng(0).random((2, 3, 4, 6))
    generator = np.random.default_rng(0)
    found = [mirrored(pixels, generator=generator) for _ in range(100)]
    num_mirrored = sum(np.array_equal(each, pixels[..., ::-1]) for each in found)
    assert sum(np.array_equal(each, pixels) for each in found) == 100 - num_mirrored
    assert 30 < num_mirrored < 70
