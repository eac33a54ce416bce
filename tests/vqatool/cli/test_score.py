"""`vqatool score` and `merge` as people use them: inputs, outputs, exit codes."""

import errno
import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import vqatool as package
from ladder import Ffmpeg
from ladder.media import hardware
from ladder.media.ffmpeg import file_url, run
from tests.conftest import CloseFolder
from tests.vqatool.program import kill_after_three_rows, read_rows, vqatool
from vqatool.cli import cli
from vqatool.errors import NoVideoError, ReportError
from vqatool.inference import loading
from vqatool.inputs.decode_pool import TIMEOUT_S
from vqatool.scoring.formats import as_json
from vqatool.scoring.report_file import ReportFile, read_report
from vqatool.scoring.rows import ReportRow
from vqatool.scoring.segments import SEGMENTS_PER_TASK


@pytest.fixture
def videos(labelled: Path) -> list[Path]:
    return sorted(labelled.rglob("*.mp4"))[:4]


def scored(paths: list[object], out: Path, model: Path, *more: object) -> list[dict[str, str]]:
    """Rows of a run that must succeed, without timings."""
    done = vqatool("score", *paths, "-o", out, "-m", model, "--device", "cpu", *more)
    assert done.exit_code == 0, done.stderr
    return [row | {"score_s": ""} for row in read_rows(out)]


def test_a_hostile_folder_gives_one_row_each_and_exit_4(
    tmp_path: Path, labelled: Path, ffmpeg: Ffmpeg, small_model: Path
) -> None:
    folder = tmp_path / "dir"
    folder.mkdir()
    good = sorted(labelled.rglob("*.mp4"))[:2]
    for path in good:
        (folder / f"good {path.parent.name}.mp4").write_bytes(path.read_bytes())
    (folder / "text.mp4").write_text("no video at all\n" * 100)
    (folder / "empty.mp4").touch()
    tone = ["-f", "lavfi", "-i", "sine=d=1", str(folder / "audio, only.mp4")]
    run(ffmpeg, tone)
    whole = tmp_path / "whole.mp4"
    front = ["-f", "lavfi", "-i", "testsrc2=s=320x180:d=4", "-movflags", "+faststart"]
    run(ffmpeg, [*front, "-pix_fmt", "yuv420p", str(whole)])
    (folder / "truncated.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    (folder / "notes.txt").write_text("skipped")
    out = tmp_path / "report.csv"
    done = vqatool("score", folder, "-o", out, "-m", small_model, "--device", "cpu")
    assert done.exit_code == 4
    rows = {Path(row["path"]).name: row for row in read_rows(out)}
    assert len(rows) == 6 - (len({p.parent.name for p in good}) == 1)
    codes = {name: row["error_code"] for name, row in rows.items() if row["status"] == "error"}
    assert codes == {
        "text.mp4": "not_video",
        "empty.mp4": "empty",
        "audio, only.mp4": "no_stream",
        "truncated.mp4": "damaged",
    }
    for name, row in rows.items():
        assert bool(row["score"]) == name.startswith("good"), name
    for name in codes:
        assert name in done.stderr


def test_file_names_are_never_markup_and_need_not_be_valid_text(
    tmp_path: Path, labelled: Path, small_model: Path
) -> None:
    video = sorted(labelled.rglob("*.mp4"))[0].read_bytes()
    names = [b"[red]a[bold].mp4", b"line\nbreak.mp4", b"caf\xe9.mp4", b"-dash, 'quote' \".mp4"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(video)
    out = tmp_path / "report.csv"
    done = vqatool("score", tmp_path, "-o", out, "-m", small_model, "--device", "cpu")
    assert done.exit_code == 0
    report = read_report(out)
    assert {os.fsencode(Path(row.path).name) for row in report} == set(names)
    assert len({row.score for row in report}) == 1


@pytest.mark.parametrize(("gate", "exit_code"), [("0", 0), ("100", 3)])
def test_the_gate_decides_the_exit_code(
    gate: str, exit_code: int, tmp_path: Path, labelled: Path, small_model: Path
) -> None:
    video = sorted(labelled.rglob("*.mp4"))[0]
    arguments = ["score", video, "-o", tmp_path / "r.csv", "-m", small_model, "--device", "cpu"]
    done = vqatool(*arguments, "--fail-under", gate)
    assert done.exit_code == exit_code
    assert ("is below 100" in done.stderr) == (exit_code == 3)


def test_quiet_leaves_only_what_failed_on_stderr(
    tmp_path: Path, labelled: Path, small_model: Path
) -> None:
    video, bad = sorted(labelled.rglob("*.mp4"))[0], tmp_path / "bad.mp4"
    bad.write_text("no video\n" * 100)
    report = tmp_path / "r.csv"
    score = ["-q", "score", "-o", report, "-m", small_model, "--device", "cpu", "--fail-under", 100]
    done = vqatool(*score, video, bad)
    failed, missed = done.stderr.splitlines()
    assert failed.startswith(f"failed: {bad}")
    assert missed.startswith(f"{video}: ")
    assert "scores, lowest first" in done.stdout
    for command in (
        ["compare", report, report],
        ["report", report, "-o", tmp_path / "r.html"],
        ["config"],
    ):
        assert vqatool("-q", *command).stderr == "", command


def test_a_missed_gate_beside_failures_names_both_and_exits_7(
    tmp_path: Path, labelled: Path, small_model: Path
) -> None:
    video = tmp_path / "low.mp4"
    video.write_bytes(sorted(labelled.rglob("*.mp4"))[0].read_bytes())
    bad = [tmp_path / f"bad{number}.mp4" for number in range(12)]  # more than the table holds
    for path in bad:
        path.write_text("no video\n" * 100)
    out = tmp_path / "r.csv"
    arguments = ["score", video, *bad, "-o", out, "-m", small_model, "--device", "cpu"]
    done = vqatool(*arguments, "--fail-under", 100)
    assert done.exit_code == 7
    score = float(next(row["score"] for row in read_rows(out) if row["score"]))
    assert f"{video}: score {score:.1f} is below 100\n" in done.stderr
    for path in bad:
        (line,) = [
            line for line in done.stderr.splitlines() if "failed: " in line and str(path) in line
        ]
        assert line.startswith(f"failed: {path}")
        assert f"{path}: {path}" not in line


def test_inputs_are_files_folders_globs_and_lists(
    videos: list[Path], labelled: Path, small_model: Path, tmp_path: Path
) -> None:
    plain = scored(list(videos[:3]), tmp_path / "plain.csv", small_model)
    names = tmp_path / "list.txt"
    names.write_text("\n".join(map(str, videos[:3])))
    assert scored([f"@{names}"], tmp_path / "list.csv", small_model) == plain
    folder = videos[0].parent
    globbed = scored([f"{folder}/*.mp4"], tmp_path / "glob.csv", small_model)
    assert globbed == scored([folder], tmp_path / "folder.csv", small_model, "--exclude", "*.webm")
    arguments = ["score", "-", "-o", str(tmp_path / "in.csv"), "-m", str(small_model)]
    done = CliRunner().invoke(cli, arguments, input="\0".join(map(str, videos[:3])))
    assert done.exit_code == 0, done.stderr
    assert [row["score"] for row in read_rows(tmp_path / "in.csv")] == [r["score"] for r in plain]


def test_skipped_files_are_counted(videos: list[Path], small_model: Path, tmp_path: Path) -> None:
    for video in videos[:2]:
        (tmp_path / f"{video.parent.name} {video.name}").write_bytes(video.read_bytes())
    for name in (".hidden.mp4", "notes.txt", "clip_source.mp4"):
        (tmp_path / name).write_text("no video")
    out = tmp_path / "report.csv"
    done = vqatool("score", tmp_path, "-o", out, "-m", small_model, "--exclude", "*_source.*")
    assert done.exit_code == 0, done.stderr
    assert "2 scored, 3 other files skipped" in done.stderr


def test_a_folder_without_access_is_named_and_exits_4(
    videos: list[Path], small_model: Path, tmp_path: Path, close_folder: CloseFolder
) -> None:
    close_folder(tmp_path, videos[0])
    out = tmp_path / "r.csv"
    done = vqatool("score", tmp_path, "-o", out, "-m", small_model, "--device", "cpu")
    assert done.exit_code == 4
    assert f"failed: {tmp_path / 'closed'}: the folder cannot be read" in done.stderr
    assert [row["status"] for row in read_rows(out)] == ["ok"]


def test_shards_together_are_one_run(
    labelled: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labelled.parent)
    (tmp_path / "empty.mp4").touch()
    whole = tmp_path / "whole.csv"
    assert vqatool("score", "encodes", "-o", whole, "-m", small_model).exit_code == 0
    parts = [tmp_path / f"part-{number}.{end}" for number, end in enumerate(["csv", "json"], 1)]
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("VQATOOL_SHARDS", "2")
    for shard, part in zip(("1/2", "auto"), parts, strict=True):
        share = ["--shard", shard, "-m", small_model]
        assert vqatool("score", "encodes", "-o", part, *share).exit_code == 0
    merge_shards = tmp_path / "joined.csv"
    assert vqatool("merge", *parts, "-o", merge_shards).exit_code == 0
    without = {"score_s": ""}
    assert [r | without for r in read_rows(merge_shards)] == [r | without for r in read_rows(whole)]
    assert len(read_rows(merge_shards)) == 12
    done = vqatool("merge", parts[0], "-o", tmp_path / "no.csv")
    assert done.exit_code == 2
    assert "missing: shard 2/2" in done.stderr


def test_a_shard_that_was_killed_is_not_merged(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part.csv"
    scored([*videos[:2]], part, small_model, "--shard", "1/1")
    text = part.read_text()
    assert text.count(",1/1,") == 2
    part.write_text(text.replace(",1/1,", ',"1/1, unfinished",'))
    done = vqatool("merge", part, "-o", tmp_path / "r.csv")
    assert done.exit_code == 2
    assert "not finished" in done.stderr
    scored([*videos[:2]], part, small_model, "--shard", "1/1")
    assert vqatool("merge", part, "-o", tmp_path / "r.csv").exit_code == 0


def test_a_gate_leaves_a_junit_file(videos: list[Path], small_model: Path, tmp_path: Path) -> None:
    bad, junit = tmp_path / "bad.mp4", tmp_path / "ci" / "junit.xml"
    bad.touch()
    arguments = ["score", videos[0], bad, "-o", tmp_path / "r.csv", "-m", small_model]
    done = vqatool(*arguments, "--fail-under", 100, "--gate-on", "score_low", "--junit", junit)
    assert done.exit_code == 7
    assert "score_low" in done.stderr
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "1")


def test_what_cannot_be_written_at_the_end_costs_nothing_else(
    videos: list[Path], small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, junit, page = tmp_path / "r.html", tmp_path / "j.xml", tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    replace_file = Path.replace

    def replace_but(part: Path, target: Path) -> Path:
        if target in full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace_file(part, target)

    monkeypatch.setattr(Path, "replace", replace_but)
    arguments = ["score", *videos[:2], "-o", out, "-m", small_model, "--junit", junit]
    full = {junit}
    done = vqatool(*arguments, "--ci", "github", "--fail-under", 100)
    assert done.exit_code == 3
    assert f"failed: {junit} cannot be written (No space left" in done.stderr
    assert "scores, lowest first" in done.stdout
    assert out.exists()
    assert "2 scored" in page.read_text()
    full = {out}
    done = vqatool(*arguments)
    assert (done.exit_code, junit.exists()) == (2, True)
    assert f"failed: {out} cannot be written (No space left" in done.stderr
    assert "scores, lowest first" in done.stdout


def test_a_report_that_cannot_be_put_in_order_at_the_end_keeps_its_rows(
    videos: list[Path], small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ReportFile[ReportRow], rows: object) -> None:
        raise ReportError("no space")

    monkeypatch.setattr(ReportFile, "end", fail)
    out, junit = tmp_path / "r.csv", tmp_path / "j.xml"
    done = vqatool("score", *videos[:2], "-o", out, "-m", small_model, "--junit", junit)
    assert (done.exit_code, "failed: no space" in done.stderr) == (2, True)
    assert "scores, lowest first" in done.stdout
    assert junit.exists()
    assert len(read_rows(out)) == 2


def test_junit_may_go_to_a_device(videos: list[Path], small_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    done = vqatool("score", videos[0], "-o", out, "-m", small_model, "--junit", "/dev/null")
    assert done.exit_code == 0, done.stderr


def test_codes_and_thresholds_of_a_file_fail_the_gate(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(f'default = 0\n[name]\n"{videos[0].name}" = 100\n')
    arguments = ["score", videos[0], "-o", tmp_path / "r.csv", "-m", small_model]
    done = vqatool(*arguments, "--threshold", limits)
    assert (done.exit_code, "is below 100" in done.stderr) == (3, True)
    (row,) = read_rows(tmp_path / "r.csv")
    for codes, exit_code in ((row["verdict"], 3), ("error,short", 3), ("error,hdr", 0)):
        assert vqatool(*arguments, "--fail-on", codes).exit_code == exit_code
    paths = [videos[0], tmp_path / "no.mp4"]
    missing = vqatool(
        "score", *paths, "-o", tmp_path / "r.csv", "-m", small_model, "--fail-on", "error"
    )
    assert missing.exit_code == 7


def test_github_gets_annotations_and_a_summary(
    videos: list[Path], small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    arguments = ["score", videos[0], "-o", tmp_path / "r.csv", "-m", small_model, "--ci", "github"]
    done = vqatool(*arguments, "--fail-under", 100)
    assert f"::error file={videos[0]},title=vqatool::" in done.stderr
    assert page.read_text().startswith("before\n### vqatool: 1 scored\n")
    assert "is below 100" in page.read_text()


def test_rows_on_stdout_are_those_of_a_report(
    videos: list[Path], small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "caf\xe9\n.mp4"
    bad.touch()
    arguments = ["score", *videos[:2], bad, "-m", small_model]
    assert vqatool(*arguments, "-o", "r.json").exit_code == 4
    expected = json.loads(Path("r.json").read_text())
    lines = vqatool(*arguments, "--json")
    assert lines.exit_code == 4
    printed = [json.loads(line) for line in lines.stdout.splitlines()]
    table = vqatool(*arguments, "-o", "-")
    Path("stdout.csv").write_bytes(table.stdout_bytes)
    stored = [as_json(row) for row in read_report(Path("stdout.csv"))]
    for rows in (printed, stored):
        assert [row | {"score_s": 0} for row in rows] == [row | {"score_s": 0} for row in expected]
    assert not Path("report.csv").exists()
    assert expected[0]["warnings"] == ["short", "small"]
    assert isinstance(expected[0]["fps"], float)


def test_rows_of_other_files_are_kept_if_asked_for_and_else_named(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    scored([videos[0], videos[1]], out, small_model)
    added = vqatool("score", videos[2], videos[1], "-o", out, "-m", small_model, "--append")
    assert "1 rows are kept" in added.stderr
    assert [row["path"] for row in read_rows(out)] == [str(videos[number]) for number in (0, 2, 1)]
    dropped = vqatool("score", videos[2], "-o", out, "-m", small_model)
    assert f"drops the rows of files that are not given, {videos[0]} and 1 more" in dropped.stderr
    assert [row["path"] for row in read_rows(out)] == [str(videos[2])]


def test_a_mistyped_path_leaves_the_report_as_it_is(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    scored([videos[0]], out, small_model)
    before = out.read_bytes()
    for wrong, told in (
        (["vv/"], "vv does not exist"),
        (["vv/*.mp4"], "no file matches vv/*.mp4"),
        (["a.mp4", "b.mp4"], "none of the 2 paths exists, the first is a.mp4"),
    ):
        done = vqatool("score", *wrong, "-o", out, "-m", small_model)
        assert (done.exit_code, told in done.stderr) == (5, True), done.stderr
        with pytest.raises(NoVideoError, match=re.escape(told)):
            package.score(wrong, out=out, model=small_model)
        assert out.read_bytes() == before
    one = vqatool("score", videos[0], "a.mp4", "-o", out, "-m", small_model)
    assert one.exit_code == 4
    assert [row["error_code"] for row in read_rows(out)] == ["", "missing"]


def test_two_spellings_of_a_path_are_one_video(
    videos: list[Path], small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, link = videos[0], tmp_path / "link.mp4"
    link.symlink_to(video)
    monkeypatch.chdir(video.parent)
    again = video.parent / ".." / video.parent.name / video.name
    rows = scored([video.name, video, again, link], tmp_path / "r.csv", small_model)
    assert [row["path"] for row in rows] == [video.name, str(link)]


def test_no_path_is_an_error_in_python(tmp_path: Path, small_model: Path) -> None:
    scorer = package.Scorer(small_model, device="cpu")
    for wrong in ("", [], [""]):
        with pytest.raises(ValueError, match="path"):
            scorer.score(wrong)
    with pytest.raises(NoVideoError, match="no video found"):
        scorer.score(tmp_path)


def test_rows_that_are_made_anew_are_told_before(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    out, bad = tmp_path / "r.csv", tmp_path / "bad.mp4"
    bad.touch()
    vqatool("score", *videos[:2], bad, "-o", out, "-m", small_model, "--display", "native")
    done = vqatool("score", *videos[:2], bad, "-o", out, "-m", small_model, "--display", "96x54")
    why = "2 --display native, now 96x54; 1 failed before"
    assert f"{out}: 3 rows are made anew ({why}), and stay until then\n" in done.stderr


def test_json_and_the_timeline(videos: list[Path], small_model: Path, tmp_path: Path) -> None:
    out, timeline = tmp_path / "r.json", tmp_path / "timeline.csv"
    arguments = ["score", *videos[:2], "-o", out, "-m", small_model, "--segment", 0.5]
    assert vqatool(*arguments, "--per-segment", timeline).exit_code == 0
    rows = json.loads(out.read_text())
    assert [row["path"] for row in rows] == list(map(str, videos[:2]))
    assert {row["path"] for row in read_rows(timeline)} == set(map(str, videos[:2]))


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["x.mp4", "--shard", "3/2"], "3/2"),
        (["x.mp4", "--shard", "auto"], "no task of an array"),
        (["@gone.txt"], "gone.txt"),
        (["x.mp4", "--gate-on", "vmaf"], "score_low"),
        (["x.mp4", "--timeout", "0"], "timeout"),
        (["x.mp4", "--fail-on", "worse"], "out_of_domain"),
        (["x.mp4", "--fail-on", ","], "error,damaged"),
        (["x.mp4", "-o", "-", "--json"], "stdout"),
        (["x.mp4", "--json", "--per-segment", "s.csv"], "-o"),
        (["x.mp4", "-o", "r.xlsx"], ".jsonl"),
        (["x.mp4", "--per-segment", "r.xlsx"], ".jsonl"),
        (["x.mp4", "-o", "r.csv", "--per-segment", "./r.csv"], "both name r.csv"),
        (["x.mp4", "--per-segment", "r.csv", "--junit", "r.csv"], "both name r.csv"),
        (["x.mp4", "--junit", "/proc/r.xml"], "/proc/r.xml cannot be written"),
        (["x.mp4", "--metrics", "/proc/r.prom"], "/proc/r.prom cannot be written"),
        (["x.mp4", "--per-segment", "/proc/r.csv"], "/proc/r.csv cannot be written"),
        (["x.mp4", "-o", "/proc/r.html"], "/proc/r.html cannot be written"),
    ],
)
def test_wrong_use_names_the_value_and_exits_2(args: list[str], word: str) -> None:
    done = vqatool("score", *args)
    assert done.exit_code == 2
    assert word in done.stderr


def test_the_function_yields_the_rows_of_the_command(
    videos: list[Path], small_model: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "empty.mp4"
    bad.touch()
    paths = [*videos[:2], bad]
    rows = list(package.score(paths, model=small_model, device="cpu", display=(320, 180)))
    out = tmp_path / "r.csv"
    vqatool("score", *paths, "-o", out, "-m", small_model, "--display", "320x180")
    report = read_report(out)
    assert [replace(row, score_s=0) for row in rows] == [replace(row, score_s=0) for row in report]
    again = list(package.score(paths[:2], out=out, model=small_model, display=(320, 180)))
    assert again == report[:2]  # the timings too


def test_a_hardware_decoder_that_there_is_not_exits_6_and_auto_goes_on(
    videos: list[Path], small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "hwdevices_available", lambda: ["cuda"])
    monkeypatch.setattr(hardware, "_why_not", lambda name: "no such device")
    arguments = ["score", videos[0], "-o", tmp_path / "r.csv", "-m", small_model, "--hwaccel"]
    done = vqatool(*arguments, "cuda")
    assert (done.exit_code, "cuda does not work here" in done.stderr) == (6, True)
    done = vqatool(*arguments, "auto")
    assert (done.exit_code, "decoded in software" in done.stderr) == (0, True)


def test_a_scorer_keeps_its_model_and_takes_texts_and_paths(
    videos: list[Path], small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = mock.Mock(wraps=loading.load_predictor)
    monkeypatch.setattr(loading, "load_predictor", load)
    scorer = package.Scorer(small_model, display=None, device="cpu")
    one = list(scorer.score(str(videos[0])))
    several = list(scorer.score([videos[0], str(videos[1])]))
    assert load.call_count == 1
    assert [row.path for row in several] == list(map(str, videos[:2]))
    assert one[0].score == several[0].score
    assert list(pd.DataFrame(several)["score"]) == [row.score for row in several]


SCRIPT = """
import sys, vqatool
for row in vqatool.score(sys.argv[1], device="cpu", display=None): print(row.status)
"""


def test_a_script_needs_no_guard(videos: list[Path], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    here = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)}
    command = [sys.executable, str(script), str(videos[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=here)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


CONTAINERS = {
    "mp4": ("-c:v", "libx264"),
    "mkv": ("-c:v", "libx265", "-x265-params", "log-level=none"),
    "webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8"),
    "ts": ("-c:v", "mpeg2video"),
    "avi": ("-c:v", "mpeg4", "-bf", "2"),
}
SHARES = (0.0, 0.003, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.999)


def fuzzed(folder: Path, ffmpeg: Ffmpeg, clip: Path) -> int:
    """300 files with bytes changed, cut out or cut off somewhere; how many there are."""
    chance = np.random.default_rng(0)
    count = 0
    for suffix, args in CONTAINERS.items():
        whole = folder / f"whole.{suffix}"
        run(ffmpeg, ["-i", file_url(clip), *args, "-an", "-g", "5", file_url(whole)])
        data = whole.read_bytes()
        for share in SHARES:
            at = int(share * len(data))
            for length in (1, 16, 400):
                changed = data[:at] + chance.bytes(length) + data[at + length :]
                (folder / f"changed-{share}-{length}.{suffix}").write_bytes(changed)
            (folder / f"cut-out-{share}.{suffix}").write_bytes(data[:at] + data[at + 99 :])
            (folder / f"cut-off-{share}.{suffix}").write_bytes(data[:at])
            (folder / f"zeros-{share}.{suffix}").write_bytes(data[:at] + bytes(len(data) - at))
            count += 6
    return count + len(CONTAINERS)


@pytest.mark.slow
def test_three_hundred_hostile_files_are_a_row_each(
    tmp_path: Path, ffmpeg: Ffmpeg, real_clips: list[Path], small_model: Path
) -> None:
    folder = tmp_path / "fuzzed"
    folder.mkdir()
    count = fuzzed(folder, ffmpeg, real_clips[0])
    assert count > 300
    out = tmp_path / "r.csv"
    done = vqatool("score", folder, "-o", out, "-m", small_model, "--display", "native")
    assert done.exit_code == 4, done.stderr
    rows = read_rows(out)
    assert len(rows) == count
    for row in rows:
        is_good = row["status"] == "ok"
        assert bool(row["score"]) == is_good, row
        assert bool(row["error_code"]) == (not is_good), row
    assert "internal" not in {row["error_code"] for row in rows}
    whole = [row for row in rows if Path(row["path"]).stem == "whole"]
    assert [(row["status"], row["warnings"]) for row in whole] == [("ok", "short")] * 5
    assert sum(row["status"] == "error" for row in rows) > 50
    assert sum("damaged" in row["warnings"] for row in rows) > 20


def test_the_command_and_the_function_have_the_same_timeout() -> None:
    (option,) = [param for param in cli.commands["score"].params if param.name == "timeout_s"]
    assert option.default == TIMEOUT_S
    assert inspect.signature(package.score).parameters["timeout_s"].default == TIMEOUT_S
    assert isinstance(option, click.Option)
    assert f"{SEGMENTS_PER_TASK} segments" in (option.help or "")


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_like_a_whole_one(
    tmp_path: Path, videos: list[Path], small_model: Path
) -> None:
    def arguments(out: Path) -> list[str]:
        options = ["-m", str(small_model), "--device", "cpu", "--jobs", "1"]
        return ["score", *map(str, videos), "-o", str(out), *options]

    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    assert vqatool(*arguments(whole)).exit_code == 0
    kill_after_three_rows(*arguments(broken))
    assert len(read_rows(broken)) == 3 < len(read_rows(whole))
    assert vqatool(*arguments(broken)).exit_code == 0

    def timeless(path: Path) -> list[dict[str, str]]:
        return [row | {"score_s": ""} for row in read_rows(path)]

    assert timeless(broken) == timeless(whole)
    assert not list(tmp_path.glob("*.part"))
