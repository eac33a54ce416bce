"""The CSV files between the stages: rows are appended as they are done and read back by type.

A row is a frozen dataclass, its fields are the columns. Empty cells are None. A line torn by a
power cut or a `kill -9` is dropped when the table is opened for writing.
"""

import csv
import dataclasses
import io
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from filelock import FileLock, Timeout

from ladder.errors import TableError


class Status(StrEnum):
    """Whether the work of a row succeeded."""

    OK = "ok"
    ERROR = "error"


class Row(Protocol):
    """What a table holds: a dataclass whose `key` tells its rows apart."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def key(self) -> str:
        """Of two rows with one key, the later counts."""


R = TypeVar("R", bound=Row)


class Table(Generic[R]):
    """A CSV of one row type."""

    def __init__(self, path: Path, row_type: type[R]) -> None:
        self.path = path
        self._row_type = row_type
        self._types = typing.get_type_hints(row_type)
        fields = dataclasses.fields(row_type)
        self.columns = tuple(field.name for field in fields)
        self._num_required = sum(field.default is dataclasses.MISSING for field in fields)

    def rows(self) -> list[R]:
        """Every whole row, the later of two with one key; none if there is no file yet.

        A file from before the last columns were added is read as if they were empty.

        Raises:
            TableError: the header is not this row type's.
        """
        lines = list(csv.reader(io.StringIO(_whole_records(self._text()), newline="")))
        if not lines:
            return []
        header = tuple(lines[0])
        if len(header) < self._num_required or header != self.columns[: len(header)]:
            raise TableError(f"{self.path} has other columns than {','.join(self.columns)}")
        rows = (self._row(header, cells) for cells in lines[1:])
        return list({row.key: row for row in rows}.values())

    def repair(self) -> None:
        """Make the file fit for the next row: drop what a crash tore, add the latest columns.

        Raises:
            TableError: the header is not this row type's; the file is left as it is.
        """
        rows, text = self.rows(), self._text()
        is_whole = _whole_records(text) == text and text.startswith(_csv_line(self.columns))
        if text and not is_whole:
            self.rewrite(rows)

    def append(self, row: R) -> R:
        """Write one row (and the header to a new file) so that it survives a crash from here on.

        Returns:
            The row as a later run will read it, with figures rounded as in the file.
        """
        is_new = not self.path.exists() or not self.path.stat().st_size
        with self._open("a") as file:
            file.write((_csv_line(self.columns) if is_new else "") + self._line(row))
            file.flush()
            os.fsync(file.fileno())
        return self.row_of({column: getattr(row, column) for column in self.columns})

    def row_of(self, values: Mapping[str, object]) -> R:
        """The row with these values by column, as it would be read back from the file.

        Raises:
            TableError: a value does not fit its column, or one that every row has is not there.
        """
        missing = [column for column in self.columns[: self._num_required] if column not in values]
        if missing:
            raise TableError(f"{self.path} has a row without {', '.join(missing)}")
        return self._row(self.columns, [_cell(values.get(column)) for column in self.columns])

    def rewrite(self, rows: Iterable[R]) -> None:
        """Put `rows` in the place of what is there, in one step."""
        self._replace(_csv_line(self.columns) + "".join(map(self._line, rows)))

    def _text(self) -> str:
        if not self.path.exists():
            return ""
        # file names that are no valid UTF-8 survive the round trip
        return self.path.read_bytes().decode("utf-8", "surrogateescape")

    def _open(self, mode: str, suffix: str = "") -> typing.TextIO:
        path = self.path.with_name(self.path.name + suffix)
        file = path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")
        return typing.cast(typing.TextIO, file)

    def _replace(self, text: str) -> None:
        with self._open("w", ".part") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.path.with_name(self.path.name + ".part").replace(self.path)

    def _line(self, row: R) -> str:
        return _csv_line(_cell(getattr(row, column)) for column in self.columns)

    def _row(self, columns: tuple[str, ...], cells: list[str]) -> R:
        if len(cells) != len(columns):
            raise TableError(f"{self.path} has a row of {len(cells)} cells: {cells[0]}")
        try:
            values = {
                column: _value(cell, self._types[column])
                for column, cell in zip(columns, cells, strict=True)
            }
        except (ValueError, ZeroDivisionError) as error:
            raise TableError(f"{self.path}, row {cells[0]}: {error}") from error
        return self._row_type(**values)


def work_lock(folder: Path) -> FileLock:
    """Held while a stage writes into `folder`, so that two runs never write the same files.

    Raises:
        TableError: another run holds it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TableError(f"{folder} is in use by another run: wait for it to end") from error
    return lock


def remove_parts(folder: Path) -> None:
    """Delete what an interrupted run left half written."""
    for path in folder.rglob("*.part"):
        path.unlink(missing_ok=True)


def _whole_records(text: str) -> str:
    """The part of a CSV text that ends with a whole record: a line end outside of quotes."""
    end = quotes = 0
    for mark in re.finditer('["\n]', text):
        if mark[0] == '"':
            quotes += 1
        elif quotes % 2 == 0:
            end = mark.end()
    return text[:end]


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def _value(cell: str, annotation: Any) -> object:
    """The cell as the column's type; an empty cell of an optional column is None."""
    if isinstance(annotation, types.UnionType):
        if cell == "":
            return None
        annotation = next(t for t in typing.get_args(annotation) if t is not types.NoneType)
    convert: Callable[[str], object] = annotation
    return convert(cell)
