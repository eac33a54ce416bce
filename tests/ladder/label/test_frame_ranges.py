"""Labels measured in ranges of frames: every value is that of a single run."""

import dataclasses
import json
import logging
from fractions import Fraction
from pathlib import Path

import pytest

from ladder.errors import VmafError
from ladder.label import frame_ranges
from ladder.label.frame_ranges import (
    FrameRange,
    cut_ranges,
    join_logs,
    measure_in_ranges,
    number_of_ranges,
)
from ladder.label.libvmaf import measure, parse_log, read_log
from ladder.label.metrics import METRICS, MetricRequest
from ladder.label.pairing import Pairing
from ladder.label.run import LabelOptions
from ladder.media import filters
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange
from tests.conftest import MakeVideo
from tests.ladder.conftest import V0, X264, label, pairing_of, work_folder

FRAMES, GOP = 60, 10


@pytest.fixture(scope="module")
def film(make_video: MakeVideo) -> Path:
    """60 moving frames at 24 fps, and a key frame every ten."""
    scene = "mandelbrot=size=192x108:rate=24:start_scale=0.6:end_pts=90,noise=alls=6:all_seed=1"
    return make_video("film.mp4", scene, ("-frames:v", f"{FRAMES}", "-crf", "8", *keyed()))


def keyed(*more: str) -> tuple[str, ...]:
    return ("-g", f"{GOP}", "-bf", "2", *more, *X264)


@pytest.fixture(params=["closed.mp4", "open.mp4", "hevc.mkv", "late.mp4", "short.mp4", "rate.mp4"])
def encode(request: pytest.FixtureRequest, make_video: MakeVideo, film: Path) -> Path:
    """Encodes of `film` whose frames depend on others in several ways, or are fewer."""
    hevc = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "34", "-x265-params")
    late = "trim=start_frame=2,setpts=PTS-STARTPTS"
    settings = {
        "closed.mp4": ("-vf", "scale=96:54", "-crf", "30", *keyed()),
        "open.mp4": ("-crf", "34", *keyed("-x264-params", "open-gop=1")),
        "hevc.mkv": (*hevc, f"keyint={GOP}:open-gop=1:log-level=none"),
        "late.mp4": ("-vf", late, "-crf", "34", *keyed()),
        "short.mp4": ("-frames:v", f"{FRAMES - 2}", "-crf", "34", *keyed()),
        "rate.mp4": ("-vf", "fps=12", "-crf", "34", "-c:v", "libx264", "-preset", "veryfast"),
    }
    return make_video(f"film-{request.param}", film, settings[request.param])


def assert_same(
    encode: Path,
    film: Path,
    ffmpeg: Ffmpeg,
    request: MetricRequest,
    *,
    number: int = 2,
    offset: int = 0,
    time_ranges: tuple[TimeRange, ...] = (),
    frames_source: int | None = None,
) -> None:
    """The log of ranges has the same frames as that of one run, byte for byte."""
    source, encoded, pairing = probe(film), probe(encode), pairing_of(encode, film)
    pairing = dataclasses.replace(
        pairing, offset=offset, frames_source=frames_source or pairing.frames_source
    )
    (whole,) = measure(source, [(encoded, pairing)], request, ffmpeg, time_ranges=time_ranges)
    joined = measure_in_ranges(
        source, encoded, pairing, request, ffmpeg, number=number, time_ranges=time_ranges
    )

    def frames_of(log: str) -> str:
        return log[log.index('"frames"') : log.index('"pooled_metrics"')]

    assert frames_of(joined) == frames_of(whole)
    assert joined != whole  # without the speed: one that fell back on a single run would have it
    pooled, due = (json.loads(log)["pooled_metrics"] for log in (joined, whole))
    assert pooled.keys() == due.keys()
    for metric, figures in due.items():
        assert pooled[metric] == pytest.approx(figures, abs=2e-6)


def test_every_kind_of_encode_gets_the_values_of_a_single_run(
    encode: Path, film: Path, ffmpeg: Ffmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "_SEEK_MARGIN_S", 0.5)  # else all are read from the beginning
    offset = -2 if "late" in encode.name else 0
    assert_same(encode, film, ffmpeg, MetricRequest(models=(V0,)), offset=offset)


@pytest.mark.parametrize(("subsample", "offset"), [(3, 0), (5, -2)])
def test_every_nth_frame_is_the_same_one(
    subsample: int, offset: int, film: Path, make_video: MakeVideo, ffmpeg: Ffmpeg
) -> None:
    cut = ("-vf", f"trim=start_frame={-offset},setpts=PTS-STARTPTS", "-crf", "34", *keyed())
    encode = make_video(f"film-from-{-offset}.mp4", film, cut)
    assert_same(
        encode, film, ffmpeg, MetricRequest(models=(V0,), subsample=subsample), offset=offset
    )


@pytest.mark.parametrize("models", [("v0", "neg", "phone"), ("v1", "v1-hfr")], ids="-".join)
def test_models_that_see_motion_in_their_own_ways(
    models: tuple[str, ...], make_video: MakeVideo, ffmpeg: Ffmpeg
) -> None:
    """Those for 50 frames a second look at five frames."""
    scene = "mandelbrot=size=320x180:rate=50:start_scale=0.6:end_pts=60"
    film = make_video("film-50.mp4", scene, ("-frames:v", "42", "-crf", "8", *keyed()))
    encode = make_video("film-50-encode.mp4", film, ("-crf", "36", *keyed()))
    names = tuple(METRICS[model].libvmaf_name for model in models)
    assert_same(encode, film, ffmpeg, MetricRequest(models=names, features=("ssim", "cambi")))


def test_parts_of_a_source_that_were_joined(
    film: Path, make_video: MakeVideo, ffmpeg: Ffmpeg
) -> None:
    joined = "select='between(n,6,29)+between(n,36,53)',setpts=N/24/TB"
    encode = make_video("film-parts.mp4", film, ("-vf", joined, "-crf", "34", *keyed()))
    parts = (TimeRange(0.25, 1.0), TimeRange(1.5, 0.75))
    request = MetricRequest(models=(V0,))
    assert_same(encode, film, ffmpeg, request, time_ranges=parts, frames_source=42)


def test_frames_are_counted_where_seeking_misses_some(
    film: Path,
    make_video: MakeVideo,
    ffmpeg: Ffmpeg,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refreshed = keyed("-x264-params", f"intra-refresh=1:keyint={GOP}")
    encode = make_video("film-refreshed.mp4", film, ("-crf", "34", *refreshed))
    monkeypatch.setattr(filters, "_SEEK_MARGIN_S", 0)
    with caplog.at_level(logging.INFO, "ladder.label.frame_ranges"):
        assert_same(encode, film, ffmpeg, MetricRequest(models=(V0,)))
    assert "ranges whose frames are found by their times do not fit" in caplog.text


def test_ranges_that_fit_in_no_way_are_measured_as_one(
    film: Path, make_video: MakeVideo, ffmpeg: Ffmpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(*given: object) -> tuple[None, None]:
        return None, None  # every range begins with the first frame

    monkeypatch.setattr(frame_ranges, "_window", shifted)
    monkeypatch.setattr(frame_ranges, "_counted", lambda stream, part, skip: stream)
    encode = make_video("film-closed.mp4", film, ("-vf", "scale=96:54", "-crf", "30", *keyed()))
    request, pairing = MetricRequest(models=(V0,)), pairing_of(encode, film)
    source, encoded = probe(film), probe(encode)
    log = measure_in_ranges(source, encoded, pairing, request, ffmpeg, number=2)
    (whole,) = measure(source, [(encoded, pairing)], request, ffmpeg)
    assert parse_log(log) == parse_log(whole)


# ---- cutting and joining, without ffmpeg


@pytest.mark.parametrize("count", [1, 17, 40, 1000, 172_801])
@pytest.mark.parametrize("subsample", [1, 3, 99])
@pytest.mark.parametrize("number", [1, 2, 7])
def test_ranges_cover_each_pair_once_and_keep_the_steps(
    count: int, subsample: int, number: int
) -> None:
    parts = cut_ranges(count, number, subsample)
    assert 1 <= len(parts) <= number
    kept = [pair for part in parts for pair in (part.start, part.end)]
    assert kept == sorted(kept)
    assert kept[0] == 0
    assert kept[-1] == count
    assert kept[1:-1:2] == kept[2::2]
    assert all(part.first % subsample == part.start % subsample == 0 for part in parts)
    for part in parts[1:]:
        # at least one measured pair is compared with the range before
        assert any(pair % subsample == 0 for pair in range(part.checked_from, part.start))
    assert [part.stop is None for part in parts] == [False] * (len(parts) - 1) + [True]


def test_only_a_film_that_is_long_enough_is_divided() -> None:
    def number(frames: int, processes: int = 4, shortest_s: float = 60) -> int:
        pairing = Pairing(frames_source=frames, frames_encode=frames)
        return number_of_ranges(pairing, Fraction(24), processes, shortest_s)

    assert number(24 * 119) == 1
    assert number(24 * 120) == 2
    assert number(24 * 3600) == 4
    assert number(24 * 3600, processes=1) == 1
    assert number(24 * 3600, shortest_s=0) == 1


def log_of(values: list[float]) -> str:
    frames = [{"frameNum": n, "metrics": {"vmaf": value}} for n, value in enumerate(values)]
    return json.dumps({"version": "3", "frames": frames})


PARTS = (FrameRange(0, 20, 0, 24), FrameRange(20, 40, 4, None))
WHOLE = Pairing(frames_source=40, frames_encode=40)
VALUES = [float(n) for n in range(40)]


def test_what_was_measured_twice_is_dropped() -> None:
    # the first frames of a range, and those behind it, have no neighbours
    first, second = VALUES[:20] + [0.0] * 4, [0.0] * 8 + VALUES[12:]
    joined = join_logs([log_of(first), log_of(second)], PARTS, WHOLE, 1)
    assert parse_log(joined).metrics == {"vmaf": VALUES}
    assert json.loads(joined)["pooled_metrics"]["vmaf"]["mean"] == 19.5


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ([*VALUES[4:15], 99.0, *VALUES[16:]], "pair 15 has other values"),
        (VALUES[5:], "36 are due and 35"),
        ([*VALUES[4:], 1.0], "36 are due and 37"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(second: list[float], says: str) -> None:
    with pytest.raises(VmafError, match=says):
        join_logs([log_of(VALUES[:24]), log_of(second)], PARTS, WHOLE, 1)
    with pytest.raises(VmafError, match="cannot be parsed"):
        join_logs(["{}", log_of(second)], PARTS, WHOLE, 1)


# ---- the stage


def test_a_label_of_ranges_is_that_of_a_single_run(
    tmp_path: Path,
    film: Path,
    make_video: MakeVideo,
    ffmpeg: Ffmpeg,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "ladder.label.frame_ranges")
    encode = make_video("film-closed.mp4", film, ("-vf", "scale=96:54", "-crf", "30", *keyed()))
    rows, logs = [], []
    for name, range_s in (("one", 0.0), ("ranges", 1.0)):
        assert "measured in" not in caplog.text
        folder = work_folder(tmp_path / name, film, {"closed": encode})
        told: list[float] = []
        row = label(
            folder,
            ffmpeg,
            LabelOptions(models=(V0,)),
            processes=3,
            range_s=range_s,
            on_progress=lambda key, share, told=told: told.append(share),
        )["closed"]
        rows.append(dataclasses.replace(row, label_s=None))
        logs.append(read_log(folder / "vmaf" / "clip" / "closed.mp4.json.gz"))
        assert all(0 <= share <= 1 for share in told)
    assert "closed.mp4: measured in 2 ranges" in caplog.text
    assert rows[0] == rows[1]
    assert logs[0] == logs[1]
