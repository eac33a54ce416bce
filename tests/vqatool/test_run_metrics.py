"""The file of metrics: its format, and when it is written."""

import re
from pathlib import Path

import pytest

from ladder.encode.plan import EncodeRow
from ladder.encode.rungs import RateMode
from ladder.errors import OutputError
from ladder.label.rows import LabelRow
from ladder.storage import Status
from vqatool import run_metrics
from vqatool.run_metrics import RunMetrics, StageCounts
from vqatool.scoring.rows import ReportRow

GOOD = ReportRow(path="a.mp4", status="ok", size_bytes=1000, duration_s=10.0, score_s=0.5)
BAD = ReportRow(path="b.mp4", status="error", size_bytes=20, error_code="damaged")

SAMPLE = re.compile(
    r'(vqatool_[a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\} (-?\d+(?:\.\d+)?)'
)


def samples(path: Path) -> dict[str, float]:
    """Values by name and labels, as `files_done_total stage=score`; `run` is left out."""
    found = {}
    kinds: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            _, word, name, rest = line.split(" ", 3)
            if word == "TYPE":
                assert name not in kinds, "one metric has two blocks"
                kinds[name] = rest
            continue
        matched = SAMPLE.fullmatch(line)
        assert matched, line
        name, labels, value = matched.groups()
        assert name.endswith("_total") == (kinds[name] == "counter")
        pairs = dict(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', labels))
        assert pairs.pop("run") == path.stem
        key = " ".join([name.removeprefix("vqatool_"), *(f"{k}={v}" for k, v in pairs.items())])
        assert key not in found
        found[key] = float(value)
    return found


def test_a_run_is_counted_from_its_beginning_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nightly.prom"
    metrics = RunMetrics(path, "score")
    counts = metrics.begin("score", expected=5, kept=2)
    first = samples(path)
    assert first["run_in_progress"] == 1
    assert first["files_expected stage=score"] == 5
    assert first["files_kept stage=score"] == 2
    assert first["files_done_total stage=score"] == 0
    assert "run_exit_code" not in first

    counts.add(GOOD)
    metrics.touch()
    assert samples(path) == first  # not so soon
    monkeypatch.setattr(run_metrics, "_WRITE_EVERY_S", 0.0)
    metrics.touch()
    assert samples(path)["files_done_total stage=score"] == 1
    counts.add(BAD)
    counts.add(GOOD)
    metrics.end(4)
    last = samples(path)
    assert last["files_done_total stage=score"] == 2
    assert last["files_failed_total stage=score code=damaged"] == 1
    assert last["file_size_bytes_total stage=score"] == 2020
    assert last["video_seconds_total stage=score"] == 20
    assert last["work_seconds_total stage=score"] == 1
    assert last["run_in_progress"] == 0
    assert last["run_exit_code"] == 4
    assert last["run_end_time_seconds"] >= last["run_start_time_seconds"] > 1e9
    assert [file.name for file in tmp_path.iterdir()] == ["nightly.prom"]


def test_rows_of_every_stage_can_be_counted() -> None:
    counts = StageCounts()
    encode = EncodeRow(
        source="s", source_path="s.mp4", encode_path="e.mp4", rung="r", codec="libx264",
        rate_mode=RateMode.CRF, size_bytes=7, duration_s=3.0, encode_s=2.0,
    )  # fmt: skip
    counts.add(encode)
    counts.add(LabelRow(encode_path="e.mp4", source="s", rung="r", size_bytes=7, label_s=0.5))
    counts.add(LabelRow(encode_path="e.mp4", source="s", rung="r", status=Status.ERROR))
    assert (counts.done, counts.size_bytes, counts.work_s) == (2, 14, 2.5)
    assert dict(counts.failed) == {"unspecified": 1}


def test_odd_letters_in_labels_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / 'a"b\\c\nd\udce9.prom'
    RunMetrics(path, "score").end(0)
    (line,) = [
        each for each in path.read_text().splitlines() if each.startswith("vqatool_run_exit")
    ]
    assert line == r'vqatool_run_exit_code{run="a\"b\\c\nd?"} 0'


def test_a_file_that_cannot_be_written_ends_no_run_but_at_its_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    metrics = RunMetrics(tmp_path / "file" / "m.prom", "label")
    with pytest.raises(OutputError, match=r"m\.prom"):
        metrics.begin("label", 1, 0)
    metrics.end(2)
    assert "metrics: " in caplog.text
