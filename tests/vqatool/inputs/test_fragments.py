import itertools

import pytest
import torch
from torch import Tensor

from vqatool.inputs.clip import Clip
from vqatool.inputs.fragments import fragments, rearranged


def coordinates(frames: int, height: int, width: int) -> Tensor:
    """Channel 0 is the row, channel 1 the column, channel 2 the frame."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    clip = torch.stack([y, x, torch.zeros_like(x)]).expand(frames, 3, height, width).clone()
    clip[:, 2] = torch.arange(frames)[:, None, None]
    return clip


def places(mosaic_TCHW: Tensor, patch: int) -> Tensor:
    """(T, rows, columns, 2) top left source pixel of each patch."""
    return mosaic_TCHW[:, :2, ::patch, ::patch].permute(0, 2, 3, 1)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("is_aligned", [False, True])
def test_each_fragment_is_an_untouched_block_of_its_own_cell(
    seed: int | None, is_aligned: bool
) -> None:
    height, width, grid, patch = 50, 95, 3, 16  # neither side divides by the grid
    generator = None if seed is None else torch.Generator().manual_seed(seed)
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
        assert (ys.diff(dim=0) == 1).all()
        assert (xs.diff(dim=1) == 1).all()
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
    def drawn(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
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
    seen = torch.zeros(256, 256, dtype=torch.bool)
    seen[mosaic[:, 0].flatten().long(), mosaic[:, 1].flatten().long()] = True
    assert seen.float().mean() > 0.8  # 16 frames of 2 x 2 patches hold every pixel once


@pytest.mark.parametrize("size", [(20, 30), (64, 20), (1, 1)])
def test_a_small_picture_is_enlarged_as_a_whole(size: tuple[int, int]) -> None:
    mosaic = fragments(Clip(coordinates(1, *size)), grid=2, patch=32)
    assert mosaic.shape == (1, 3, 64, 64)
    rows = mosaic[0, 0]
    assert rows.min() <= size[0] * 0.3  # the top is there
    assert rows.max() >= (size[0] - 1) * 0.7  # and the bottom


def test_pixels_keep_their_type() -> None:
    clip = coordinates(1, 64, 64).to(torch.uint8)
    assert fragments(Clip(clip), grid=2, patch=16).dtype == torch.uint8


def test_rearranged_patches_are_the_same_patches_elsewhere_turned() -> None:
    mosaic = torch.arange(3 * 3 * 12 * 12).view(3, 3, 12, 12) % 251
    other = rearranged(mosaic, patch=4, generator=torch.Generator().manual_seed(0))

    def cells(view: torch.Tensor) -> list[list[int]]:
        parts = view.unflatten(3, (3, 4)).unflatten(2, (3, 4)).permute(2, 4, 0, 1, 3, 5)
        return sorted(sorted(cell.flatten().tolist()) for cell in parts.flatten(0, 1))

    assert other.shape == mosaic.shape
    assert not torch.equal(other, mosaic)
    assert cells(other) == cells(mosaic)


def test_frames_are_rearranged_alike() -> None:
    still = torch.rand(1, 3, 8, 8).expand(5, -1, -1, -1)
    other = rearranged(still, patch=4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(other, other[:1].expand_as(other))
