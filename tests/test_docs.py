"""The README and the documentation are true: blocks, links, commands, codes, columns, tree."""

import ast
import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import pytest
import yaml
from click.testing import CliRunner

from tests.conftest import EXACT, MakeVideo
from tests.vqatool.program import RUNGS
from vqatool.cli import cli
from vqatool.errors import ExitCode
from vqatool.methods import Method, recipe_for

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def module(name: str) -> ModuleType:
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class Block(NamedTuple):
    """A fenced block of a page, and why it is not run (empty: it is)."""

    page: Path
    language: str
    text: str
    reason: str


def blocks_of(page: Path) -> list[Block]:
    found = re.findall(
        r"^(?:<!-- not run: (.*?) -->\n)?```([\w{}-]*).*?\n(.*?)^```$",
        page.read_text(encoding="utf-8"),
        flags=re.M | re.S,
    )
    return [Block(page, language, text, reason) for reason, language, text in found]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = sorted(
    {
        line.split(" # ")[0].split("|")[-1].strip()
        for block in BLOCKS
        if block.language == "bash"
        for part in block.text.splitlines()
        for line in part.split("&&")
        if line.split("|")[-1].strip().startswith("vqatool ")
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_the_docs_parses(command: str) -> None:
    _, name, *args = shlex.split(command)
    found = cli.commands[name]
    found.make_parser(click.Context(found)).parse_args(args)


def test_every_command_is_in_the_readme() -> None:
    assert {name for name in cli.commands if not re.search(rf"\b{name}\b", README)} == set()


def test_every_command_and_option_is_documented() -> None:
    # sphinx-click writes the page from the program itself: it has what has a help text
    assert ".. click:: vqatool.cli:cli" in (ROOT / "docs/reference/cli.md").read_text()
    for name, command in cli.commands.items():
        assert command.help, name
        for param in command.params:
            assert not isinstance(param, click.Option) or not param.hidden, f"{name} {param.name}"
            known = isinstance(param, click.Argument) or param.help or param.name == "seed"
            assert known, f"{name} {param.name}"


RECORDINGS = module("make_recordings")


@pytest.mark.parametrize("name", RECORDINGS.RECORDINGS)
def test_a_recording_is_small_fetches_nothing_and_names_no_machine(name: str) -> None:
    svg = (RECORDINGS.FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert len(svg.encode()) <= RECORDINGS.MAX_BYTES
    assert set(re.findall(r"\w+://[^\s\"')]*", svg)) == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in svg
    assert re.findall(r"(?<![\w./])/(?!dev/null)\w+/\w", svg) == []  # an absolute path
    for command in RECORDINGS.RECORDINGS[name]:
        words = shlex.split(command.split("|")[0].split("2>")[0])
        if words[0] == "vqatool":
            assert any(word in cli.commands for word in words[1:3])


def test_every_picture_is_shown_somewhere() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    made = {path.name for path in RECORDINGS.FOLDER.iterdir()}
    pictures = {*RECORDINGS.PAGE_PICTURES, RECORDINGS.NOTEBOOK_PICTURE}
    assert made == {*(f"{name}.svg" for name in RECORDINGS.RECORDINGS), *pictures}
    assert {name for name in made if f"recordings/{name}" not in shown} == set()
    assert all((RECORDINGS.FOLDER / name).stat().st_size < 100_000 for name in made)


def test_a_screen_has_what_a_progress_bar_left_of_it() -> None:
    bar = "one\r\n\x1b[?25lscoring 1\r\x1b[2Kscoring \x1b[1m2\x1b[0m\r\n\x1b[1A\x1b[2Ktwo\r\n"
    assert RECORDINGS.screen(bar) == ["one", "two"]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("Run it", "pip install -c constraints.txt '.[demo]' && vqatool demo"),
        ("Test it", "pip install -c constraints.txt '.[test]' && pytest"),
    ],
)
def test_a_newcomer_needs_one_command(heading: str, command: str) -> None:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```\w*\n(.*?)^```$", section, flags=re.M | re.S)
    assert block.strip() == command


def test_a_block_that_is_not_run_has_the_reason() -> None:
    runnable = [block for block in BLOCKS if block.language in {"bash", "python"}]
    assert {block.language for block in BLOCKS} <= {
        "bash", "python", "toml", "text", "yaml", "{toctree}", "{eval-rst}", "{file-format}",
    }  # fmt: skip
    assert sum(not block.reason for block in runnable) >= 8


@pytest.fixture
def docs_folder(tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader of the README has: two sources, a video, and `vqatool` on PATH."""
    for name in ("src", "videos", "bin"):
        (tmp_path / name).mkdir()
    for number, scene in enumerate(
        ("testsrc2=size=160x90:rate=10", "mandelbrot=size=160x90:rate=10")
    ):
        clip = make_video(f"docs-{number}.mp4", scene, ("-frames:v", "10", *EXACT))
        shutil.copy(clip, tmp_path / "src")
    shutil.copy(clip, tmp_path / "videos" / "one.mp4")
    (tmp_path / "ladder.toml").write_text(RUNGS)
    program = tmp_path / "bin" / "vqatool"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vqatool "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    # a rough fit of the figure network: tests/vqatool/training/test_figures.py tests the real one
    monkeypatch.setattr("vqatool.training.figures._EPOCHS", 4)
    monkeypatch.setattr("vqatool.training.figures._SPREAD_STEPS", 20)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run_block(block: Block) -> None:
    """Commands of `vqatool` run in this process, which has loaded torch; all else as it stands."""
    lines = [line.split(" # ")[0].strip() for line in block.text.splitlines()]
    if all(not line or line.startswith(("vqatool ", "#")) for line in lines):
        for line in lines:
            if line.startswith("vqatool "):
                args = [
                    str(path)
                    for arg in shlex.split(line)[1:]
                    for path in (sorted(Path().glob(arg)) if "src/*" in arg else [arg])
                ]
                done = CliRunner().invoke(cli, args, catch_exceptions=False)
                assert done.exit_code == 0, f"{line}\n{done.stderr}"
        return
    script = Path(f"block.{block.language}")
    script.write_text(block.text)
    if block.language == "python":
        runpy.run_path(str(script.absolute()), run_name="__main__")
    else:
        ended = subprocess.run(["bash", "-euo", "pipefail", script], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_every_block_runs(docs_folder: Path) -> None:
    # the README last: what it leaves to defaults, the tutorial has made small
    order = sorted(BLOCKS, key=lambda block: (block.page.parent == ROOT, block.page))
    order.sort(key=lambda block: block.page.name != "tutorial.md")
    for block in order:
        if block.language in {"bash", "python"} and not block.reason:
            run_block(block)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts and MyST make them."""
    text = page.read_text(encoding="utf-8")
    if stands_for := re.search(r"puts `(\w+\.md)` of the top folder here", text):
        text = (ROOT / stands_for[1]).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    names = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    return names | {re.sub(r"[^\w]+", "-", title.lower()).strip("-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_every_page_has_a_way_to_it() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([\w/-]+)$", index, flags=re.M))
    pages = {str(page.relative_to(ROOT / "docs"))[:-3] for page in (ROOT / "docs").rglob("*.md")}
    assert pages - {"index"} <= listed


def codes_in_the_code() -> Iterator[str]:
    """The codes of warnings and errors: members of `...Code` enums, `code = ...` of an exception,
    the first argument of `VideoError`, and what `alignment_warnings` yields."""
    for package in ("ladder", "vqatool"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield from _codes_of(node)


def _codes_of(node: ast.AST) -> Iterator[str]:
    values: list[ast.expr | None] = []
    if isinstance(node, ast.ClassDef):
        is_enum = node.name.endswith("Code")
        values = [
            part.value
            for part in node.body
            if isinstance(part, ast.Assign)
            and (is_enum or getattr(part.targets[0], "id", "") == "code")
        ]
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "VideoError":
        values = [*node.args[:1]]
    elif isinstance(node, ast.FunctionDef) and node.name == "alignment_warnings":
        values = [part.value for part in ast.walk(node) if isinstance(part, ast.Yield)]
    constants = (value.value for value in values if isinstance(value, ast.Constant))
    yield from (value for value in constants if isinstance(value, str) and value)


def test_every_code_is_in_troubleshooting() -> None:
    explained = set(re.findall(r"^\| `([\w]+)", TROUBLESHOOTING, flags=re.M))
    codes = set(codes_in_the_code())
    assert {"hdr", "interlaced", "capability", "not_video", "no_stream"} <= codes
    assert codes - explained == set()


def test_exit_codes_are_in_troubleshooting() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", TROUBLESHOOTING, flags=re.M)}
    assert {int(code) for code in ExitCode} == explained


def test_every_column_has_a_meaning() -> None:
    formats = module("columns")
    tables = formats.read_tables()
    for name, table in tables.items():
        assert formats.undescribed(name, table) == []
    assert {"EncodeRow", "LabelRow", "ReportRow", "SegmentRow", "StudyRow"} <= set(tables)
    shown = (ROOT / "docs/reference/files.md").read_text(encoding="utf-8")
    assert {name for name in tables if f"{{file-format}} {name}\n" not in shown} == set()


def test_a_column_without_a_meaning_is_found() -> None:
    formats = module("columns")
    table: dict[str, Any] = formats.read_tables()["SegmentRow"]
    assert formats.undescribed("SegmentRow", {**table, "columns": {"old": "gone"}})[-1].endswith(
        "SegmentRow.old, which is no column"
    )


def test_every_row_type_of_a_file_is_documented() -> None:
    documented = {table["class"] for table in module("columns").read_tables().values()}
    for package in ("ladder", "vqatool"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and re.search(
                    r"a row of (`.*\.csv`|the file)", ast.get_docstring(node) or ""
                ):
                    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                    if {"key"} & {getattr(part, "name", "") for part in node.body}:
                        assert f"{name}:{node.name}" in documented


@pytest.mark.parametrize("script", ["make_tree", "make_model_card"])
def test_a_made_page_is_up_to_date(script: str) -> None:
    made = module(script)
    if script == "make_tree":
        page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
        same = made.with_tree(page) == page
    else:
        page = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
        same = made.model_card(made.packaged_card()) == page
    assert same, f"run: python docs/{script}.py"


METHODS_PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def test_every_method_is_documented_with_its_paper() -> None:
    for method in Method:
        assert f"| `{method.value}` |" in METHODS_PAGE
        assert method.paper in METHODS_PAGE


@pytest.mark.parametrize("method", Method)
def test_what_a_models_shape_takes_is_documented_with_its_defaults(method: Method) -> None:
    settings = (
        f"`{name}={value if isinstance(value, str) else json.dumps(value)}`"
        for name, value in recipe_for(method).shape.items()
    )
    assert f"| `{method.value}` | {', '.join(settings)} |" in METHODS_PAGE


def test_every_table_of_figures_has_a_date_and_a_command() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    summary, *sections = page.split("\n## ")
    listed = re.findall(r"^\| \[(.*?)\]\(.*?\) \| 20\d\d-\d\d-\d\d \| `", summary, flags=re.M)
    assert listed == [section.splitlines()[0] for section in sections]
    for section in sections:
        assert re.search(r"```bash|`python -m tests\.benchmarks\.", section)


def test_constraints_fit_the_ranges_and_pin_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.match(r"[\w.-]+==[\w.]+( ;.*)?$", pin) for pin in pins)
    names = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    required = re.findall(
        r"^    ([a-z][\w-]*)\s*(?:[<>=]=|$)", (ROOT / "setup.cfg").read_text(), flags=re.M
    )
    skip = {"ladder", "vqatool", "pre-commit"}
    assert {name.lower() for name in required} - skip - names == set()


@pytest.mark.parametrize(
    "path", [".pre-commit-config.yaml", "CITATION.cff", ".github/workflows/ci.yml",
             ".github/workflows/release.yml"],
)  # fmt: skip
def test_the_settings_of_services_are_yaml(path: str) -> None:
    assert isinstance(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")), dict)


def test_the_citation_has_the_version() -> None:
    from vqatool import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == __version__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_machine(page: Path) -> None:
    assert not re.search(r"(^|\s)/(home|root|work|tmp/venv)\b", page.read_text(encoding="utf-8"))
