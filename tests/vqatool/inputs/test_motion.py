import math

import numpy as np
import pytest

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.motion import NUM_MOTION_FEATURES, motion_vector


def figures(before: Array, after: Array) -> list[float]:
    clip = Clip(np.stack([before, after]).astype(np.uint8), 2)
    (told,) = motion_vector(clip).tolist()
    return [float(figure) for figure in told]


def test_what_stands_still_is_equal_and_does_not_move() -> None:
    picture = 255 * np.random.default_rng(0).random((3, 48, 64))
    *moves, equal = figures(picture, picture)
    assert moves == pytest.approx([math.log2(0.1) / 2] * 4)
    assert equal == 1


@pytest.mark.parametrize("size", [(48, 64), (45, 61)])  # squares at the ends have fewer samples
def test_a_shift_of_brightness_moves_every_square_alike(size: tuple[int, int]) -> None:
    *moves, equal = figures(np.full((3, *size), 90), np.full((3, *size), 98))
    assert moves == pytest.approx([math.log2(8.1) / 2] * 4, abs=1e-3)
    assert equal == -1


def test_noise_moves_small_squares_alone() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 1, 320, 320))
    before, after = (128 + 10 * noise).repeat(3, axis=1)
    fine, middle, coarse, _, _ = figures(before, after)
    # the mean of 4 x 4 and of 16 x 16 deviates a quarter and a sixteenth as much
    assert fine - middle == pytest.approx(1, abs=0.1)
    assert middle - coarse == pytest.approx(1, abs=0.15)


def test_busy_squares_are_told_where_most_stand_still() -> None:
    before, after = np.full((3, 320, 320), 90), np.full((3, 320, 320), 90)
    after[:, :64] = 122  # a fifth of the squares
    _, _, coarse, busy, equal = figures(before, after)
    assert busy == pytest.approx(math.log2(32.1) / 2, abs=1e-3)
    assert coarse < busy - 0.5
    assert equal == pytest.approx(0.6)


def test_without_next_frames_nothing_is_said() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(4, 3, 20, 20), dtype=np.uint8)
    found = motion_vector(Clip(pixels))
    assert found.dtype == np.float32
    assert np.array_equal(found, np.zeros((4, NUM_MOTION_FEATURES)))


@pytest.mark.parametrize("size", [(1, 1), (15, 33)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(256, size=(2, 3, *size), dtype=np.uint8)
    found = motion_vector(Clip(np.concatenate([frames, frames[::-1]]), 2))
    assert found.shape == (2, NUM_MOTION_FEATURES)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
