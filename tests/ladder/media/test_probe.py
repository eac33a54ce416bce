"""The properties of video files, and the errors for files that are not videos."""

import dataclasses
import os
import socket
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ladder.errors import VideoError
from ladder.media.decode import count_decodable_frames, frames_at
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.headers import coded_pictures
from ladder.media.probe import VideoInfo, as_fraction, count_frames, frame_times, probe
from tests.conftest import EXACT, MakeVideo

CLIP = "testsrc2=size=96x64:rate=25:duration=0.4"
COPY = ("-c", "copy")


@pytest.fixture
def clip(make_video: MakeVideo) -> Path:
    """96x64, 10 frames."""
    return make_video("clip.mp4", CLIP)


def test_the_properties_of_a_plain_video(source_video: Path) -> None:
    info = probe(source_video)
    assert dataclasses.asdict(info) == {
        "path": source_video,
        "width_px": 192,
        "height_px": 108,
        "fps": Fraction(25),
        "frame_count": 24,
        "duration_s": pytest.approx(0.96),
        "codec": "h264",
        "pix_fmt": "yuv420p",
        "bit_depth": 8,
        "is_full_range": False,
        "hdr": "",
        "rotation": 0,
        "sar": Fraction(1),
        "is_vfr": False,
        "is_interlaced": False,
        "is_bare": False,
        "size_bytes": source_video.stat().st_size,
        "stream_index": 0,
        "num_videos": 1,
        "dolby_vision": "",
        "start": 0,
        "is_hls": False,
        "has_false_keys": False,
    }
    assert info.display_size == (192, 108)
    assert info.bitrate_kbps == pytest.approx(source_video.stat().st_size * 8 / 1000 / 0.96)
    assert count_frames(source_video) == 24


def test_a_video_without_a_duration_has_no_bitrate(source_video: Path) -> None:
    assert dataclasses.replace(probe(source_video), duration_s=0.0).bitrate_kbps is None


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    ("rate", "fps"),
    [("30000/1001", Fraction(30000, 1001)), ("25", Fraction(25)), ("60", Fraction(60))],
)
def test_the_frame_rate_is_exact_and_a_constant_rate_is_not_variable(
    make_video: MakeVideo, rate: str, fps: Fraction, suffix: str
) -> None:
    """Matroska rounds to milliseconds: steps of 33, 33, 34 ms are a constant frame rate."""
    name = f"rate-{fps.numerator}"
    video = make_video(f"{name}.mp4", f"testsrc2=size=64x64:rate={rate}:duration=0.6")
    if suffix != "mp4":
        video = make_video(f"{name}.{suffix}", video, COPY)
    info = probe(video)
    assert info.fps == fps
    assert not info.is_vfr
    assert info.duration_s == pytest.approx(0.6, abs=0.04)
    assert count_frames(video) == round(0.6 * fps)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("kind", "select"),
    [
        ("mixed", "lt(n,6)+gt(n,20)*not(mod(n,3))"),
        ("one-gap", "not(between(n,10,14))"),
        ("bursts", "lt(mod(n,8),3)"),
    ],
)
def test_uneven_steps_are_a_variable_frame_rate(
    make_video: MakeVideo, kind: str, select: str, suffix: str
) -> None:
    keep = ("-vf", f"select='{select}'", "-fps_mode", "passthrough", *EXACT)
    info = probe(make_video(f"{kind}.{suffix}", "testsrc2=size=64x64:rate=25:duration=1.6", keep))
    assert info.is_vfr


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_frame_times_start_at_zero_and_ascend(make_video: MakeVideo, suffix: str) -> None:
    """The clock of a transport stream starts at 1.4 s; B-frames are stored out of order."""
    args = ("-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p")
    video = make_video(f"order.{suffix}", "testsrc2=size=64x64:rate=30000/1001:duration=0.6", args)
    expected = [n * 1001 / 30000 for n in range(18)]
    assert frame_times(video, Fraction(30000, 1001)) == pytest.approx(expected, abs=0.0011)
    assert frame_times(video, Fraction(30000, 1001))[0] == 0


def test_frame_times_of_a_variable_frame_rate_are_the_display_times(make_video: MakeVideo) -> None:
    keep = ("-vf", "select='not(between(n,3,6))'", "-fps_mode", "passthrough", *EXACT)
    video = make_video("gap-3-6.mkv", CLIP, keep)
    expected = [n / 25 for n in (0, 1, 2, 7, 8, 9)]
    assert frame_times(video, Fraction(25)) == pytest.approx(expected, abs=0.001)


def test_frame_times_without_timestamps_follow_from_the_frame_rate(
    make_video: MakeVideo,
) -> None:
    bare = make_video("bare.264", "testsrc2=size=64x64:rate=25:duration=0.4", ("-c:v", "libx264"))
    assert probe(bare).is_bare
    assert frame_times(bare, Fraction(50)) == pytest.approx([n / 50 for n in range(10)])


TONE = ("-f", "lavfi", "-i", "sine=duration=3")


@pytest.mark.parametrize(
    ("name", "audio"), [("a.mkv", "libopus"), ("a.flv", "aac"), ("a.ts", "aac"), ("a.mp4", "aac")]
)
def test_a_longer_sound_track_does_not_lengthen_the_video(
    make_video: MakeVideo, clip: Path, name: str, audio: str
) -> None:
    both = ("-map", "1:v", "-map", "0:a", "-c:v", "copy", "-c:a", audio)
    video = make_video(name, clip, both, TONE)
    assert probe(video).duration_s == pytest.approx(0.4, abs=0.002)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_long_pause_does_not_change_the_stated_length(make_video: MakeVideo, suffix: str) -> None:
    scene = "testsrc2=size=32x32:rate=10:duration=122,select='eq(n,0)+eq(n,600)+gte(n,1200)'"
    video = make_video(f"pauses.{suffix}", scene, (*EXACT, "-fps_mode", "vfr"))
    assert probe(video).duration_s == pytest.approx(122, abs=0.2)


def test_an_untagged_track_is_as_long_as_its_packets(make_video: MakeVideo) -> None:
    long = make_video("long.mp4", "testsrc2=size=64x64:rate=25:duration=12")
    tone = ("-f", "lavfi", "-i", "sine=duration=90")
    both = ("-map", "1:v", "-map", "0:a", "-c:v", "copy", "-c:a", "libopus")
    video = make_video("long.mkv", long, both, tone)
    # the same bytes, without the tag that states the track's length
    video.write_bytes(video.read_bytes().replace(b"DURATION", b"DURATIOX"))
    assert probe(video).duration_s == pytest.approx(12, abs=0.002)


def test_a_track_that_begins_late_has_its_own_length(make_video: MakeVideo, clip: Path) -> None:
    video = make_video("late.mkv", clip, (*COPY, "-output_ts_offset", "3600"))
    assert probe(video).duration_s == pytest.approx(0.4, abs=0.002)


@pytest.mark.parametrize("muxer", ["matroska", "webm", "avi", "flv", "nut"])
def test_a_stream_from_a_pipe_is_as_long_as_its_packets(
    tmp_path: Path, make_video: MakeVideo, muxer: str, ffmpeg: Ffmpeg
) -> None:
    if muxer == "webm":
        clip = make_video("for-pipe.webm", CLIP, ("-c:v", "libvpx"))
    else:
        clip = make_video("for-pipe.mp4", CLIP, ("-c:v", "libx264", "-bf", "0"))
    live = ("-live", "1") if muxer in {"matroska", "webm"} else ()
    command = [ffmpeg.path, "-v", "error", "-i", clip, *COPY, *live, "-f", muxer, "-"]
    piped = tmp_path / "piped.bin"
    piped.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    # AVI has no presentation times, so its last frame gets a guess
    tolerance_s = 0.04 if muxer == "avi" else 0.002
    assert probe(piped).duration_s == pytest.approx(0.4, abs=tolerance_s)


def test_frames_that_are_never_shown_do_not_count(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    video = tmp_path / "hidden.webm"
    scene = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=2"]
    coder = ["-c:v", "libvpx", "-b:v", "100k", "-auto-alt-ref", "1", "-lag-in-frames", "16"]
    for number, out in (("1", ["-f", "null", "-"]), ("2", ["-arnr-maxframes", "7", str(video)])):
        run(ffmpeg, [*scene, *coder, "-pass", number, *out], cwd=tmp_path)
    with av.open(str(video)) as container:
        packets = sum(packet.size > 0 for packet in container.demux(video=0))
    info = probe(video)
    assert packets > 50
    assert (count_frames(video), count_decodable_frames(video), info.is_vfr) == (50, 50, False)


@pytest.mark.parametrize("frames", [10, 500])
def test_joined_broadcasts_whose_times_jump_are_refused(
    tmp_path: Path, make_video: MakeVideo, frames: int
) -> None:
    scene = f"testsrc2=size=32x32:rate=25:duration={frames / 25}"
    first = make_video(f"first-{frames}.ts", scene)
    later = make_video(f"later-{frames}.ts", first, (*COPY, "-output_ts_offset", "1000"))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + later.read_bytes())
    assert probe(later).duration_s == pytest.approx(frames / 25, abs=0.05)
    with pytest.raises(VideoError, match="its timestamps jump") as error:
        probe(joined)
    assert error.value.code == "damaged"


def test_frames_before_the_first_key_frame_do_not_count(
    tmp_path: Path, make_video: MakeVideo, ffmpeg: Ffmpeg
) -> None:
    coder = ("-c:v", "libx264", "-g", "12", "-bf", "2", "-sc_threshold", "0")
    whole = make_video("whole.ts", "testsrc2=size=96x64:rate=24:duration=2", coder)
    packets = whole.read_bytes()
    for share in (0.1, 0.22, 0.4):
        cut = tmp_path / f"{share}.ts"
        cut.write_bytes(packets[int(len(packets) * share) // 188 * 188 :])
        read = [ffmpeg.path, "-v", "quiet", "-i", str(cut), "-f", "framecrc", "-"]
        shown = subprocess.run(read, capture_output=True, check=True).stdout.splitlines()
        assert count_frames(cut) == sum(not line.startswith(b"#") for line in shown) < 48


def test_an_index_that_calls_every_frame_a_key_frame_is_not_believed(
    tmp_path: Path, make_video: MakeVideo
) -> None:
    coder = ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=25:bframes=2")
    scene = "testsrc2=size=96x64:rate=25:duration=12"
    video = make_video("indexed.mp4", scene, (*coder, "-preset", "ultrafast", "-tag:v", "hvc1"))
    false = tmp_path / "false.mp4"
    false.write_bytes(video.read_bytes().replace(b"stss", b"free"))
    times = [0.5, 6.6, 11.3]
    right, ours = (frames_at(probe(path), times, (96, 64)) for path in (video, false))
    assert probe(false).is_bare
    assert not probe(video).is_bare
    assert (right == ours).all()
    right_keys, our_keys = (
        [picture.is_key for picture in coded_pictures(probe(path))] for path in (video, false)
    )
    assert right_keys == our_keys
    assert 0 < sum(our_keys) < 300
    keys = ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=1", "-tag:v", "hvc1")
    intra = make_video("intra.mp4", CLIP, keys)
    assert not probe(intra).is_bare
    with av.open(str(intra)) as container:
        start, size = [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size][3]
    damaged = bytearray(intra.read_bytes())
    damaged[start : start + size] = b"\xff" * size
    false.write_bytes(damaged)
    assert probe(false).width_px == 96


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "flv"])
def test_tags_need_not_be_valid_text(
    tmp_path: Path, make_video: MakeVideo, clip: Path, suffix: str
) -> None:
    tagged = make_video(f"tagged.{suffix}", clip, (*COPY, "-metadata", "title=cafe_name"))
    video = tmp_path / f"latin.{suffix}"
    video.write_bytes(tagged.read_bytes().replace(b"cafe_name", b"caf\xe9_name"))
    assert video.read_bytes() != tagged.read_bytes()
    assert probe(video).width_px == 96


@pytest.mark.parametrize(("transfer", "hdr"), [("smpte2084", "pq"), ("arib-std-b67", "hlg")])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_hdr_that_only_the_container_tells_is_found(
    make_video: MakeVideo, transfer: str, hdr: str, suffix: str
) -> None:
    coder = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none")
    plain = make_video("ten-bit.mkv", CLIP, coder)
    tags = ("-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    assert probe(plain).hdr == ""
    assert probe(make_video(f"{hdr}-tag.{suffix}", plain, (*COPY, *tags))).hdr == hdr


@pytest.mark.parametrize(("degrees", "rotation"), [("45", 0), ("100", 90), ("359", 0)])
def test_a_tilted_picture_lies_on_its_nearest_side(
    make_video: MakeVideo, clip: Path, degrees: str, rotation: int
) -> None:
    tilted = ("-display_rotation", degrees)
    assert probe(make_video(f"tilt-{degrees}.mp4", clip, COPY, tilted)).rotation == rotation


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


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_counter_clockwise_and_turns_the_display_size(
    make_video: MakeVideo, clip: Path, degrees: int
) -> None:
    info = probe(
        make_video(f"turned-{degrees}.mp4", clip, COPY, ["-display_rotation", str(degrees)])
    )
    assert info.rotation == degrees
    assert (info.width_px, info.height_px) == (96, 64)
    assert info.display_size == ((96, 64) if degrees == 180 else (64, 96))


def test_non_square_pixels_widen_the_display_size(make_video: MakeVideo) -> None:
    info = probe(make_video("sar.mp4", CLIP, ["-vf", "setsar=4/3", *EXACT]))
    assert info.sar == Fraction(4, 3)
    assert (info.width_px, info.height_px) == (96, 64)
    assert info.display_size == (128, 64)


@pytest.mark.parametrize(
    ("sar", "rotation", "size"),
    [
        (Fraction(64, 45), 0, (1024, 576)),  # PAL, 16:9
        (Fraction(64, 45), 90, (576, 1024)),
        (Fraction(1), 270, (576, 720)),
        (Fraction(1, 1000), 0, (2, 576)),  # never 0
    ],
)
def test_display_size_is_upright_square_and_even(
    source_video: Path, sar: Fraction, rotation: int, size: tuple[int, int]
) -> None:
    info = dataclasses.replace(
        probe(source_video), width_px=720, height_px=576, sar=sar, rotation=rotation
    )
    assert info.display_size == size


def test_the_display_size_of_an_odd_size_is_even(make_video: MakeVideo) -> None:
    args = ("-vf", "format=yuv444p,scale=95:63,setsar=1", "-c:v", "libx264", "-crf", "0")
    info = probe(make_video("odd.mp4", CLIP, args))
    assert (info.width_px, info.height_px) == (95, 63)
    assert info.display_size == (96, 64)


@pytest.mark.parametrize(
    ("transfer", "hdr"), [("bt709", ""), ("smpte2084", "pq"), ("arib-std-b67", "hlg")]
)
def test_ten_bits_and_hdr_are_detected(make_video: MakeVideo, transfer: str, hdr: str) -> None:
    tags = f"setparams=color_trc={transfer}:color_primaries=bt2020:colorspace=bt2020nc"
    args = ("-vf", tags, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le")
    info = probe(make_video(f"deep-{transfer}.mp4", CLIP, args))
    assert (info.pix_fmt, info.bit_depth, info.hdr) == ("yuv420p10le", 10, hdr)


def test_full_range_is_detected(make_video: MakeVideo) -> None:
    full = ("-vf", "scale=out_range=pc,format=yuv420p", "-color_range", "pc", *EXACT)
    assert probe(make_video("full.mp4", CLIP, full)).is_full_range


def test_interlaced_video_is_detected(make_video: MakeVideo) -> None:
    fields = ("-vf", "interlace", "-flags", "+ilme+ildct", *EXACT)
    info = probe(make_video("fields-seen.mp4", "testsrc2=size=96x64:rate=50:duration=0.4", fields))
    assert info.is_interlaced


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
        ("headless", "not_video"),
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


def test_probe_returns_ratios_as_fractions(source_video: Path) -> None:
    info = probe(source_video)
    assert type(info.fps) is Fraction
    assert type(info.sar) is Fraction
