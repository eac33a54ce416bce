"""The properties of video files."""

import dataclasses
import gc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ladder.errors import VideoError
from ladder.media.decode import frames_at
from ladder.media.headers import coded_pictures
from ladder.media.lengths import count_frames
from ladder.media.probe import probe
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
        "is_tonemapped": False,
        "has_false_keys": False,
        "crop": (0, 0, 0, 0),
        "is_mirrored": False,
        "is_partly_interlaced": False,
        "has_two_ranges": False,
        "is_timed_by_dts": False,
        "is_timed_by_order": False,
        "matrix": "unknown",
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


@pytest.mark.parametrize(
    "coder",
    [
        ("-c:v", "libsvtav1", "-preset", "12", "-crf", "50", "-g", "25"),
        ("-c:v", "mpeg4", "-bf", "2", "-g", "25"),
        ("-c:v", "mpeg2video", "-bf", "2", "-g", "25"),
        ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "25"),
    ],
)
def test_key_frames_without_an_index_are_those_of_the_stream(
    tmp_path: Path, make_video: MakeVideo, coder: Sequence[str]
) -> None:
    video = make_video(f"index-{coder[1]}.mp4", "testsrc2=size=96x64:rate=25:duration=3", coder)
    false = tmp_path / "false.mp4"
    false.write_bytes(video.read_bytes().replace(b"stss", b"free"))
    times = [0.3, 1.7, 2.9]
    right, ours = (frames_at(probe(path), times, (96, 64)) for path in (video, false))
    assert (right == ours).all()
    right_keys, our_keys = (
        [picture.is_key for picture in coded_pictures(probe(path))] for path in (video, false)
    )
    assert right_keys == our_keys
    assert 0 < sum(our_keys) < 10


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


def test_probe_returns_ratios_as_fractions(source_video: Path) -> None:
    info = probe(source_video)
    assert type(info.fps) is Fraction
    assert type(info.sar) is Fraction


def test_a_track_that_counts_in_no_unit_of_time_is_an_error(
    source_video: Path, tmp_path: Path
) -> None:
    data = bytearray(source_video.read_bytes())
    place = data.index(b"mdhd") + 16  # the time scale of the track
    data[place : place + 4] = bytes(4)
    path = tmp_path / "timeless.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"timeless\.mp4 says that a frame stays for 512 s"):
        probe(path)


def test_many_b_frames_make_no_variable_rate(make_video: MakeVideo) -> None:
    """Of the first packets the last is shown late, and what comes before it follows."""
    args = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "8", "-g", "50")
    scene = "testsrc2=size=64x64:rate=25,trim=end_frame=300"
    many = (*args, "-x264-params", "b-adapt=0:scenecut=0:b-pyramid=normal")
    assert not probe(make_video("many-b-frames.mp4", scene, many)).is_vfr


def test_a_probed_video_leaves_no_frame_for_the_garbage_collector(clip: Path) -> None:
    """A frame keeps all buffers of its decoder: 40 MB at 1080 lines."""

    def frames() -> list[av.VideoFrame]:
        return [each for each in gc.get_objects() if isinstance(each, av.VideoFrame)]

    probe(clip)
    gc.collect()
    gc.disable()
    try:
        before = len(frames())  # those of kept encoders, where other tests ran in this process
        probe(clip)
        left = len(frames())
    finally:
        gc.enable()
    assert left == before
