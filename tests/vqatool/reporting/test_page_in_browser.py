"""The page in a real browser, where there is one: it runs, is safe, and is accessible."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, expect

from tests.browser import find_chromium, open_chromium
from tests.conftest import MakeVideo
from tests.vqatool.reporting.pages import HOSTILE, failed, make_page, of_file, scored, segments
from vqatool.reporting.html import visible
from vqatool.scoring.gates import Gate, Thresholds

pytestmark = pytest.mark.skipif(not find_chromium(), reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, make_video: MakeVideo) -> Path:
    """A page with something of everything: 250 files, hostile names, pictures, a gate."""
    folder = tmp_path_factory.mktemp("page")
    scene = "testsrc2=size=320x180:rate=10:duration=2"
    name = HOSTILE[1].replace("/", "")
    video = folder / name
    video.write_bytes(make_video("in-browser.mp4", scene).read_bytes())
    rows = [of_file(video, 11.0, warnings="hdr")]
    rows += [scored(name, 12.0 + index, warnings="vfr") for index, name in enumerate(HOSTILE)]
    rows += [scored(f"film-{number}.mp4", 30 + number / 4) for number in range(230)]
    rows += [failed(f"bad-{number}.mp4", error="it <b>breaks</b> off") for number in range(9)]
    timelines = segments(str(video), 10.0, 10.5, 12.5, length_s=0.6)
    page = folder / "page.html"
    return make_page(page, rows, timelines, Gate(Thresholds(40)), has_thumbnails=True)


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The open page; nothing may be refused, fetched or thrown while a test uses it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    opened = context.new_page()
    faults: list[str] = []

    def refuse_other_addresses(request: Request) -> None:
        if not request.url.startswith(("data:", report.as_uri())):
            faults.append(request.url)

    opened.on("console", lambda message: faults.append(message.text))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", refuse_other_addresses)
    opened.goto(report.as_uri())
    yield opened
    assert opened.evaluate("window.attacked") is None
    context.close()
    assert faults == []


def files(page: Page) -> list[str]:
    return page.locator("#files tbody th").all_text_contents()


def heading(page: Page, title: str) -> str | None:
    return page.locator("#files thead th", has_text=title).first.get_attribute("aria-sort")


def test_axe_finds_no_fault_in_light_and_dark(page: Page) -> None:
    page.get_by_label("Text").fill("film-22")  # fewer rows: each cell takes time
    expect(page.get_by_role("status")).to_contain_text("filtered")
    page.locator("details").first.evaluate("each => each.open = true")
    page.evaluate("document.querySelectorAll('article:nth-of-type(n+4)').forEach(e => e.remove())")
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
    page.emulate_media(color_scheme="dark")
    found = Axe().run(page, options={"runOnly": ["color-contrast"]})
    assert found.violations_count == 0, found.generate_report()


def test_hostile_names_are_shown_as_they_are(page: Page) -> None:
    shown = set(files(page))
    assert shown >= {visible(name) for name in HOSTILE}
    assert page.locator("article img").count() == 2
    widths = page.locator("article img").evaluate_all("all => all.map(each => each.naturalWidth)")
    assert widths == [320, 320]


def test_a_column_sorts_by_keyboard_in_both_directions(page: Page) -> None:
    assert heading(page, "score") == "ascending"
    lowest = files(page)[0]
    page.get_by_role("button", name="score", exact=True).focus()
    page.keyboard.press("Enter")
    assert heading(page, "score") == "descending"
    assert files(page)[:2] == ["film-229.mp4", "film-228.mp4"]
    page.keyboard.press("Enter")
    assert heading(page, "score") == "ascending"
    assert files(page)[0] == lowest
    page.get_by_role("button", name="file", exact=True).press("Enter")
    assert (heading(page, "score"), heading(page, "file")) == (None, "ascending")
    numbers = [name for name in files(page) if name.startswith("film-")]
    assert numbers[:3] == ["film-0.mp4", "film-1.mp4", "film-2.mp4"]  # not 0, 1, 10


def test_filters_narrow_the_table_and_tell_how_many_rows_there_are(page: Page) -> None:
    count = page.get_by_role("status")
    expect(count).to_have_text("Rows 1 to 100 of 250")
    page.get_by_label("Text").fill("FILM-22")
    expect(count).to_have_text("Rows 1 to 11 of 11, filtered from 250")
    page.get_by_label("Score to").fill("85.3")
    expect(count).to_have_text("Rows 1 to 3 of 3, filtered from 250")
    assert files(page) == ["film-22.mp4", "film-220.mp4", "film-221.mp4"]
    page.get_by_label("Score from").fill("80")
    expect(count).to_have_text("Rows 1 to 2 of 2, filtered from 250")
    page.get_by_role("button", name="Show all").click()
    expect(count).to_have_text("Rows 1 to 100 of 250")
    page.get_by_role("combobox", name="Status").select_option("error")
    expect(count).to_have_text("Rows 1 to 9 of 9, filtered from 250")
    page.get_by_role("combobox", name="Status").select_option("not passed")
    expect(count).to_have_text("Rows 1 to 51 of 51, filtered from 250")
    page.get_by_role("combobox", name="Warnings").select_option("none")
    expect(count).to_have_text("Rows 1 to 40 of 40, filtered from 250")
    page.get_by_label("Text").fill("nothing of this")
    expect(count).to_have_text("No row, filtered from 250")


def test_a_code_leads_to_its_files(page: Page) -> None:
    page.locator("#warnings").get_by_role("link", name="hdr").click()
    expect(page.get_by_role("status")).to_have_text("Rows 1 to 1 of 1, filtered from 250")
    page.locator("#errors").get_by_role("link", name="damaged").click()
    expect(page.get_by_role("status")).to_have_text("Rows 1 to 9 of 9, filtered from 250")


def test_the_table_turns_over(page: Page) -> None:
    back, on = (page.get_by_role("button", name=f"{word} rows") for word in ("Previous", "Next"))
    expect(back).to_be_disabled()
    on.click()
    on.click()
    expect(page.get_by_role("status")).to_have_text("Rows 201 to 250 of 250")
    assert len(files(page)) == 50
    expect(on).to_be_disabled()
    back.click()
    expect(page.get_by_role("status")).to_have_text("Rows 101 to 200 of 250")


def test_a_narrow_screen_scrolls_in_one_direction(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_paper_has_no_controls(page: Page) -> None:
    page.emulate_media(media="print")
    for selector in (".filters", ".pages", "nav"):
        for each in page.locator(selector).all():
            expect(each).to_be_hidden()


def test_without_scripts_the_first_rows_are_there(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    opened = context.new_page()
    opened.goto(report.as_uri())
    assert len(files(opened)) == 100
    assert opened.locator(".filters").is_hidden()
    context.close()


@pytest.mark.parametrize(
    ("width", "seen"), [(1440, "warnings"), (1200, "warnings"), (390, "score")]
)
def test_the_first_columns_are_on_the_screen_and_names_stay_there(
    page: Page, width: int, seen: str
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    column = page.locator("#files thead th").filter(has_text=seen).first.bounding_box()
    assert column is not None
    assert column["x"] + column["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = page.locator("#files tbody th").first
    before = names.bounding_box()
    page.locator("#files .scroll").evaluate("each => each.scrollLeft = 200")
    assert names.bounding_box() == before
