import numpy as np
import pytest

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.zoom import run_fragments, still_crops


def numbered(frames: int, height: int = 40, width: int = 60) -> Clip:
    """Bursts of three frames; every pixel of a frame is the frame's number."""
    number = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    return Clip(np.broadcast_to(number, (frames, 3, height, width)), group_size=3)


def ramp(frames: int, height: int, width: int, *, length: float = 200.0) -> Clip:
    """Channel 0 rises from top to bottom, channel 1 from left to right, 0 to `length`."""
    y, x = np.meshgrid(np.linspace(0, length, height), np.linspace(0, length, width), indexing="ij")
    frame = np.stack([y, x, x]).astype(np.float32)
    return Clip(np.broadcast_to(frame, (frames, 3, height, width)))


def order(view_TCHW: Array) -> list[float]:
    assert (view_TCHW.min((1, 2, 3)) == view_TCHW.max((1, 2, 3))).all()
    numbers: list[float] = view_TCHW[:, 0, 0, 0].tolist()
    return numbers


def test_one_clip_serves_both_views() -> None:
    clip = numbered(6)
    assert order(still_crops(clip, short_px=20, crop_px=8)) == [0, 3]
    mosaics = run_fragments(clip, short_px=20, grid=2, patch=8)
    assert order(mosaics) == [0, 1, 2, 3, 4, 5]


def test_a_crop_is_of_the_middle_of_the_scaled_frame() -> None:
    clip = ramp(1, 400, 600)  # short side halved to 200: 200 values over 200 rows, 300 columns
    crop = still_crops(clip, short_px=200, crop_px=80)
    assert crop.shape == (1, 3, 80, 80)
    top, bottom = crop[0, 0, 0, 0].item(), crop[0, 0, -1, 0].item()
    left, right = crop[0, 1, 0, 0].item(), crop[0, 1, 0, -1].item()
    assert (top, bottom) == pytest.approx((60, 140), abs=2)
    assert (left, right) == pytest.approx((200 * 110 / 300, 200 * 190 / 300), abs=2)


def test_crops_by_chance_are_each_stills_own_and_repeat_with_the_seed() -> None:
    clip = ramp(3, 40, 60)

    def drawn(seed: int) -> Array:
        generator = np.random.default_rng(seed)
        return still_crops(clip, short_px=40, crop_px=16, generator=generator)

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    assert not np.array_equal(drawn(1)[0], drawn(1)[1])


def test_crops_by_chance_reach_every_border() -> None:
    clip = ramp(300, 24, 30, length=255)
    generator = np.random.default_rng(0)
    crops = still_crops(clip, short_px=24, crop_px=16, generator=generator)
    for channel in range(2):
        assert crops[:, channel].min() == 0
        assert crops[:, channel].max() == 255


def test_a_run_keeps_its_places_and_the_next_has_others() -> None:
    clip = ramp(6, 48, 64)._replace(group_size=3)
    generator = np.random.default_rng(0)
    mosaics = run_fragments(clip, short_px=48, grid=2, patch=8, generator=generator)
    assert np.array_equal(mosaics[:3], mosaics[:1].repeat(3, axis=0))
    assert np.array_equal(mosaics[3:], mosaics[3:4].repeat(3, axis=0))
    assert not np.array_equal(mosaics[0], mosaics[3])


def test_fragments_without_chance_are_the_middles_of_their_cells() -> None:
    clip = ramp(6, 48, 64, length=47)
    mosaics = run_fragments(clip, short_px=48, grid=2, patch=8)
    # cells of 24 rows, slack of 16: patches start at rows 8 and 32
    assert np.unique(mosaics[:, 0, ::8, 0], axis=0).tolist() == [[8, 32]]


@pytest.mark.parametrize("size", [(60, 40), (20, 31), (1, 1)])
def test_any_frame_is_scaled_by_its_short_side(size: tuple[int, int]) -> None:
    clip = numbered(6, *size)
    assert still_crops(clip, short_px=32, crop_px=32).shape == (2, 3, 32, 32)
    assert run_fragments(clip, short_px=32, grid=2, patch=16).shape == (6, 3, 32, 32)


def test_scaling_down_filters_unless_it_is_told_not_to() -> None:
    stripes = (np.arange(64, dtype=np.uint8) % 2 * 200)[:, None]
    clip = Clip(np.broadcast_to(stripes, (7, 3, 64, 64)))
    pinned, plain = (
        still_crops(clip, short_px=24, crop_px=24, antialias=antialias)
        for antialias in (True, False)
    )
    assert pinned.std() < 15  # grey
    assert plain.std() > 45  # moire


def test_pixels_keep_type_and_value() -> None:
    clip = Clip(np.full((7, 3, 33, 47), 77, np.uint8))
    crops = still_crops(clip, short_px=20, crop_px=16)
    mosaics = run_fragments(clip, short_px=20, grid=2, patch=8)
    for view in (crops, mosaics):
        assert view.dtype == np.uint8
        assert (view == 77).all()


def test_a_crop_larger_than_the_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="a crop of 64 px does not fit"):
        still_crops(numbered(3), short_px=32, crop_px=64)
