"""What the page of a comparison says, and that hostile names stay text."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser import find_chromium, open_chromium
from tests.conftest import MakeVideo
from tests.vqatool.program import vqatool
from tests.vqatool.reporting.pages import HOSTILE, failed, of_file, pairs, scored, segments, tree
from vqatool.reporting.comparison import Comparison, DropGate, MeanDifference, compare
from vqatool.reporting.comparison_page import (
    ComparisonContent,
    Segments,
    Side,
    write_comparison_page,
)
from vqatool.reporting.html import visible
from vqatool.reporting.report_page import MAX_BYTES
from vqatool.scoring.report_file import ReportFile, write_whole
from vqatool.scoring.rows import ReportRow, SegmentRow

BEFORE = [scored("a.mp4", 90, verdict="good"), scored("b.mp4", 80), scored("c.mp4", 70)]
AFTER = [scored("a.mp4", 60, verdict="fair"), scored("b.mp4", 81), failed("c.mp4")]
SEGMENTS = {"a.mp4": segments("a.mp4", 91, 89)}


def made(
    folder: Path,
    before: list[ReportRow],
    after: list[ReportRow],
    max_drop: float | None,
    *,
    fails_on_missing: bool = False,
    later: Segments | None = None,
) -> Path:
    page = folder / "d.html"
    content = ComparisonContent(
        comparison=compare(before, after),
        gate=DropGate(max_drop, fails_on_missing),
        before=Side.of(Path("old.csv"), before, SEGMENTS),
        after=Side.of(Path("new.csv"), after, later or {}),
    )
    assert write_comparison_page(content, page, jobs=1) == page.stat().st_size
    return page


def outcome_of(page: Path) -> str:
    (found,) = tree(page).select(".outcome")
    return " ".join(found.get_text().split())


@pytest.mark.parametrize(
    ("max_drop", "outcome"),
    [
        (None, "2 videos compared; 1 lost its score"),
        (
            5.0,
            "\u2717 Not passed: 1 score fell by 5 points or more; 1 lost its score",
        ),
        (
            50.0,
            "\u2717 Not passed: 1 lost its score",
        ),
    ],
)
def test_the_page_tells_the_outcome_and_what_got_worse(
    max_drop: float | None, outcome: str, tmp_path: Path
) -> None:
    path = made(tmp_path, BEFORE, AFTER, max_drop)
    assert outcome_of(path) == outcome
    page = tree(path)
    counts = pairs(page.select("dl.counts")[0])
    assert (counts["compared"], counts["lost"]) == ("2", "1")
    assert counts["mean difference"] == "-14.50"
    cards = {card.h3.get_text(): card for card in page.select("article") if card.h3}
    assert list(cards) == ["1. c.mp4", "2. a.mp4"]
    assert "lost its score of 70.0: it breaks off" in cards["1. c.mp4"].get_text()
    assert "-30.0 from 90.0 good to 60.0 fair" in cards["2. a.mp4"].get_text()
    assert [each["class"] for each in cards["2. a.mp4"].select("polyline")] == [["before"]]
    assert ("does not pass" in cards["2. a.mp4"].get_text()) == (max_drop == 5)


def test_the_page_tells_of_videos_that_are_gone(tmp_path: Path) -> None:
    passed = "\u2713 Passed: no score fell by 50 points or more, or was lost"
    missed, missing = "\u2717 Not passed: ", "1 video is missing after"
    for max_drop, is_gate, outcome in (
        (None, False, "1 video compared; 1 only before"),
        (50.0, False, f"{passed}; 1 only before"),
        (50.0, True, missed + missing),
        (5.0, True, f"{missed}1 score fell by 5 points or more; {missing}"),
    ):
        page = made(tmp_path, BEFORE[:2], AFTER[:1], max_drop, fails_on_missing=is_gate)
        assert outcome_of(page) == outcome
    page = made(tmp_path, BEFORE[:2], AFTER[:2], 50, fails_on_missing=True)
    assert outcome_of(page) == f"{passed}, and no video is missing"


def test_before_and_after_are_in_one_picture_with_the_worst_moments_of_both(
    tmp_path: Path, make_video: MakeVideo
) -> None:
    video = make_video("four-seconds.mp4", "testsrc2=size=192x108:rate=10:duration=4")
    gone = tmp_path / "gone.mp4"
    old = replace(scored(str(gone), 85), size_bytes=1, modified="x")
    new = of_file(video, 72.5)
    before = {str(gone): segments(str(gone), 90, 80, 85, 85, length_s=1)}
    after = {str(video): segments(str(video), 88, 50, 67, 85, length_s=1)}
    out = tmp_path / "d.html"
    content = ComparisonContent(
        comparison=pair(old, new),
        gate=DropGate(),
        before=Side.of(tmp_path / "old.csv", [old], before),
        after=Side.of(tmp_path / "new.csv", [new], after),
    )
    write_comparison_page(content, out, jobs=1)
    (card,) = tree(out).select("article")
    (chart,) = card.select("svg")
    assert [line["class"] for line in chart.select("polyline")] == [["before"], ["after"]]
    assert str(chart.select("polyline")[1]["points"]).split()[2:4] == ["150.0,50.0", "300.0,50.0"]
    labels = [text.get_text() for text in chart.select("text")]
    assert {"before", "after", "1", "2"} <= set(labels)  # a legend, and two moments
    # it fell by 12.5: segments that fell less are left out
    moments = [" ".join(each.get_text().split()) for each in card.select(".moments li")]
    assert moments == [
        "1: at 0:01.5 before 80.0 after 50.0",
        "2: at 0:02.5 before 85.0 after 67.0",
    ]
    assert [each["alt"] for each in card.select("img")] == [
        "The picture at 0:01.5 after", "The picture at 0:02.5 after"
    ]  # fmt: skip
    assert [str(each["href"]).partition("#")[2] for each in card.select(".moments a")] == [
        "t=1.5",
        "t=2.5",
    ]
    note = card.select_one(".note")
    assert note is not None
    assert "Before: no pictures: the file is not here" in note.get_text()
    write_comparison_page(content, out, has_thumbnails=False)
    assert not tree(out).select("img")


def pair(before: ReportRow, after: ReportRow) -> Comparison:
    """The comparison of two rows that have nothing in common."""
    (row,) = compare([replace(before, path="a")], [replace(after, path="a")]).rows
    row = replace(row, path_before=before.path, path_after=after.path)
    return Comparison([row], MeanDifference(math.nan, math.nan, math.nan), [])


def test_a_comparison_of_many_videos_has_room_for_the_largest_drops(tmp_path: Path) -> None:
    before = [scored(f"{number:05}-{'x' * 400}.mp4", 90) for number in range(12_000)]
    after = [scored(row.path, 90 - number / 1000) for number, row in enumerate(before)]
    page = made(tmp_path, before, after, 2)
    assert page.stat().st_size <= MAX_BYTES
    assert "has room for the first" in tree(page).get_text()
    assert "Passed" not in tree(page).select(".outcome")[0].get_text()


def test_the_command_writes_the_page_with_both_timelines(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b.csv", "a.csv", "bs.csv", "as.csv")]
    write_whole(BEFORE, paths[0])
    write_whole(AFTER, paths[1])
    for path in paths[2:]:
        file = ReportFile(path, SegmentRow)
        file.begin(segments("a.mp4", 91, 89))
    out = tmp_path / "d.html"
    arguments = ["compare", *paths[:2], "-o", out, "--per-segment", *paths[2:]]
    assert vqatool(*arguments).exit_code == 0
    # a.mp4 scored 60 after, of which these segments are not
    assert [each["class"] for each in tree(out).select("polyline")] == [["before"]]
    assert vqatool(*arguments).exit_code == 0  # its own page is replaced
    out.write_text("<html>another program's</html>")
    assert vqatool(*arguments).exit_code == 2


@pytest.mark.skipif(not find_chromium(), reason="no Chromium is installed")
def test_the_page_is_safe_and_accessible_in_a_browser(tmp_path: Path) -> None:
    before = [scored(name, 90) for name in HOSTILE] + BEFORE
    path = made(tmp_path, before, [scored(name, 50) for name in HOSTILE] + AFTER, 2)
    with open_chromium() as browser:
        faults: list[str] = []
        page = browser.new_context(offline=True).new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path.as_uri())
        assert page.evaluate("window.attacked") is None
        names = page.locator("tbody th").all_text_contents()
        assert {visible(name) for name in HOSTILE} <= set(names)
        assert Axe().run(page).violations_count == 0
        page.emulate_media(color_scheme="dark")
        assert Axe().run(page, options={"runOnly": ["color-contrast"]}).violations_count == 0
        assert faults == []
