"""What a model is shown: the chosen frames, and the one after each."""

import pytest

from ladder.probe import probe
from tests.conftest import EXACT, MakeVideo
from vqatool.clips import read_clip

STEP = 4  # levels of luma from one frame to the next
COUNTER = f"color=black:size=64x48:rate=10,format=yuv420p,geq=lum='16+{STEP}*N':cb=128:cr=128"


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_the_following_frame_is_the_next_one_on_the_screen(
    make_video: MakeVideo, frames: int
) -> None:
    video = make_video("counter-40.mp4", COUNTER, (*EXACT, "-frames:v", "40"))
    clip = read_clip(probe(video), frames, None)
    assert clip.following_TCHW is not None
    steps = (clip.following_TCHW.float() - clip.pixels_TCHW.float()).mean((1, 2, 3))
    assert (steps * 219 / 255 / STEP).tolist() == pytest.approx([1] * frames, abs=0.2)
    middles = [40 * (index + 0.5) / frames for index in range(frames)]
    shown = clip.pixels_TCHW.float().mean((1, 2, 3)) * 219 / 255 / STEP
    assert shown.tolist() == pytest.approx([int(middle) for middle in middles], abs=0.6)


@pytest.mark.parametrize("frames", [1, 3])
def test_the_last_frame_is_followed_by_itself(make_video: MakeVideo, frames: int) -> None:
    video = make_video(f"counter-{frames}.mp4", COUNTER, (*EXACT, "-frames:v", str(frames)))
    clip = read_clip(probe(video), 8, None)
    assert clip.following_TCHW is not None
    assert len(clip.following_TCHW) == len(clip.pixels_TCHW) == 8
    assert (clip.following_TCHW[-1] == clip.pixels_TCHW[-1]).all()
