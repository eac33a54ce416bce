"""The outcome as JUnit XML, and for GitHub Actions."""

import os
from xml.etree import ElementTree

from tests.vqatool.scoring.test_gates import FAILED, gate, scored
from vqatool.scoring.ci_output import github_annotations, github_summary, junit_xml
from vqatool.scoring.rows import ReportRow

NAMES = ["<\"&'>.mp4", "a\x1b[31m\x00.mp4", os.fsdecode(b"caf\xe9.mp4"), "日本 \U0001f600.mp4"]


def test_junit_counts_failures_and_errors_and_names_the_figures() -> None:
    good = scored("good.mp4", 90.0, score_s=0.5, score_high=95.0)
    poor = scored("poor.mp4", 40.0, score_s=0.5, warnings="vfr;hdr")
    root = ElementTree.fromstring(junit_xml([good, poor, FAILED], gate(70)))
    (suite,) = root
    for totals in (root, suite):
        assert (totals.get("tests"), totals.get("failures"), totals.get("errors")) == tuple("311")
        assert totals.get("time") == "1.000"
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == ["good.mp4", "poor.mp4", "bad.mp4"]
    assert cases["good.mp4"].find("failure") is None
    failure, error = cases["poor.mp4"].find("failure"), cases["bad.mp4"].find("error")
    assert failure is not None
    assert failure.get("message") == "score 40.0 is below 70"
    assert error is not None
    assert (error.get("type"), error.get("message")) == ("empty", "it has no bytes")
    outputs = {name: case.findtext("system-out") for name, case in cases.items()}
    assert outputs == {
        "good.mp4": "score 90.0 (85 to 95), good, warnings: none",
        "poor.mp4": "score 40.0 (), good, warnings: vfr, hdr",
        "bad.mp4": "no score: empty: it has no bytes, warnings: none",
    }


def test_a_row_whose_model_gave_no_number_is_an_error_and_no_failure() -> None:
    row = ReportRow(path="a.mp4", status="error", error_code="not_finite", error="no number")
    (suite,) = ElementTree.fromstring(junit_xml([row], gate(70)))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")


def test_junit_holds_any_file_name() -> None:
    text = junit_xml([scored(name, 50.0) for name in NAMES], gate())
    message = [case.get("name") for case in ElementTree.fromstring(text.encode())[0]]
    assert message == ["<\"&'>.mp4", r"a\x1b[31m\x00.mp4", r"caf\udce9.mp4", "日本 \U0001f600.mp4"]


def test_github_shows_failures_first_and_then_the_lowest_scores() -> None:
    rows = [scored("high.mp4", 99.0), scored("low, 1.mp4", 20.0), scored("mid.mp4", 60.0), FAILED]
    assert list(github_annotations(rows, gate(70))) == [
        "::error file=bad.mp4,title=vqatool::bad.mp4: it has no bytes",
        "::error file=low%2C 1.mp4,title=vqatool::low, 1.mp4: score 20.0 is below 70",
        "::error file=mid.mp4,title=vqatool::mid.mp4: score 60.0 is below 70",
    ]
    summary = github_summary(rows, gate(70), "3 scored, 1 failed")
    assert summary.startswith("### vqatool: 3 scored, 1 failed\n")
    assert "| low, 1.mp4 | 20.0 |  | good | score 20.0 is below 70 |" in summary
    assert "high.mp4" not in summary


def test_github_gets_the_lowest_scores_where_all_pass() -> None:
    rows = [scored(f"{number}.mp4", float(number)) for number in range(99, 80, -1)]
    lines = github_summary(rows, gate(70), "19 scored").splitlines()
    assert lines[2].startswith("All pass")
    assert [line.split(" | ")[:2] for line in lines[6:]] == [
        [f"| {number}.mp4", f"{number}.0"] for number in range(81, 91)
    ]


def test_github_gets_no_more_than_it_shows() -> None:
    rows = [scored(f"{number}.mp4", float(number)) for number in range(60)]
    lines = list(github_annotations(rows, gate(70)))
    assert (len(lines), lines[-1]) == (11, "::error title=vqatool::and 50 more")
    assert "and 10 more" in github_summary(rows, gate(70), "")


def test_a_name_cannot_give_a_command_or_markup_to_github() -> None:
    names = ["a\n::set-env name=x::y", "<img src=x>|`.mp4", *NAMES]
    rows = [scored(name, 50.0) for name in names]
    for line in github_annotations(rows, gate(70)):
        assert line.startswith("::error file=")
        assert "\n" not in line
        line.encode()
    summary = github_summary(rows, gate(70), "")
    assert r"\<img src=x\>\|\`.mp4" in summary
    assert len(summary.splitlines()) == 4 + len(names)
    summary.encode("utf-8", "backslashreplace")
