"""`frames_at` returns the right frames, upright and in the right colours, or raises an error."""

import contextlib
import dataclasses
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from ladder.errors import VideoError
from ladder.media.decode import (
    count_decodable_frames,
    display_size,
    frames_at,
    require_complete,
    uniform_times,
)
from ladder.media.ffmpeg import Ffmpeg, file_url, run
from ladder.media.probe import probe
from ladder.media.upright import Pixels
from tests.conftest import EXACT, MakeVideo

STEP = 4  # levels of luma from one frame to the next: frame n is a flat 16 + STEP * n
COUNTER = f"color=black:size=64x48:rate={{fps}},format=yuv420p,geq=lum='16+{STEP}*N':cb=128:cr=128"
SIZE = (64, 48)


@pytest.fixture(autouse=True)
def one_minute_limit() -> Iterator[None]:
    """Fail a test whose search for a frame never ends."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError("looking for frames did not come to an end")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def counter(make_video: MakeVideo, *, fps: int, frames: int, gop: int, suffix: str = "mp4") -> Path:
    """A video in which the luma of each frame encodes its number."""
    args = (*EXACT, "-frames:v", str(frames), "-g", str(gop), "-keyint_min", str(gop))
    return make_video(f"counter-{fps}-{frames}-{gop}.{suffix}", COUNTER.format(fps=fps), args)


def numbers(pixels_THWC: Pixels) -> list[int]:
    """The frame numbers that `counter` wrote; all pixels must be equal."""
    level_THWC = pixels_THWC.astype(float) * 219 / 255 / STEP
    number_T = level_THWC.mean(axis=(1, 2, 3)).round()
    assert np.abs(level_THWC - number_T[:, None, None, None]).max() < 0.4
    return [int(number) for number in number_T]


def shown_numbers(video: Path, times_s: Sequence[float]) -> list[int]:
    return numbers(frames_at(probe(video), times_s, SIZE))


# ---- which frames


@pytest.mark.parametrize("times_s", [[0.0, 0.5, 1.0], [9.5], [0.1, 9.9], [30.0]])
def test_a_stream_without_timestamps_is_read_by_frame_index(
    make_video: MakeVideo, times_s: list[float]
) -> None:
    video = counter(make_video, fps=5, frames=50, gop=10, suffix="264")
    info = probe(video)
    assert info.is_bare
    require_complete(info)
    assert info.duration_s * float(info.fps) == pytest.approx(50)
    # such a stream may lack its frame rate too: use the rate that probe assumed
    shown_times_s = [time_s * 5 / float(info.fps) for time_s in times_s]
    assert shown_numbers(video, shown_times_s) == [min(int(time_s * 5), 49) for time_s in times_s]


def test_pictures_one_after_another_are_read_from_the_first(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    """FFmpeg says that it seeks in them, and does not."""
    pictures = counter(make_video, fps=25, frames=20, gop=1)
    args = ("-c:v", "png", "-f", "image2pipe")
    video = tmp_path / "pictures.mjpeg"
    video.write_bytes(make_video("pictures.bin", pictures, args).read_bytes())
    assert probe(video).is_bare
    assert shown_numbers(video, [0.2, 0.42, 0.7]) == [5, 10, 17]


def test_the_last_frames_of_an_avi_with_b_frames_are_found(make_video: MakeVideo) -> None:
    """A seek to the end gives one frame alone, without a time."""
    args = ("-c:v", "mpeg4", "-q:v", "1", "-bf", "2", "-g", "24", "-frames:v", "144")
    video = make_video("b-frames.avi", COUNTER.format(fps=24), args)
    info = probe(video)
    together = frames_at(info, [5.7, 5.9], SIZE)
    apart = np.concatenate([frames_at(info, [time_s], SIZE) for time_s in (5.7, 5.9)])
    np.testing.assert_array_equal(apart, together)


def test_frames_at_returns_the_frames_of_the_given_times_in_order(make_video: MakeVideo) -> None:
    video = counter(make_video, fps=25, frames=24, gop=12)
    assert shown_numbers(video, [n / 25 for n in range(24)]) == list(range(24))
    assert shown_numbers(video, [0.0, 0.2, 0.48, 0.92]) == [0, 5, 12, 23]
    pixels = frames_at(probe(video), [0.2], (32, 24))
    assert pixels.shape == (1, 24, 32, 3)
    assert pixels.dtype == np.uint8


def test_a_repeated_time_returns_its_frame_again(make_video: MakeVideo) -> None:
    video = counter(make_video, fps=25, frames=24, gop=12)
    assert shown_numbers(video, [0.2, 0.2, 0.24, 0.24]) == [5, 5, 6, 6]


def test_a_time_past_the_end_gives_the_last_frame(make_video: MakeVideo) -> None:
    video = counter(make_video, fps=25, frames=24, gop=12)
    assert shown_numbers(video, [0.92, 0.96, 1.1]) == [23, 23, 23]


@pytest.mark.parametrize("gop", [5, 25, 250])
def test_seeking_gives_the_same_frames_as_decoding_everything(
    make_video: MakeVideo, gop: int
) -> None:
    """10 s at 5 fps; with 250, the default of x264, the video has only one key frame."""
    video = counter(make_video, fps=5, frames=50, gop=gop)
    everything = shown_numbers(video, [n / 5 for n in range(50)])
    assert everything == list(range(50))
    for far_apart in ([9.0], [0.0, 9.8], [4.2, 9.4], [0.2, 4.6, 4.8, 9.2]):
        assert shown_numbers(video, far_apart) == [everything[round(t * 5)] for t in far_apart]


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_seeking_works_in_other_containers(make_video: MakeVideo, suffix: str) -> None:
    """A transport stream starts its clock at 1.4 s and has no index."""
    video = counter(make_video, fps=5, frames=50, gop=10, suffix=suffix)
    assert shown_numbers(video, [0.0, 0.2]) == [0, 1]
    assert shown_numbers(video, [0.4, 6.6, 9.8]) == [2, 33, 49]


def test_seeking_finds_reordered_frames(make_video: MakeVideo) -> None:
    args = ("-c:v", "libx264", "-qp", "0", "-bf", "3", "-g", "10", "-frames:v", "50")
    video = make_video("counter-b-frames.mp4", COUNTER.format(fps=5), args)
    assert shown_numbers(video, [0.0, 0.6, 7.4, 9.8]) == [0, 3, 37, 49]


def test_a_frame_is_shown_until_the_next_frame(make_video: MakeVideo) -> None:
    """A screen recording: frames 0 to 5, nothing new for five seconds, then 30 to 35."""
    keep = ("-vf", "select='lt(n,6)+gt(n,29)'", "-fps_mode", "passthrough", "-frames:v", "12")
    video = make_video("counter-vfr.mp4", COUNTER.format(fps=5), [*keep, *EXACT])
    assert shown_numbers(video, [0.0, 1.0, 3.0, 5.0, 6.0, 7.0]) == [0, 5, 5, 5, 30, 35]


def test_uniform_times_are_the_centres_of_equal_parts() -> None:
    assert uniform_times(0, 8, 4) == [1, 3, 5, 7]
    assert uniform_times(10, 1, 1) == [10.5]


# ---- damaged files


@pytest.fixture
def truncated(make_video: MakeVideo, tmp_path: Path) -> Path:
    """The first 60 % of a video; the index at its start lists all frames."""
    args = ("-c:v", "libx264", "-crf", "10", "-g", "10", "-pix_fmt", "yuv420p")
    scene = "testsrc2=size=96x64:rate=10:duration=6"
    whole = make_video("index-first.mp4", scene, [*args, "-movflags", "+faststart"])
    require_complete(probe(whole))
    assert len(frames_at(probe(whole), [0.0, 5.9], SIZE)) == 2
    trim = tmp_path / "cut.mp4"
    data = whole.read_bytes()
    trim.write_bytes(data[: len(data) * 6 // 10])
    return trim


def test_decoding_a_truncated_video_raises_damaged(truncated: Path) -> None:
    info = probe(truncated)
    for times_s in ([5.9], [0.0, 5.5], uniform_times(0, info.duration_s, 8)):
        with pytest.raises(VideoError) as error:
            frames_at(info, times_s, SIZE)
        assert error.value.code == "damaged"
        assert str(truncated) in str(error.value)


def test_require_complete_finds_a_missing_end_without_decoding(truncated: Path) -> None:
    with pytest.raises(VideoError) as error:
        require_complete(probe(truncated))
    assert error.value.code == "damaged"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("fps", [5, 25])
def test_require_complete_accepts_a_complete_video(
    make_video: MakeVideo, suffix: str, fps: int
) -> None:
    require_complete(probe(counter(make_video, fps=fps, frames=24, gop=12, suffix=suffix)))


def test_a_video_with_overwritten_frames_is_damaged(make_video: MakeVideo, tmp_path: Path) -> None:
    good = counter(make_video, fps=25, frames=24, gop=12)
    data = good.read_bytes()
    info = probe(good)
    bad = tmp_path / "bad.mp4"
    media = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    bad.write_bytes(data[:media] + b"\xff" * (end - media) + data[end:])
    with pytest.raises(VideoError) as error:
        frames_at(dataclasses.replace(info, path=bad), [0.0], SIZE)
    assert error.value.code == "damaged"


# ---- size, orientation and colours


@pytest.mark.parametrize(
    ("size", "display", "expected_size"),
    [
        ((640, 360), (1920, 1080), (1920, 1080)),
        ((3840, 2160), (1920, 1080), (1920, 1080)),
        ((3840, 2160), None, (3840, 2160)),
        ((1080, 1920), (1920, 1080), (1080, 1920)),  # portrait: the screen is turned
        ((1080, 1920), (1080, 1920), (1080, 1920)),
        ((1920, 1080), (1080, 1920), (1920, 1080)),
        ((2048, 858), (1920, 1080), (1920, 804)),  # 804.4, bars above and below
        ((640, 480), (1920, 1080), (1440, 1080)),  # bars left and right
        ((500, 500), (1920, 1080), (1080, 1080)),
    ],
)
def test_display_size_fills_the_screen_in_one_direction(
    source_video: Path,
    size: tuple[int, int],
    display: tuple[int, int] | None,
    expected_size: tuple[int, int],
) -> None:
    info = dataclasses.replace(probe(source_video), width_px=size[0], height_px=size[1])
    assert display_size(info, display) == expected_size


def test_display_size_applies_the_rotation_of_the_metadata(source_video: Path) -> None:
    info = dataclasses.replace(probe(source_video), width_px=1920, height_px=1080, rotation=90)
    assert display_size(info, None) == (1080, 1920)
    assert display_size(info, (1280, 720)) == (720, 1280)


def picture_of(ffmpeg: Ffmpeg, video: Path, out: Path) -> Pixels:
    """The first frame, decoded by the ffmpeg program."""
    run(ffmpeg, ["-i", file_url(video), "-frames:v", "1", "-pix_fmt", "rgb24", "-y", file_url(out)])
    with contextlib.closing(av.open(str(out))) as container:
        return np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_pixels_are_upright_as_in_a_player(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, degrees: int
) -> None:
    scene = "color=black:size=96x64:rate=25:duration=0.2,drawbox=w=24:h=16:color=white:t=fill"
    flat = make_video("corner.mp4", scene)
    turned = make_video(
        f"corner-{degrees}.mp4", flat, ["-c", "copy"], ["-display_rotation", str(degrees)]
    )
    info = probe(turned)
    (shown_HWC,) = frames_at(info, [0.0], display_size(info, None))
    expected_HWC = picture_of(ffmpeg, turned, tmp_path / "expected.png")
    assert shown_HWC.shape == expected_HWC.shape
    assert np.abs(shown_HWC.astype(int) - expected_HWC).max() < 16
    # rotation moves the white top left corner counter-clockwise
    rows, cols = np.nonzero(shown_HWC[..., 0] > 128)
    is_low, is_right = {0: (0, 0), 90: (1, 0), 180: (1, 1), 270: (0, 1)}[degrees]
    height, width = shown_HWC.shape[:2]
    assert (rows.mean() > height / 2, cols.mean() > width / 2) == (is_low, is_right)


def test_non_square_pixels_are_scaled_to_square(make_video: MakeVideo) -> None:
    scene = "color=black:size=96x64:rate=25:duration=0.2,drawbox=w=48:color=white:t=fill,setsar=2"
    info = probe(make_video("wide.mp4", scene))
    (shown_HWC,) = frames_at(info, [0.0], display_size(info, None))
    assert shown_HWC.shape == (64, 192, 3)
    assert (shown_HWC[32, :90] > 200).all()
    assert (shown_HWC[32, 102:] < 50).all()


def test_full_and_limited_range_of_one_picture_give_the_same_pixels(
    make_video: MakeVideo,
) -> None:
    scene = "testsrc2=size=96x64:rate=25:duration=0.2,format=rgb24,scale=out_range={}"
    pictures = []
    for name in ("tv", "pc"):
        args = ["-vf", "format=yuv420p", "-color_range", name, *EXACT]
        info = probe(make_video(f"range-{name}.mp4", scene.format(name), args))
        assert info.is_full_range == (name == "pc")
        pictures.append(frames_at(info, [0.0], info.display_size).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 3
    assert pictures[0].min() < 8
    assert pictures[0].max() > 247


def test_white_and_black_keep_their_values(make_video: MakeVideo) -> None:
    scene = "color=black:size=96x64:rate=25:duration=0.2,drawbox=w=48:color=white:t=fill"
    info = probe(make_video("black-and-white.mp4", scene))
    (shown_HWC,) = frames_at(info, [0.0], (96, 64))
    assert shown_HWC[:, :40].min() >= 253
    assert shown_HWC[:, 56:].max() <= 2


def test_colours_follow_the_colour_matrix_of_the_file(make_video: MakeVideo) -> None:
    """One picture, encoded with the SD matrix and with the HD matrix."""
    pictures = []
    for matrix in ("bt601", "bt709"):
        scene = (
            f"testsrc2=size=96x64:rate=25:duration=0.2,format=rgb24,scale=out_color_matrix={matrix}"
        )
        args = ["-vf", "format=yuv420p", *EXACT]
        info = probe(make_video(f"matrix-{matrix}.mp4", scene, args))
        pictures.append(frames_at(info, [0.0], info.display_size).astype(int))
    assert np.abs(pictures[0] - pictures[1]).mean() < 2


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "264"])
def test_every_frame_of_a_complete_video_is_counted(make_video: MakeVideo, suffix: str) -> None:
    assert (
        count_decodable_frames(counter(make_video, fps=5, frames=50, gop=10, suffix=suffix)) == 50
    )


def test_counting_frames_raises_at_a_damaged_frame(make_video: MakeVideo, tmp_path: Path) -> None:
    data = bytearray(counter(make_video, fps=25, frames=24, gop=12).read_bytes())
    media, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    middle = (media + end) // 2
    data[middle : middle + 40] = b"\xff" * 40
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data)
    with pytest.raises(VideoError) as error:
        count_decodable_frames(bad)
    assert error.value.code == "damaged"
    assert str(bad) in str(error.value)


def test_missing_frames_of_a_truncated_video_are_not_counted(truncated: Path) -> None:
    assert 0 < count_decodable_frames(truncated) < 60
