"""Sparse decoding gives the same frames as decoding the whole video."""

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from ladder.media import decode
from ladder.media.container import Decoding, open_video
from ladder.media.decode import frames_at
from ladder.media.probe import probe
from ladder.media.upright import Pixels
from tests.conftest import MakeVideo

SCENE = "mandelbrot=size=96x64:rate=25:start_scale=0.6:end_pts=60,noise=alls=12:all_seed=1"
FRAMES = 110
SIZE = (96, 64)

X264 = ("-c:v", "libx264", "-crf", "20", "-bf", "3", "-pix_fmt", "yuv420p")
ENCODINGS: dict[str, tuple[str, ...]] = {
    "short groups.mp4": (*X264, "-g", "12"),
    "one group.mp4": (*X264, "-g", "250"),
    "open groups.mp4": (*X264, "-x264-params", "keyint=12:open-gop=1:bframes=3"),
    "pyramid.mkv": (*X264, "-x264-params", "keyint=40:bframes=7:b-pyramid=normal:scenecut=0"),
    "intra refresh.mp4": (*X264, "-x264-params", "keyint=20:intra-refresh=1"),
    "groups.ts": (*X264, "-g", "12"),
    "fields.mp4": (*X264, "-flags", "+ildct+ilme", "-g", "12"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "keyint=12:log-level=none:open-gop=1"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-b:v", "0", "-crf", "40", "-g", "12", "-cpu-used", "8"),
    "av1.mkv": ("-c:v", "libsvtav1", "-preset", "12", "-crf", "40", "-g", "17"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", "2", "-g", "12"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-bf", "2", "-g", "12"),
    "all key.mov": ("-c:v", "mjpeg",),
}  # fmt: skip


@pytest.fixture(params=ENCODINGS)
def video(request: pytest.FixtureRequest, make_video: MakeVideo) -> Path:
    args = ENCODINGS[request.param]
    return make_video(f"sparse {request.param}", SCENE, [*args, "-frames:v", str(FRAMES)])


def through(video: Path, times_s: Sequence[float]) -> Pixels:
    with mock.patch.object(decode, "plan", side_effect=decode.SparseDecodingUnavailable):
        return frames_at(probe(video), times_s, SIZE)


def test_sparse_decoding_gives_the_same_frames_as_decoding_everything(video: Path) -> None:
    every_s = [index / 25 for index in range(FRAMES)]
    every = through(video, every_s)
    changes_T = np.abs(np.diff(every.astype(int), axis=0)).max((1, 2, 3))
    assert (changes_T > 0).mean() > 0.95  # an AVI with B frames starts a frame late
    rng = np.random.default_rng(3)
    for count in (1, 2, 8, FRAMES):
        chosen = sorted(rng.choice(FRAMES, count, replace=False).tolist())
        found = frames_at(probe(video), [every_s[index] for index in chosen], SIZE)
        np.testing.assert_array_equal(found, every[chosen])


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_number_of_threads_does_not_change_the_frames(
    make_video: MakeVideo, threads: int
) -> None:
    name = "pyramid.mkv"
    info = probe(make_video(f"sparse {name}", SCENE, [*ENCODINGS[name], "-frames:v", str(FRAMES)]))
    times_s = [0.3, 0.34, 1.1, 1.14, 2.9, 2.94, 4.1]
    found = frames_at(info, times_s, SIZE, Decoding(threads))
    np.testing.assert_array_equal(found, through(info.path, times_s))


def decoded_count(video: Path, times_s: Sequence[float]) -> int:
    """The number of frames that are decoded for the frames at `times_s`."""
    with open_video(video, Decoding(threads=1)) as (container, stream):
        window = decode.plan(probe(video), container, stream, times_s)
        return sum(1 for _ in decode.decoded(container, stream, window))


def test_only_the_wanted_frames_and_their_references_are_decoded(make_video: MakeVideo) -> None:
    def made(name: str) -> Path:
        return make_video(f"sparse {name}", SCENE, [*ENCODINGS[name], "-frames:v", str(FRAMES)])

    assert decoded_count(made("all key.mov"), [0.2, 2.0, 4.0]) == 3
    # the fourth frame in each of two groups of twelve: four frames of each are decoded
    plain = make_video("no b.mp4", SCENE, [*X264, "-bf", "0", "-g", "12", "-frames:v", str(FRAMES)])
    assert decoded_count(plain, [3 / 25, 39 / 25]) == 8
    # in a long group, frames without references to them are skipped
    assert decoded_count(made("one group.mp4"), [4.2]) < 0.7 * 4.2 * 25


def test_times_are_split_at_gaps_longer_than_a_seek() -> None:
    assert list(decode.split_at_gaps([0, 1, 2, 7, 8, 20])) == [[0, 1, 2], [7, 8], [20]]
    assert list(decode.split_at_gaps([5.0])) == [[5.0]]
