"""The sampler of SAMA on pictures that tell where each of their pixels came from."""

import itertools
import sys
import tracemalloc
from types import FrameType
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.sama import ImageMask, VideoMask, level_size, sama, sama_image

MASKS: tuple[VideoMask, ...] = get_args(VideoMask)
IMAGE_MASKS: tuple[ImageMask, ...] = get_args(ImageMask)
GRID, PATCH = 3, 8
SIDE = GRID * PATCH
HEIGHT, WIDTH = 4 * SIDE, 6 * SIDE


def coordinates(frames: int, height: int = HEIGHT, width: int = WIDTH) -> Clip:
    """Channel 0 is the row, channel 1 the column, in px; scaling keeps them what they are."""
    frame = np.indices((height, width), np.float32)
    return Clip(np.broadcast_to(frame, (frames, *frame.shape)))


def noise(frames: int, height: int = HEIGHT, width: int = WIDTH) -> Clip:
    size = (frames, 3, height, width)
    return Clip(np.random.default_rng(3).integers(256, size=size, dtype=np.uint8))


def seen(mask: VideoMask, clip: Clip, seed: int | None = None, levels: int = 16) -> Array:
    generator = None if seed is None else np.random.default_rng(seed)
    return sama(clip, mask=mask, grid=GRID, patch=PATCH, levels=levels, generator=generator)


def steps(canvas_TCHW: Array, square: int = PATCH) -> Array:
    """(T, N, 2) px of the clip between neighbours, downward and across, in each square.

    Fails where one square holds several.
    """
    T, _, H, W = canvas_TCHW.shape
    blocks = canvas_TCHW.reshape(T, 2, H // square, square, W // square, square)
    blocks = blocks.swapaxes(3, 4).reshape(T, 2, -1, square, square)
    down, across = np.diff(blocks[:, 0], axis=2), np.diff(blocks[:, 1], axis=3)
    for each in (down, across):
        assert np.ptp(each, axis=(2, 3)).max() < 1e-2
    return np.stack([down.mean((2, 3)), across.mean((2, 3))], axis=-1)


def scales(canvas_TCHW: Array) -> list[float]:
    """Of each frame, as a share of the native scale; fails where a frame has several."""
    step_TN = steps(canvas_TCHW)[..., 0]
    assert np.ptp(step_TN, axis=1).max() < 1e-2
    return [1 / step for step in step_TN.mean(1).tolist()]


def linear(count: int, least: float = SIDE / HEIGHT) -> list[float]:
    shares: list[float] = np.linspace(1, least, count).tolist()
    return shares


def twice(each: list[float]) -> list[float]:
    return [scale for scale in each for _ in range(2)]


@pytest.mark.parametrize(
    ("height", "wanted"),
    [
        (540, "540,519,498,477,456,435,414,393,371,350,329,308,287,266,245,224"),
        (1080, "1080,1023,966,909,852,795,738,681,623,566,509,452,395,338,281,224"),
        (2160, "2160,2031,1902,1773,1644,1515,1386,1257,1127,998,869,740,611,482,353,224"),
    ],
)
def test_levels_have_the_published_heights(height: int, wanted: str) -> None:
    sizes = [level_size(height, height * 16 // 9, 224, k / 15) for k in range(16)]
    assert [h for h, _ in sizes] == [int(h) for h in wanted.split(",")]


def test_a_frame_of_1080_rows_has_the_published_cells() -> None:
    canvas = sama(coordinates(1, 1080, 1920), mask="fragments")
    corners = canvas[0, :, ::32, ::32].astype(int)
    assert corners[0, :, 0].tolist() == [cell * 154 + 61 for cell in range(7)]
    assert corners[1, 0].tolist() == [cell * 274 + 121 for cell in range(7)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", [(SIDE, SIDE), (SIDE, 3 * SIDE), (SIDE // 2, SIDE)])
def test_a_picture_no_larger_than_the_canvas_is_plain_fragments_on_every_level(
    mask: VideoMask, size: tuple[int, int]
) -> None:
    clip = noise(8, *size)
    assert np.array_equal(seen(mask, clip, seed=1), seen("fragments", clip, seed=1))


@pytest.mark.parametrize("mask", MASKS)
def test_a_small_picture_is_enlarged_as_a_whole(mask: VideoMask) -> None:
    canvas = seen(mask, coordinates(2, SIDE // 2, SIDE // 2))
    assert canvas.shape == (2, 2, SIDE, SIDE)
    assert canvas.min((2, 3)).max() == 0
    assert canvas.max((2, 3)).min() == SIDE // 2 - 1


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        ("sama", twice(linear(16))),
        ("sama-c", twice(linear(2) * 8)),
        ("sama-mix", twice(linear(8) * 2)),
        ("fragments", [1.0] * 32),
    ],
)
def test_each_pair_of_frames_has_its_level(mask: VideoMask, wanted: list[float]) -> None:
    # sizes of levels are whole pixels
    assert scales(seen(mask, coordinates(32))) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 31])
def test_a_short_clip_goes_from_the_finest_to_the_coarsest_level(frames: int) -> None:
    pairs = (frames + 1) // 2
    wanted = twice(linear(pairs))[:frames]
    assert scales(seen("sama", coordinates(frames))) == pytest.approx(wanted, rel=0.02)


def test_a_long_clip_starts_again_from_the_finest_level() -> None:
    wanted = twice(linear(4) * 2 + linear(4)[:1])
    found = scales(seen("sama", coordinates(18), levels=4))
    assert found == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("is_antialiased", [False, True])
def test_a_grating_is_finer_by_the_scale_of_its_level(is_antialiased: bool) -> None:
    period, grid, patch = 32.0, 1, 64
    wave = 127 + 120 * np.sin(2 * np.pi * np.arange(512) / period)
    clip = Clip(np.broadcast_to(wave.round().astype(np.uint8), (8, 3, 256, 512)))
    canvas = sama(clip, grid=grid, patch=patch, is_antialiased=is_antialiased)
    centred = canvas[:, 0, 0].astype(float) - 127
    found = [measured_period(row) for row in centred]
    wanted = [period * scale for scale in twice(linear(4, 64 / 256))]
    assert found == pytest.approx(wanted, rel=0.03)


def measured_period(row_W: Array) -> float:
    """Twice the mean distance of zero crossings, found between samples."""
    before, behind = row_W[:-1], row_W[1:]
    at = np.flatnonzero((before < 0) != (behind < 0))
    crossings = at + before[at] / (before[at] - behind[at])
    return 2 * float(np.diff(crossings).mean())


def test_patches_are_those_of_the_scaled_frames() -> None:
    """Against the plain way: scale whole frames, then copy patch by patch."""
    clip = noise(6, 100, 131)
    places = np.random.default_rng(4).random((GRID, GRID, 2))
    frames = torch.from_numpy(clip.pixels_TCHW).float()
    canvas = seen("sama", clip, seed=4)
    for t, (row, column) in itertools.product(range(6), itertools.product(range(GRID), repeat=2)):
        size = level_size(100, 131, SIDE, t // 2 / 2)
        level = F.interpolate(frames[t : t + 1], size, mode="bilinear")[0].numpy()
        y, x = (
            cell * (length // GRID) + int(place * (length // GRID - PATCH))
            for cell, length, place in zip(
                (row, column), size, places[row, column].tolist(), strict=True
            )
        )
        found = canvas[t, :, row * PATCH :, column * PATCH :][:, :PATCH, :PATCH]
        gap = level[:, y : y + PATCH, x : x + PATCH] - found
        assert np.abs(gap).max() <= 0.51  # 8 bit samples


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_patches_of_all_levels_have_one_relative_place(seed: int | None) -> None:
    canvas = seen("sama", coordinates(32), seed)
    places: dict[int, Array] = {}  # of the first frame
    for t in range(32):
        height, width = level_size(HEIGHT, WIDTH, SIDE, t // 2 / 15)
        for axis, (length, native) in enumerate([(height, HEIGHT), (width, WIDTH)]):
            shape = (-1, 1) if axis == 0 else (1, -1)
            cell, first = length // GRID, np.arange(GRID).reshape(shape)
            # rows and columns of a level: its borders scale with the frame's
            corner = (canvas[t, axis, ::PATCH, ::PATCH] + 0.5) * length / native - 0.5
            offset = corner - first * cell
            if t == 0:
                places[axis] = offset / (cell - PATCH)
            assert np.abs(offset - places[axis] * (cell - PATCH)).max() <= 1.01
            if seed is None:
                middle = offset + PATCH / 2 - cell / 2
                assert np.abs(middle).max() <= 1.01


@pytest.mark.parametrize(("mask", "square"), [("sama-swm", PATCH), ("sama-spm", 4)])
def test_each_square_of_a_mask_in_space_is_of_one_level(mask: VideoMask, square: int) -> None:
    clip = coordinates(32)
    finest, coarse = (steps(seen(each, clip), square) for each in ("fragments", "sama"))
    found = steps(seen(mask, clip), square)
    side = SIDE // square
    board = np.array([(i + j) % 2 == 0 for i in range(side) for j in range(side)])
    wanted = np.where(board[None, :, None], finest, coarse)
    assert np.allclose(found, wanted, atol=1e-2)
    # a board of an odd number of squares cannot be halved
    assert abs(2 * int(board.sum()) - len(board)) == len(board) % 2


def test_tokens_of_a_video_swin_are_of_one_level() -> None:
    """Blocks of 2 frames and 4 x 4 px have one scale, whatever the mask."""
    for mask in MASKS:
        step_TN2 = steps(seen(mask, coordinates(8), seed=0), 4)
        assert np.allclose(step_TN2[::2], step_TN2[1::2], atol=1e-2)


@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_is_another_view_of_the_same_form(mask: VideoMask) -> None:
    clip = noise(32)
    canvas = seen(mask, clip)
    assert canvas.shape == (32, 3, SIDE, SIDE)
    assert canvas.dtype == np.uint8
    assert not any(np.array_equal(canvas, seen(other, clip)) for other in MASKS if other != mask)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("frames", [1, 5, 33])
def test_places_hang_on_the_generator_alone(mask: VideoMask, frames: int) -> None:
    clip = noise(frames)
    assert np.array_equal(seen(mask, clip), seen(mask, clip))
    assert np.array_equal(seen(mask, clip, seed=1), seen(mask, clip, seed=1))
    assert not np.array_equal(seen(mask, clip, seed=1), seen(mask, clip, seed=2))


def test_antialiasing_spares_the_finest_level_alone() -> None:
    clip = noise(8)
    plain, smooth = (
        sama(clip, grid=GRID, patch=PATCH, is_antialiased=choice) for choice in (False, True)
    )
    assert np.array_equal(plain[:2], smooth[:2])
    # bilinear samples of noise keep its contrast on a quarter of the scale, means do not
    assert smooth[6:].std() < 0.6 * plain[6:].std()


@pytest.mark.parametrize(("mask", "square"), [("sama", PATCH), ("sama-spm", 4), ("fragments", 0)])
def test_a_picture_has_the_finest_and_the_coarsest_level_half_and_half(
    mask: ImageMask, square: int
) -> None:
    clip = coordinates(3)
    canvas = sama_image(clip, mask=mask, grid=2, patch=PATCH)
    step_TN = steps(canvas, square or PATCH)[..., 0]
    side = 2 * PATCH // (square or PATCH)
    coarse = HEIGHT / (2 * PATCH) if square else 1
    wanted = [1.0 if (n // side + n) % 2 == 0 else coarse for n in range(side * side)]
    assert step_TN.tolist() == [pytest.approx(wanted, rel=0.02)] * 3
    assert wanted.count(1.0) == (len(wanted) // 2 if square else len(wanted))


@pytest.mark.parametrize("mask", IMAGE_MASKS)
def test_a_small_picture_is_enlarged_for_the_image_masks_too(mask: ImageMask) -> None:
    canvas = sama_image(noise(1, 20, 50), mask=mask)
    assert canvas.shape == (1, 3, 256, 256)
    assert canvas.dtype == np.uint8


class Work(NamedTuple):
    """Lines of Python that ran, and the most memory that was taken at once."""

    lines: int
    peak_bytes: int


def work(grid: int, height: int) -> Work:
    """Of the sampler of a canvas of 64 px on noise, without what it caches."""
    clip, lines = noise(16, height, 2 * height), 0

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    sama(clip, grid=grid, patch=64 // grid)
    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(count)
    try:
        sama(clip, grid=grid, patch=64 // grid)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        sys.settrace(before)
        tracemalloc.stop()
    return Work(lines, peak_bytes)


def test_the_work_hangs_neither_on_cells_nor_on_the_frame_size() -> None:
    """No copies patch by patch, no scaled frame: each step makes the canvas of a frame at most."""
    few, many, large = work(2, 128), work(8, 128), work(2, 256)
    assert few.lines == many.lines == large.lines
    assert [many.peak_bytes, large.peak_bytes] == pytest.approx([few.peak_bytes] * 2, rel=0.02)
    frame_bytes = 3 * 64 * 64
    steps = 12  # that hold a frame of the canvas as float32 at the same time
    assert few.peak_bytes < 16 * frame_bytes + steps * 4 * frame_bytes
