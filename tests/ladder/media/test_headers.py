"""The sizes, key frames and quantisers read from headers match the encoder's settings."""

from pathlib import Path

import av
import av.logging
import pytest

from ladder import Ffmpeg
from ladder.codecs import coded_formats
from ladder.media.ffmpeg import run
from ladder.media.headers import CodedPicture, coded_pictures, coded_pictures_of
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import TimeRange
from tests.conftest import MakeVideo

QUIET = "testsrc2=s=96x64:r=10:d=3"
ENCODERS = {
    "h264": ["libx264", "-qp", "28", "-g", "10", "-bf", "0"],
    "hevc": ["libx265", "-x265-params", "qp=28:keyint=10:bframes=0:ipratio=1:log-level=error"],
    "vp9": ["libvpx-vp9", "-qmin", "40", "-qmax", "40", "-b:v", "0", "-crf", "40", "-g", "10"],
    "av1": ["libsvtav1", "-crf", "40", "-g", "10"],
    "mpeg4": ["mpeg4", "-q:v", "5", "-g", "10"],
}


def coded(
    ffmpeg: Ffmpeg, folder: Path, codec: str, container: str = "mp4", level: str = "40"
) -> Path:
    path = folder / f"{codec}.{container}"
    settings = ["-pix_fmt", "yuv420p", "-c:v", *ENCODERS[codec]]
    settings = [level if setting == "40" else setting for setting in settings]
    run(ffmpeg, ["-f", "lavfi", "-i", QUIET, *settings, str(path)])
    return path


def part_of(info: VideoInfo, start_s: float, length_s: float) -> list[CodedPicture]:
    (part,) = coded_pictures_of(info, [TimeRange(start_s, length_s)])
    return part


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_packet_gives_a_picture_with_the_packet_size(
    ffmpeg: Ffmpeg, tmp_path: Path, codec: str
) -> None:
    path = coded(ffmpeg, tmp_path, codec)
    pictures = coded_pictures(probe(path))
    assert len(pictures) == 30
    assert sum(picture.is_key for picture in pictures) == 3
    total = sum(picture.size_bytes for picture in pictures)
    assert 0.5 * path.stat().st_size < total < path.stat().st_size


@pytest.mark.parametrize(
    ("codec", "container", "other"),
    [("av1", "mp4", "ivf"), ("av1", "mkv", "obu"), ("h264", "mp4", "ts"), ("hevc", "mkv", "ts")],
)
def test_the_size_of_a_picture_does_not_depend_on_its_container(
    ffmpeg: Ffmpeg, tmp_path: Path, codec: str, container: str, other: str
) -> None:
    """Some begin each picture with a delimiter, and repeat headers at key frames."""
    path = coded(ffmpeg, tmp_path, codec, container)
    copy = tmp_path / f"copy.{other}"
    run(ffmpeg, ["-i", str(path), "-c", "copy", str(copy)])
    sizes, others = (
        [picture.size_bytes for picture in coded_pictures(probe(each)) if not picture.is_key]
        for each in (path, copy)
    )
    assert sizes == others


@pytest.mark.parametrize(("codec", "quantiser"), [("h264", 28), ("hevc", 28)])
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", ""])
def test_the_quantiser_is_the_one_set_in_the_encoder(
    ffmpeg: Ffmpeg, tmp_path: Path, codec: str, quantiser: int, container: str
) -> None:
    syntax = coded_formats()[codec].quantiser
    assert syntax
    path = coded(ffmpeg, tmp_path, codec, container or codec)
    inter = [p.log2_step for p in coded_pictures(probe(path)) if not p.is_key]
    assert inter
    assert set(inter) == {syntax.log2_step(quantiser)}


@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_a_coarser_quantiser_gives_a_larger_step(
    ffmpeg: Ffmpeg, tmp_path: Path, codec: str
) -> None:
    fine, coarse = (
        [p.log2_step for p in coded_pictures(probe(path)) if p.log2_step is not None]
        for path in (
            coded(ffmpeg, tmp_path, codec, f"{level}.mp4", level) for level in ("20", "50")
        )
    )
    assert min(coarse) > max(fine)


def test_a_codec_without_parsed_headers_gives_only_sizes(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    pictures = coded_pictures(probe(coded(ffmpeg, tmp_path, "mpeg4")))
    assert {picture.log2_step for picture in pictures} == {None}
    assert all(picture.size_bytes for picture in pictures)


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_only_the_given_part_of_a_stream_is_read(
    ffmpeg: Ffmpeg, tmp_path: Path, codec: str
) -> None:
    info = probe(coded(ffmpeg, tmp_path, codec))
    whole = coded_pictures(info)
    part = part_of(info, 1.0, 1.0)
    assert [p.size_bytes for p in part] == [p.size_bytes for p in whole[10:20]]


@pytest.mark.parametrize(("codec", "container"), [("h264", "mkv"), ("vp9", "mp4"), ("hevc", "ts")])
def test_parts_share_no_picture_but_the_key_frame_that_they_depend_on(
    ffmpeg: Ffmpeg, tmp_path: Path, codec: str, container: str
) -> None:
    info = probe(coded(ffmpeg, tmp_path, codec, container))
    whole = coded_pictures(info)
    parts = coded_pictures_of(info, [TimeRange(start_s, 0.5) for start_s in (1.0, 1.5, 2.0, 2.5)])
    assert parts[0] == whole[10:15]
    assert parts[1] == [whole[10], *whole[15:20]]
    assert parts[2] == whole[20:25]
    assert parts[3] == [whole[20], *whole[25:]]


def test_a_pause_has_the_picture_that_stays(make_video: MakeVideo) -> None:
    scene = "testsrc2=s=96x64:r=10:d=3,setpts='N/10/TB+gte(N,15)*6/TB'"
    args = ("-c:v", "libx264", "-bf", "0", "-g", "10", "-fps_mode", "passthrough")
    info = probe(make_video("pause.mkv", scene, args))
    whole = coded_pictures(info)
    parts = coded_pictures_of(info, [TimeRange(start_s, 1.0) for start_s in (3.0, 4.0, 8.0)])
    assert parts == [[whole[10], whole[14]], [whole[10], whole[14]], whole[20:30]]


def test_parts_far_from_each_other_are_read_alone(make_video: MakeVideo) -> None:
    info = probe(make_video("far.mp4", "testsrc2=s=96x64:r=10:d=12", ("-g", "10")))
    parts = [TimeRange(1.2, 0.5), TimeRange(10.2, 0.5)]
    assert coded_pictures_of(info, parts) == [part_of(info, 1.2, 0.5), part_of(info, 10.2, 0.5)]


def test_a_broken_stream_gives_the_pictures_before_the_damage(
    ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    path = coded(ffmpeg, tmp_path, "h264", "ts")
    info = probe(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 5 < len(coded_pictures(info)) < 30


def test_reading_headers_leaves_logging_as_it_was(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    coded_pictures(probe(coded(ffmpeg, tmp_path, "h264")))
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before


def test_headers_are_read_from_a_key_frame_in_the_middle_of_a_transport_stream(
    ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    info = probe(coded(ffmpeg, tmp_path, "h264", "ts"))
    part = part_of(info, 1.1, 0.5)
    assert 4 < len(part) < 30
    assert any(picture.is_key for picture in part)


def test_a_damaged_packet_costs_its_own_picture(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    path = coded(ffmpeg, tmp_path, "h264", "mkv")
    whole = coded_pictures(probe(path))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content, damaged = path.read_bytes(), packets[14]  # it begins with the length of a unit
    path.write_bytes(content.replace(damaged, b"\x7f" * 4 + damaged[4:]))
    found = coded_pictures(probe(path))
    assert [each.size_bytes for each in found] == [each.size_bytes for each in whole]
    assert found[14].log2_step is None
    assert [p.log2_step for p in found[15:]] == [p.log2_step for p in whole[15:]]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize(
    ("change", "expected"), [("a hole", True), ("a start code", True), ("a length", False)]
)
def test_a_packet_that_breaks_its_codec_s_rules_is_damaged_or_doubtful(
    ffmpeg: Ffmpeg, tmp_path: Path, codec: str, change: str, expected: bool
) -> None:
    path = coded(ffmpeg, tmp_path, codec, "mkv")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content, packet = path.read_bytes(), packets[14]
    middle = len(packet) // 2
    damaged = {
        "a hole": packet[:middle] + bytes(8) + packet[middle + 8 :],
        "a start code": packet[:middle] + b"\0\0\1" + packet[middle + 3 :],
        "a length": packet[:2] + b"\0\7" + packet[4:],
    }[change]
    assert not any(each.is_damaged or each.is_doubtful for each in coded_pictures(probe(path)))
    path.write_bytes(content.replace(packet, damaged))
    found = coded_pictures(probe(path))
    bad = [(n, p.is_damaged) for n, p in enumerate(found) if p.is_damaged or p.is_doubtful]
    assert bad == [(14, expected)]


def test_a_packet_that_lacks_a_part_is_doubtful(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    path = coded(ffmpeg, tmp_path, "h264", "ts")
    content = path.read_bytes()
    assert not any(each.is_doubtful for each in coded_pictures(probe(path)))
    middle = len(content) // 2 // 188 * 188
    path.write_bytes(content[:middle] + content[middle + 3 * 188 :])  # three packets are lost
    assert any(each.is_doubtful for each in coded_pictures(probe(path)))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_part_of_a_stream_without_timestamps_is_found_by_counting(
    ffmpeg: Ffmpeg, tmp_path: Path, codec: str
) -> None:
    info = probe(coded(ffmpeg, tmp_path, codec, codec))
    whole = coded_pictures(info)
    step_s = float(1 / info.fps)
    part = part_of(info, 10 * step_s, 10 * step_s)
    assert part == whole[10:20]


def test_the_first_picture_counts_where_decoding_begins_before_it_is_shown(
    make_video: MakeVideo,
) -> None:
    # MP4 gives the first frame of MPEG-2 the time 0 and decodes it before
    info = probe(make_video("late-shown.mp4", QUIET, ("-c:v", "mpeg2video", "-g", "10")))
    pictures = coded_pictures(info)
    assert [index for index, picture in enumerate(pictures) if picture.is_key] == [0, 10, 20]
    assert len(pictures) == 30


def test_vp9_in_flv_has_sizes_though_its_record_cannot_be_traced(make_video: MakeVideo) -> None:
    settings = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "10")
    path = make_video("traced.mp4", QUIET, settings)
    expected = coded_pictures(probe(path))
    found = coded_pictures(probe(make_video("traced.flv", path, ("-c", "copy"))))
    assert [(p.size_bytes, p.is_key) for p in found] == [(p.size_bytes, p.is_key) for p in expected]
