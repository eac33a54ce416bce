import math

import pytest
import torch

from vqatool.inputs.clip import Clip
from vqatool.inputs.motion import NUM_MOTION_FEATURES, motion_vector


def figures(before: torch.Tensor, after: torch.Tensor) -> list[float]:
    clip = Clip(torch.stack([before, after]).to(torch.uint8), 2)
    (told,) = motion_vector(clip).tolist()
    return [float(figure) for figure in told]


def test_what_stands_still_is_equal_and_does_not_move() -> None:
    picture = 255 * torch.rand(3, 48, 64)
    *moves, equal = figures(picture, picture)
    assert moves == pytest.approx([math.log2(0.1) / 2] * 4)
    assert equal == 1


def test_a_shift_of_brightness_moves_every_square_alike() -> None:
    *moves, equal = figures(torch.full((3, 48, 64), 90), torch.full((3, 48, 64), 98))
    assert moves == pytest.approx([math.log2(8.1) / 2] * 4, abs=1e-3)
    assert equal == -1


def test_noise_moves_small_squares_alone() -> None:
    torch.manual_seed(0)
    before, after = ((128 + 10 * torch.randn(1, 320, 320)).expand(3, -1, -1) for _ in range(2))
    fine, middle, coarse, _, _ = figures(before, after)
    # the mean of 4 x 4 and of 16 x 16 deviates a quarter and a sixteenth as much
    assert fine - middle == pytest.approx(1, abs=0.1)
    assert middle - coarse == pytest.approx(1, abs=0.15)


def test_busy_squares_are_told_where_most_stand_still() -> None:
    before, after = torch.full((3, 320, 320), 90), torch.full((3, 320, 320), 90)
    after[:, :64] = 122  # a fifth of the squares
    _, _, coarse, busy, equal = figures(before, after)
    assert busy == pytest.approx(math.log2(32.1) / 2, abs=1e-3)
    assert coarse < busy - 0.5
    assert equal == pytest.approx(0.6)


def test_without_next_frames_nothing_is_said() -> None:
    assert torch.equal(
        motion_vector(Clip(torch.rand(4, 3, 20, 20))), torch.zeros(4, NUM_MOTION_FEATURES)
    )


@pytest.mark.parametrize("size", [(1, 1), (15, 33)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    frames = torch.randint(256, (2, 3, *size), dtype=torch.uint8)
    assert motion_vector(Clip(torch.cat([frames, frames.flip(0)]), 2)).isfinite().all()
