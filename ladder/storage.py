"""Files shared by the stages: CSV tables of typed rows, atomic writes, locks and digests.

A row is a frozen dataclass; its fields are the columns. An empty cell is None. A stage appends each
finished row. `Table.repair` drops a line that a power cut or a `kill -9` left incomplete.

A spreadsheet runs a text that begins like a formula, and anybody may name a file so. Such a text
has an apostrophe before it in the file, which spreadsheets take for "this is text".
"""

import contextlib
import csv
import dataclasses
import errno
import fcntl
import functools
import hashlib
import io
import math
import os
import re
import threading
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Generic, Literal, Protocol, TypeVar

from ladder.errors import LockedError, OutputError, TableError

_CELLS = 2**10  # whose values are remembered
_NUM_BLOCKS, _BLOCK_BYTES = 64, 2**14  # of a file, for its digest


class Status(StrEnum):
    """Whether the work for a row succeeded."""

    OK = "ok"
    ERROR = "error"


class Row(Protocol):
    """A row of a table: a dataclass with a `key` that identifies the row."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def key(self) -> str:
        """Identifies the row; of two rows with the same key, the later one is valid."""


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
        """All complete rows, one per key (the latest); empty if the file does not exist.

        If an older version wrote the file without the last columns, their cells are empty.

        Raises:
            TableError: the header is not the header of this row type, or a cell is invalid.
        """
        return list({row.key: row for row in self.records()}.values())

    def records(self) -> list[R]:
        """The same, with all rows of one key, in the order in which they were written."""
        lines = csv.reader(io.StringIO(_whole_records(self._text()), newline=""))
        first = next(lines, None)
        if first is None:
            return []
        header = tuple(first)
        self._require(header)
        return [self._row(header, cells) for cells in lines]

    def each(self) -> Iterator[R]:
        """The rows of a finished file, one after another, also of one key; few are in memory.

        Raises:
            TableError: the header is not the header of this row type, or a cell is invalid.
        """
        with self.path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = csv.reader(file)
            header = tuple(next(lines, ()))
            self._require(header)
            yield from (self._row(header, cells) for cells in lines)

    def _require(self, header: tuple[str, ...]) -> None:
        if len(header) < self._num_required or header != self.columns[: len(header)]:
            raise TableError(f"{self.path} {self._misfit(header)}")

    def _misfit(self, header: tuple[str, ...]) -> str:
        """What keeps a header from being this table's, in a few words."""
        missing = [column for column in self.columns[: self._num_required] if column not in header]
        if not missing:
            return "has other columns, or in another order"
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return f"has other columns, without {', '.join(missing[:3])}{more}"

    def repair(self) -> None:
        """Prepare the file for the next row: drop an incomplete line, add missing columns.

        Raises:
            TableError: the header is not the header of this row type; the file is not changed.
        """
        rows, text = self.rows(), self._text()
        is_whole = _whole_records(text) == text and text.startswith(self.header)
        if text and not is_whole:
            self.rewrite(rows)

    def append(self, row: R) -> R:
        """Write one row (and the header to a new file) to the disk; it survives a later crash.

        Returns:
            The row as a later run reads it, with numbers rounded as in the file.

        Raises:
            OutputError: the file cannot be written.
        """
        is_new = not self.path.exists() or not self.path.stat().st_size
        text = (self.header if is_new else "") + self.line(row)
        with _named_in_errors(self.path), self.path.open("ab") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        return self.row_of({column: getattr(row, column) for column in self.columns})

    def row_of(self, values: Mapping[str, object]) -> R:
        """The row with these values (by column), as if it were read from the file.

        Raises:
            TableError: a value does not fit its column, or a required value is missing.
        """
        missing = [column for column in self.columns[: self._num_required] if column not in values]
        if missing:
            raise TableError(f"{self.path} has a row without {', '.join(missing)}")
        return self._row(self.columns, [_cell(values.get(column)) for column in self.columns])

    def rewrite(self, rows: Iterable[R]) -> None:
        """Replace the content of the file with `rows` in one step."""
        self._replace(self.header + "".join(map(self.line, rows)))

    @property
    def header(self) -> str:
        """The first line of the file, with its end."""
        return csv_line(self.columns)

    def line(self, row: R) -> str:
        """The line of a row, with its end."""
        return csv_line(_cell(getattr(row, column)) for column in self.columns)

    def _text(self) -> str:
        if not self.path.exists():
            return ""
        # keeps file names that are not valid UTF-8
        return self.path.read_bytes().decode("utf-8", "surrogateescape")

    def _replace(self, text: str) -> None:
        with atomic_write(self.path) as file:
            file.write(text.encode("utf-8", "surrogateescape"))

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


PART_SUFFIX = ".vqatool.part"
"""Suffix of the files that this program is still writing."""


def part_of(path: Path) -> Path:
    """The temporary file in which `path` is written until it is complete."""
    return path.with_name(path.name + PART_SUFFIX)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` in one step when the block ends without an error.

    The bytes are on the disk before the file is renamed: after a crash `path` has either its old
    content or all of the new content. Missing parent folders are created. A link stays one: the
    file that it leads to is replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    part = part_of(target)
    with _named_in_errors(path):
        _require_regular(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def require_writable(path: Path) -> None:
    """Refuse, before any work, what `atomic_write` could not write at its end; leaves nothing.

    Raises:
        OutputError: the file, or a folder for it, cannot be created there.
    """
    with _named_in_errors(path):
        _require_regular(path)
        folder = Path(os.path.realpath(path)).parent
        while not folder.exists():
            folder = folder.parent
        trial = part_of(folder / f".{os.getpid()}-{threading.get_ident()}")
        trial.touch()
        trial.unlink()


def _require_regular(path: Path) -> None:
    # renaming would replace a device such as /dev/null, or a link such as /dev/stdout
    folder = str(path.absolute().parent)
    is_special = folder in ("/dev", "/dev/fd") or folder.startswith("/proc/")
    if is_special or _is_no_file(Path(os.path.realpath(path))):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _is_no_file(path: Path) -> bool:
    return path.exists() and not path.is_file()


@contextlib.contextmanager
def locked(lock: Path, in_use: str, output: Path) -> Iterator[None]:
    """Hold the lock file `lock` of `output` during the block and delete the file afterwards.

    Raises:
        LockedError: another run or thread holds it; the message is `in_use`.
        OutputError: the lock file cannot be created; the message names `output`.
    """
    with _named_in_errors(output):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _lock_file(lock, in_use)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before the release: the next run creates a new file
        os.close(file)


def work_lock(folder: Path) -> contextlib.AbstractContextManager[None]:
    """The lock that a stage holds while it writes to `folder`; it stops a second run.

    Raises:
        LockedError: another run holds it.
    """
    in_use = f"{folder} is in use by another run: wait for it to end"
    return locked(folder / ".lock", in_use, folder)


def remove_parts(folder: Path) -> None:
    """Delete the incomplete files that interrupted runs left below `folder`."""
    for path in folder.rglob(f"*{PART_SUFFIX}"):
        path.unlink(missing_ok=True)


def digest(*parts: object, size: int = 12) -> str:
    """The BLAKE2b digest (`size` bytes, in hexadecimal) of these values.

    Text may have bytes that are not UTF-8, as file names may.
    """
    text = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else repr(parts)
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def file_digest(path: Path) -> str:
    """The digest of a file's size and of up to a mebibyte of its bytes, spread over all of it.

    Raises:
        OSError: the file cannot be read.
    """
    digest_of_blocks = hashlib.blake2b(digest_size=12)
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest_of_blocks.update(size.to_bytes(8))
        for number in range(_NUM_BLOCKS):
            file.seek(max(0, size - _BLOCK_BYTES) * number // (_NUM_BLOCKS - 1))
            digest_of_blocks.update(file.read(_BLOCK_BYTES))
    return digest_of_blocks.hexdigest()


@contextlib.contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError.of(path, error) from error


def _lock_file(lock: Path, in_use: str) -> int:
    """Create and lock the file `lock`; returns its file descriptor."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise LockedError(in_use) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(lock)):  # noqa: PTH116 - a pair
                return file
        os.close(file)  # the holder deleted the file after it was opened here


def _whole_records(text: str) -> str:
    """The text up to the last complete CSV record, which ends with a line end outside of quotes."""
    end = quotes = 0
    for mark in re.finditer('["\n]', text):
        if mark[0] == '"':
            quotes += 1
        elif quotes % 2 == 0:
            end = mark.end()
    return text[:end]


def csv_line(cells: Iterable[str]) -> str:
    """One CSV record with its line end; the cells may have any characters."""
    texts, line = list(cells), io.StringIO()
    # the csv writer does not quote a carriage return, but readers require it
    has_return = any("\r" in text for text in texts)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    csv.writer(line, lineterminator="\n", quoting=quoting).writerow(texts)
    return line.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    text = str(value)
    return f"'{text}" if isinstance(value, str) and _FORMULA.match(text) else text


_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a formula begins; with apostrophes before it, so that taking one away gives the text back."""


@functools.lru_cache(maxsize=_CELLS)
def _value(cell: str, annotation: Any) -> object:
    """The cell converted to the column's type; an empty cell of an optional column is None.

    Cells that many rows have, such as the model's name, are one value in memory.
    """
    if isinstance(annotation, types.UnionType):
        if cell == "":
            return None
        annotation = next(t for t in typing.get_args(annotation) if t is not types.NoneType)
    if cell.startswith("'") and issubclass(annotation, str) and _FORMULA.match(cell):
        cell = cell[1:]
    convert: Callable[[str], object] = annotation
    return convert(cell)
