"""The page of `explain` in a real browser, where there is one."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser import find_chromium, open_chromium
from tests.conftest import MakeVideo
from tests.vqatool.reporting.test_explanation import of_scores
from vqatool.reporting.explanation_page import ExplanationFiles, write_explanation

pytestmark = pytest.mark.skipif(not find_chromium(), reason="no Chromium is installed")


def test_nothing_is_refused_or_fetched_and_axe_finds_no_fault(
    tmp_path: Path, make_video: MakeVideo
) -> None:
    video = make_video("explained.mp4", "testsrc2=size=320x180:rate=10:duration=2")
    files, faults = ExplanationFiles(tmp_path / "why.html"), []
    write_explanation(of_scores(video, 20.0, 90.0), files, jobs=1)
    with open_chromium() as browser:
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(files.page.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        widths = page.locator("article img").evaluate_all("all => all.map(e => e.naturalWidth)")
        assert widths == [320]
        found = Axe().run(page, options={"resultTypes": ["violations"]})
        assert found.violations_count == 0, found.generate_report()
        page.emulate_media(color_scheme="dark")
        found = Axe().run(page, options={"runOnly": ["color-contrast"]})
        assert found.violations_count == 0, found.generate_report()
    assert faults == []
