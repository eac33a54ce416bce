from functools import partial

import pytest
import torch
from torch import Tensor

from vqatool.clips import Clip
from vqatool.views.zoom import mirrored, run_fragments, still_count, still_crops, zoom_times

FRAME_S = 1 / 30
crops_of = partial(still_crops, runs=2, run_frames=3)
mosaics_of = partial(run_fragments, runs=2, run_frames=3)


def numbered(frames: int, height: int = 40, width: int = 60) -> Clip:
    """Every pixel of a frame is the frame's number."""
    return Clip(
        torch.arange(frames, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, height, width)
    )


def ramp(frames: int, height: int, width: int, *, length: float = 200.0) -> Clip:
    """Channel 0 rises from top to bottom, channel 1 from left to right, 0 to `length`."""
    y, x = torch.meshgrid(
        torch.linspace(0, length, height), torch.linspace(0, length, width), indexing="ij"
    )
    return Clip(torch.stack([y, x, x]).expand(frames, 3, height, width))


def taken(times_s: list[float]) -> list[int]:
    return [int(time_s / FRAME_S) for time_s in times_s]


def order(view_TCHW: Tensor) -> list[float]:
    assert (view_TCHW.flatten(1).amin(1) == view_TCHW.flatten(1).amax(1)).all()
    return view_TCHW[:, 0, 0, 0].tolist()


def plan(length_s: float, *, stills: int, runs: int = 4, run_frames: int = 32) -> list[float]:
    return zoom_times(0, length_s, FRAME_S, stills=stills, runs=runs, run_frames=run_frames)


@pytest.mark.parametrize("length_s", [3.0, 10.0, 61.7])
def test_stills_are_two_a_second_with_the_first_and_the_last_second(length_s: float) -> None:
    stills = still_count(length_s)
    times = plan(length_s, stills=stills)[:stills]
    assert stills == pytest.approx(2 * length_s, abs=0.5)
    assert 0 <= times[0] < 1
    assert length_s - 1 <= times[-1] < length_s
    gaps = torch.tensor(times).diff()
    assert torch.allclose(gaps, torch.full_like(gaps, 0.5), atol=0.05)


@pytest.mark.parametrize("length_s", [0.0, 0.04, 0.3, 0.49])
def test_the_shortest_clip_has_a_still(length_s: float) -> None:
    stills = still_count(length_s)
    first, *runs = plan(length_s, stills=stills, runs=1, run_frames=2)
    assert stills == 1
    assert 0 <= first <= length_s
    assert all(0 <= time_s < max(length_s, FRAME_S) for time_s in runs)


def test_runs_start_where_the_ancestors_clips_do() -> None:
    # 300 frames, 4 runs of 32 with stride 2: parts of 75 frames, slack of 11, half of it 5
    frames = taken(plan(10, stills=1)[1:])
    assert frames[::32] == [5, 80, 155, 230]
    assert frames[:32] == list(range(5, 5 + 64, 2))


def test_a_run_past_the_end_stays_on_the_last_frame() -> None:
    frames = taken(plan(0.5, stills=1, runs=1, run_frames=10)[1:])
    assert frames == [0, 2, 4, 6, 8, 10, 12, 14, 14, 14]


def test_a_part_in_the_middle_keeps_to_itself() -> None:
    whole = plan(2, stills=3, runs=2, run_frames=4)
    part = zoom_times(7, 2, FRAME_S, stills=3, runs=2, run_frames=4)
    assert part == pytest.approx([7 + time_s for time_s in whole])


def test_one_clip_serves_both_views() -> None:
    clip = numbered(5 + 6)
    assert order(crops_of(clip, short_px=20, crop_px=8)) == [0, 1, 2, 3, 4]
    mosaics = mosaics_of(clip, short_px=20, grid=2, patch=8)
    assert order(mosaics) == [5, 6, 7, 8, 9, 10]


def test_without_stills_the_first_frame_of_each_run_stands_for_them() -> None:
    clip = numbered(6)
    assert order(crops_of(clip, short_px=20, crop_px=8)) == [0, 3]
    mosaics = mosaics_of(clip, short_px=20, grid=2, patch=8)
    assert order(mosaics) == [0, 1, 2, 3, 4, 5]


def test_a_picture_is_a_still_and_a_run() -> None:
    picture = numbered(1)
    assert len(crops_of(picture, short_px=20, crop_px=8)) == 1
    assert len(mosaics_of(picture, short_px=20, grid=2, patch=8)) == 3


def test_a_crop_is_of_the_middle_of_the_scaled_frame() -> None:
    clip = ramp(1, 400, 600)  # short side halved to 200: 200 values over 200 rows, 300 columns
    crop = crops_of(clip, short_px=200, crop_px=80)
    assert crop.shape == (1, 3, 80, 80)
    top, bottom = crop[0, 0, 0, 0].item(), crop[0, 0, -1, 0].item()
    left, right = crop[0, 1, 0, 0].item(), crop[0, 1, 0, -1].item()
    assert (top, bottom) == pytest.approx((60, 140), abs=2)
    assert (left, right) == pytest.approx((200 * 110 / 300, 200 * 190 / 300), abs=2)


def test_crops_by_chance_are_each_stills_own_and_repeat_with_the_seed() -> None:
    clip = ramp(3 + 6, 40, 60)

    def drawn(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return crops_of(clip, short_px=40, crop_px=16, generator=generator)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(drawn(1)[0], drawn(1)[1])


def test_crops_by_chance_reach_every_border() -> None:
    clip = ramp(300, 24, 30, length=255)
    generator = torch.Generator().manual_seed(0)
    crops = still_crops(clip, runs=1, run_frames=1, short_px=24, crop_px=16, generator=generator)
    for channel in range(2):
        assert crops[:, channel].min() == 0
        assert crops[:, channel].max() == 255


def test_a_run_keeps_its_places_and_the_next_has_others() -> None:
    clip = ramp(6, 48, 64)
    generator = torch.Generator().manual_seed(0)
    mosaics = mosaics_of(clip, short_px=48, grid=2, patch=8, generator=generator)
    assert torch.equal(mosaics[:3], mosaics[:1].expand(3, -1, -1, -1))
    assert torch.equal(mosaics[3:], mosaics[3:4].expand(3, -1, -1, -1))
    assert not torch.equal(mosaics[0], mosaics[3])


def test_fragments_without_chance_are_the_middles_of_their_cells() -> None:
    clip = ramp(6, 48, 64, length=47)
    mosaics = mosaics_of(clip, short_px=48, grid=2, patch=8)
    # cells of 24 rows, slack of 16: patches start at rows 8 and 32
    assert mosaics[:, 0, ::8, 0].unique(dim=0).tolist() == [[8, 32]]


@pytest.mark.parametrize("size", [(60, 40), (20, 31), (1, 1)])
def test_any_frame_is_scaled_by_its_short_side(size: tuple[int, int]) -> None:
    clip = numbered(7, *size)
    assert crops_of(clip, short_px=32, crop_px=32).shape == (1, 3, 32, 32)
    assert mosaics_of(clip, short_px=32, grid=2, patch=16).shape == (6, 3, 32, 32)


def test_scaling_down_filters_unless_it_is_told_not_to() -> None:
    stripes = (torch.arange(64) % 2 * 200)[None, None, :, None].expand(7, 3, -1, 64)
    clip = Clip(stripes.to(torch.uint8))
    pinned, plain = (
        crops_of(clip, short_px=24, crop_px=24, antialias=antialias).float()
        for antialias in (True, False)
    )
    assert pinned.std() < 15  # grey
    assert plain.std() > 45  # moire


def test_pixels_keep_type_and_value() -> None:
    clip = Clip(torch.full((7, 3, 33, 47), 77, dtype=torch.uint8))
    crops = crops_of(clip, short_px=20, crop_px=16)
    mosaics = mosaics_of(clip, short_px=20, grid=2, patch=8)
    for view in (crops, mosaics):
        assert view.dtype == torch.uint8
        assert (view == 77).all()


def test_a_crop_larger_than_the_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="a crop of 64 px does not fit"):
        crops_of(numbered(7), short_px=32, crop_px=64)


def test_all_frames_are_mirrored_or_none() -> None:
    view = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    found = [mirrored(view, generator=torch.Generator().manual_seed(seed)) for seed in range(20)]
    is_turned = [torch.equal(each, view.flip(-1)) for each in found]
    assert {True, False} == set(is_turned)
    assert all(torch.equal(e, view) for e, t in zip(found, is_turned, strict=True) if not t)
