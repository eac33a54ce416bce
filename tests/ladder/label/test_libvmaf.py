"""libvmaf's filter graph, by value, and runs of it with several models and encodes."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import pytest

from ladder.errors import FfmpegError, LadderError, VmafError
from ladder.label.libvmaf import measure, parse_log, pool, vmaf_args
from ladder.label.metrics import METRICS, MetricRequest, log_metric_name
from ladder.label.pairing import Pairing
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import TimeRange
from tests.conftest import MakeVideo
from tests.ladder.conftest import NEG, V0, X264, pairing_of, vmaf

SAME = Pairing(frames_source=24, frames_encode=24)
PLAIN = MetricRequest(models=(V0,))

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
    video_input = f"scale={size}:flags=bicubic:in_range=auto:out_range=tv"
    return f"[{number}:0]{video_input};setsar=1;format={pix_fmt}"


def without_labels(graph: str) -> str:
    """The graph without the `[s0]` that ffmpeg-python numbers its links by."""
    for number in range(20):
        graph = graph.replace(f"[s{number}]", "")
    return graph


def args_of(
    encode: VideoInfo, source: VideoInfo, pairing: Pairing = SAME, wanted: MetricRequest = PLAIN
) -> list[str]:
    return vmaf_args(source, [(encode, pairing)], wanted)


def inputs_of(args: list[str]) -> list[str]:
    return [args[place + 1] for place, arg in enumerate(args) if arg == "-i"]


def test_the_encode_is_input_0_and_both_get_the_display_size_of_the_source(
    info: VideoInfo, made: VideoInfo
) -> None:
    encode = dataclasses.replace(made, width_px=86, height_px=48)
    anamorphic = dataclasses.replace(info, sar=Fraction(4, 3))
    wanted = MetricRequest(models=(V0,), features=("ssim", "cambi"), subsample=5)
    args = vmaf_args(anamorphic, [(encode, SAME)], wanted, threads=3)
    assert inputs_of(args) == ["file:/out/encode.mp4", "file:/films/source.mp4"]
    pair = ";settb=1/25;setpts=N"
    first, second = side(0, "256:108") + pair, side(1, "256:108") + pair
    measured = without_labels(graph_of(args)).rpartition(";")[2]
    assert without_labels(graph_of(args)) == f"{first};{second};{measured}"
    assert measured.startswith("libvmaf=feature=")
    for option in (
        "name\\\\=psnr|name\\\\=float_ssim|name\\\\=cambi",
        ":log_fmt=json",
        ":log_path=0.json",
        ":n_threads=3",
        ":n_subsample=5",
        ":shortest=1",
    ):
        assert option in measured
    assert "-xerror" in args
    assert args.count("file,crypto,data") == 2
    assert args[args.index("-f") + 1] == "null"


def test_the_source_is_decoded_once_for_all_of_its_encodes(
    info: VideoInfo, made: VideoInfo
) -> None:
    other = dataclasses.replace(made, path=Path("/out/other.mp4"))
    late = Pairing(frames_source=24, frames_encode=23, offset=-1)
    args = vmaf_args(info, [(made, SAME), (other, late)], PLAIN, threads=4)
    inputs = inputs_of(args)
    assert sorted(inputs) == [
        "file:/films/source.mp4",
        "file:/out/encode.mp4",
        "file:/out/other.mp4",
    ]
    graph = graph_of(args)
    assert graph.count(f"[{inputs.index('file:/films/source.mp4')}:0]") == 1
    assert graph.count("split=2") == 1
    assert graph.count("trim=start_frame=1") == 1  # the source's first frame, for one of them
    assert [graph.count(f"log_path={index}.json") for index in range(3)] == [1, 1, 0]
    assert graph.count("n_threads=2") == 2


def test_time_ranges_of_the_source_are_joined_and_the_encode_is_complete(
    info: VideoInfo, made: VideoInfo
) -> None:
    time_ranges = (TimeRange(0.2, 0.4), TimeRange(0.8, 0.08))
    args = vmaf_args(info, [(made, SAME)], PLAIN, time_ranges=time_ranges)
    assert inputs_of(args) == [
        "file:/out/encode.mp4",
        "file:/films/source.mp4",
        "file:/films/source.mp4",
    ]
    graph = without_labels(graph_of(args))
    # from half a frame before the 5th and the 20th frame on, 10 and 2 frames long
    assert "[1:0]trim=end=0.580000:start=0.180000;" in graph
    assert "[2:0]trim=end=0.860000:start=0.780000;" in graph
    assert graph.count("concat=a=0:n=2:v=1") == 1


@pytest.mark.parametrize(
    ("offset", "trimmed"),
    [(-2, "[1:0]"), (2, "[0:0]")],
)
def test_frames_without_a_partner_are_left_out(
    info: VideoInfo, made: VideoInfo, offset: int, trimmed: str
) -> None:
    graph = graph_of(args_of(made, info, dataclasses.replace(SAME, offset=offset)))
    chains = without_labels(graph).partition("[1:0]")
    (trim,) = [c for c in (chains[0], chains[1] + chains[2]) if "trim=start_frame=2;settb=" in c]
    assert trim.startswith(trimmed)


@pytest.mark.parametrize(
    ("frames_source", "frames_encode", "offset", "mode"),
    [
        (24, 24, 0, "index"),
        (24, 23, 0, "time"),
        (23, 24, 0, "time"),
        (24, 23, -1, "index"),  # the source's first frame was dropped: the others are all there
        (23, 24, 1, "index"),
        (24, 24, -1, "index"),  # shifted, and a frame was added at the end
        (24, 24, 1, "index"),
        (24, 12, -6, "time"),
        (24, 23, 1, "time"),
    ],
)
def test_frames_are_paired_by_index_where_the_counts_agree(
    frames_source: int, frames_encode: int, offset: int, mode: str
) -> None:
    pairing = Pairing(frames_source=frames_source, frames_encode=frames_encode, offset=offset)
    assert pairing.mode == mode


def test_timestamps_are_frame_numbers_or_times(info: VideoInfo, made: VideoInfo) -> None:
    ntsc = dataclasses.replace(info, fps=Fraction(30000, 1001))
    by_index = graph_of(args_of(made, ntsc))
    assert by_index.count("settb=1001/30000") == 2  # the source's clock for both
    assert by_index.count("setpts=N") == 2
    assert "ts_sync_mode" not in by_index
    by_time = graph_of(args_of(made, ntsc, Pairing(frames_source=24, frames_encode=23)))
    assert by_time.count("settb=AVTB") == 2
    assert by_time.count("setpts=PTS-STARTPTS") == 2
    assert ":ts_sync_mode=nearest" in by_time


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
def test_both_inputs_get_one_pixel_format_of_10_bit_where_needed(
    info: VideoInfo,
    made: VideoInfo,
    encode_bits: int,
    source_bits: int,
    models: list[str],
    pix_fmt: str,
) -> None:
    encode = dataclasses.replace(made, bit_depth=encode_bits)
    source = dataclasses.replace(info, bit_depth=source_bits)
    graph = without_labels(
        graph_of(args_of(encode, source, wanted=MetricRequest(models=tuple(models))))
    )
    assert side(0, pix_fmt=pix_fmt) in graph
    assert side(1, pix_fmt=pix_fmt) in graph


def test_only_an_interlaced_input_is_deinterlaced(info: VideoInfo, made: VideoInfo) -> None:
    fields = dataclasses.replace(info, is_interlaced=True)
    args = args_of(made, fields)
    graph = without_labels(graph_of(args))
    assert "[0:0]scale" in graph
    assert "[1:0]bwdif=" in graph
    assert graph.count("bwdif") == 1
    # a graph with it is built anew where the size changes: it takes one size
    assert args.count("-reinit_filter") == 1


@pytest.mark.parametrize("name", ["a b", "x'y", "a,b;c", "[1:v]", "c:d\\e", "%d", "=|="])
def test_file_names_never_enter_the_graph(info: VideoInfo, made: VideoInfo, name: str) -> None:
    odd_source = dataclasses.replace(info, path=Path("/films") / f"{name}.mp4")
    odd_encode = dataclasses.replace(made, path=Path("/out") / f"{name}.mp4")
    args = args_of(odd_encode, odd_source)
    assert graph_of(args) == graph_of(args_of(made, info))
    assert [arg for arg in args if name in arg] == [
        f"file:/out/{name}.mp4",
        f"file:/films/{name}.mp4",
    ]


# ---- runs


def test_several_models_and_features_are_measured_in_one_run(
    make_video: MakeVideo, ffmpeg: Ffmpeg
) -> None:
    scene = "mandelbrot=size=320x180:rate=25:start_scale=0.6:end_pts=60"
    source = make_video("larger.mp4", scene, ("-frames:v", "5", "-crf", "4", *X264))
    encode = make_video("larger-encode.mp4", source, ("-crf", "33", *X264))
    models = tuple(METRICS[name].libvmaf_name for name in ("v0", "neg", "phone", "v1"))
    wanted = MetricRequest(models=models, features=("ssim", "cambi"))
    pair = (probe(encode), pairing_of(encode, source))
    (text,) = measure(probe(source), [pair], wanted, ffmpeg)
    log = parse_log(text)
    assert log.version
    assert {"psnr_y", "float_ssim", "cambi"} <= set(log.metrics)
    v0, neg, phone, v1 = (pool(log.metrics[log_metric_name(model)]).mean for model in models)
    assert neg <= v0 < phone - 3  # a small screen forgives
    assert abs(v1 - v0) > 0.5
    for model, score in zip(models, (v0, neg, phone), strict=False):
        alone = vmaf(encode, source, ffmpeg, model)
        assert score == pytest.approx(alone, abs=0.2)  # in 10 bit here, for v1, and in 8 there


def test_a_video_too_small_for_a_model_is_refused_with_the_reason(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    wanted = MetricRequest(models=(METRICS["v1"].libvmaf_name,))
    with pytest.raises(LadderError, match="libvmaf"):
        measure(probe(source_video), [(probe(poor), SAME)], wanted, ffmpeg)


def test_encodes_measured_in_one_process_get_the_same_values_as_alone(
    make_video: MakeVideo,
    poor: Path,
    coarse: Path,
    short: Path,
    late: Path,
    source_video: Path,
    ffmpeg: Ffmpeg,
) -> None:
    half = make_video("half.mp4", source_video, ("-vf", "select='not(mod(n,2))'", *X264))
    wanted = MetricRequest(models=(V0, NEG), features=("ssim",))
    pairs = [
        (probe(encode), pairing_of(encode, source_video)) for encode in (poor, coarse, short, half)
    ]
    pairs += [(probe(late), Pairing(frames_source=24, frames_encode=23, offset=-1))]
    source = probe(source_video)
    together = [parse_log(log) for log in measure(source, pairs, wanted, ffmpeg, threads=4)]
    assert [len(log.metrics["psnr_y"]) for log in together] == [24, 24, 19, 12, 23]
    for pair, log in zip(pairs, together, strict=True):
        (text,) = measure(source, [pair], wanted, ffmpeg)
        alone = parse_log(text).metrics
        assert alone.keys() == log.metrics.keys()
        for name, values in alone.items():
            assert log.metrics[name] == pytest.approx(values, abs=1e-6)


def test_one_damaged_encode_fails_the_process(
    tmp_path: Path, poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    text = tmp_path / "text.mp4"
    text.write_bytes(b"no video\n" * 99)
    broken = dataclasses.replace(probe(poor), path=text)
    with pytest.raises(FfmpegError):
        measure(probe(source_video), [(probe(poor), SAME), (broken, SAME)], PLAIN, ffmpeg)


def test_every_nth_frame_can_be_measured(poor: Path, source_video: Path, ffmpeg: Ffmpeg) -> None:
    wanted = MetricRequest(models=(V0,), subsample=5)
    (text,) = measure(probe(source_video), [(probe(poor), SAME)], wanted, ffmpeg)
    assert [frame["frameNum"] for frame in json.loads(text)["frames"]] == [0, 5, 10, 15, 20]


def test_worse_encodes_have_lower_vmaf(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    scores = []
    for crf in (15, 28, 40):
        encode = make_video(f"crf{crf}.mp4", source_video, ("-crf", str(crf), *X264))
        scores.append(vmaf(encode, source_video, ffmpeg))
    assert scores[0] > scores[1] + 3 > scores[2] + 6


def test_measuring_leaves_no_file_and_reports_progress(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seconds: list[float] = []
    pair = (probe(poor), SAME)
    measure(probe(source_video), [pair], PLAIN, ffmpeg, on_progress=seconds.append)
    assert list(tmp_path.iterdir()) == []
    assert seconds[-1] == pytest.approx(0.96, abs=0.05)


@pytest.mark.parametrize(
    ("pairing", "compared", "subsample", "is_right"),
    [
        (Pairing(frames_source=96, frames_encode=96), 96, 1, True),
        (Pairing(frames_source=96, frames_encode=96), 95, 1, False),
        (Pairing(frames_source=96, frames_encode=96), 20, 5, True),
        (Pairing(frames_source=96, frames_encode=96), 19, 5, False),
        (Pairing(frames_source=96, frames_encode=96, offset=2), 94, 1, True),
        (Pairing(frames_source=96, frames_encode=48), 46, 1, True),
        (Pairing(frames_source=96, frames_encode=48), 45, 1, False),
    ],
)
def test_a_label_of_fewer_frames_than_have_a_partner_is_refused(
    pairing: Pairing, compared: int, subsample: int, is_right: bool
) -> None:
    rates = (Fraction(24), Fraction(24))
    if is_right:
        pairing.require_compared(compared, subsample, rates)
        return
    with pytest.raises(VmafError, match=f"compared {compared} frames.*cannot be read to its end"):
        pairing.require_compared(compared, subsample, rates)


def test_other_frame_rates_ask_for_the_right_source() -> None:
    pairing = Pairing(frames_source=60, frames_encode=60)
    with pytest.raises(VmafError, match=r"source has 29\.97 .* encode 24, so is it the right"):
        pairing.require_compared(57, 1, (Fraction(30000, 1001), Fraction(24)))
