import numpy as np
import pytest
from matplotlib import colormaps

from vqatool.reporting.attention import draw_attention_map

GREY = np.full((6, 9, 3), 100, np.uint8)


def blend(weight: float) -> list[int]:
    colour = 255 * np.array(colormaps["turbo"](weight)[:3])
    return [int(value) for value in (0.5 * colour + 50).round()]


def test_each_patch_has_the_colour_of_its_weight() -> None:
    picture = draw_attention_map(GREY, np.array([[0.2, 0.3, 0.4], [0.6, 0.5, 0.4]]))
    assert picture.shape == GREY.shape
    assert picture.dtype == np.uint8
    for row, column, share in [(0, 0, 0.0), (0, 8, 0.5), (5, 0, 1.0), (3, 3, 0.75)]:
        assert picture[row, column].tolist() == pytest.approx(blend(share), abs=2)
    # 3 rows and 3 columns a patch
    assert (picture[:3, :3] == picture[0, 0]).all()
    assert (picture[3:, :3] == picture[5, 0]).all()


def test_patches_cover_a_frame_that_they_do_not_divide() -> None:
    frame = np.zeros((7, 11, 3), np.uint8)
    picture = draw_attention_map(frame, np.array([[0.0, 1.0], [1.0, 0.0]]))
    seen = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert len(seen) == 2
    assert picture[0, 0].tolist() == picture[-1, -1].tolist() != picture[0, -1].tolist()


def test_the_picture_shows_through() -> None:
    frame = np.zeros((4, 4, 3), np.uint8)
    frame[:, 2:] = 200
    picture = draw_attention_map(frame, np.ones((2, 2)))
    assert (picture[:, 2:].astype(int) - picture[:, :2] == 100).all()


def test_equal_weights_have_the_middle_colour() -> None:
    assert draw_attention_map(GREY, np.full((2, 3), 0.7))[0, 0].tolist() == blend(0.5)
