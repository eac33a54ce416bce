"""Segments of videos, decoded by workers: order, bounds, and what a fault costs."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from ladder.media.headers import CodedPicture, coded_pictures_of
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import TimeRange
from tests.conftest import MakeVideo
from tests.vqatool.faults import hang
from vqatool.inputs import preprocessor as preprocessor_module
from vqatool.inputs.clip import Array, Clip, FrameGroup
from vqatool.inputs.decode_pool import DecodePool
from vqatool.inputs.preprocessor import ClipPreprocessor, PacketState
from vqatool.methods import Method, recipe_for
from vqatool.scoring.segments import (
    SEGMENTS_PER_TASK,
    DecodedSegments,
    ScoreConfig,
    Segment,
    decode_first_segments,
    decode_segments,
    decode_videos,
)

NATIVE = ScoreConfig(display=None, segment_s=10)


def mean_view(
    clip: Clip, *, generator: np.random.Generator | None, marks: Path = Path("none")
) -> Array:
    """Mean of each frame; a fault for each shade: black crashes, white hangs, and so on."""
    means_T: Array = clip.pixels_TCHW.mean((1, 2, 3))
    if means_T.max() < 30:
        os.kill(os.getpid(), signal.SIGSEGV)
    if means_T.min() > 225:
        hang(marks)
    if means_T.min() > 170:
        raise AttributeError("a fault")
    if means_T.max() > 130:
        np.empty(1 << 50)
    return means_T


PREPROCESSOR = ClipPreprocessor((mean_view,), 2, FrameGroup(), False)


def decoded(
    videos: list[Path], config: ScoreConfig = NATIVE, *, jobs: int = 2
) -> list[list[DecodedSegments]]:
    with DecodePool(jobs=jobs) as pool:
        return [list(parts) for parts in decode_videos(videos, PREPROCESSOR, config, pool)]


def failure_code(parts: list[DecodedSegments]) -> str:
    failure = parts[-1].failure
    return failure.code if failure else ""


@pytest.fixture(scope="module")
def videos(make_video: MakeVideo) -> dict[str, Path]:
    return {
        colour: make_video(f"{colour}.mp4", f"color={colour}:size=64x48:rate=5:duration=4")
        for colour in ("black", "white", "gray", "silver", "0x989898")
    }


def test_each_fault_costs_its_own_video_and_the_others_go_on(
    videos: dict[str, Path], marks: Path
) -> None:
    order = ["gray", "black", "gray", "white", "gray", "silver", "0x989898"]
    paths = [videos[colour] for colour in order]
    preprocessor = replace(PREPROCESSOR, views=(partial(mean_view, marks=marks),))
    with DecodePool(jobs=2, timeout_s=0.2) as pool:
        found = [list(parts) for parts in decode_videos(paths, preprocessor, NATIVE, pool)]
    codes = ["", "crashed", "", "timeout", "", "internal", "out_of_memory"]
    assert list(map(failure_code, found)) == codes
    reasons = [parts[-1].failure.reason for parts in found if parts[-1].failure]
    for word, reason in zip(
        ["SIGSEGV", "took over 0.2 s", "'a fault'", "memory"], reasons, strict=True
    ):
        assert word in reason
    assert [parts[0].path for parts in found] == paths
    assert [len(parts[0].segments) for parts in found] == [1, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("jobs", [1, 3])
def test_segments_of_a_long_video_come_in_order(videos: dict[str, Path], jobs: int) -> None:
    config = ScoreConfig(display=None, segment_s=0.2)
    (parts,) = decoded([videos["gray"]], config, jobs=jobs)
    segments = [segment for part in parts for segment in part.segments]
    assert len(segments) == 20 == config.num_segments(4)
    assert max(len(part.segments) for part in parts) == SEGMENTS_PER_TASK
    assert [segment.start_s for segment in segments] == pytest.approx([k / 5 for k in range(20)])
    assert segments[-1].end_s == pytest.approx(4)


def test_a_crash_in_the_middle_ends_the_video_and_not_the_next_one(
    videos: dict[str, Path], make_video: MakeVideo
) -> None:
    fade = (
        "color=gray:size=64x48:rate=5:duration=8,drawbox=color=black:t=fill:enable='between(t,4,5)'"
    )
    config = ScoreConfig(display=None, segment_s=0.25)
    first, second = decoded([make_video("fade.mp4", fade), videos["gray"]], config)
    assert [len(part.segments) for part in first] == [SEGMENTS_PER_TASK, SEGMENTS_PER_TASK, 0]
    assert failure_code(first) == "crashed"
    assert first[-1].info
    assert first[-1].info.duration_s == 8  # its facts stay
    assert [part.failure for part in second] == [None, None]


def test_damage_is_that_of_its_own_segment(make_video: MakeVideo, tmp_path: Path) -> None:
    intra = ("-c:v", "libx264", "-g", "1")
    whole = make_video("intra-segments.mp4", "testsrc2=size=64x48:rate=5:duration=4", intra)
    with av.open(str(whole)) as container:
        packets = [
            (float(each.pts * each.time_base), each.pos, each.size)
            for each in container.demux(video=0)
            if each.pts is not None and each.pos is not None
        ]
    damaged = bytearray(whole.read_bytes())
    for at_s, place, size in packets:
        if 1 <= at_s < 2:
            damaged[place + size // 2 : place + size] = bytes(size - size // 2)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(damaged)
    config = ScoreConfig(display=None, segment_s=1)
    found = [decode_first_segments(each, PREPROCESSOR, config).segments for each in (whole, path)]
    assert [segment.is_damaged for segment in found[0]] == [False] * 4
    assert [segment.is_damaged for segment in found[1]] == [False, True, False, False]
    for number in (0, 2, 3):
        for view, expected in zip(found[1][number].views, found[0][number].views, strict=True):
            assert np.array_equal(view, expected)


MANY = ClipPreprocessor((mean_view,), 8, FrameGroup(), False)
COPY = ("-c", "copy")
OPEN_GROUPS = (
    "-c:v", "libx264", "-preset", "fast", "-b_strategy", "0", "-bf", "3",
    "-x264-params", "keyint=12:open-gop=1:scenecut=0", "-pix_fmt", "yuv420p",
)  # fmt: skip
MOVING = "testsrc2=size=96x64:rate=25:duration=4,noise=alls=20:all_seed=1,eq=brightness=-0.1"


def are_damaged(video: Path) -> list[bool]:
    """Of the first segments of a video."""
    config = ScoreConfig(display=None, segment_s=1.0)
    segments = decode_segments(video, None, probe(video), 0, MANY, config).segments
    assert len(segments) > 1
    return [segment.is_damaged for segment in segments]


def test_open_groups_are_not_damaged(make_video: MakeVideo, tmp_path: Path) -> None:
    """After a seek H.264 forgets frames that were never seen, which strict decoders refuse."""
    broadcast = make_video("open-groups.ts", MOVING, OPEN_GROUPS)
    cut = tmp_path / "cut.ts"
    cut.write_bytes(broadcast.read_bytes()[188 * 100 :])
    whole = make_video("open-groups.mp4", broadcast, COPY)
    for video in (broadcast, cut, whole):
        assert not any(are_damaged(video)), video.name


def test_damage_in_open_groups_is_told(make_video: MakeVideo, tmp_path: Path) -> None:
    whole = make_video("open-groups.mp4", make_video("open-groups.ts", MOVING, OPEN_GROUPS), COPY)
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        places = [
            packet.pos + packet.size // 2 for packet in container.demux(video=0) if packet.pos
        ]
    for place in places[10:40:5]:
        data[place : place + 8] = bytes(8)
    (tmp_path / "damaged.mp4").write_bytes(data)
    assert any(are_damaged(tmp_path / "damaged.mp4"))


def test_what_conceals_damage_does_not_depend_on_the_number_of_threads(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    coder = (
        "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=50",
        "-pix_fmt", "yuv420p",
    )  # fmt: skip
    path = tmp_path / "damaged.mp4"
    whole = make_video("moving-hevc.mp4", MOVING.replace("96x64", "192x108"), coder)
    data = bytearray(whole.read_bytes())
    place = data.index(b"mdat")
    media = np.arange(place + 200, place + int.from_bytes(data[place - 4 : place]) - 100)
    for number in np.random.default_rng(1).choice(media, 80, replace=False):
        data[number] ^= 16
    path.write_bytes(data)
    config = ScoreConfig(display=None, segment_s=1.0)
    found = [
        decode_segments(path, None, probe(path), 0, replace(MANY, threads=threads), config).segments
        for threads in (1, 4)
    ]
    both = [pair for pair in zip(*found, strict=True) if pair[0].is_damaged and pair[1].is_damaged]
    assert len(both) > 1
    for one, other in both:
        assert np.array_equal(one.views[0], other.views[0])


def test_where_skimming_meets_damage_all_segments_are_decoded(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    coder = ("-c:v", "libx264", "-g", "25", "-bf", "0", "-x264-params", "scenecut=0")
    data = bytearray(make_video("key-each-second.mp4", MOVING, coder).read_bytes())
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    views = recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 16}).views
    preprocessor = ClipPreprocessor(views, 2, FrameGroup(2), True, threads=1, is_divisible=True)
    config = ScoreConfig(display=None, segment_s=0.5)

    def segments(*, skims: bool) -> Sequence[Segment]:
        chosen = replace(config, skims=skims)
        return decode_segments(path, None, probe(path), 0, preprocessor, chosen).segments

    assert not all(segment.num_frame_groups for segment in segments(skims=True))
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos]
    data[places[77] + 20 : places[78]] = bytes(places[78] - places[77] - 20)
    path.write_bytes(data)
    whole, skimmed = segments(skims=False), segments(skims=True)
    assert any(segment.is_damaged for segment in whole)
    for one, other in zip(whole, skimmed, strict=True):
        assert (one.is_damaged, one.num_frame_groups) == (other.is_damaged, other.num_frame_groups)
        for view, expected in zip(other.views, one.views, strict=True):
            assert np.array_equal(view, expected)


def with_hole(video: Path, number: int, damaged: Path) -> Path:
    """A copy with zeros in the middle of a packet, counted in the order of decoding."""
    data = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos]
    start, size = packets[number].pos, packets[number].size
    assert start is not None
    data[start + size // 3 : start + size // 2] = bytes(size // 2 - size // 3)
    damaged.write_bytes(data)
    return damaged


@pytest.fixture(scope="module")
def one_group(make_video: MakeVideo) -> Path:
    """H.264 with one key frame in four seconds, a frame of two shown before the one it follows."""
    coder = ("-c:v", "libx264", "-g", "250", "-bf", "1", "-b_strategy", "0")
    return make_video("one-group.mp4", MOVING, (*coder, "-x264-params", "scenecut=0:b-pyramid=0"))


@pytest.mark.parametrize("skims", [False, True])
def test_a_hole_in_a_frame_that_no_score_needs_is_damage(
    one_group: Path, tmp_path: Path, skims: bool
) -> None:
    path = with_hole(one_group, 90, tmp_path / "hole.mp4")  # after the last frame of the score
    views = recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 16}).views
    preprocessor = ClipPreprocessor(views, 1, FrameGroup(2), True, threads=1, is_divisible=True)
    config = ScoreConfig(display=None, segment_s=0.5, skims=skims)
    whole, damaged = (
        decode_segments(each, None, probe(each), 0, preprocessor, config).segments
        for each in (one_group, path)
    )
    assert [segment.is_damaged for segment in whole] == [False] * 8
    assert [segment.is_damaged for segment in damaged][-2:] == [False, True]
    assert all(segment.num_frame_groups for segment in damaged)
    unread = replace(preprocessor, reads_stream=False)
    segments = decode_segments(path, None, probe(path), 0, unread, config).segments
    assert not segments[-1].is_damaged  # what this test is about: its frames are whole


@pytest.mark.parametrize("is_lost", [False, True])
def test_of_doubtful_packets_a_decoder_tells_whether_they_are_damaged(
    one_group: Path,
    make_video: MakeVideo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_lost: bool,
) -> None:
    broadcast = make_video("one-group.ts", one_group, COPY)
    data = broadcast.read_bytes()
    path = tmp_path / "recorded.ts"
    path.write_bytes(data[: -188 * 30] + data[-188 * 27 :] if is_lost else data)
    if not is_lost:
        monkeypatch.setattr(preprocessor_module, "coded_pictures_of", doubted)
    views = recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 16}).views
    preprocessor = ClipPreprocessor(views, 1, FrameGroup(2), True, threads=1, is_divisible=True)
    config = ScoreConfig(display=None, segment_s=1.0)
    segments = decode_segments(path, None, probe(path), 0, preprocessor, config).segments
    assert [segment.packets for segment in segments][-1] == PacketState.DOUBTFUL
    assert [segment.is_damaged for segment in segments] == [False, False, False, is_lost]


def test_doubtful_packets_of_a_video_that_states_a_huge_rate_take_no_memory_for_it(
    one_group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preprocessor_module, "coded_pictures_of", doubted)
    info = replace(probe(one_group), fps=Fraction(10**12))
    reading = replace(PREPROCESSOR, reads_stream=True)
    (segment,) = decode_segments(one_group, None, info, 0, reading, NATIVE).segments
    assert (segment.packets, segment.is_damaged) == (PacketState.DOUBTFUL, False)


def doubted(info: VideoInfo, parts: Sequence[TimeRange | None]) -> list[list[CodedPicture]]:
    """The pictures of each part, none of which can be trusted."""
    return [
        [replace(picture, is_doubtful=True) for picture in part]
        for part in coded_pictures_of(info, parts)
    ]


def test_a_file_that_cannot_be_opened_is_a_failure(videos: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    bad = [tmp_path / "gone.mp4", tmp_path / "empty.mp4", tmp_path, videos["gray"]]
    assert list(map(failure_code, decoded(bad))) == ["missing", "empty", "missing", ""]


@pytest.mark.parametrize(
    ("duration_s", "count"),
    [(25, 3), (35, 4), (45, 5), (24.9, 2), (14.9999, 1), (15.0, 2), (0.04, 1), (0, 1)],
)
def test_half_a_segment_counts_as_one(duration_s: float, count: int) -> None:
    assert ScoreConfig(segment_s=10).num_segments(duration_s) == count


@pytest.mark.parametrize("start_s", np.arange(0, 21, 0.5).tolist())
def test_some_segment_is_at_least_four_fifths_of_a_bad_stretch_of_four_seconds(
    start_s: float,
) -> None:
    count = ScoreConfig().num_segments(25)
    bounds = np.linspace(0, 25, count + 1)
    inside = np.minimum(bounds[1:], start_s + 4) - np.maximum(bounds[:-1], start_s)
    assert inside.max() / (25 / count) >= 0.8


@pytest.mark.parametrize(
    ("segment_s", "num_segments", "groups"),
    [
        *[(2.5, 4, 1), (2.8, 9, 1), (0.5, 60, 1), (5.04, 9, 2), (20, 9, 8), (60, 9, 8)],
        *[(2.5, 3, 2), (2.5, 2, 2), (0.5, 2, 2), (15, 2, 6)],
    ],
)
def test_short_segments_have_fewer_frame_groups(
    segment_s: float, num_segments: int, groups: int
) -> None:
    whole = ClipPreprocessor((mean_view,), 8, FrameGroup(), False, is_divisible=True)
    assert whole.of_segment(segment_s, num_segments).num_frame_groups == groups
    fixed = replace(whole, is_divisible=False)
    assert fixed.of_segment(segment_s, num_segments).num_frame_groups == 8


def test_a_video_of_one_segment_has_all_frame_groups(videos: dict[str, Path]) -> None:
    preprocessor = ClipPreprocessor((mean_view,), 8, FrameGroup(), False, is_divisible=True)
    whole = decode_first_segments(videos["gray"], preprocessor, NATIVE)
    (segment,) = whole.segments
    assert segment.num_frame_groups == len(segment.views[0]) == 8
    halves = ScoreConfig(display=None, segment_s=2)
    for half in decode_first_segments(videos["gray"], preprocessor, halves).segments:
        assert half.num_frame_groups == len(half.views[0]) == 2


@pytest.mark.parametrize(
    ("sample", "scored"),
    [(1, [3]), (2, [1, 4]), (3, [1, 3, 5]), (6, [0, 1, 2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])],
)
def test_a_sample_of_segments_is_spread_evenly(sample: int, scored: list[int]) -> None:
    config = ScoreConfig(segment_s=10, sample=sample)
    assert list(config.scored_segments(60)) == scored
    assert config.sampled(60) == ("" if sample >= 6 else f"{sample}/6")
    assert replace(config, skims=True).skims_through(60) == (sample >= 6)


@pytest.mark.parametrize(("minutes", "is_skimmed"), [(9.99, False), (10, True), (120, True)])
def test_long_videos_are_skimmed_unless_that_is_refused(minutes: float, is_skimmed: bool) -> None:
    assert ScoreConfig().skims_through(60 * minutes) == is_skimmed
    assert not ScoreConfig(skims=False).skims_through(60 * minutes)
    assert ScoreConfig(skims=True).skims_through(60 * minutes)
