"""What the page of a report says, what it shows of files, and that it is never too large."""

import base64
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from ladder.media.stills import read_picture
from tests.conftest import MakeVideo
from tests.vqatool.reporting.pages import failed, make_page, of_file, pairs, scored, segments, tree
from vqatool.errors import ReportError
from vqatool.reporting import report_page
from vqatool.reporting.advice import ERRORS
from vqatool.scoring.gates import Gate, Thresholds
from vqatool.scoring.rows import ReportRow

ROWS = [
    scored("in/a.mp4", 91.26),
    scored("in/b.mp4", 42.0, warnings="vfr;out_of_domain"),
    scored("in/c.mp4", 64.0, warnings="vfr"),
    failed("in/d.mp4"),
    failed("in/e.mp4", "new_code", "x" * 1000),
]

ABOVE_70 = Gate(Thresholds(70))


def outcome_of(page: Path) -> str:
    (outcome,) = tree(page).select(".outcome")
    return " ".join(outcome.get_text().split())


@pytest.mark.parametrize(
    ("rows", "gate", "outcome"),
    [
        (ROWS, Gate(), "3 of 5 files scored, 2 failed"),
        (ROWS[:3], Gate(), "3 of 3 files scored"),
        (ROWS, ABOVE_70, "✗ Not passed: 2 files do not pass and 2 files could not be scored"),
        (ROWS[:2], Gate(Thresholds(80), "score_low"), "✗ Not passed: 1 file does not pass"),
        (ROWS[:3], Gate(Thresholds(40), trusts_all=True), "✓ Passed: 3 files"),
        (
            ROWS[2:4],
            Gate(Thresholds(40)),
            "! Not complete: every scored file passes, but 1 file could not be scored",
        ),
        (ROWS[2:4], Gate(fail_on=frozenset({"error"})), "✗ Not passed: 1 file could not be scored"),
        ([], ABOVE_70, "The report has no files"),
    ],
)
def test_the_outcome_is_on_top(
    tmp_path: Path, rows: list[ReportRow], gate: Gate, outcome: str
) -> None:
    if gate.on == "score_low":
        rows = [replace(rows[0], score_low=85.0), rows[1]]
    assert outcome_of(make_page(tmp_path / "page.html", rows, gate=gate)) == outcome


def test_counts_and_remarks(tmp_path: Path) -> None:
    page = tree(make_page(tmp_path / "page.html", ROWS, gate=ABOVE_70))
    (counts,) = map(pairs, page.select(".counts"))
    assert counts == {
        "files": "5", "scored": "3", "failed": "2", "with warnings": "2", "not passed": "2",
        "fair": "1", "good": "1", "unsure": "1", "lowest score": "42.0", "median score": "64.0",
    }  # fmt: skip
    remarks = [
        [cell.get_text() for cell in line.select("th, td")]
        for line in page.select("table.remarks tbody tr")
    ]
    damaged = ERRORS["damaged"]
    assert remarks == [
        ["damaged", "1", damaged.meaning, damaged.steps.replace("`", "")],
        ["new_code", "1", "a code of another version of vqatool",
         "see the documentation of that version"],
        ["vfr", "2", "the frame rate varies: frames are taken by time", "none needed"],
        ["out_of_domain", "1", "unlike the training data, such as noise or a test picture",
         "do not trust the score"],
    ]  # fmt: skip
    examples = [each.get_text() for each in page.select("#errors li")]
    assert examples[0] == "d.mp4: it breaks off"
    assert len(examples[1]) < 350
    bars = [
        [cell.get_text() for cell in line.select("th, td")]
        for line in page.select("#scores tbody tr")
    ]
    assert bars == [["40 to 45", "1"], ["60 to 65", "1"], ["90 to 95", "1"]]
    assert "limit 70" in page.select("#scores svg")[0].get_text()
    assert "in/" in page.select(".sources")[0].get_text()


def test_the_table_has_every_file_the_lowest_score_first(tmp_path: Path) -> None:
    page = tree(make_page(tmp_path / "page.html", ROWS, gate=ABOVE_70))
    lines = [
        [cell.get_text() for cell in line.select("th, td")]
        for line in page.select("#files tbody tr")
    ]
    assert [line[:5] for line in lines] == [
        ["b.mp4", "42.0", "unsure", "ok, not passed", "vfr, out_of_domain"],
        ["c.mp4", "64.0", "fair", "ok, not passed", "vfr"],
        ["a.mp4", "91.3", "good", "ok", ""],
        ["d.mp4", "", "", "error, damaged", ""],
        ["e.mp4", "", "", "error, new_code", ""],
    ]
    assert lines[0][-1] == "score 42.0 is below 70"
    titles = [each.get_text() for each in page.select("#files thead th")]
    assert dict(zip(titles, lines[0], strict=True))["band"] == "32.0 to 52.0"
    assert page.select("#files th[aria-sort=ascending]")[0].get_text() == "score"
    links = [link["href"] for link in page.select("#files tbody a")]
    assert links == ["#worst-1", "#worst-2", "#worst-3"]
    assert [each.get("id") for each in page.select("article")] == ["worst-1", "worst-2", "worst-3"]


def test_numbers_that_are_none_are_empty(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [
        scored("a.mp4", 50.0, score_min=nan, worst_at_s=nan, bitrate_kbps=float("inf")),
        replace(scored("b.mp4", 50.0), score=nan),
    ]
    text = tree(make_page(tmp_path / "page.html", rows, segments("a.mp4", nan))).get_text()
    assert "nan" not in text
    assert "inf " not in text


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    rows = [scored("a.mp4", 50.0), scored("b.mp4", 50.0, model="other", shard="1/2, unfinished")]
    notices = [
        each.get_text() for each in tree(make_page(tmp_path / "p.html", rows)).select(".notice")
    ]
    assert any("several models (coarse-to-fine-1f3a9c2e, other)" in notice for notice in notices)
    assert any("not finished" in notice for notice in notices)


def test_a_card_has_timeline_moments_and_what_to_do(tmp_path: Path) -> None:
    rows = [scored("a.mp4", 50.0, warnings="damaged"), scored("b.mp4", 60.0)]
    timelines = [*segments("a.mp4", 80.0, 20.0, 50.0, 50.0), *segments("b.mp4", 99.0, 99.0)]
    first, second = tree(make_page(tmp_path / "page.html", rows, timelines)).select("article")
    assert "4 segments from 0:00 to 0:40" in first.select("figcaption")[0].get_text()
    assert first.svg
    moments = [" ".join(each.get_text().split()) for each in first.select(".moments li")]
    # the other segments are no worse than the video
    assert moments == ["1: middle of a segment of score 20.0, at 0:15"]
    assert "Do not trust the score; make the file anew." in first.select(".remarks")[0].get_text()
    assert "the file is not here" in first.select(".note")[0].get_text()
    (facts,) = map(pairs, first.select(".facts"))
    assert facts["codec"] == "h264"
    assert facts["file"] == "2.030 MB"
    assert facts["length"] == "0:20"
    # those segments are not what the score is the mean of
    assert not second.svg
    assert "these segments are of another run" in second.select(".note")[0].get_text()


@pytest.fixture
def steps(make_video: MakeVideo) -> Path:
    """Four seconds: black, white, black, white."""
    scene = (
        "color=white:size=640x360:rate=10:duration=4,drawbox=t=fill:c=black:enable='lt(mod(t,2),1)'"
    )
    return make_video("steps.mp4", scene)


def pictures_of(article, tmp_path: Path) -> list[np.ndarray]:
    shown = []
    for number, image in enumerate(article.select("img")):
        kind, data = str(image["src"]).split(",")
        assert kind == "data:image/jpeg;base64"
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(base64.b64decode(data))
        shown.append(read_picture(path))
        assert shown[-1].shape[:2] == (int(image["height"]), int(image["width"]))
    return shown


def test_pictures_are_of_the_worst_moments(tmp_path: Path, steps: Path) -> None:
    row = of_file(steps, 49.75)
    timelines = segments(str(steps), 90.0, 20.0, 40.0, 49.0, length_s=1.0)
    page = tree(make_page(tmp_path / "page.html", [row], timelines, has_thumbnails=True))
    (article,) = page.select("article")
    pictures = pictures_of(article, tmp_path)
    # at 1.5, 2.5 and 3.5 seconds
    assert [picture.mean() > 128 for picture in pictures] == [True, False, True]
    assert {picture.shape for picture in pictures} == {(180, 320, 3)}
    links = [str(link["href"]) for link in article.select(".moments a")]
    assert [link.partition("#")[2] for link in links] == ["t=1.5", "t=2.5", "t=3.5"]
    address = unquote_to_bytes(links[0].partition("#")[0])
    assert (tmp_path / os.fsdecode(address)).samefile(steps)
    assert not article.select(".note")


def test_files_are_also_looked_for_beside_the_report(tmp_path: Path, steps: Path) -> None:
    name = os.fsdecode(b"caf\xe9 100% #1.mp4")
    (tmp_path / name).write_bytes(steps.read_bytes())
    row = replace(of_file(tmp_path / name, 50.0), path=name)
    page = make_page(
        tmp_path / "sub" / "page.html", [row], sources=[tmp_path / "r.csv"], has_thumbnails=True
    )
    (article,) = tree(page).select("article")
    assert len(article.select("img")) == 1
    address = str(article.select(".score a")[0]["href"])
    assert address == "../caf%E9%20100%25%20%231.mp4"


def test_a_file_that_is_gone_changed_or_broken_costs_its_pictures_alone(
    tmp_path: Path, steps: Path
) -> None:
    changed, broken, good = (tmp_path / f"{name}.mp4" for name in ("changed", "broken", "good"))
    for path in (changed, good):
        path.write_bytes(steps.read_bytes())
    broken.write_text("no video\n" * 100)
    rows = [
        replace(of_file(changed, 10.0), modified="2026-01-01T00:00:00.000000+00:00"),
        of_file(broken, 20.0),
        scored(str(tmp_path / "gone.mp4"), 30.0),
        scored("name\0.mp4", 35.0),
        scored("n" * 300, 36.0),
        of_file(good, 40.0),
    ]
    articles = tree(make_page(tmp_path / "p.html", rows, has_thumbnails=True)).select("article")
    assert [len(article.select("img")) for article in articles] == [0, 0, 0, 0, 0, 1]
    notes = [article.select(".note")[0].get_text() for article in articles]
    assert "changed since it was scored" in notes[0]
    assert "broken.mp4 cannot be opened as video" in notes[1]
    for note in notes[2:5]:
        assert "the file is not here" in note


def test_without_thumbnails_no_file_is_read(tmp_path: Path, steps: Path) -> None:
    page = make_page(tmp_path / "page.html", [of_file(steps, 50.0)], has_thumbnails=False)
    assert not tree(page).select("img")


def test_a_page_with_less_room_has_fewer_pictures_and_at_last_fewer_rows(
    tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = "nullsrc=size=640x360:rate=5:duration=2,geq=random(1)*255:128:128"
    noise = make_video("noise-page.mp4", scene)
    rows = [of_file(noise, 50.0), *(scored(f"{'n' * 100}{n}.mp4", 60.0) for n in range(400))]
    timelines = segments(str(noise), 40.0, 45.0, 49.0, 66.0, length_s=0.5)

    def made(max_bytes: int) -> tuple[list[int], int, list[str], int]:
        """Widths of the pictures, number of rows, notices, bytes of the rows and pictures."""
        monkeypatch.setattr(report_page, "MAX_BYTES", max_bytes)
        path = make_page(tmp_path / "p.html", rows, timelines, has_thumbnails=True)
        assert path.stat().st_size <= max_bytes
        text = path.read_text(encoding="utf-8")  # no tree: it takes a second to build
        pictures = re.findall(r'src="(data:image.*?)" width="(\d+)"', text)
        (data,) = re.findall(r'"application/json">(.*)</script>', text)
        notices = re.findall(r'<p class="notice">(.*?)</p>', text, flags=re.S)
        size = len(data) + sum(len(uri) for uri, _ in pictures)
        return [int(width) for _, width in pictures], len(json.loads(data)["rows"]), notices, size

    widths, num_rows, notices, content_size = made(5_000_000)
    assert (widths, num_rows, notices) == ([320] * 3, 401, [])
    size = (tmp_path / "p.html").stat().st_size
    widths, num_rows, notices, _ = made(size - 10_000)
    assert (widths, num_rows, notices) == ([320] * 2, 401, [])
    widths, num_rows, notices, _ = made(size - content_size + 40_000)
    assert widths == []
    assert 0 < num_rows < 401
    assert f"first {num_rows} of" in " ".join(notices[0].split())
    with pytest.raises(ReportError, match=r"p\.html would have 0\.1 MB"):
        made(50_000)


def test_ten_thousand_rows_fit(tmp_path: Path) -> None:
    rows = [
        scored(f"/videos/some/folder/{number:05}/encode-{number}-720p-3000k.mp4", number / 100)
        for number in range(9_900)
    ]
    rows += [
        failed(f"/videos/some/bad-{number}.mp4", error="it breaks " * 10) for number in range(100)
    ]
    path = make_page(tmp_path / "page.html", rows)
    assert path.stat().st_size < report_page.MAX_BYTES / 2
    assert path.read_bytes().count(b"<article ") == report_page.NUM_WORST


def test_a_page_of_rows_without_a_report_has_a_title_and_says_what_native_is(
    tmp_path: Path,
) -> None:
    content = report_page.Report(
        rows=[replace(ROWS[0], display="native")], segments={}, gate=Gate(), sources=()
    )
    report_page.write_page(content, tmp_path / "page.html", has_thumbnails=False)
    page = tree(tmp_path / "page.html")
    assert page.select_one("title").get_text() == "Video quality"  # type: ignore[union-attr]
    told = page.select_one(".sources").get_text()  # type: ignore[union-attr]
    assert "Made of" not in told
    assert "pixel for pixel, not scaled to a screen (native)" in told


def test_a_card_says_where_a_segment_is_of_a_worse_verdict(tmp_path: Path) -> None:
    rows = [scored("a.mp4", 72.0, score_min=11.0), scored("b.mp4", 72.5, score_min=69.0)]
    page = tree(make_page(tmp_path / "page.html", rows))
    told = ["its worst segment 11.0, bad" in card.get_text() for card in page.select("article")]
    assert told == [True, False]
    assert "its worst segment" not in page.select("article")[1].get_text()
