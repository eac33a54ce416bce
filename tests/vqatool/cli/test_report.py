"""`vqatool report`, and `score -o report.html`."""

import csv
import json
from pathlib import Path

from bs4 import BeautifulSoup

from tests.vqatool.program import read_rows, vqatool
from tests.vqatool.reporting.pages import failed, scored
from vqatool.scoring.report_file import write_whole


def names_in(page: Path) -> list[str]:
    tree = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    data = json.loads(tree.find_all("script")[0].string or "")
    return [row[0] for row in data["rows"]]


def test_score_leaves_a_page_and_the_rows_it_is_made_of(
    labelled: Path, small_model: Path, tmp_path: Path
) -> None:
    videos, page = sorted(labelled.rglob("*.mp4"))[:2], tmp_path / "out" / "audit.html"
    (tmp_path / "bad.mp4").write_text("no video\n" * 100)
    command = ["score", *videos, tmp_path / "bad.mp4", "-o", page, "-m", small_model]
    done = vqatool(*command, "--segment", 0.5, "--jobs", 1)
    assert done.exit_code == 4, done.stderr
    assert f"{page}: page of 3 rows" in done.stderr
    names = {"audit.html", "audit.csv", "audit-segments.csv"}
    assert {path.name for path in page.parent.iterdir()} == names
    assert len(read_rows(tmp_path / "out" / "audit.csv")) == 3
    tree = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    articles = tree.select("article")
    assert len(articles) == 2
    for article in articles:
        assert article.select("svg, img")
        assert not article.select(".note")
    assert tree.select("#errors th a")[0].get_text() == "not_video"
    before = read_rows(tmp_path / "out" / "audit.csv")[0]
    again = vqatool(*command, "--segment", 0.5, "--jobs", 1)  # keeps the rows, replaces the page
    assert again.exit_code == 4
    assert read_rows(tmp_path / "out" / "audit.csv")[0] == before


def test_reports_of_any_format_make_one_page(tmp_path: Path) -> None:
    reports = []
    for number, suffix in enumerate((".csv", ".json", ".jsonl", ".parquet")):
        reports.append(tmp_path / f"part{suffix}")
        write_whole([scored(f"in/{number}.mp4", 50.0 + number)], reports[-1])
    page = tmp_path / "page.html"
    done = vqatool("report", *reports, "-o", page)
    assert done.exit_code == 0, done.stderr
    assert names_in(page) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert f"{page}: page of 4 rows, 0." in done.stderr


def test_a_report_is_only_read(tmp_path: Path) -> None:
    report = tmp_path / "r.csv"
    write_whole([scored("a.mp4", 50.0), scored("b.mp4", 60.0)], report)
    torn = report.read_bytes() + b"c.mp4,ok,7"
    report.write_bytes(torn)
    assert vqatool("report", report, "-o", tmp_path / "p.html").exit_code == 0
    assert report.read_bytes() == torn
    assert names_in(tmp_path / "p.html") == ["a.mp4", "b.mp4"]


def test_a_report_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    report, saved = tmp_path / "r.csv", tmp_path / "saved.csv"
    write_whole([scored("a, b.mp4", 50.0), scored("c.mp4", 60.0)], report)
    with report.open(newline="") as file, saved.open("w", newline="") as copy:
        csv.writer(copy, quoting=csv.QUOTE_ALL).writerows(csv.reader(file))
    assert vqatool("report", saved, "-o", tmp_path / "p.html").exit_code == 0
    assert names_in(tmp_path / "p.html") == ["a, b.mp4", "c.mp4"]


def test_the_gate_decides_the_exit_code(tmp_path: Path) -> None:
    report, page = tmp_path / "r.csv", tmp_path / "p.html"
    write_whole([scored("a.mp4", 50.0), failed("b.mp4")], report)
    assert vqatool("report", report, "-o", page).exit_code == 0
    assert vqatool("report", report, "-o", page, "--fail-under", 50).exit_code == 0
    assert vqatool("report", report, "-o", page, "--fail-under", 51).exit_code == 3
    assert "Not passed: 1 file does not pass" in page.read_text(encoding="utf-8")


def test_what_cannot_be_a_page_of_reports_is_a_usage_error(tmp_path: Path) -> None:
    report, page = tmp_path / "r.csv", tmp_path / "p.html"
    write_whole([scored("a.mp4", 50.0)], report)
    other = tmp_path / "other.html"
    other.write_text("<!doctype html>\n<title>my own notes</title>")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    for args, words in (
        ([report, report], "a.mp4 is in two of the reports"),
        ([report, "-o", other], "vqatool did not write it"),
        ([tmp_path / "notes.csv"], "without path, status: name a file of `vqatool score`"),
        ([other], "other.html: a report cannot be .html"),
        ([report, "--per-segment", report], "name a file of `vqatool score --per-segment`"),
        ([tmp_path / "gone.csv"], "does not exist"),
    ):
        done = vqatool("report", *args, *([] if "-o" in args else ["-o", page]))
        assert done.exit_code == 2, words
        assert words in " ".join(done.stderr.split()), done.stderr
    assert not page.exists()
    assert other.read_text() == "<!doctype html>\n<title>my own notes</title>"


def test_a_page_of_another_program_is_refused_before_any_work(
    small_model: Path, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"
    page.write_text("<p>notes")
    done = vqatool("score", tmp_path, "-o", page, "-m", small_model)
    assert done.exit_code == 2
    assert "vqatool did not write it" in done.stderr


def test_a_page_has_the_name_of_one(tmp_path: Path) -> None:
    drawing = tmp_path / "frames.svg"
    drawing.write_text("<svg><!-- vqatool --></svg>")
    report = tmp_path / "r.csv"
    report.touch()
    done = vqatool("report", report, "-o", drawing)
    assert (done.exit_code, "ends in .html" in done.stderr) == (2, True)
    assert "svg" in drawing.read_text()


def test_rows_are_not_written_to_a_page(tmp_path: Path, labelled: Path, small_model: Path) -> None:
    part, page = tmp_path / "part.csv", tmp_path / "page.html"
    write_whole([scored("a.mp4", 50.0, shard="1/1")], part)
    video = sorted(labelled.rglob("*.mp4"))[0]
    for command in (
        ["merge", part, "-o", page],
        ["score", video, "-o", tmp_path / "r.csv", "--per-segment", page, "-m", small_model],
    ):
        done = vqatool(*command)
        assert done.exit_code == 2
        assert "a report cannot be .html" in done.stderr
        assert not page.exists()
