"""Where files end by their own headers: of cut files it is told, of whole ones and pipes not."""

import subprocess
from pathlib import Path

import av
import pytest

from ladder.errors import VideoError
from ladder.media.decode import require_complete
from ladder.media.ends import missing_end
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from tests.conftest import MakeVideo

SCENE = "testsrc2=size=96x64:rate=25:duration=2"
X264 = ("-c:v", "libx264", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p")
COPY = ("-c", "copy")
SOUND = ("-f", "lavfi", "-i", "sine=duration=2")
STATE_ENDS = ("flv", "wmv", "avi")


@pytest.fixture
def clip(make_video: MakeVideo) -> Path:
    """96x64, 2 s, with sound."""
    return make_video("with-sound.mov", SCENE, (*X264, "-c:a", "aac"), SOUND)


@pytest.fixture
def silent(make_video: MakeVideo, clip: Path) -> Path:
    return make_video("without-sound.mov", clip, (*COPY, "-an"))


def starts_of_packets(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return sorted(packet.pos for packet in container.demux() if packet.pos)


def require_whole(path: Path) -> None:
    require_complete(probe(path))


@pytest.mark.parametrize("suffix", STATE_ENDS)
@pytest.mark.parametrize("has_sound", [True, False])
def test_a_cut_file_is_damaged_wherever_it_was_cut(
    make_video: MakeVideo, clip: Path, silent: Path, tmp_path: Path, suffix: str, has_sound: bool
) -> None:
    source = clip if has_sound else silent
    whole = make_video(f"{source.stem}.{suffix}", source, COPY)
    content = whole.read_bytes()
    require_whole(whole)
    starts = starts_of_packets(whole)
    starts = starts[len(starts) // 3 : len(starts) * 2 // 3]
    # between two packets, where no packet tells that it is incomplete, and inside of one
    for place in (starts[0], starts[-1], (starts[0] + starts[1]) // 2):
        cut = tmp_path / f"{place}.{suffix}"
        cut.write_bytes(content[:place])
        with pytest.raises(VideoError, match="its header states") as error:
            require_whole(cut)
        assert error.value.code == "damaged"


def test_a_download_of_which_a_part_is_still_zeros_is_damaged(
    make_video: MakeVideo, clip: Path, tmp_path: Path
) -> None:
    whole = make_video(f"{clip.stem}.flv", clip, COPY)
    starts, content = starts_of_packets(whole), whole.read_bytes()
    part, place = tmp_path / "part.flv", starts[len(starts) // 2] + 8
    part.write_bytes(content[:place] + bytes(len(content) - place))
    with pytest.raises(VideoError, match="its header states"):
        require_whole(part)
    part.write_bytes(content + bytes(5000))
    require_whole(part)


FRAGMENTS = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")


def test_a_fragmented_mp4_ends_with_its_last_box(
    make_video: MakeVideo, clip: Path, tmp_path: Path
) -> None:
    """Nothing else says that the sound was cut, and with it fragments that are to come."""
    content = make_video("fragments.mp4", clip, (*COPY, *FRAGMENTS)).read_bytes()
    path, last = tmp_path / "cut.mp4", content.rindex(b"moof") - 4
    for kept in (content, content[:last], content[: content.rindex(b"mfra") - 4]):
        path.write_bytes(kept)
        require_whole(path)
    path.write_bytes(content[: last - 1])
    with pytest.raises(VideoError, match="its header states") as error:
        require_whole(path)
    assert error.value.code == "damaged"
    path.write_bytes(content[:last] + b"\xff" * 9000)
    assert "no whole fragment in its last 9000 bytes" in missing_end(path)
    path.write_bytes(content[: last - 40] + bytes(9040))
    assert "no whole fragment in its last 9000 bytes" in missing_end(path)
    path.write_bytes(content[:last] + bytes(9000))  # a recorder takes the space first
    require_whole(path)


def test_a_wmv_with_sound_whose_last_packets_are_zeros_is_damaged(
    make_video: MakeVideo, clip: Path, tmp_path: Path
) -> None:
    whole = make_video(f"{clip.stem}.wmv", clip, COPY)
    content, path = whole.read_bytes(), tmp_path / "part.wmv"
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(VideoError, match="only zeros"):
        require_whole(path)
    path.write_bytes(content + bytes(5000))
    require_whole(path)


def test_an_avi_without_its_index_has_all_of_its_frames(
    make_video: MakeVideo, silent: Path, tmp_path: Path
) -> None:
    content = make_video("for-index.avi", silent, COPY).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(content[: content.rindex(b"idx1") + 20])
    require_whole(cut)


def test_a_large_avi_has_an_end_for_each_of_its_parts(
    make_video: MakeVideo, silent: Path, tmp_path: Path
) -> None:
    """OpenDML: after the first gigabyte comes a chunk RIFF of another kind."""
    content = make_video("for-parts.avi", silent, COPY).read_bytes()
    frames = b"LIST" + (4 + 5000).to_bytes(4, "little") + b"movi" + bytes(5000)
    part = b"RIFF" + (4 + len(frames)).to_bytes(4, "little") + b"AVIX" + frames
    path = tmp_path / "large.avi"
    path.write_bytes(content + part)
    assert not missing_end(path)
    path.write_bytes((content + part)[:-1000])
    assert missing_end(path)


# `-t` before the end of the source is known goes into the header
@pytest.mark.parametrize("asked", [(), ("-t", "10")])
@pytest.mark.parametrize("muxer", ["flv", "asf", "avi", "matroska", "mpegts"])
@pytest.mark.parametrize("has_sound", [True, False])
def test_what_was_written_to_a_pipe_is_whole(
    ffmpeg: Ffmpeg,
    clip: Path,
    silent: Path,
    tmp_path: Path,
    asked: tuple[str, ...],
    muxer: str,
    has_sound: bool,
) -> None:
    source = clip if has_sound else silent
    command = [ffmpeg.path, "-v", "error", "-i", str(source), *asked, *COPY, "-f", muxer, "-"]
    piped = tmp_path / "piped.bin"
    piped.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    info = probe(piped)
    require_complete(info)
    assert info.duration_s == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("moves", "reason"), [((), "no index"), (("-movflags", "+faststart"), "header states")]
)
def test_an_mp4_that_cannot_be_opened_says_that_it_was_cut(
    make_video: MakeVideo, clip: Path, tmp_path: Path, moves: tuple[str, ...], reason: str
) -> None:
    content = make_video(f"to-open{len(moves)}.mp4", clip, (*COPY, *moves)).read_bytes()
    cut = tmp_path / "cut.mp4"
    place = content.index(b"mdat") - 4 if not moves else content.index(b"moov") + 500
    cut.write_bytes(content[:place])
    with pytest.raises(VideoError, match=reason) as error:
        probe(cut)
    assert error.value.code == "damaged"


def test_what_only_begins_like_a_format_is_not_told_to_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "some.bin"
    for content in (b"RIFF", b"FLV\1", b"0&\xb2u" + bytes(200), b"RIFF\x04\0\0\0AVI ", b"FLV" * 99):
        path.write_bytes(content)
        assert not missing_end(path)
    path.write_bytes(b"just a text, and no video")
    with pytest.raises(VideoError) as error:
        probe(path)
    assert error.value.code == "not_video"
