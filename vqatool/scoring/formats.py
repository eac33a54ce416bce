"""The formats of a report: CSV, JSON, JSON Lines and Parquet, chosen by the file's suffix."""

import json
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from ladder.errors import CapabilityError, TableError
from ladder.storage import Row, Table, atomic_write
from vqatool.errors import ReportError

R = TypeVar("R", bound=Row)
Record = dict[str, Any]


def is_csv(path: Path) -> bool:
    """Whether the report is a CSV, to which rows can be appended; any unknown suffix is."""
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
        _FORMATS[path.suffix.lower()].write([_record(row) for row in rows], file)


def require_writable(path: Path) -> None:
    """Raise CapabilityError, before any work, if the library for the format is not installed."""
    if path.suffix.lower() == ".parquet":
        _pandas_with_pyarrow()


def not_ours(path: Path) -> str:
    """The message for a file that is not a report."""
    return (
        f"{path} is not a report of this version of vqatool and is left as it is: name "
        "another file with --out"
    )


def _record(row: Row) -> Record:
    values = {name: getattr(row, name) for name in row.__dataclass_fields__}
    # exact, and the same as in the CSV
    return {
        name: str(value) if isinstance(value, Fraction) else value for name, value in values.items()
    }


def _write_json(records: list[Record], file: BinaryIO) -> None:
    file.write(f"{json.dumps(records, indent=1)}\n".encode("ascii"))


def _read_json(path: Path) -> list[Record]:
    records: list[Record] = json.loads(path.read_bytes())
    return records


def _write_lines(records: list[Record], file: BinaryIO) -> None:
    file.writelines(f"{json.dumps(record)}\n".encode("ascii") for record in records)


def _read_lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _write_parquet(records: list[Record], file: BinaryIO) -> None:
    pandas = _pandas_with_pyarrow()
    table = pandas.DataFrame([{k: _utf8(v) for k, v in record.items()} for record in records])
    table.convert_dtypes().to_parquet(file, index=False)


def _read_parquet(path: Path) -> list[Record]:
    table = _pandas_with_pyarrow().read_parquet(path)
    records: list[Record] = table.astype(object).where(table.notna(), None).to_dict("records")
    return records


def _utf8(value: Any) -> Any:
    """Escape what is not UTF-8, which Parquet requires and file names do not."""
    is_text = isinstance(value, str)
    return value.encode("utf-8", "backslashreplace").decode() if is_text else value


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
    write: Callable[[list[Record], BinaryIO], None]
    read: Callable[[Path], list[Record]]


_FORMATS = {
    ".json": _Format(_write_json, _read_json),
    ".jsonl": _Format(_write_lines, _read_lines),
    ".parquet": _Format(_write_parquet, _read_parquet),
}
