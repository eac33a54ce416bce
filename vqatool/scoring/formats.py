"""The formats of a report: CSV, JSON, JSON Lines and Parquet, chosen by the file's suffix."""

import csv
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from ladder.errors import CapabilityError, TableError
from ladder.media.remote import as_path, require_access
from ladder.storage import Row, Table, atomic_write
from vqatool.errors import ReportError
from vqatool.scoring import parquet

if TYPE_CHECKING:  # not part of the light install
    import pandas as pd

R = TypeVar("R", bound=Row)
Record = dict[str, Any]


def report_path(named: str | os.PathLike[str]) -> Path:
    """The file that stands for a report: of a folder, which ends in a slash, its manifest."""
    text = os.fspath(named)
    return as_path(text + parquet.MANIFEST if text.endswith("/") else named)


def is_csv(path: Path) -> bool:
    """Whether the report is a CSV, to which rows can be appended; so is one without a suffix."""
    return path.suffix.lower() not in _FORMATS


def each_row(row_type: type[R], path: Path) -> Iterator[R]:
    """The rows of a report of any format, of which few are in memory; none if there is no file.

    Raises:
        ReportError: the file is not a report.
    """
    table = Table(path, row_type)
    if not path.exists() or not path.stat().st_size:
        return
    try:
        if is_csv(path):
            yield from table.each()
        else:
            yield from map(table.row_of, _format(path).read(path))
    except _NOT_OURS as error:
        raise ReportError(not_ours(path)) from error


def write_rows(rows: Iterable[Row], row_type: type[Row], path: Path) -> None:
    """Replace the content of a report, in one step; of parts, one after another."""
    if parquet.is_partitioned(path):
        parquet.write_parts(rows, row_type, path)
        return
    with atomic_write(path) as file:
        if is_csv(path):
            table = Table(path, row_type)
            lines = itertools.chain([table.header], map(table.line, rows))
            file.writelines(line.encode("utf-8", "surrogateescape") for line in lines)
        else:
            _format(path).write(rows, row_type, file)


def files_of(path: Path) -> list[Path]:
    """The files that a report is made of, what names the others last."""
    return [*(parquet.parts_of(path) if parquet.is_partitioned(path) else ()), path]


def is_page(path: Path) -> bool:
    """Whether the name is that of a page of HTML, which is made of a report and is none."""
    return path.suffix.lower() in (".html", ".htm")


def require_writable(path: Path) -> None:
    """Refuse, before any work, what could not be written at its end.

    Raises:
        ReportError: the suffix is of no format of a report.
        CapabilityError: the library for the format is not installed.
        RemoteError: the bucket cannot be reached with the credentials that are here.
    """
    suffix = path.suffix.lower()
    if suffix not in ("", ".csv", *_FORMATS):
        page = "" if is_page(path) else "; score, watch and compare also make a page, .html"
        raise ReportError(
            f"{path}: a report cannot be {suffix}: name a file that ends in .csv, "
            f"{', '.join(list(_FORMATS)[:-1])} or {list(_FORMATS)[-1]}{page}"
        )
    require_access([path])
    if suffix == ".parquet" or parquet.is_partitioned(path):
        parquet.require_pyarrow()
    if parquet.is_partitioned(path) and parquet.has_foreign_parts(path):
        raise ReportError(f"{path.parent} has parts of another program: name another folder")


def not_ours(path: Path) -> str:
    """The message for a file that is not a report."""
    return (
        f"{path} is not a report of this version of vqatool and is left as it is: name another file"
    )


def as_json(row: Row) -> Record:
    """The row for other programs: numbers are numbers, codes are lists, and nothing is null."""
    return {name: _for_json(name, getattr(row, name)) for name in row.__dataclass_fields__}


def _for_json(name: str, value: Any) -> Any:
    if name in _LISTS:
        return value.split(";") if value else []
    if isinstance(value, Fraction):
        return float(value)
    return None if value == "" else value


def _of_json(record: Record) -> Record:
    """The values of a row that `as_json` wrote, or an earlier version, which wrote texts."""
    return {name: _of_json_value(name, value) for name, value in record.items()}


def _of_json_value(name: str, value: Any) -> Any:
    if name in _LISTS and isinstance(value, list):
        return ";".join(value)
    if name in _FRACTIONS and isinstance(value, float | int):
        return Fraction(value).limit_denominator(_MOST_FRAMES)
    return value


_LISTS = frozenset({"warnings"})
_FRACTIONS = frozenset({"fps"})
_MOST_FRAMES = 1_000_000
"""The largest denominator of a frame rate: a double has it exactly, as 24000/1001."""


def _write_json(rows: Iterable[Row], row_type: type[Row], file: BinaryIO) -> None:
    mark = "["
    for row in rows:
        text = json.dumps([as_json(row)], indent=1)
        file.write(f"{mark}{text[1:-2]}".encode("ascii"))
        mark = ","
    file.write(b"[]\n" if mark == "[" else b"\n]\n")


def _read_json(path: Path) -> Iterator[Record]:
    return map(_of_json, json.loads(path.read_bytes()))


def json_line(row: Row) -> str:
    """The row as one line of JSON Lines, without its end."""
    return json.dumps(as_json(row))


def _write_lines(rows: Iterable[Row], row_type: type[Row], file: BinaryIO) -> None:
    file.writelines(f"{json_line(row)}\n".encode("ascii") for row in rows)


def _read_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        yield from (_of_json(json.loads(line)) for line in file)


def _write_parquet(rows: Iterable[Row], row_type: type[Row], file: BinaryIO) -> None:
    parquet.write_parquet(rows, row_type, file)


def as_frame(rows: Iterable[Row]) -> "pd.DataFrame":
    """Rows as a table of pandas, with the column types of `as_json`.

    Raises:
        CapabilityError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise CapabilityError("tables need pandas: pip install pandas") from error
    return pd.DataFrame([as_json(row) for row in rows])


class _Format(NamedTuple):
    write: Callable[[Iterable[Row], type[Row], BinaryIO], None]
    read: Callable[[Path], Iterator[Record]]


_FORMATS = {
    ".json": _Format(_write_json, _read_json),
    ".jsonl": _Format(_write_lines, _read_lines),
    ".parquet": _Format(_write_parquet, parquet.read_parquet),
}
_PARTS = _Format(_write_parquet, parquet.read_parts)

_NOT_OURS = (ValueError, TypeError, AttributeError, KeyError, TableError, OSError, csv.Error)
"""What reading the file of another program as a report may raise."""


def _format(path: Path) -> _Format:
    return _PARTS if parquet.is_partitioned(path) else _FORMATS[path.suffix.lower()]
