"""What a run tells of itself: --metrics and --log-json."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.vqatool.cli.test_program import run_failing
from tests.vqatool.program import vqatool
from tests.vqatool.test_run_metrics import samples
from vqatool.terminal import is_json


def lines_of(done: Result) -> list[dict[str, Any]]:
    """The objects on stderr, each with what every one has."""
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    for entry in entries:
        assert entry["time"].endswith("Z")
        assert entry["level"] in {"debug", "info", "warning", "error"}
        assert entry["message"]
    return entries


def test_score_tells_what_it_did_and_kept(
    real_clips: list[Path], small_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.mp4").touch()
    given = ["score", *real_clips[:2], tmp_path / "empty.mp4", "-m", small_model]
    arguments = [*given, "-o", tmp_path / "r.csv", "--metrics", tmp_path / "m.prom"]
    done = vqatool(*arguments, "--log-json", "-v")
    assert done.exit_code == 4
    found = samples(tmp_path / "m.prom")
    assert found["files_expected stage=score"] == 3
    assert found["files_done_total stage=score"] == 2
    assert found["files_failed_total stage=score code=empty"] == 1
    assert found["file_size_bytes_total stage=score"] == sum(
        c.stat().st_size for c in real_clips[:2]
    )
    assert found["work_seconds_total stage=score"] > 0
    assert (found["run_exit_code"], found["run_in_progress"]) == (4, 0)
    told = [(e["level"], e["file"]) for e in lines_of(done) if "has no bytes" in e["message"]]
    assert told == [(level, str(tmp_path / "empty.mp4")) for level in ("info", "error")]
    assert {e["file"] for e in lines_of(done) if ": done, " in e["message"]} == {
        str(clip) for clip in real_clips[:2]
    }
    assert not is_json()  # it ends with the run

    assert vqatool(*arguments).exit_code == 4
    again = samples(tmp_path / "m.prom")
    assert again["files_kept stage=score"] == 2
    assert again["files_done_total stage=score"] == 0
    assert again["files_failed_total stage=score code=empty"] == 1


def test_ladder_and_label_tell_what_they_did(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    metrics = ["--metrics", tmp_path / "m.prom"]
    made = ["ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", two_rungs, *metrics]
    assert vqatool(*made, "--log-json", "--log", tmp_path / "run.log").exit_code == 0
    found = samples(tmp_path / "m.prom")
    assert found["files_done_total stage=ladder"] == found["files_expected stage=ladder"] == 2
    encodes = [*(tmp_path / "w").rglob("*.mp4")]
    assert found["file_size_bytes_total stage=ladder"] == sum(e.stat().st_size for e in encodes)
    logged = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    assert any(entry["message"].startswith("run: ") for entry in logged)
    assert {Path(e["file"]).name for e in logged if ": done, " in e["message"]} == {
        encode.name for encode in encodes
    }

    encodes[0].write_bytes(b"")
    assert vqatool("label", tmp_path / "w", "--vmaf-model", "v0", *metrics).exit_code == 4
    found = samples(tmp_path / "m.prom")
    assert found["files_done_total stage=label"] == 1
    assert found["files_failed_total stage=label code=unspecified"] == 1
    assert found["run_info command=label version=" + package_version()] == 1


def package_version() -> str:
    from vqatool import __version__

    return __version__


def test_a_run_that_ends_at_once_is_told(tmp_path: Path) -> None:
    done = vqatool("score", tmp_path, "--metrics", tmp_path / "m.prom")
    assert done.exit_code == 5
    assert samples(tmp_path / "m.prom")["run_exit_code"] == 5


@pytest.mark.parametrize(
    ("name", "says"), [("m.txt", "must end in .prom"), ("other.prom", "did not write it")]
)
def test_a_file_of_metrics_that_would_not_be_read_or_is_not_ours(
    name: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "other.prom").write_text("node_time 1\n")
    done = vqatool("score", tmp_path, "--metrics", tmp_path / name)
    assert done.exit_code == 2
    assert says in done.stderr
    assert (tmp_path / "other.prom").read_text() == "node_time 1\n"


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--log-json", "score", "none.mp4", "--shard", "x"], 2, "'x' is not a shard"),
        (["score", "none.mp4", "--log-json", "--shard", "x"], 2, "'x' is not a shard"),
        (["label", "no-such-folder", "--log-json"], 2, "holds no encodes"),
    ],
)
def test_errors_are_lines_of_json(
    args: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = vqatool(*args)
    assert done.exit_code == code
    assert says in lines_of(done)[-1]["message"]
    assert lines_of(done)[-1]["level"] == "error"


def test_a_bug_is_one_line_with_its_traceback() -> None:
    bug, advice = lines_of(run_failing(KeyError("x"), before=["--log-json"]))
    assert bug["traceback"].startswith("Traceback")
    assert "report it" in advice["message"]
