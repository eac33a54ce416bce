"""What containers say beside the pictures: Dolby Vision and cropping, in MP4 and Matroska."""

from pathlib import Path

import pytest

from ladder.encode.rungs import Rung
from ladder.errors import VideoError
from ladder.label.run import LabelOptions, make_labels, plan_labels
from ladder.media.decode import frames_at
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.probe import probe
from tests.conftest import EXACT, MakeVideo
from tests.ladder.works import made

BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
CLIP = "testsrc2=size=96x64:rate=25:duration=0.4"
TAGS = (
    "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
    "-color_range", "tv", "-chroma_sample_location", "left",
)  # fmt: skip
HEVC = ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le")


def record(profile: int, compatibility: int) -> bytes:
    level, has_rpu, has_base = 3, 1, 1
    facts = profile << 9 | level << 3 | has_rpu << 2 | has_base
    return bytes([1, 0]) + facts.to_bytes(2) + bytes([compatibility << 4]) + bytes(19)


def with_box(video: Path, out: Path, name: bytes, content: bytes, entry: bytes) -> Path:
    """A copy of an MP4 whose movie box is its last one, with a box more in its sample entry."""
    box = (8 + len(content)).to_bytes(4) + name + content
    file = bytearray(video.read_bytes())
    entry_at = file.rindex(entry) - 4
    for place in (*(file.rindex(each) - 4 for each in BOXES), entry_at):
        size = int.from_bytes(file[place : place + 4])
        file[place : place + 4] = (size + len(box)).to_bytes(4)
    inside = entry_at + 8 + 78
    file[inside:inside] = box
    out.write_bytes(file)
    return out


def with_record(plain: Path, out: Path, profile: int, compatibility: int) -> Path:
    return with_box(plain, out, b"dvcC", record(profile, compatibility), b"hvc1")


def with_elements(video: Path, out: Path, elements: dict[int, int]) -> Path:
    """A copy of a Matroska file whose element Colour is replaced by others."""
    file = bytearray(video.read_bytes())
    place = file.index(b"\x55\xb0")
    size = 3 + (file[place + 2] & 0x7F)
    made = b"".join(name.to_bytes(2) + b"\x81" + bytes([n]) for name, n in elements.items())
    void = size - len(made) - 2
    file[place : place + size] = made + b"\xec" + bytes([0x80 | void]) + bytes(void)
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
    assert probe(copy).dolby_vision == "8.1"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_other_files_have_none(plain: Path, make_video: MakeVideo, suffix: str) -> None:
    info = probe(make_video(f"without-record.{suffix}", plain, ("-c", "copy")))
    assert (info.dolby_vision, info.crop) == ("", (0, 0, 0, 0))


def test_tags_are_no_side_data(plain: Path, make_video: MakeVideo) -> None:
    title = "title=\n    Side data:\n      Frame Cropping: 1/2/3/4"
    info = probe(
        make_video("tag-like-side-data.mkv", plain, ("-c", "copy", "-metadata:s:v", title))
    )
    assert info.crop == (0, 0, 0, 0)


@pytest.fixture
def padded(make_video: MakeVideo) -> Path:
    """`CLIP` with a border: 8 px at the left, 16 at the right, 4 at the top, 12 at the bottom."""
    return make_video("padded.mkv", CLIP, ("-vf", "pad=120:80:8:4,setsar=1", *TAGS, *EXACT))


def cropped_in_matroska(padded: Path, out: Path) -> Path:
    sides = {0x54CC: 8, 0x54DD: 16, 0x54BB: 4, 0x54AA: 12}
    return with_elements(padded, out.with_suffix(".mkv"), sides)


def cropped_in_mp4(padded: Path, out: Path, make_video: MakeVideo) -> Path:
    movie = make_video("padded.mp4", padded, ("-c", "copy"))
    numbers = (96, 1, 64, 1, -4, 1, -4, 1)  # its size, and its centre beside that of the picture
    aperture = b"".join(number.to_bytes(4, signed=True) for number in numbers)
    return with_box(movie, out.with_suffix(".mp4"), b"clap", aperture, b"avc1")


@pytest.mark.parametrize("way", ["matroska", "mp4"])
@pytest.mark.parametrize("turned", [False, True])
def test_what_the_container_cuts_off_is_not_shown_anywhere(
    padded: Path, tmp_path: Path, make_video: MakeVideo, ffmpeg: Ffmpeg, way: str, turned: bool
) -> None:
    if way == "matroska":
        video = cropped_in_matroska(padded, tmp_path / "cropped")
    else:
        video = cropped_in_mp4(padded, tmp_path / "cropped", make_video)
    plain = make_video("not-padded.mp4", CLIP, (*TAGS, *EXACT))
    if turned:
        turn = ("-display_rotation", "90", "-display_hflip")
        plain = make_video("not-padded-turned.mp4", plain, ("-c", "copy"), turn)
        upright, video = video, tmp_path / f"turned{video.suffix}"
        run(ffmpeg, [*turn, "-i", str(upright), "-c", "copy", str(video)])
    info, right = probe(video), probe(plain)
    assert info.crop == (8, 16, 4, 12)
    assert (info.width_px, info.height_px) == (120, 80)
    assert info.display_size == right.display_size == ((64, 96) if turned else (96, 64))
    times, size = [0.1, 0.3], info.display_size
    assert (frames_at(info, times, size) == frames_at(right, times, size)).all()
    encodes = [
        made([path], [Rung(height_px=64, crf=30)], tmp_path / f"{path.stem}-work", ffmpeg)[0]
        for path in (video, plain)
    ]
    assert encodes[0].size_bytes == encodes[1].size_bytes
    folder = tmp_path / f"{video.stem}-work"
    options = LabelOptions(models=("vmaf_v0.6.1",))
    (label,) = make_labels(plan_labels(folder, options), folder, ffmpeg, jobs=1)
    assert (label.scale, label.frames_compared) == ("{}x{} bicubic".format(*size), 10)


def test_a_crop_that_leaves_nothing_is_an_error(padded: Path, tmp_path: Path) -> None:
    video = with_elements(padded, tmp_path / "none.mkv", {0x54BB: 40, 0x54AA: 40})
    with pytest.raises(VideoError):
        probe(video)


@pytest.mark.parametrize("numbers", [(96, 0, 64, 1), (120, 1, 96, 1), (0, 1, 0, 1), (-8, 1, 8, 1)])
def test_an_impossible_aperture_is_passed_over(
    padded: Path, tmp_path: Path, make_video: MakeVideo, numbers: tuple[int, ...]
) -> None:
    movie = make_video("padded.mp4", padded, ("-c", "copy"))
    aperture = b"".join(number.to_bytes(4, signed=True) for number in (*numbers, 0, 1, 0, 1))
    video = with_box(movie, tmp_path / "odd.mp4", b"clap", aperture, b"avc1")
    assert probe(video).display_size == (120, 80)
