"""Frame groups are sampled evenly over a video."""

import dataclasses

import numpy as np
import pytest

from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange
from tests.conftest import EXACT, MakeVideo
from vqatool.inputs.clip import Array, Clip, FrameGroup, GroupedView, finished
from vqatool.inputs.preprocessor import ClipPreprocessor, preprocess, read_clip, sample_times
from vqatool.methods import Method, recipe_for

STEP = 4  # levels of luma from one frame to the next
COUNTER = f"color=black:size=64x48:rate=10,format=yuv420p,geq=lum='16+{STEP}*N':cb=128:cr=128"


def brightness(pixels_TCHW: Array) -> Array:
    """The mean of each frame, 8 bit samples."""
    mean_T: Array = pixels_TCHW.astype(np.float32).mean((1, 2, 3))
    return mean_T


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_the_second_frame_of_a_group_is_the_next_one_of_the_video(
    make_video: MakeVideo, frames: int
) -> None:
    video = make_video("counter-40.mp4", COUNTER, (*EXACT, "-frames:v", "40"))
    clip = read_clip(probe(video), frames, FrameGroup(2), None)
    assert clip.second_TCHW is not None
    steps = brightness(clip.second_TCHW) - brightness(clip.first_TCHW)
    assert (steps * 219 / 255 / STEP).tolist() == pytest.approx([1] * frames, abs=0.2)
    middles = [40 * (index + 0.5) / frames for index in range(frames)]
    shown = brightness(clip.first_TCHW) * 219 / 255 / STEP
    assert shown.tolist() == pytest.approx([int(middle) for middle in middles], abs=0.6)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_group_at_the_end_repeats_the_last_frame(make_video: MakeVideo, frames: int) -> None:
    video = make_video(f"counter-{frames}.mp4", COUNTER, (*EXACT, "-frames:v", str(frames)))
    clip = read_clip(probe(video), 8, FrameGroup(2), None)
    assert clip.second_TCHW is not None
    assert len(clip.second_TCHW) == len(clip.first_TCHW) == 8
    assert (clip.second_TCHW[-1] == clip.first_TCHW[-1]).all()


def test_a_group_with_a_stride_skips_frames(make_video: MakeVideo) -> None:
    video = make_video("counter-40.mp4", COUNTER, (*EXACT, "-frames:v", "40"))
    clip = read_clip(probe(video), 2, FrameGroup(num_frames=3, stride=4), None)
    shown = brightness(clip.pixels_TCHW) * 219 / 255 / STEP
    assert shown.tolist() == pytest.approx([10, 14, 18, 30, 34, 38], abs=0.6)


def test_groups_do_not_overlap(make_video: MakeVideo) -> None:
    video = make_video("counter-40.mp4", COUNTER, (*EXACT, "-frames:v", "40"))
    clip = read_clip(probe(video), 8, FrameGroup(num_frames=6, stride=2), None)
    shown = np.diff(brightness(clip.pixels_TCHW))
    assert (shown > -0.5).all()
    assert len(clip.pixels_TCHW) == 48


def test_twenty_groups_in_ten_seconds_are_two_a_second() -> None:
    times_s = sample_times(0.0, 10.0, 20, FrameGroup(), 25.0)
    assert times_s == pytest.approx([0.25 + 0.5 * index for index in range(20)])
    assert times_s[0] < 1
    assert times_s[-1] > 9


@pytest.mark.parametrize("frames", [1, 4])
def test_a_video_with_fewer_frames_than_groups_repeats_them(
    frames: int, make_video: MakeVideo
) -> None:
    video = make_video(f"counter-{frames}.mp4", COUNTER, (*EXACT, "-frames:v", str(frames)))
    clip = read_clip(probe(video), 20, FrameGroup(num_frames=4, stride=2), None)
    assert len(clip.first_TCHW) == 20
    shown = brightness(clip.first_TCHW) * 219 / 255 / STEP
    assert {round(value) for value in shown.tolist()} == set(range(frames))


def test_a_length_in_milliseconds_gives_the_same_frames(make_video: MakeVideo) -> None:
    """The middles of parts often lie where a frame begins: 1 ms less must not take the one before.

    A copy of Matroska in MP4 has its rounded timestamps, and ends when its last frame begins.
    """
    args = ("-bf", "0", "-video_track_timescale", "16000", *EXACT, "-frames:v", "48")
    video = make_video("counter-24.mp4", COUNTER.replace("rate=10", "rate=24"), args)
    rounded = make_video("counter-24.mkv", video, ("-c", "copy"))
    copy = probe(make_video("counter-24-copy.mp4", rounded, ("-c", "copy")))
    copy = dataclasses.replace(copy, duration_s=1.999)
    shown = [
        brightness(read_clip(each, 8, FrameGroup(2), None).pixels_TCHW)
        for each in (probe(video), copy)
    ]
    assert (shown[0] == shown[1]).all()


def raw(clip: Clip, *, generator: np.random.Generator | None) -> Array:
    """The pixels themselves, not copied."""
    return clip.pixels_TCHW


def test_views_of_one_group_after_another_are_those_of_the_whole_clip(
    make_video: MakeVideo,
) -> None:
    video = make_video("counter-40.mp4", COUNTER, (*EXACT, "-frames:v", "40"))
    recipe = recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 16})
    views = (GroupedView(raw), *recipe.views)
    loaded = ClipPreprocessor(views, 5, FrameGroup(2), True).load_views(probe(video), None)
    clip = read_clip(probe(video), 5, FrameGroup(2), None, reads_stream=True)
    whole = preprocess(views, clip)
    for streamed, expected in zip(finished(views, loaded), whole, strict=True):
        assert np.array_equal(streamed, expected)


def test_parts_in_one_pass_are_those_of_each_alone(make_video: MakeVideo) -> None:
    video = make_video("counter-40.mp4", COUNTER, (*EXACT, "-frames:v", "40"))
    views = (GroupedView(raw), *recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 16}).views)
    preprocessor, info = ClipPreprocessor(views, 3, FrameGroup(2), True), probe(video)
    length_s = info.duration_s / 4
    parts = [TimeRange(index * length_s, length_s) for index in (0, 1, 3)]
    for part, together in zip(
        parts, preprocessor.load_parts(info, None, parts, is_strict=True), strict=True
    ):
        alone = preprocessor.load_views(info, None, part)
        assert all(map(np.array_equal, together.views, alone))
