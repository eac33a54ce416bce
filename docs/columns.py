"""Columns of every CSV: names, order and types from the row types, meanings from `columns.toml`.

A column without a meaning, or a meaning without a column, is an error of the documentation's build.
"""

import dataclasses
import tomllib
import typing
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any

COLUMNS_FILE = Path(__file__).with_name("columns.toml")

_TYPE_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`True` or `False`",
    Fraction: "fraction",
}


def read_tables() -> dict[str, dict[str, Any]]:
    """`columns.toml`: the name of a row type -> its class, file, writer and meanings."""
    return tomllib.loads(COLUMNS_FILE.read_text(encoding="utf-8"))


def row_type(table: dict[str, Any]) -> type[Any]:
    """The dataclass that `class = "module:Name"` names."""
    module, _, name = table["class"].partition(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def undescribed(name: str, table: dict[str, Any]) -> list[str]:
    """What is wrong with the meanings of one table: a sentence for each column."""
    columns = [field.name for field in dataclasses.fields(row_type(table))]
    meanings = table["columns"]
    return [
        *(f"{name}.{column} has no meaning in columns.toml" for column in columns
          if column not in meanings),
        *(f"columns.toml gives a meaning to {name}.{column}, which is no column"
          for column in meanings if column not in columns),
    ]  # fmt: skip


def markdown_table(name: str, table: dict[str, Any]) -> str:
    """The columns of one row type as a Markdown table, in the order of the file."""
    kind = row_type(table)
    types = typing.get_type_hints(kind)
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        meaning = table["columns"][field.name]
        lines.append(f"| `{field.name}` | {_type_name(types[field.name])} | {meaning} |")
    return "\n".join(lines)


def _type_name(annotation: Any) -> str:
    kinds = typing.get_args(annotation) or (annotation,)
    names = [_TYPE_NAMES.get(kind, "text") for kind in kinds if kind is not NoneType]
    return " or ".join(names) + (", may be empty" if NoneType in kinds else "")
