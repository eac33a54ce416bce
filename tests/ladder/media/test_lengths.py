"""How long videos are, and when their frames are shown."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ladder.errors import VideoError
from ladder.media.decode import count_decodable_frames, frames_at, require_complete
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.lengths import count_frames, frame_times
from ladder.media.probe import probe
from tests.conftest import EXACT, MakeVideo

CLIP = "testsrc2=size=96x64:rate=25:duration=0.4"
COPY = ("-c", "copy")


@pytest.fixture
def clip(make_video: MakeVideo) -> Path:
    """96x64, 10 frames."""
    return make_video("clip.mp4", CLIP)


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
    ("name", "audio"),
    [("a.mkv", "libopus"), ("a.flv", "aac"), ("a.ts", "aac"), ("a.mp4", "aac"), ("a.wmv", "wmav2")],
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


@pytest.mark.parametrize("muxer", ["matroska", "webm", "avi", "flv", "nut", "ivf"])
def test_a_stream_from_a_pipe_is_as_long_as_its_packets(
    tmp_path: Path, make_video: MakeVideo, muxer: str, ffmpeg: Ffmpeg
) -> None:
    if muxer in {"webm", "ivf"}:
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
    # IVF gives each packet a time of its own: coded into it, its clock counts frames
    direct = tmp_path / "hidden.ivf"
    run(ffmpeg, [*scene, *coder, "-pass", "2", "-arnr-maxframes", "7", str(direct)], cwd=tmp_path)
    late = probe(direct)
    assert (count_frames(direct), late.duration_s, late.is_vfr) == (50, 2, False)
    times = frame_times(direct, late.fps)
    assert times == pytest.approx([n / 25 for n in range(50)])
    middles_s = [time + 0.02 for time in times[::7]]
    right = frames_at(info, middles_s, (96, 64))
    assert (frames_at(late, middles_s, (96, 64)) == right).all()


@pytest.mark.parametrize("frames", [10, 500])
@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("offsets", [("0", "1000"), ("0", "60"), ("30", "0"), ("0", "0")])
def test_joined_broadcasts_whose_times_jump_are_refused(
    tmp_path: Path,
    make_video: MakeVideo,
    monkeypatch: pytest.MonkeyPatch,
    frames: int,
    offsets: tuple[str, str],
    is_large: bool,
) -> None:
    scene = f"testsrc2=size=32x32:rate=25:duration={frames / 25}"
    clip = make_video(f"joined-{frames}.mp4", scene)
    pieces = [
        make_video(f"at-{offset}-{frames}.ts", clip, (*COPY, "-output_ts_offset", offset))
        for offset in offsets
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    if is_large:
        monkeypatch.setattr("ladder.media.lengths._MAX_READ_BYTES", 0)
    assert probe(pieces[-1]).duration_s == pytest.approx(frames / 25, abs=0.05)
    with pytest.raises(VideoError, match="timestamps that jump") as error:
        probe(joined)
    assert error.value.code == "damaged"


@pytest.mark.parametrize("offset", ["95442", "95443.7"])
def test_the_clock_of_a_broadcast_may_wrap(make_video: MakeVideo, offset: str) -> None:
    """It has 33 bits, so that it begins anew after 26.5 hours."""
    clip = make_video("wraps.mp4", "testsrc2=size=32x32:rate=25:duration=4")
    video = make_video(f"wraps-{offset}.ts", clip, (*COPY, "-output_ts_offset", offset))
    info = probe(video)
    assert info.duration_s == pytest.approx(4, abs=0.05)
    assert frame_times(video, info.fps)[-1] == pytest.approx(3.96, abs=0.001)


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


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_start_that_an_edit_list_cuts_off_is_not_shown(
    make_video: MakeVideo, suffix: str
) -> None:
    """`-ss` with `-c copy` begins between two key frames: what is before it is decoded only."""
    coder = ("-c:v", "libx264", "-g", "24", "-bf", "2", "-sc_threshold", "0")
    whole = make_video("to-trim.mp4", "testsrc2=size=96x64:rate=24:duration=2", coder)
    video = make_video(f"edited.{suffix}", whole, COPY, ("-ss", "0.75"))
    info = probe(video)
    assert count_frames(video) == count_decodable_frames(video) == 30
    assert info.duration_s == pytest.approx(1.25, abs=0.001)
    times, moved = [0.01, 0.51, 1.01], [0.76, 1.26, 1.76]
    right = frames_at(probe(whole), moved, (96, 64))
    assert (frames_at(info, times, (96, 64)) == right).all()


def test_a_first_picture_of_an_avi_may_stay_longer(make_video: MakeVideo) -> None:
    coder = ("-c:v", "libx264", "-bf", "2", "-g", "24")
    clip = make_video("to-delay.mp4", "testsrc2=size=96x64:rate=24:duration=2", coder)
    with_sound = ("-itsoffset", "0.5", "-i", str(clip), "-f", "lavfi")
    both = ("-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "pcm_s16le")
    video = make_video("delayed.avi", "sine=duration=3", both, with_sound)
    info = probe(video)
    delay_s = 0.5 - 2 / 24  # it is decoded two frames before it would be shown
    assert info.duration_s == pytest.approx(2 + delay_s, abs=0.001)
    right = frames_at(probe(clip), [0, 1.51, 1.93], (96, 64))
    assert (frames_at(info, [0.3, 1.51 + delay_s, 1.93 + delay_s], (96, 64)) == right).all()


def test_a_file_in_which_ffmpeg_cannot_seek_is_read_from_its_start(make_video: MakeVideo) -> None:
    flash = ("-c:v", "flv", "-q:v", "3")
    video = make_video("flash.swf", "testsrc2=size=96x64:rate=24:duration=2", flash)
    info = probe(video)
    assert info.is_bare
    assert frames_at(info, [0.1, 1.9], (96, 64)).shape == (2, 64, 96, 3)


X264 = ("-c:v", "libx264", "-preset", "ultrafast")
MPEG2 = ("-c:v", "mpeg2video")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")


@pytest.mark.parametrize(
    ("name", "rate", "args"),
    [
        ("bare.264", "30", X264),  # ffmpeg's average is 25
        ("bare.m2v", "30", MPEG2),
        ("reordered.flv", "25", ("-c:v", "libx264", "-bf", "2")),  # counts from the first packet
        ("reordered.nut", "25", ("-c:v", "libx264", "-bf", "2", "-output_ts_offset", "1.4")),
        ("late.wmv", "25", (*X264, "-output_ts_offset", "1.4")),  # states its end
        ("last.vob", "60000/1001", MPEG2),  # leaves the last frame out
        ("ticks.ivf", "60000/1001", VP9),  # counts frames in ticks
    ],
)
def test_rate_and_length_are_those_of_the_frames(
    make_video: MakeVideo, name: str, rate: str, args: tuple[str, ...]
) -> None:
    scene = f"testsrc2=size=96x64:rate={rate},trim=end_frame=24"
    info = probe(make_video(f"rate-{name}", scene, args))
    assert float(info.fps) == pytest.approx(float(Fraction(rate)), rel=0.001)
    assert info.duration_s == pytest.approx(24 / float(Fraction(rate)), abs=0.002)


def test_the_rate_is_that_of_the_frames_where_the_first_one_waits(make_video: MakeVideo) -> None:
    # its first frame lasts until 1.44 s, as of fragments whose video begins late: 10 on average
    path = make_video("waits.mp4", "testsrc2=size=96x64:rate=25,trim=end_frame=24", X264)
    args = (*COPY, "-bsf:v", "setts=ts=TS+gt(N\\,0)*1.4/TB")
    assert probe(make_video("waiting.mp4", path, args)).fps == 25


def test_the_rate_is_that_of_the_frames_where_the_clock_of_avi_is_finer(
    make_video: MakeVideo,
) -> None:
    scene = "testsrc2=size=96x64:rate=24000/1001,trim=end_frame=24"
    path = make_video("finer.mov", scene, ("-c:v", "mjpeg", "-video_track_timescale", "600"))
    info = probe(make_video("finer.avi", path, (*COPY, "-copyts")))
    assert float(info.fps) == pytest.approx(24, rel=0.002)


def test_pictures_that_lead_the_first_key_frame_are_counted_if_they_can_be_decoded(
    make_video: MakeVideo,
) -> None:
    gops = "log-level=none:keyint=12:min-keyint=12:bframes=3:open-gop=0:radl=2"
    args = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", gops)
    whole = make_video("radl.mp4", "testsrc2=size=96x64:rate=25,trim=end_frame=36", args)
    # a cut at the second key frame: two pictures after it are shown before it, and need no other
    cut = make_video("radl.ts", whole, (*COPY, "-copypriorss", "1"), ("-ss", "0.5"))
    assert count_frames(cut) == count_decodable_frames(cut) == 26
    assert frame_times(cut, Fraction(25)) == pytest.approx([n / 25 for n in range(26)], abs=0.002)


def test_times_of_decoding_in_any_container_are_those_of_frames_in_their_order(
    make_video: MakeVideo,
) -> None:
    args = ("-c:v", "libx264", "-bf", "3", "-g", "12", "-pix_fmt", "yuv420p")
    scene = "testsrc2=size=96x64:rate=25,trim=end_frame=24"
    right = probe(make_video("shown.mp4", scene, args))
    middles_s = [(n + 0.5) / 25 for n in range(24)]
    expected = frames_at(right, middles_s, (96, 64))
    for suffix in ("mkv", "flv", "ts"):
        lost = (*COPY, "-bsf:v", "setts=pts=DTS")
        info = probe(make_video(f"decoded.{suffix}", right.path, lost))
        assert frame_times(info.path, info.fps) == pytest.approx(
            [n / 25 for n in range(24)], abs=0.002
        )
        assert (frames_at(info, middles_s, (96, 64)) == expected).all(), suffix


def test_a_broadcast_that_was_cut_begins_with_the_first_frame_that_is_shown(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    """A decoder drops what comes before the first key frame, which made the rate look variable."""
    args = ("-c:v", "libx264", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p")
    whole = make_video("to-cut.ts", "testsrc2=size=96x64:rate=25,trim=end_frame=48", args)
    cut, packets = tmp_path / "cut.ts", whole.stat().st_size // 188
    cut.write_bytes(whole.read_bytes()[packets * 22 // 100 * 188 :])
    info, shown = probe(cut), count_decodable_frames(cut)
    assert shown < 48
    assert len(frame_times(cut, info.fps)) == shown
    assert info.duration_s == pytest.approx(shown / 25, abs=0.001)
    assert info.fps == 25
    assert not info.is_vfr
    with av.open(str(cut)) as container:
        first = next(container.decode(video=0))
        assert float(info.start) == pytest.approx(first.time, abs=0.001)


def test_pictures_that_lead_the_first_key_frame_do_not_begin_a_broadcast(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    """They refer to frames before the cut, and decoders drop them."""
    args = ("-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-b:v", "500k")
    whole = make_video("open-mpeg2.ts", "testsrc2=size=96x64:rate=25,trim=end_frame=48", args)
    with av.open(str(whole)) as container:
        keys = [packet for packet in container.demux(video=0) if packet.is_keyframe]
    cut = tmp_path / "cut.ts"
    assert keys[1].pos
    tables = whole.read_bytes()[: 3 * 188]
    cut.write_bytes(tables + whole.read_bytes()[keys[1].pos :])
    info, shown = probe(cut), count_decodable_frames(cut)
    assert shown == 36
    assert info.duration_s == pytest.approx(shown / 25, abs=0.001)
    with av.open(str(cut)) as container:
        assert float(info.start) == pytest.approx(next(container.decode(video=0)).time, abs=0.001)


def test_a_broadcast_whose_video_begins_late_has_the_length_of_its_video(
    make_video: MakeVideo, clip: Path, tmp_path: Path
) -> None:
    tone = make_video("tone.ts", "sine=duration=3", ("-c:a", "aac", "-muxdelay", "0"))
    pids = ("-mpegts_start_pid", "0x180", "-output_ts_offset", "3")
    video = make_video("after-the-tone.ts", clip, (*COPY, *pids))
    (tmp_path / "both.ts").write_bytes(tone.read_bytes() + video.read_bytes())
    assert probe(tmp_path / "both.ts").duration_s == pytest.approx(0.4, abs=0.001)


def test_first_frames_without_timestamps_are_frames(make_video: MakeVideo) -> None:
    """Matroska says nothing of times before 0."""
    args = ("-c:v", "libx264", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p")
    whole = probe(make_video("from-0.mp4", "testsrc2=size=96x64:rate=25,trim=end_frame=48", args))
    early = (*COPY, "-avoid_negative_ts", "disabled", "-output_ts_offset", "-1")
    info = probe(make_video("before-0.mkv", whole.path, early))
    times = frame_times(info.path, info.fps)
    assert times == pytest.approx([n / 25 for n in range(48)], abs=0.001)
    assert info.duration_s == pytest.approx(48 / 25)
    middles_s = [time + 0.02 for time in times]
    assert (frames_at(info, middles_s, (96, 64)) == frames_at(whole, middles_s, (96, 64))).all()


@pytest.mark.parametrize("coder", ["libx264", "mpeg4", "mjpeg"])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_an_avi_of_few_frames_has_all_of_them(
    make_video: MakeVideo, coder: str, frames: int
) -> None:
    args = ("-frames:v", str(frames), "-c:v", coder, "-pix_fmt", "yuv420p", "-strict", "-2")
    info = probe(make_video(f"few-{coder}-{frames}.avi", CLIP, args))
    times = [n / 25 for n in range(frames)]
    assert frame_times(info.path, info.fps) == pytest.approx(times, abs=0.001)
    assert info.duration_s == pytest.approx(frames / 25, abs=0.001)
    require_complete(info)
    shown = frames_at(info, [time + 0.02 for time in times], (96, 64))
    assert len({picture.tobytes() for picture in shown}) == frames
