"""Dolby Vision's configuration record in MP4 and Matroska."""

from pathlib import Path

import pytest

from ladder.errors import VideoError
from ladder.media.dolby_vision import dolby_vision
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.probe import probe
from tests.conftest import MakeVideo

BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
CLIP = "testsrc2=size=96x64:rate=25:duration=0.4"
HEVC = ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le")


def record(profile: int, compatibility: int) -> bytes:
    level, has_rpu, has_base = 3, 1, 1
    facts = profile << 9 | level << 3 | has_rpu << 2 | has_base
    return bytes([1, 0]) + facts.to_bytes(2) + bytes([compatibility << 4]) + bytes(19)


def with_record(plain: Path, out: Path, profile: int, compatibility: int) -> Path:
    """A copy of an MP4 whose movie box is its last one, with a record behind `hvcC`."""
    box = record(profile, compatibility)
    box = (8 + len(box)).to_bytes(4) + b"dvcC" + box
    file = bytearray(plain.read_bytes())
    place = file.index(b"hvcC") - 4
    place += int.from_bytes(file[place : place + 4])
    for name in BOXES:
        start = file.rindex(name) - 4
        size = int.from_bytes(file[start : start + 4])
        file[start : start + 4] = (size + len(box)).to_bytes(4)
    start = file.rindex(b"hvc1") - 4
    size = int.from_bytes(file[start : start + 4])
    file[start : start + 4] = (size + len(box)).to_bytes(4)
    file[place:place] = box
    out.write_bytes(file)
    return out


@pytest.fixture
def plain(make_video: MakeVideo) -> Path:
    return make_video("plain-hevc.mp4", CLIP, (*HEVC, "-tag:v", "hvc1"))


@pytest.mark.parametrize(
    ("profile", "compatibility", "name"),
    [(7, 6, "7"), (8, 1, "8.1"), (8, 4, "8.4"), (10, 1, "10.1")],
)
def test_a_base_layer_is_judged_and_named(
    plain: Path, tmp_path: Path, profile: int, compatibility: int, name: str
) -> None:
    video = with_record(plain, tmp_path / "vision.mp4", profile, compatibility)
    assert probe(video).dolby_vision == name


@pytest.mark.parametrize(("profile", "compatibility"), [(5, 0), (10, 0)])
def test_pictures_without_a_base_layer_are_refused(
    plain: Path, tmp_path: Path, profile: int, compatibility: int
) -> None:
    video = with_record(plain, tmp_path / "vision.mp4", profile, compatibility)
    with pytest.raises(VideoError, match="profile") as error:
        probe(video)
    assert error.value.code == "dolby_vision"


def test_matroska_has_the_same_record(plain: Path, tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    vision = with_record(plain, tmp_path / "vision.mp4", 8, 1)
    copy = tmp_path / "vision.mkv"
    run(ffmpeg, ["-i", str(vision), "-c", "copy", "-strict", "unofficial", str(copy)])
    found = dolby_vision(copy)
    assert found
    assert found.name == "8.1"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_other_files_have_none(plain: Path, make_video: MakeVideo, suffix: str) -> None:
    assert dolby_vision(make_video(f"without-record.{suffix}", plain, ("-c", "copy"))) is None


def test_a_file_that_is_no_video_has_none(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_bytes(b"no boxes at all, and dvcC in the middle" * 9)
    assert dolby_vision(text) is None
