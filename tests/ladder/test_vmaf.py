"""VMAF of one pair: the graph by value, the log, pooling, and real pairs that once went wrong."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import pytest

from ladder.errors import VmafError
from ladder.ffmpeg import Ffmpeg, file_url, run
from ladder.probe import VideoInfo, count_frames, probe
from ladder.vmaf import Pairing, frame_shift, measure, model_names, parse_log, pool, vmaf_args
from tests.conftest import EXACT, MakeVideo
from tests.ladder.conftest import NEG, V0, X264, vmaf

SAME = Pairing(frames_source=24, frames_encode=24)
LOG = """{
  "version": "3.0.0",
  "fps": 318.40,
  "frames": [
    {
      "frameNum": 0,
      "metrics": {
        "integer_motion": 0.000000,
        "psnr_y": 34.760779,
        "vmaf_v0_6_1": 83.856285
      }
    },
    {
      "frameNum": 1,
      "metrics": {
        "integer_motion": 12.560209,
        "psnr_y": 31.999999,
        "vmaf_v0_6_1": 64.000000
      }
    }
  ],
  "pooled_metrics": {
    "vmaf_v0_6_1": {
      "min": 64.000000,
      "max": 83.856285,
      "mean": 73.928143,
      "harmonic_mean": 72.616327
    }
  },
  "aggregate_metrics": {
  }
}
"""


def vmaf_by_hand(first: Path, second: Path, graph: str, ffmpeg: Ffmpeg, folder: Path) -> float:
    """The mean VMAF that ffmpeg gives for a filter graph written out by hand."""
    inputs = ["-i", file_url(first), "-i", file_url(second)]
    run(ffmpeg, [*inputs, "-lavfi", graph, "-f", "null", "-"], cwd=folder)
    log = json.loads((folder / "hand.json").read_text())
    return float(log["pooled_metrics"]["vmaf"]["mean"])


# ---- the graph


def graph_of(args: list[str]) -> str:
    return args[args.index("-filter_complex") + 1]


@pytest.fixture
def info(source_video: Path) -> VideoInfo:
    return dataclasses.replace(probe(source_video), path=Path("/films/source.mp4"))


@pytest.fixture
def made(info: VideoInfo) -> VideoInfo:
    """An encode of `info`, of the same facts."""
    return dataclasses.replace(info, path=Path("/out/encode.mp4"))


def side(number: int, size: str = "192:108", pix_fmt: str = "yuv420p") -> str:
    """What is done to one input before frames are paired, with the labels left out."""
    picture = f"scale={size}:flags=bicubic:in_range=auto:out_range=tv"
    return f"[{number}:V:0]{picture};setsar=1;format={pix_fmt}"


def without_labels(graph: str) -> str:
    """The graph without the `[s0]` that ffmpeg-python numbers its links by."""
    for number in range(20):
        graph = graph.replace(f"[s{number}]", "")
    return graph


def test_the_encode_is_input_0_and_both_are_brought_to_the_display_size_of_the_source(
    info: VideoInfo, made: VideoInfo
) -> None:
    encode = dataclasses.replace(made, width_px=86, height_px=48)
    anamorphic = dataclasses.replace(info, sar=Fraction(4, 3))
    args = vmaf_args(encode, anamorphic, SAME, [V0], threads=3, subsample=5)
    inputs = [args[place + 1] for place, arg in enumerate(args) if arg == "-i"]
    assert inputs == ["file:/out/encode.mp4", "file:/films/source.mp4"]
    pair = ";settb=1/25;setpts=N"
    first, second, measured = (
        side(0, "256:108") + pair,
        side(1, "256:108") + pair,
        without_labels(graph_of(args)).rpartition(";")[2],
    )
    assert without_labels(graph_of(args)) == f"{first};{second};{measured}"
    assert measured.startswith("libvmaf=")
    for option in (
        "log_fmt=json",
        "log_path=vmaf.json",
        "n_threads=3",
        "n_subsample=5",
        "shortest=1",
    ):
        assert f":{option}" in measured
    assert "-xerror" in args
    assert args.count("file,crypto,data") == 2
    assert args[args.index("-f") + 1] == "null"


def test_frames_are_paired_by_index_where_counts_agree_and_by_time_where_not(
    info: VideoInfo, made: VideoInfo
) -> None:
    ntsc = dataclasses.replace(info, fps=Fraction(30000, 1001))
    by_index = graph_of(vmaf_args(made, ntsc, SAME, [V0]))
    assert by_index.count("settb=1001/30000") == 2  # the source's clock for both
    assert by_index.count("setpts=N") == 2
    assert "ts_sync_mode" not in by_index
    off = Pairing(frames_source=24, frames_encode=23)
    by_time = graph_of(vmaf_args(made, ntsc, off, [V0]))
    assert by_time.count("settb=AVTB") == 2
    assert by_time.count("setpts=PTS-STARTPTS") == 2
    assert ":ts_sync_mode=nearest" in by_time
    assert (SAME.by, off.by) == ("index", "time")


@pytest.mark.parametrize(
    ("encode_bits", "source_bits", "models", "pix_fmt"),
    [
        (8, 8, [V0], "yuv420p"),
        (10, 8, [V0], "yuv420p10le"),
        (8, 10, [V0], "yuv420p10le"),
        (8, 8, ["vmaf_v1.0.16_3d0h"], "yuv420p10le"),
        (8, 8, [V0, "vmaf_v1.0.16_3d0h"], "yuv420p10le"),
    ],
)
def test_both_sides_get_one_pixel_format_deep_if_either_is_or_the_model_wants_it(
    info: VideoInfo,
    made: VideoInfo,
    encode_bits: int,
    source_bits: int,
    models: list[str],
    pix_fmt: str,
) -> None:
    encode = dataclasses.replace(made, bit_depth=encode_bits)
    source = dataclasses.replace(info, bit_depth=source_bits)
    graph = without_labels(graph_of(vmaf_args(encode, source, SAME, models)))
    assert side(0, pix_fmt=pix_fmt) in graph
    assert side(1, pix_fmt=pix_fmt) in graph


def test_only_an_interlaced_side_is_deinterlaced(info: VideoInfo, made: VideoInfo) -> None:
    fields = dataclasses.replace(info, is_interlaced=True)
    graph = without_labels(graph_of(vmaf_args(made, fields, SAME, [V0])))
    assert "[0:V:0]scale" in graph
    assert "[1:V:0]bwdif=" in graph
    assert graph.count("bwdif") == 1


@pytest.mark.parametrize("name", ["a b", "x'y", "a,b;c", "[1:v]", "c:d\\e", "%d", "=|="])
def test_names_of_videos_never_enter_the_graph(info: VideoInfo, made: VideoInfo, name: str) -> None:
    odd_source = dataclasses.replace(info, path=Path("/films") / f"{name}.mp4")
    odd_encode = dataclasses.replace(made, path=Path("/out") / f"{name}.mp4")
    args = vmaf_args(odd_encode, odd_source, SAME, [V0])
    assert graph_of(args) == graph_of(vmaf_args(made, info, SAME, [V0]))
    assert [arg for arg in args if name in arg] == [
        f"file:/out/{name}.mp4",
        f"file:/films/{name}.mp4",
    ]


def test_several_models_are_measured_in_one_run(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    log = parse_log(measure(probe(poor), probe(source_video), SAME, [V0, NEG], ffmpeg))
    assert {"vmaf_v0_6_1", "vmaf_v0_6_1neg", "psnr_y"} <= set(log.metrics)
    assert pool(log.metrics["vmaf_v0_6_1neg"]).mean <= pool(log.metrics["vmaf_v0_6_1"]).mean
    assert log.version


def test_short_model_names_are_made_libvmafs_own() -> None:
    assert model_names(["v0", "neg", "v1"]) == (V0, NEG, "vmaf_v1.0.16_3d0h")
    assert model_names(["v0", V0, "vmaf_4k_v0.6.1"]) == (V0, "vmaf_4k_v0.6.1")


# ---- the log


def test_a_log_becomes_one_column_a_metric() -> None:
    log = parse_log(LOG)
    assert log.version == "3.0.0"
    assert log.metrics == {
        "integer_motion": [0.0, 12.560209],
        "psnr_y": [34.760779, 31.999999],
        "vmaf_v0_6_1": [83.856285, 64.0],
    }


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ('{"version": "3.0.0", "frames": [], "pooled_metrics": {}}', "no frames"),
        (LOG.replace("64.000000\n", "-nan\n"), "not what it should be"),
        (LOG.replace("64.000000\n", "NaN\n"), "vmaf_v0_6_1 that is not a number"),
        (LOG.replace("31.999999", "Infinity"), "psnr_y that is not a number"),
        (LOG.replace("31.999999", "-Infinity"), "psnr_y that is not a number"),
        (LOG.replace("31.999999", "1e999"), "psnr_y that is not a number"),
        (LOG.replace("31.999999", "null"), "not what it should be"),
        (LOG.replace('"psnr_y": 31.999999,', ""), "not what it should be"),
        (LOG[:200], "not what it should be"),
        ("", "not what it should be"),
        ("[]", "not what it should be"),
        ('{"frames": 3}', "not what it should be"),
    ],
)
def test_a_log_that_cannot_be_trusted_is_refused(log: str, says: str) -> None:
    with pytest.raises(VmafError, match=says):
        parse_log(log)


# ---- pooling


def test_pools_are_those_worked_by_hand() -> None:
    pools = pool([0.0, 50.0, 100.0])
    assert pools.mean == pytest.approx(50)
    # 3 / (1/1 + 1/51 + 1/101) - 1 = 3 / 1.029509 - 1
    assert pools.hmean == pytest.approx(1.914010, abs=1e-5)
    assert pools.min == 0
    assert pools.p1 == pytest.approx(1)  # 2 % of the way from 0 to 50
    assert pools.p5 == pytest.approx(5)
    assert pools.std == pytest.approx((5000 / 3) ** 0.5)


def test_pools_of_one_frame_are_that_frame() -> None:
    pools = pool([42.0])
    assert dataclasses.astuple(pools) == pytest.approx((42, 42, 42, 42, 42, 0))


def test_our_pools_of_a_real_pair_are_those_of_libvmaf(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    text = measure(probe(poor), probe(source_video), SAME, [V0], ffmpeg)
    theirs = json.loads(text)["pooled_metrics"]["vmaf_v0_6_1"]
    ours = pool(parse_log(text).metrics["vmaf_v0_6_1"])
    assert ours.mean == pytest.approx(theirs["mean"], abs=1e-4)
    assert ours.hmean == pytest.approx(theirs["harmonic_mean"], abs=1e-4)
    assert ours.min == pytest.approx(theirs["min"], abs=1e-4)
    assert ours.hmean < ours.mean


# ---- real pairs


def test_the_encode_is_judged_by_the_source_and_not_the_other_way_round(
    coarse: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    graph = "[0:v][1:v]libvmaf=log_fmt=json:log_path=hand.json:model='version=vmaf_v0.6.1'"
    right = vmaf_by_hand(coarse, source_video, graph, ffmpeg, tmp_path)
    swapped = vmaf_by_hand(source_video, coarse, graph, ffmpeg, tmp_path)
    assert abs(right - swapped) > 2
    assert vmaf(coarse, source_video, ffmpeg) == pytest.approx(right, abs=0.01)


def test_a_small_encode_is_scaled_up_to_the_source_and_not_the_source_down(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    measured = "libvmaf=log_fmt=json:log_path=hand.json:model='version=vmaf_v0.6.1'"
    up = f"[0:v]scale=192:108:flags=bicubic[e];[e][1:v]{measured}"
    down = f"[1:v]scale=96:54:flags=bicubic[s];[0:v][s]{measured}"
    right = vmaf_by_hand(poor, source_video, up, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(poor, source_video, down, ffmpeg, tmp_path)
    assert vmaf(poor, source_video, ffmpeg) == pytest.approx(right, abs=0.01)
    assert abs(right - wrong) > 2


def test_a_source_against_itself_is_nearly_perfect(source_video: Path, ffmpeg: Ffmpeg) -> None:
    assert vmaf(source_video, source_video, ffmpeg) > 95


def test_worse_encodes_have_lower_vmaf(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    scores = [
        vmaf(
            make_video(f"crf{crf}.mp4", source_video, ("-crf", str(crf), *X264)),
            source_video,
            ffmpeg,
        )
        for crf in (15, 28, 40)
    ]
    assert scores[0] > scores[1] + 3 > scores[2] + 6


def test_milliseconds_of_matroska_do_not_change_the_vmaf_at_29_97_fps(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    scene = "mandelbrot=size=192x108:rate=30000/1001:start_scale=0.6:end_pts=60"
    source = make_video("ntsc.mp4", scene, ("-frames:v", "30", *EXACT))
    encode = make_video(
        "ntsc-encode.mp4", source, ("-crf", "30", "-video_track_timescale", "30000", *X264)
    )
    remuxed = make_video("ntsc-encode.mkv", encode, ("-c", "copy"))
    right = vmaf(encode, source, ffmpeg)
    assert vmaf(remuxed, source, ffmpeg) == pytest.approx(right, abs=0.2)
    # what the timestamps of the files alone would have given
    graph = "[0:v][1:v]libvmaf=log_fmt=json:log_path=hand.json:model='version=vmaf_v0.6.1'"
    assert vmaf_by_hand(remuxed, source, graph, ffmpeg, tmp_path) < right - 3


def test_full_range_and_limited_range_of_one_picture_have_no_quality_between_them(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    convert = "scale=in_range=tv:out_range=pc,format=yuv420p"
    args = ("-vf", convert, "-color_range", "pc", "-crf", "4", *X264)
    full = make_video("full-range.mp4", source_video, args)
    assert probe(full).is_full_range
    assert vmaf(full, source_video, ffmpeg) == pytest.approx(
        vmaf(source_video, source_video, ffmpeg), abs=2
    )
    assert vmaf(source_video, full, ffmpeg) > 90


def test_a_turned_source_is_compared_upright(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    turned = make_video("turned.mp4", source_video, ("-c", "copy"), ["-display_rotation", "90"])
    upright = make_video("turned-encode.mp4", turned, ("-crf", "20", *X264))
    assert probe(upright).rotation == 0
    assert vmaf(upright, turned, ffmpeg) > 80
    assert frame_shift(probe(upright), probe(turned)) == 0


def test_a_dropped_frame_is_paired_by_time_and_hardly_hurts(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    whole = make_video("coarse-again.mp4", source_video, ("-crf", "30", *X264))
    gap = make_video(
        "gap.mp4", source_video, ("-vf", "select='not(eq(n,12))'", "-crf", "30", *X264)
    )
    assert count_frames(gap) == 23
    assert vmaf(gap, source_video, ffmpeg) == pytest.approx(
        vmaf(whole, source_video, ffmpeg), abs=5
    )


def test_every_nth_frame_can_be_measured(poor: Path, source_video: Path, ffmpeg: Ffmpeg) -> None:
    text = measure(probe(poor), probe(source_video), SAME, [V0], ffmpeg, subsample=5)
    assert [frame["frameNum"] for frame in json.loads(text)["frames"]] == [0, 5, 10, 15, 20]


def test_measuring_leaves_no_file_behind_and_tells_its_progress(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seconds: list[float] = []
    measure(probe(poor), probe(source_video), SAME, [V0], ffmpeg, on_progress=seconds.append)
    assert list(tmp_path.iterdir()) == []
    assert seconds[-1] == pytest.approx(0.96, abs=0.05)


# ---- shifts


def test_a_dropped_first_frame_is_found_from_either_side(late: Path, source_video: Path) -> None:
    assert frame_shift(probe(late), probe(source_video)) == -1  # the encode leads
    assert frame_shift(probe(source_video), probe(late)) == 1


def test_two_dropped_frames_are_found_too(make_video: MakeVideo, source_video: Path) -> None:
    args = ("-vf", "trim=start_frame=2,setpts=PTS-STARTPTS", "-crf", "26", *X264)
    later = make_video("later.mp4", source_video, args)
    assert frame_shift(probe(later), probe(source_video)) == -2


def test_a_true_pair_has_no_shift(poor: Path, coarse: Path, source_video: Path) -> None:
    for encode in (poor, coarse, source_video):
        assert frame_shift(probe(encode), probe(source_video)) == 0


def test_a_still_scene_has_no_shift(make_video: MakeVideo) -> None:
    still = "testsrc2=size=96x64:rate=25:duration=0.04,loop=loop=23:size=1,setpts=N/25/TB"
    source = make_video("still.mp4", still, ("-frames:v", "24", *EXACT))
    encode = make_video("still-encode.mp4", source, ("-crf", "35", *X264))
    assert frame_shift(probe(encode), probe(source)) == 0


def test_a_clip_too_short_to_tell_has_no_shift(make_video: MakeVideo, source_video: Path) -> None:
    short = make_video("four.mp4", source_video, ("-frames:v", "4", *EXACT))
    assert frame_shift(probe(short), probe(short)) == 0
