"""The search for a shift, and whether two videos show the same, on previews made in numpy."""

import numpy as np
import numpy.typing as npt
import pytest

from ladder.label.matching import Match, find_match
from ladder.label.previews import PREVIEW_SIZE, Planes, Previews

REACH = 60
WIDTH, HEIGHT = PREVIEW_SIZE
Luma = npt.NDArray[np.float64]


def smooth(seed: int, height: int, width: int) -> Luma:
    """A picture of soft blobs, 40 to 215."""
    values = np.random.default_rng(seed).normal(size=(height, width))
    for axis in (0, 1):
        for _ in range(3):
            values = np.sum([np.roll(values, by, axis) for by in range(-3, 4)], axis=0)
    low, high = values.min(), values.max()
    return np.asarray(40 + 175 * (values - low) / (high - low))


def film(count: int, seed: int = 1, still: int = 0) -> Luma:
    """A camera that wanders over a wall, after `still` frames at rest: (T, 54, 96)."""
    wall = smooth(seed, 4 * HEIGHT, 8 * WIDTH)
    steps = np.random.default_rng(seed).uniform(0.5, 3, count)
    steps[:still] = 0
    x = np.cumsum(steps).astype(int) % (6 * WIDTH)
    y = (HEIGHT * (1 + np.sin(np.cumsum(steps) / 50))).astype(int)
    return np.array([wall[b : b + HEIGHT, a : a + WIDTH] for a, b in zip(x, y, strict=True)])


def coded(frames: Luma, noise: float = 3.0) -> Luma:
    """What a coder leaves of them."""
    return frames + np.random.default_rng(5).normal(scale=noise, size=frames.shape)


def previews(frames: Luma) -> Previews:
    planes: Planes = np.clip(frames, 0, 255).astype(np.uint8).reshape(-1, WIDTH * HEIGHT)
    return Previews(np.arange(len(frames)), planes)


def matched(encode: Luma, source: Luma) -> Match:
    return find_match(previews(encode), previews(source), np.arange(len(encode)), REACH)


@pytest.mark.parametrize("lost", [0, 1, 2, 9, 24, 59])
@pytest.mark.parametrize("still", [0, 48])
def test_frames_lost_or_added_in_front_are_counted_exactly(lost: int, still: int) -> None:
    frames = film(200, still=still)
    assert matched(coded(frames)[lost:], frames) == Match(shift=lost)
    assert matched(coded(frames), frames[lost:]) == Match(shift=-lost)


def test_scenes_of_other_levels_within_reach_do_not_hide_a_shift() -> None:
    scenes = [film(50, seed) * gain for seed, gain in enumerate((1.0, 0.2, 0.9, 0.3, 1.1, 0.25))]
    frames = np.concatenate(scenes)
    assert matched(coded(frames)[59:], frames) == Match(shift=59)


def test_an_optimum_at_the_edge_of_the_search_is_no_answer() -> None:
    frames = film(300)
    for lost in (REACH, REACH + 30):
        assert matched(coded(frames)[lost:], frames) == Match(is_unaligned=True)


def test_black_frames_in_front_are_no_content() -> None:
    frames = film(150)
    led = np.concatenate([np.full((24, HEIGHT, WIDTH), 16.0), frames])
    assert matched(coded(led), frames) == Match(shift=-24)


def test_frames_cut_out_of_the_middle_cannot_be_aligned() -> None:
    frames = film(200)
    cut = np.concatenate([frames[:80], frames[110:]])
    assert matched(coded(cut), frames).is_unaligned


def test_a_still_film_has_no_shift() -> None:
    frames = np.repeat(film(1), 60, axis=0)
    assert matched(coded(frames)[5:], frames) == Match()
    flat = np.full((30, HEIGHT, WIDTH), 16.0)
    assert matched(flat, flat) == Match()


def test_a_very_poor_encode_is_neither_shifted_nor_other_content() -> None:
    frames = film(120)
    blocks = frames.reshape(-1, HEIGHT // 9, 9, WIDTH // 8, 8).mean((2, 4))
    poor = blocks.repeat(9, axis=1).repeat(8, axis=2)
    assert matched(coded(poor, noise=12), frames) == Match()
    assert matched(coded(60 + frames * 0.4), frames) == Match()  # flatter and brighter


def test_an_encode_that_holds_old_pictures_is_not_shifted() -> None:
    frames = film(120)
    held = frames.copy()
    for number in range(1, len(held)):  # each frame takes over a little of what is new
        held[number] = 0.9 * held[number - 1] + 0.1 * frames[number]
    blurred = held.reshape(-1, HEIGHT // 6, 6, WIDTH // 6, 6).mean((2, 4))
    poor = blurred.repeat(6, axis=1).repeat(6, axis=2)
    assert matched(coded(0.5 * poor + 0.5 * held), frames).shift == 0


def test_a_part_of_the_picture_or_bars_around_it_are_not_other_content() -> None:
    frames = film(60)
    part = frames[:, 7:-7, 12:-12]
    rows = np.linspace(0, part.shape[1] - 1, HEIGHT).round().astype(int)
    columns = np.linspace(0, part.shape[2] - 1, WIDTH).round().astype(int)
    assert not matched(coded(part[:, rows][:, :, columns]), frames).is_other
    bars = np.full_like(frames, 16)
    bars[:, 7:47] = frames[:, np.linspace(0, HEIGHT - 1, 40).round().astype(int)]
    assert not matched(coded(bars), frames).is_other


def test_another_film_and_a_mirrored_one_are_other_content() -> None:
    frames = film(100)
    assert matched(coded(film(100, seed=9)), frames) == Match(is_other=True)
    assert matched(coded(frames[:, :, ::-1]), frames) == Match(is_other=True)
    assert matched(coded(frames[:, ::-1]), frames) == Match(is_other=True)


def test_a_mirrored_film_is_other_content_although_it_is_like_its_source() -> None:
    """A face, or a stage, is nearly symmetric."""
    frames = film(100)
    like = 0.7 * (frames + frames[:, :, ::-1]) / 2 + 0.3 * frames
    assert np.corrcoef(like.ravel(), like[:, :, ::-1].ravel())[0, 1] > 0.6
    assert matched(coded(like[:, :, ::-1]), like) == Match(is_other=True)
    assert matched(coded(like), like) == Match()


def test_without_previews_nothing_is_said() -> None:
    nothing = np.empty((0, HEIGHT, WIDTH))
    assert matched(nothing, film(4)) == matched(film(4), nothing) == Match()
