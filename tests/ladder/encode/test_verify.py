"""The expected length of an encode, and verification of encodes."""

import os
from pathlib import Path

import pytest

from ladder.codecs import CODECS
from ladder.encode.rungs import Rung
from ladder.encode.transcode import VideoLength, measure_length, transcode, verify_encode
from ladder.errors import VideoError
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange
from tests.conftest import EXACT, MakeVideo


def figures(video_length: VideoLength) -> tuple[int, float]:
    return video_length.frame_count, video_length.duration_s


def test_the_length_of_a_video_and_of_time_ranges_of_it(source_video: Path) -> None:
    info = probe(source_video)
    assert figures(measure_length(info)) == pytest.approx((24, 0.96))
    two = (TimeRange(0.2, 0.2), TimeRange(0.6, 0.12))  # frames 5 to 9 and 15 to 17
    assert figures(measure_length(info, two)) == pytest.approx((8, 0.32))


def test_the_length_of_a_clip_is_from_its_first_to_its_last_frame(make_video: MakeVideo) -> None:
    """A recording of a screen on which nothing happens from 0.2 s to 0.8 s."""
    keep = ("-vf", "select='lt(n,5)+gte(n,20)'", "-fps_mode", "passthrough", *EXACT)
    still = probe(make_video("still.mkv", "testsrc2=size=64x64:rate=25:duration=1.2", keep))
    (start_s, length_s), frame_s = (0.4, 0.72), float(1 / still.fps)
    inside = [n / 25 for n in range(20, 30) if n / 25 < start_s + length_s]
    found = measure_length(still, [TimeRange(start_s, length_s)])
    assert found.frame_count == pytest.approx(len(inside), abs=1)
    assert found.duration_s < 0.45  # of 0.72 s
    spread_s = (found.frame_count - 1) / 25 + frame_s
    assert found.duration_s == pytest.approx(spread_s, abs=0.002)


@pytest.fixture(scope="module")
def encode(make_video: MakeVideo, source_video: Path) -> Path:
    """A good encode of `source_video`, its index in front."""
    args = ("-c:v", "libx264", "-crf", "20", "-g", "8", "-pix_fmt", "yuv420p")
    return make_video("whole-encode.mp4", source_video, (*args, "-movflags", "+faststart"))


def refusal(video: Path, source: Path) -> str:
    info = probe(source)
    with pytest.raises(VideoError) as error:
        verify_encode(video, info, measure_length(info))
    assert error.value.code in ("damaged", "not_video")
    return str(error.value)


def test_a_complete_encode_is_accepted(encode: Path, source_video: Path) -> None:
    source = probe(source_video)
    info, video_length = verify_encode(encode, source, measure_length(source))
    assert (info.width_px, info.height_px) == (192, 108)
    assert figures(video_length) == pytest.approx((24, 0.96))


@pytest.mark.parametrize(("frames", "is_whole"), [(22, True), (21, False), (12, False)])
def test_an_encode_without_its_last_frames_is_refused(
    make_video: MakeVideo, source_video: Path, frames: int, is_whole: bool
) -> None:
    args = ("-frames:v", str(frames), *EXACT)
    short = make_video(f"frames-{frames}.mp4", source_video, args)
    if is_whole:
        verify_encode(short, probe(source_video), measure_length(probe(source_video)))
    else:
        assert f"has {frames} frames, its source 24" in refusal(short, source_video)


def test_an_encode_that_lasts_longer_than_its_source_is_refused(
    make_video: MakeVideo, source_video: Path
) -> None:
    args = ("-vf", "setpts=1.5*PTS", "-fps_mode", "passthrough", *EXACT)
    slow = make_video("slow.mp4", source_video, args)
    assert "its source 0.96 s" in refusal(slow, source_video)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_encode_is_refused(
    encode: Path, source_video: Path, tmp_path: Path, share: float
) -> None:
    trim = tmp_path / "cut.mp4"
    trim.write_bytes(encode.read_bytes())
    os.truncate(trim, int(trim.stat().st_size * share))
    assert str(trim) in refusal(trim, source_video) or "can be decoded" in refusal(
        trim, source_video
    )


@pytest.mark.parametrize("codec", CODECS)
def test_an_encode_with_damage_in_the_middle_is_refused(
    source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, codec: str
) -> None:
    bad = tmp_path / "bad.mp4"
    source = probe(source_video)
    transcode(source, {bad: Rung(height_px=108, crf=20, codec=codec)}, (), ffmpeg)
    verify_encode(bad, source, measure_length(source))  # until it is harmed
    data = bytearray(bad.read_bytes())
    media = data.index(b"mdat") + 4
    quarter = (data.index(b"moov") - media) // 4
    data[media + 2 * quarter : media + 3 * quarter] = b"\xff" * quarter
    bad.write_bytes(data)
    assert refusal(bad, source_video)
