"""Which video of a file is opened, and the errors for files that are not videos."""

import os
import re
import socket
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import pytest
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ladder.errors import VideoError
from ladder.media.container import as_fraction, open_video, packets_of
from ladder.media.decode import frames_at, require_complete
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.lengths import count_frames, frame_times
from ladder.media.probe import VideoInfo, probe
from tests.conftest import MakeVideo

CLIP = "testsrc2=size=96x64:rate=25:duration=0.4"
COPY = ("-c", "copy")


@pytest.fixture
def clip(make_video: MakeVideo) -> Path:
    """96x64, 10 frames."""
    return make_video("clip.mp4", CLIP)


def test_a_file_that_may_not_be_read_is_not_called_no_video(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:  # chmod would not do: root may read it
        raise av.error.PermissionError(13, "Permission denied", str(clip))

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(VideoError, match=r"clip\.mp4 cannot be read: Permission denied") as caught:
        probe(clip)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("name", ["two.mkv", "two.ts"])
def test_of_two_videos_the_default_or_the_larger_one_is_read(
    make_video: MakeVideo, clip: Path, name: str
) -> None:
    small = make_video("small.mp4", "testsrc2=size=32x32:rate=25:duration=0.4")
    choice = ("-disposition:v:0", "0", "-disposition:v:1", "default")
    both = ("-map", "0:v", "-map", "1:v", *COPY, *(choice if name.endswith("mkv") else ()))
    info = probe(make_video(name, clip, both, ("-i", str(small))))
    assert (info.width_px, info.stream_index, info.num_videos) == (96, 1, 2)
    assert len(frame_times(info.path, info.fps)) == 10


@pytest.fixture
def hostile(tmp_path: Path, make_video: MakeVideo, clip: Path) -> dict[str, Path]:
    """Files that are not readable videos, by their fault."""
    files = {
        name: tmp_path / f"{name}.mp4"
        for name in ("gone", "folder", "empty", "text", "headless", "random", "ripped", "unknown")
    }
    files["folder"].mkdir()
    files["empty"].touch()
    files["text"].write_text("I am no video.\n" * 200)
    whole = clip.read_bytes()
    files["headless"].write_bytes(whole[: len(whole) // 2])  # the index is at the end
    files["random"].write_bytes(bytes(range(256)) * 64)
    media = whole.index(b"mdat") + 4  # every frame overwritten, the index untouched
    length = whole.index(b"moov") - 4 - media
    files["ripped"].write_bytes(whole[:media] + b"\xff" * length + whole[media + length :])
    files["unknown"].write_bytes(whole.replace(b"avc1", b"zzzz"))
    tone = "sine=frequency=440:duration=0.2"
    files["audio"] = make_video("audio.m4a", tone, ["-c:a", "aac"])
    return files


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("gone", "missing"),
        ("folder", "missing"),
        ("empty", "empty"),
        ("text", "not_video"),
        ("random", "not_video"),
        ("headless", "damaged"),
        ("audio", "no_stream"),
        ("ripped", "damaged"),
        ("unknown", "no_decoder"),
    ],
)
def test_a_file_that_is_not_a_video_is_an_error_with_a_code_and_its_name(
    hostile: dict[str, Path], kind: str, code: str
) -> None:
    with pytest.raises(VideoError) as error:
        probe(hostile[kind])
    assert error.value.code == code
    assert str(hostile[kind]) in str(error.value)


def test_cover_art_of_a_music_file_is_not_a_video(make_video: MakeVideo) -> None:
    cover = make_video("cover.png", "testsrc2=size=64x64:rate=1:duration=1", ["-frames:v", "1"])
    tone = ["-f", "lavfi", "-i", "sine=duration=0.2"]
    both = ["-map", "0:a", "-map", "1:v", "-c:v", "png", "-disposition:v", "attached_pic"]
    with pytest.raises(VideoError) as error:
        probe(make_video("song.m4a", cover, both, tone))
    assert error.value.code == "no_stream"


def test_a_playlist_named_like_a_video_does_not_use_the_network(tmp_path: Path) -> None:
    playlist = tmp_path / "playlist.mp4"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/clip.ts"
        playlist.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(VideoError):
            probe(playlist)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # no connection was made
            server.accept()


@pytest.mark.parametrize(
    "name",
    ["-i.mp4", "a:b.mp4", "http:x.mp4", "50%d.mp4", "two\nlines.mp4", "\U0001f3ac.mp4", "x'\".mp4"],
)
def test_any_file_name_can_be_read(tmp_path: Path, clip: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(clip.read_bytes())
    assert probe(path).width_px == 96


def test_a_relative_path_stays_relative(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    info: VideoInfo = probe(Path(clip.name))
    assert info.path == Path(clip.name)


@pytest.mark.skipif(os.name != "posix", reason="bytes as file names")
def test_a_file_whose_name_is_not_utf8_can_be_read(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(clip.read_bytes())
    assert probe(path).width_px == 96


class AVRational:
    """A ratio that is not a `Fraction`, as PyAV returns from version 19 on."""

    def __init__(self, numerator: int, denominator: int) -> None:
        self.numerator, self.denominator = numerator, denominator


def test_a_ratio_from_any_pyav_version_becomes_a_fraction() -> None:
    assert as_fraction(AVRational(30000, 1001)) == Fraction(30000, 1001)
    assert type(as_fraction(AVRational(25, 1))) is Fraction
    assert as_fraction(Fraction(4, 3)) == Fraction(4, 3)
    assert as_fraction(AVRational(0, 0)) is None
    assert as_fraction(None) is None


@pytest.fixture
def recording(make_video: MakeVideo) -> Path:
    args = ("-c:v", "libx264", "-preset", "ultrafast", "-mpegts_start_pid", "0x100")
    return make_video("recording.ts", "testsrc2=size=96x64:rate=25:duration=1.6", args)


def test_a_video_that_begins_late_is_named_with_the_next_step(
    make_video: MakeVideo, recording: Path, tmp_path: Path
) -> None:
    """Two recordings of other identifiers, joined: FFmpeg reads the first alone."""
    other = ("-mpegts_start_pid", "0x200", "-mpegts_pmt_start_pid", "0x1100")
    second = make_video("other.ts", recording, (*COPY, *other, "-output_ts_offset", "3"))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(recording.read_bytes() + second.read_bytes())
    reason = r"begins after its start \(PID 0x200\).*-i joined\.ts -map 0:v:1 -c copy"
    with pytest.raises(VideoError, match=reason) as error:
        probe(joined)
    assert error.value.code == "damaged"


def test_sound_that_begins_late_changes_nothing(
    make_video: MakeVideo, recording: Path, tmp_path: Path
) -> None:
    sound = ("-i", str(make_video("late-sound.m4a", "sine=duration=0.4", ("-c:a", "aac"))))
    both = ("-map", "1:v", "-map", "0:a", *COPY, "-mpegts_start_pid", "0x100")
    second = make_video("sounding.ts", recording, (*both, "-output_ts_offset", "1.6"), sound)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(recording.read_bytes() + second.read_bytes())
    info = probe(joined)
    assert (len(frame_times(joined, info.fps)), info.num_videos) == (80, 1)
    assert len(frames_at(info, [0.1, 2.7], (96, 64))) == 2


def test_a_list_of_streams_that_is_too_short_at_the_end_is_no_fault_of_a_file(clip: Path) -> None:
    """PyAV asks its list, which is that of the beginning, for streams that came later."""

    class Ending:
        def demux(self, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
            yield from (cast("Packet[VideoStream]", Packet(4)) for _ in range(3))
            raise IndexError("list index out of range")

    with open_video(clip) as (_, stream):
        assert len(list(packets_of(cast("InputContainer", Ending()), stream))) == 3
    with pytest.raises(IndexError), open_video(clip):  # ours is not hidden
        raise IndexError


def test_an_error_of_ffmpeg_is_told_without_its_number(clip: Path) -> None:
    fault = av.error.InvalidDataError(1094995529, "Invalid data found", "avcodec_send_packet()")
    with pytest.raises(VideoError) as error, open_video(clip):
        raise fault
    assert str(error.value) == f"{clip} cannot be decoded: Invalid data found"


def test_a_video_that_begins_where_sound_was_is_named_with_its_place(
    make_video: MakeVideo, ffmpeg: Ffmpeg, clip: Path, tmp_path: Path
) -> None:
    """FFmpeg takes the identifier for what it is at the start."""
    pid = ("-mpegts_start_pid", "0x100")
    sound = make_video("sound-alone.ts", "sine=duration=2", ("-c:a", "aac", *pid))
    then = make_video("then-video.ts", clip, ("-c", "copy", *pid))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(sound.read_bytes() + then.read_bytes())
    with pytest.raises(VideoError, match=r"video that begins at byte \d+ \(PID 0x100\)") as error:
        probe(joined)
    assert error.value.code == "damaged"
    (command,) = re.findall(r"\(ffmpeg (.*)\)$", str(error.value))
    run(ffmpeg, command.split(), cwd=tmp_path)
    assert count_frames(tmp_path / "joined-2.ts") == count_frames(clip)
    with pytest.raises(VideoError, match="no video stream"):
        probe(sound)


def test_a_codec_that_is_data_in_a_transport_stream_is_told_as_such(make_video: MakeVideo) -> None:
    coder = ("-c:v", "libsvtav1", "-preset", "12")
    with pytest.raises(VideoError, match=r"whose video \(PID 0x100\) has a codec") as error:
        probe(make_video("av1.ts", CLIP, coder))
    assert error.value.code == "no_decoder"


def test_a_broadcast_in_a_file_that_is_longer_has_all_of_its_frames(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    """Some recorders and downloads take the space first."""
    coder = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25")
    whole = make_video("to-pad.ts", "testsrc2=size=96x64:rate=25:duration=4", coder)
    padded, holed = tmp_path / "padded.ts", tmp_path / "holed.ts"
    content = whole.read_bytes()
    padded.write_bytes(content + bytes(400_000))
    info = probe(padded)
    assert count_frames(padded) == count_frames(whole)
    assert info.duration_s == pytest.approx(probe(whole).duration_s)
    assert (frames_at(info, [0.1], (96, 64)) == frames_at(probe(whole), [0.1], (96, 64))).all()
    middle = len(content) // 188 // 2 * 188
    holed.write_bytes(content[:middle] + bytes(400_000) + content[middle:])
    with pytest.raises(VideoError, match="finds no place by its time") as error:
        require_complete(probe(holed))
    assert error.value.code == "damaged"


@pytest.mark.parametrize("name", ["packets.mp4", "packets.mkv", "matroska.mp4"])
def test_packets_are_the_same_where_no_decoder_opens_the_file(
    name: str, make_video: MakeVideo
) -> None:
    form = ["-f", "matroska"] if name == "matroska.mp4" else []
    path = make_video(name, CLIP, ["-c:v", "libx264", "-bf", "3", *form])

    def facts(*, is_decoded: bool) -> list[tuple[int | None, int | None, bool]]:
        with open_video(path, is_decoded=is_decoded) as (container, stream):
            return [(p.pts, p.dts, p.is_keyframe) for p in packets_of(container, stream)]

    assert facts(is_decoded=False) == facts(is_decoded=True)


def test_of_two_videos_the_same_one_is_read_without_a_decoder(
    make_video: MakeVideo, clip: Path
) -> None:
    small = make_video("small.mp4", "testsrc2=size=32x32:rate=25:duration=0.4")
    both = ("-map", "0:v", "-map", "1:v", "-c:v", "mpeg4", "-disposition:v", "default")
    path = make_video("two_mpeg4.mp4", clip, both, ("-i", str(small)))
    indices = []
    for is_decoded in (True, False):
        with open_video(path, is_decoded=is_decoded) as (_, stream):
            indices.append(stream.index)
    assert indices == [1, 1]
