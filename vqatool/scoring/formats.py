"""The formats of a report: CSV, JSON, JSON Lines and Parquet, chosen by the file's suffix."""

import json
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from ladder.errors import CapabilityError, TableError
from ladder.storage import Row, Table, atomic_write
from vqatool.errors import ReportError

if TYPE_CHECKING:  # not part of the light install
    import pandas as pd

R = TypeVar("R", bound=Row)
Record = dict[str, Any]


def is_csv(path: Path) -> bool:
    """Whether the report is a CSV, to which rows can be appended; so is one without a suffix."""
    return path.suffix.lower() not in _FORMATS


def read_rows(table: Table[R], path: Path) -> list[R]:
    """The rows of a report in another format than CSV; none if there is no file.

    Raises:
        ReportError: the file is not a report.
    """
    if not path.exists() or not path.stat().st_size:
        return []
    try:
        return [table.row_of(record) for record in _FORMATS[path.suffix.lower()].read(path)]
    except (ValueError, TypeError, AttributeError, KeyError, TableError, OSError) as error:
        raise ReportError(not_ours(path)) from error


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Replace the content of a report in another format than CSV, in one step."""
    with atomic_write(path) as file:
        _FORMATS[path.suffix.lower()].write(list(rows), file)


def is_page(path: Path) -> bool:
    """Whether the name is that of a page of HTML, which is made of a report and is none."""
    return path.suffix.lower() in (".html", ".htm")


def require_writable(path: Path) -> None:
    """Refuse, before any work, what could not be written at its end.

    Raises:
        ReportError: the suffix is of no format of a report.
        CapabilityError: the library for the format is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in ("", ".csv", *_FORMATS):
        page = "" if is_page(path) else "; score, watch and compare also make a page, .html"
        raise ReportError(
            f"{path}: a report cannot be {suffix}: name a file that ends in .csv, "
            f"{', '.join(list(_FORMATS)[:-1])} or {list(_FORMATS)[-1]}{page}"
        )
    if suffix == ".parquet":
        _pandas_with_pyarrow()


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


def _write_json(records: list[Row], file: BinaryIO) -> None:
    text = json.dumps([as_json(record) for record in records], indent=1)
    file.write(f"{text}\n".encode("ascii"))


def _read_json(path: Path) -> list[Record]:
    return [_of_json(record) for record in json.loads(path.read_bytes())]


def json_line(row: Row) -> str:
    """The row as one line of JSON Lines, without its end."""
    return json.dumps(as_json(row))


def _write_lines(rows: list[Row], file: BinaryIO) -> None:
    file.writelines(f"{json_line(row)}\n".encode("ascii") for row in rows)


def _read_lines(path: Path) -> list[Record]:
    return [_of_json(json.loads(line)) for line in path.read_bytes().splitlines()]


def _write_parquet(rows: list[Row], file: BinaryIO) -> None:
    pandas = _pandas_with_pyarrow()
    names = list(rows[0].__dataclass_fields__) if rows else []
    records = [{name: _for_parquet(getattr(row, name)) for name in names} for row in rows]
    table = pandas.DataFrame(records)
    table.convert_dtypes().to_parquet(file, index=False)


def _read_parquet(path: Path) -> list[Record]:
    table = _pandas_with_pyarrow().read_parquet(path)
    records: list[Record] = table.astype(object).where(table.notna(), None).to_dict("records")
    return records


def _for_parquet(value: Any) -> Any:
    """Fractions as texts, which are exact; texts without what is not UTF-8."""
    if isinstance(value, Fraction):
        return str(value)
    is_text = isinstance(value, str)
    return value.encode("utf-8", "backslashreplace").decode() if is_text else value


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


def _pandas_with_pyarrow() -> Any:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise CapabilityError(
            "Parquet needs pyarrow: pip install 'vqatool[parquet]', or name a .csv or .json file"
        ) from error
    import pandas

    return pandas


class _Format(NamedTuple):
    write: Callable[[list[Row], BinaryIO], None]
    read: Callable[[Path], list[Record]]


_FORMATS = {
    ".json": _Format(_write_json, _read_json),
    ".jsonl": _Format(_write_lines, _read_lines),
    ".parquet": _Format(_write_parquet, _read_parquet),
}
