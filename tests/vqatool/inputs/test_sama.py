"""The sampler of SAMA on pictures that tell where each of their pixels came from."""

import itertools
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vqatool.inputs.clip import Clip
from vqatool.inputs.sama import ImageMask, VideoMask, level_size, sama, sama_image

MASKS: tuple[VideoMask, ...] = get_args(VideoMask)
IMAGE_MASKS: tuple[ImageMask, ...] = get_args(ImageMask)
GRID, PATCH = 3, 8
SIDE = GRID * PATCH
HEIGHT, WIDTH = 4 * SIDE, 6 * SIDE


def coordinates(frames: int, height: int = HEIGHT, width: int = WIDTH) -> Clip:
    """Channel 0 is the row, channel 1 the column, in px; scaling keeps them what they are."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return Clip(torch.stack([y, x]).float().expand(frames, 2, -1, -1))


def noise(frames: int, height: int = HEIGHT, width: int = WIDTH) -> Clip:
    chance = torch.Generator().manual_seed(3)
    size = (frames, 3, height, width)
    return Clip(torch.randint(256, size, dtype=torch.uint8, generator=chance))


def seen(mask: VideoMask, clip: Clip, seed: int | None = None, levels: int = 16) -> Tensor:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return sama(clip, mask=mask, grid=GRID, patch=PATCH, levels=levels, generator=generator)


def steps(canvas_TCHW: Tensor, square: int = PATCH) -> Tensor:
    """(T, N, 2) px of the clip between neighbours, downward and across, in each square.

    Fails where one square holds several.
    """
    T, _, H, W = canvas_TCHW.shape
    blocks = canvas_TCHW.reshape(T, 2, H // square, square, W // square, square)
    blocks = blocks.transpose(3, 4).flatten(2, 3)
    down, across = blocks[:, 0].diff(dim=2).flatten(2), blocks[:, 1].diff(dim=3).flatten(2)
    for each in (down, across):
        assert (each.amax(-1) - each.amin(-1)).max() < 1e-2
    return torch.stack([down.mean(-1), across.mean(-1)], dim=-1)


def scales(canvas_TCHW: Tensor) -> list[float]:
    """Of each frame, as a share of the native scale; fails where a frame has several."""
    step_TN = steps(canvas_TCHW)[..., 0]
    assert (step_TN.amax(1) - step_TN.amin(1)).max() < 1e-2
    return [1 / step for step in step_TN.mean(1).tolist()]


def linear(count: int, least: float = SIDE / HEIGHT) -> list[float]:
    return torch.linspace(1, least, count).tolist()


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
    corners = canvas[0, :, ::32, ::32].long()
    assert corners[0, :, 0].tolist() == [cell * 154 + 61 for cell in range(7)]
    assert corners[1, 0].tolist() == [cell * 274 + 121 for cell in range(7)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", [(SIDE, SIDE), (SIDE, 3 * SIDE), (SIDE // 2, SIDE)])
def test_a_picture_no_larger_than_the_canvas_is_plain_fragments_on_every_level(
    mask: VideoMask, size: tuple[int, int]
) -> None:
    clip = noise(8, *size)
    assert torch.equal(seen(mask, clip, seed=1), seen("fragments", clip, seed=1))


@pytest.mark.parametrize("mask", MASKS)
def test_a_small_picture_is_enlarged_as_a_whole(mask: VideoMask) -> None:
    canvas = seen(mask, coordinates(2, SIDE // 2, SIDE // 2))
    assert canvas.shape == (2, 2, SIDE, SIDE)
    assert canvas.flatten(2).amin(-1).max() == 0
    assert canvas.flatten(2).amax(-1).min() == SIDE // 2 - 1


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
    wave = 127 + 120 * torch.sin(2 * torch.pi * torch.arange(512) / period)
    clip = Clip(wave.round().to(torch.uint8).expand(8, 3, 256, 512))
    canvas = sama(clip, grid=grid, patch=patch, is_antialiased=is_antialiased)
    centred = canvas[:, 0, 0].float() - 127
    found = [measured_period(row) for row in centred]
    wanted = [period * scale for scale in twice(linear(4, 64 / 256))]
    assert found == pytest.approx(wanted, rel=0.03)


def measured_period(row_W: Tensor) -> float:
    """Twice the mean distance of zero crossings, found between samples."""
    before, behind = row_W[:-1], row_W[1:]
    at = ((before < 0) != (behind < 0)).nonzero().flatten()
    crossings = at + before[at] / (before[at] - behind[at])
    return 2 * crossings.diff().mean().item()


def test_patches_are_those_of_the_scaled_frames() -> None:
    """Against the plain way: scale whole frames, then copy patch by patch."""
    clip = noise(6, 100, 131)
    places = torch.rand(GRID, GRID, 2, generator=torch.Generator().manual_seed(4))
    canvas = seen("sama", clip, seed=4)
    for t, (row, column) in itertools.product(range(6), itertools.product(range(GRID), repeat=2)):
        size = level_size(100, 131, SIDE, t // 2 / 2)
        level = F.interpolate(clip.pixels_TCHW[t : t + 1].float(), size, mode="bilinear")[0]
        y, x = (
            cell * (length // GRID) + int(place * (length // GRID - PATCH))
            for cell, length, place in zip(
                (row, column), size, places[row, column].tolist(), strict=True
            )
        )
        found = canvas[t, :, row * PATCH :, column * PATCH :][:, :PATCH, :PATCH]
        gap = level[:, y : y + PATCH, x : x + PATCH] - found
        assert gap.abs().max() <= 0.51  # 8 bit samples


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_patches_of_all_levels_have_one_relative_place(seed: int | None) -> None:
    canvas = seen("sama", coordinates(32), seed)
    places: dict[int, Tensor] = {}  # of the first frame
    for t in range(32):
        height, width = level_size(HEIGHT, WIDTH, SIDE, t // 2 / 15)
        for axis, (length, native) in enumerate([(height, HEIGHT), (width, WIDTH)]):
            shape = (-1, 1) if axis == 0 else (1, -1)
            cell, first = length // GRID, torch.arange(GRID).view(shape)
            # rows and columns of a level: its borders scale with the frame's
            corner = (canvas[t, axis, ::PATCH, ::PATCH] + 0.5) * length / native - 0.5
            offset = corner - first * cell
            place = places.setdefault(axis, offset / (cell - PATCH))
            assert (offset - place * (cell - PATCH)).abs().max() <= 1.01
            if seed is None:
                middle = offset + PATCH / 2 - cell / 2
                assert middle.abs().max() <= 1.01


@pytest.mark.parametrize(("mask", "square"), [("sama-swm", PATCH), ("sama-spm", 4)])
def test_each_square_of_a_mask_in_space_is_of_one_level(mask: VideoMask, square: int) -> None:
    clip = coordinates(32)
    finest, coarse = (steps(seen(each, clip), square) for each in ("fragments", "sama"))
    found = steps(seen(mask, clip), square)
    side = SIDE // square
    board = torch.tensor([[(i + j) % 2 == 0 for j in range(side)] for i in range(side)]).flatten()
    wanted = torch.where(board[None, :, None], finest, coarse)
    assert torch.allclose(found, wanted, atol=1e-2)
    # a board of an odd number of squares cannot be halved
    assert abs(2 * int(board.sum()) - len(board)) == len(board) % 2


def test_tokens_of_a_video_swin_are_of_one_level() -> None:
    """Blocks of 2 frames and 4 x 4 px have one scale, whatever the mask."""
    for mask in MASKS:
        step_TN2 = steps(seen(mask, coordinates(8), seed=0), 4)
        assert torch.allclose(step_TN2[::2], step_TN2[1::2], atol=1e-2)


@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_is_another_view_of_the_same_form(mask: VideoMask) -> None:
    clip = noise(32)
    canvas = seen(mask, clip)
    assert canvas.shape == (32, 3, SIDE, SIDE)
    assert canvas.dtype == torch.uint8
    assert not any(torch.equal(canvas, seen(other, clip)) for other in MASKS if other != mask)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("frames", [1, 5, 33])
def test_places_hang_on_the_generator_alone(mask: VideoMask, frames: int) -> None:
    clip = noise(frames)
    assert torch.equal(seen(mask, clip), seen(mask, clip))
    assert torch.equal(seen(mask, clip, seed=1), seen(mask, clip, seed=1))
    assert not torch.equal(seen(mask, clip, seed=1), seen(mask, clip, seed=2))


def test_antialiasing_spares_the_finest_level_alone() -> None:
    clip = noise(8)
    plain, smooth = (
        sama(clip, grid=GRID, patch=PATCH, is_antialiased=choice) for choice in (False, True)
    )
    assert torch.equal(plain[:2], smooth[:2])
    # bilinear samples of noise keep its contrast on a quarter of the scale, means do not
    assert smooth[6:].float().std() < 0.6 * plain[6:].float().std()


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
    assert canvas.dtype == torch.uint8


class Counted(TorchFunctionMode):
    """Counts calls of torch, and notes the most elements that one of them made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.most = 0, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.calls += 1
        if isinstance(made, Tensor) and not made._is_view():
            self.most = max(self.most, made.numel())
        return made


def test_the_work_hangs_neither_on_cells_nor_on_the_frame_size() -> None:
    """No copies patch by patch, no scaled frame: each step makes the canvas of a frame at most."""

    def work(grid: int, height: int) -> Counted:
        clip, counted = noise(16, height, 2 * height), Counted()
        with counted:
            sama(clip, grid=grid, patch=64 // grid)
        return counted

    few, many, large = work(2, 128), work(8, 128), work(2, 256)
    assert few.calls == many.calls == large.calls
    assert few.most == large.most == 16 * 3 * 64 * 64  # the canvas itself
