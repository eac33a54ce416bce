"""Decoded frames are those that ffmpeg shows: cropped, turned and mirrored as it does."""

from pathlib import Path

import pytest

from ladder.media.decode import frames_at
from ladder.media.probe import probe
from tests.conftest import EXACT, MakeVideo

CLIP = "testsrc2=size=96x64:rate=25:duration=0.2"
COPY = ("-c", "copy")


@pytest.fixture
def clip(make_video: MakeVideo) -> Path:
    return make_video("to-turn.mp4", CLIP)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["none", "-display_hflip", "-display_vflip"])
def test_pictures_are_turned_and_mirrored_as_ffmpeg_does(
    make_video: MakeVideo, clip: Path, degrees: int, flip: str
) -> None:
    turn = ("-display_rotation", str(degrees), *([] if flip == "none" else [flip]))
    name = f"turned-{degrees}{flip}"
    video = make_video(f"{name}.mp4", clip, COPY, turn)
    shown = make_video(f"{name}-by-ffmpeg.mp4", video, EXACT)
    info, right = probe(video), probe(shown)
    assert info.is_mirrored == (flip != "none")
    assert info.display_size == right.display_size == ((64, 96) if degrees % 180 else (96, 64))
    ours, theirs = (frames_at(each, [0.1], each.display_size) for each in (info, right))
    assert (ours == theirs).all()


@pytest.mark.parametrize("coder", ["libx264", "libx265"])
def test_a_crop_in_the_stream_is_where_it_says(make_video: MakeVideo, coder: str) -> None:
    codec, lossless = ("h264", "crf=0") if coder == "libx264" else ("hevc", "lossless=1")
    params = (f"-{coder[3:]}-params", f"log-level=none:{lossless}")
    whole = make_video(f"sps-{codec}.mp4", CLIP, ("-c:v", coder, *params, "-pix_fmt", "yuv420p"))
    crop = f"{codec}_metadata=crop_left=6:crop_top=4:crop_right=2:crop_bottom=10"
    video = make_video(f"{codec}-crop.mp4", whole, ("-bsf:v", crop, *COPY))
    info, right = probe(video), probe(make_video(f"{codec}-by-ffmpeg.mp4", video, EXACT))
    assert info.display_size == right.display_size == (88, 50)
    assert (frames_at(info, [0.1], (88, 50)) == frames_at(right, [0.1], (88, 50))).all()
