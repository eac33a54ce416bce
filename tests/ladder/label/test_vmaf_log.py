"""libvmaf's log: parsing, errors, pooling, saving."""

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

from ladder.errors import VmafError
from ladder.label.files import LabelFiles
from ladder.label.libvmaf import measure, parse_log, pool, read_log, save_log
from ladder.label.metrics import MetricRequest
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from tests.ladder.conftest import NEG, V0, pairing_of

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


# ---- the log


def test_a_log_is_parsed_to_one_list_per_metric() -> None:
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
        (LOG.replace("64.000000\n", "-nan\n"), "cannot be parsed"),
        (LOG.replace("64.000000\n", "NaN\n"), "vmaf_v0_6_1 that is not a number"),
        (LOG.replace("31.999999", "Infinity"), "psnr_y that is not a number"),
        (LOG.replace("31.999999", "-Infinity"), "psnr_y that is not a number"),
        (LOG.replace("31.999999", "1e999"), "psnr_y that is not a number"),
        (LOG.replace("31.999999", "null"), "cannot be parsed"),
        (LOG.replace('"psnr_y": 31.999999,', ""), "cannot be parsed"),
        (LOG[:200], "cannot be parsed"),
        ("", "cannot be parsed"),
        ("[]", "cannot be parsed"),
        ('{"frames": 3}', "cannot be parsed"),
    ],
)
def test_an_invalid_log_is_refused(log: str, says: str) -> None:
    with pytest.raises(VmafError, match=says):
        parse_log(log)


# ---- pooling


def test_pooled_values_equal_those_worked_by_hand() -> None:
    pools = pool([0.0, 50.0, 100.0])
    assert pools.mean == pytest.approx(50)
    # 3 / (1/1 + 1/51 + 1/101) - 1 = 3 / 1.029509 - 1
    assert pools.hmean == pytest.approx(1.914010, abs=1e-5)
    assert pools.min == 0
    assert pools.p1 == pytest.approx(1)  # 2 % of the way from 0 to 50
    assert pools.p5 == pytest.approx(5)
    assert pools.p10 == pytest.approx(10)
    assert pools.std == pytest.approx((5000 / 3) ** 0.5)


def test_pooled_values_of_one_frame_are_its_value() -> None:
    assert dataclasses.astuple(pool([42.0])) == pytest.approx((42, 42, 42, 42, 42, 42, 0))


def test_pooled_values_of_a_real_log_equal_libvmafs(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg
) -> None:
    pair = (probe(poor), pairing_of(poor, source_video))
    wanted = MetricRequest(models=(V0, NEG), features=("ssim",))
    (text,) = measure(probe(source_video), [pair], wanted, ffmpeg)
    theirs = json.loads(text)["pooled_metrics"]
    metrics = parse_log(text).metrics
    for metric in ("vmaf_v0_6_1", "vmaf_v0_6_1neg", "psnr_y", "float_ssim"):
        ours = pool(metrics[metric])
        assert ours.mean == pytest.approx(theirs[metric]["mean"], abs=1e-5)
        assert ours.hmean == pytest.approx(theirs[metric]["harmonic_mean"], abs=1e-5)
        assert ours.min == pytest.approx(theirs[metric]["min"], abs=1e-5)
        assert ours.hmean < ours.mean
    ours = pool(metrics["vmaf_v0_6_1"])
    ordered = sorted(metrics["vmaf_v0_6_1"])
    for share, got in ((0.01, ours.p1), (0.05, ours.p5), (0.10, ours.p10)):
        place = share * (len(ordered) - 1)  # between the two frames next to it
        below, above = ordered[int(place)], ordered[int(place) + 1]
        assert got == pytest.approx(below + (place - int(place)) * (above - below), abs=1e-9)
    square = sum((value - ours.mean) ** 2 for value in ordered) / len(ordered)
    assert ours.std == pytest.approx(square**0.5, abs=1e-9)


# ---- keeping


def test_a_saved_log_omits_only_the_speed(tmp_path: Path) -> None:
    path = LabelFiles.of_folder(tmp_path).log("clip/180p.mp4")
    save_log(path, LOG)
    assert path == tmp_path / "vmaf" / "clip" / "180p.mp4.json.gz"
    kept = gzip.decompress(path.read_bytes()).decode()
    assert parse_log(kept) == read_log(path) == parse_log(LOG)
    assert '"fps"' not in kept
    before = path.read_bytes()
    save_log(path, LOG.replace("318.40", "12.01"))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["180p.mp4.json.gz"]
