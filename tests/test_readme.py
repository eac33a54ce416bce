"""The README is true: its commands, its tree, its columns, its exit codes."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import click
import pytest

from vqatool.cli import cli
from vqatool.methods import Method, recipe_for
from vqatool.scoring.rows import ReportRow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", README, flags=re.M | re.S)
COMMANDS = [
    line.split(" # ")[0].strip()
    for block in BLOCKS
    for part in block.splitlines()
    for line in part.split("&&")
    if line.strip().startswith("vqatool ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_the_readme_parses(command: str) -> None:
    _, name, *args = shlex.split(command)
    if name.startswith("-"):
        return
    found = cli.commands[name]
    found.make_parser(click.Context(found)).parse_args(args)


def test_every_command_stands_in_the_readme() -> None:
    assert {shlex.split(command)[1] for command in COMMANDS} >= set(cli.commands)


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("Run it", "pip install '.[demo]' && vqatool demo"),
        ("Test it", "pip install '.[test]' && pytest"),
    ],
)
def test_a_newcomer_needs_one_command(heading: str, command: str) -> None:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```\w*\n(.*?)^```$", section, flags=re.M | re.S)
    assert block.strip() == command


def test_the_tree_is_the_tree() -> None:
    tree = next(block for block in BLOCKS if block.startswith("ladder/"))
    told: set[str] = set()
    folders: list[str] = []
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 4, line.split()[0]
        folders = [*folders[:depth], name]
        if not name.endswith("/"):
            told.add("".join(folders))
    there = {
        str(path.relative_to(ROOT))
        for folder in ("ladder", "vqatool")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".safetensors"}
    }
    assert told == there


def test_the_report_columns_are_told_in_their_order() -> None:
    section = README.split("\n## The report\n")[1].split("\n## ")[0]
    told = [
        name
        for cell in re.findall(r"^\| (`.*?`) \|", section, flags=re.M)
        for name in re.findall(r"`(\w+)`", cell)
    ]
    assert told == [field.name for field in dataclasses.fields(ReportRow)]


def test_every_method_is_told_with_its_paper() -> None:
    for method in Method:
        assert method.value in README
        assert method.paper in README


@pytest.mark.parametrize("method", Method)
def test_what_a_models_shape_takes_is_told_with_its_defaults(method: Method) -> None:
    settings = (
        f"`{name}={value if isinstance(value, str) else json.dumps(value)}`"
        for name, value in recipe_for(method).shape.items()
    )
    assert f"| `{method.value}` | {', '.join(settings)} |" in README


def test_the_readme_names_no_machine() -> None:
    assert not re.search(r"(^|\s)/(home|root|work|tmp/venv)\b", README)
