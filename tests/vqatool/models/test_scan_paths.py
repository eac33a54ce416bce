"""The paths over a map, and back."""

import pytest
import torch
from torch import Tensor

from vqatool.models.scan_paths import PATHS, along_paths, back_on_map

SIZES = [(1, 1), (4, 4), (5, 7), (8, 3), (1, 9)]
WINDOWS = [0, 1, 2, 3, 8]


def numbered(height: int, width: int) -> Tensor:
    """A map (1, H, W, 1) of 1, 2, 3 ... in the order of reading."""
    return torch.arange(1.0, height * width + 1).view(1, height, width, 1)


def test_whole_maps_are_read_across_down_and_both_from_the_end() -> None:
    paths = along_paths(numbered(2, 3))[:, 0, :, 0].T.int().tolist()
    assert paths == [
        [1, 2, 3, 4, 5, 6],
        [1, 4, 2, 5, 3, 6],
        [6, 5, 4, 3, 2, 1],
        [6, 3, 5, 2, 4, 1],
    ]


def test_windows_are_read_one_after_the_other() -> None:
    places = torch.arange(16.0).view(16, 1, 1, 1).expand(-1, -1, PATHS, -1)
    rows, columns, rows_back, columns_back = back_on_map(places, 4, 4, window=2)[:, 0, ..., 0].int()
    assert rows.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert torch.equal(columns, rows.T)
    assert torch.equal(rows_back, 15 - rows)
    assert torch.equal(columns_back, 15 - columns)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_path_leads_back_to_the_map(height: int, width: int, window: int) -> None:
    map_BHWC = torch.rand(2, height, width, 3)
    tokens = along_paths(map_BHWC, window=window)
    maps = back_on_map(tokens, height, width, window=window)
    assert maps.shape == (PATHS, 2, height, width, 3)
    assert all(torch.equal(found, map_BHWC) for found in maps)
    assert torch.allclose(maps.sum(0), 4 * map_BHWC)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_path_reads_every_token_once_and_else_zeros(
    height: int, width: int, window: int
) -> None:
    side = window or 1
    filled = -(-height // side) * side * -(-width // side) * side
    paths = along_paths(numbered(height, width), window=window)[:, 0, :, 0].T
    tokens = list(range(1, height * width + 1))
    for path in paths.int().tolist():
        assert sorted(path) == [0] * (filled - len(tokens)) + tokens


def test_the_second_pair_of_paths_is_the_first_from_the_end() -> None:
    tokens = along_paths(torch.rand(2, 5, 6, 3), window=2)
    assert torch.equal(tokens[:, :, 2:], tokens[:, :, :2].flip(0))
