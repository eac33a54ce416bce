from collections.abc import Sequence

import numpy as np
import pytest

from ladder.media.reencode import reencode
from ladder.media.upright import Pixels


def frames(count: int = 3) -> list[Pixels]:
    chance = np.random.default_rng(0)
    picture = chance.integers(0, 255, (48, 64, 3), np.uint8)
    return [np.roll(picture, 4 * number, axis=1) for number in range(count)]


def test_a_key_frame_is_followed_by_smaller_frames() -> None:
    luma, encodes = reencode(frames(), [20, 40])
    assert luma.shape == (3, 48, 64)
    fine, coarse = encodes
    for encode in (fine, coarse):
        assert encode.luma_THW.shape == luma.shape
        assert len(encode.sizes_bytes) == 3
        assert encode.sizes_bytes[0] > max(encode.sizes_bytes[1:])
    assert sum(fine.sizes_bytes) > sum(coarse.sizes_bytes)
    errors = [float(np.abs(luma - encode.luma_THW).mean()) for encode in (fine, coarse)]
    assert errors[0] < errors[1]


def test_frames_stay_in_order() -> None:
    pictures = [np.full((16, 16, 3), level, np.uint8) for level in (20, 120, 220)]
    luma, (encode,) = reencode(pictures, [10])
    assert np.allclose(luma.mean((1, 2)), encode.luma_THW.mean((1, 2)), atol=2)
    assert (np.diff(luma.mean((1, 2))) > 50).all()


@pytest.mark.parametrize("count", [1, 2])
def test_two_runs_give_the_same_bits(count: int) -> None:
    (first,), (second,) = (reencode(frames(count), [30])[1] for _ in range(2))
    assert first.sizes_bytes == second.sizes_bytes
    assert np.array_equal(first.luma_THW, second.luma_THW)


def test_bits_do_not_depend_on_what_was_encoded_before() -> None:
    chance = np.random.default_rng(0)
    pictures = [chance.integers(0, level, (16, 16, 3), np.uint8) for level in range(20, 60, 5)]

    def sizes(order: Sequence[Pixels]) -> list[int]:
        return [
            size
            for picture in order
            for encode in reencode([picture], [30])[1]
            for size in encode.sizes_bytes
        ]

    assert sizes(pictures) == sizes(pictures[::-1])[::-1]


def test_headers_are_not_counted() -> None:
    flat = [np.full((64, 64, 3), 128, np.uint8)] * 2
    _, (encode,) = reencode(flat, [44])
    assert sum(encode.sizes_bytes) < 60  # x264's version and settings alone take 600
