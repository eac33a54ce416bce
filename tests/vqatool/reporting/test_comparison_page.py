"""What the page of a comparison says, and that hostile names stay text."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser import find_chromium, open_chromium
from tests.vqatool.program import vqatool
from tests.vqatool.reporting.pages import HOSTILE, failed, pairs, scored, segments, tree
from vqatool.reporting.comparison import compare
from vqatool.reporting.comparison_page import ComparisonContent, write_comparison_page
from vqatool.reporting.html import visible
from vqatool.reporting.report_page import MAX_BYTES
from vqatool.scoring.report_file import ReportFile, write_whole
from vqatool.scoring.rows import ReportRow, SegmentRow

BEFORE = [scored("a.mp4", 90, verdict="good"), scored("b.mp4", 80), scored("c.mp4", 70)]
AFTER = [scored("a.mp4", 60, verdict="fair"), scored("b.mp4", 81), failed("c.mp4")]
SEGMENTS = {"a.mp4": segments("a.mp4", 91, 89)}


def made(
    folder: Path, before: list[ReportRow], after: list[ReportRow], max_drop: float | None
) -> Path:
    page = folder / "d.html"
    content = ComparisonContent(
        comparison=compare(before, after),
        max_drop=max_drop,
        sources=(Path("old.csv"), Path("new.csv")),
        segments=(SEGMENTS, {}),
    )
    assert write_comparison_page(content, page) == page.stat().st_size
    return page


@pytest.mark.parametrize(
    ("max_drop", "outcome"),
    [
        (None, "2 videos compared; 1 lost its score"),
        (
            5.0,
            "\u2717 Not passed: 2 scores fell by 5 points or more, or were lost; 1 lost its score",
        ),
        (
            50.0,
            "\u2717 Not passed: 1 score fell by 50 points or more, or was lost; 1 lost its score",
        ),
    ],
)
def test_the_page_tells_the_outcome_and_what_got_worse(
    max_drop: float | None, outcome: str, tmp_path: Path
) -> None:
    page = tree(made(tmp_path, BEFORE, AFTER, max_drop))
    (found,) = page.select(".outcome")
    assert " ".join(found.get_text().split()) == outcome
    counts = pairs(page.select("dl.counts")[0])
    assert (counts["compared"], counts["lost"]) == ("2", "1")
    assert counts["mean difference"] == "-14.50"
    cards = {card.h3.get_text(): card for card in page.select("article") if card.h3}
    assert list(cards) == ["1. c.mp4", "2. a.mp4"]
    assert "lost its score of 70.0: it breaks off" in cards["1. c.mp4"].get_text()
    assert "-30.0 from 90.0 good to 60.0 fair" in cards["2. a.mp4"].get_text()
    assert [each.get_text() for each in cards["2. a.mp4"].select("h4")] == ["Before"]
    assert ("does not pass" in cards["2. a.mp4"].get_text()) == (max_drop == 5)


def test_the_page_tells_of_videos_that_are_gone(tmp_path: Path) -> None:
    for max_drop, outcome in ((None, "1 video compared; 1 only before"), (50.0, "; 1 only before")):
        page = tree(made(tmp_path, BEFORE[:2], AFTER[:1], max_drop))
        (found,) = page.select(".outcome")
        assert found.get_text().endswith(outcome)


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
    assert [each.get_text() for each in tree(out).select("h4")] == ["Before", "After"]
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
        assert faults == []
