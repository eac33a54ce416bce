"""Parquet: rows in one file, or in the parts of a folder, which a manifest names.

Rows are written and read in groups, so that no more than one group is in memory.
"""

import json
import typing
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from ladder.errors import CapabilityError
from ladder.storage import Row, atomic_write

MANIFEST = "_manifest.json"
"""The file that names the parts of a report; it stands for its folder."""

ROWS_A_PART = 100_000

_ROWS_A_GROUP = 5_000
_FORMAT = "vqatool report in parts"
_DTYPES = {int: "Int64", float: "Float64"}


def require_pyarrow() -> Any:
    """pandas, which pyarrow is there for.

    Raises:
        CapabilityError: one of them is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise CapabilityError(
            "Parquet needs pyarrow: pip install 'vqatool[parquet]', or name a .csv or .json file"
        ) from error
    import pandas

    return pandas


def write_parquet(rows: Iterable[Row], row_type: type[Row], file: BinaryIO) -> int:
    """Write rows of one type into an open file; returns their number."""
    pandas = require_pyarrow()
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    dtypes = {name: _dtype(hint) for name, hint in typing.get_type_hints(row_type).items()}
    names = list(row_type.__dataclass_fields__)
    dtypes = {name: dtypes[name] for name in names}

    def table(group: list[Row]) -> Any:
        columns = {name: [_value(getattr(row, name)) for row in group] for name in names}
        frame = pandas.DataFrame(columns, columns=names).astype(dtypes)
        return pyarrow.Table.from_pandas(frame, preserve_index=False)

    count, waiting = 0, iter(rows)
    with ParquetWriter(file, table([]).schema) as writer:
        while group := list(islice(waiting, _ROWS_A_GROUP)):
            writer.write_table(table(group))
            count += len(group)
    return count


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file as values by column, group by group."""
    require_pyarrow()
    from pyarrow.parquet import ParquetFile

    with path.open("rb") as file, ParquetFile(file) as parquet:
        for group in parquet.iter_batches(_ROWS_A_GROUP):
            yield from group.to_pylist()


def is_partitioned(path: Path) -> bool:
    """Whether a report is a folder of parts, by the name of its manifest."""
    return path.name == MANIFEST


def write_parts(rows: Iterable[Row], row_type: type[Row], manifest: Path) -> None:
    """Replace the parts beside a manifest, then the manifest, then delete the parts it lacks."""
    before = set(parts_of(manifest))
    parts: list[dict[str, Any]] = []
    waiting = iter(rows)
    for first in waiting:
        part = manifest.with_name(f"part-{len(parts):05}.parquet")
        with atomic_write(part) as file:
            few = chain([first], islice(waiting, ROWS_A_PART - 1))
            count = write_parquet(few, row_type, file)
        parts.append({"name": part.name, "rows": count, "size_bytes": part.stat().st_size})
    content = {
        "format": _FORMAT,
        "row": row_type.__name__,
        "rows": sum(part["rows"] for part in parts),
        "parts": parts,
    }
    with atomic_write(manifest) as file:
        file.write(f"{json.dumps(content, indent=1)}\n".encode("ascii"))
    for path in before - set(parts_of(manifest)):
        path.unlink(missing_ok=True)


def read_parts(manifest: Path) -> Iterator[dict[str, Any]]:
    """The rows of all parts as values by column, in order.

    Raises:
        ValueError: the manifest is of another program.
    """
    for part in parts_of(manifest):
        yield from read_parquet(part)


def parts_of(manifest: Path) -> list[Path]:
    """The parts that a manifest names, in order; none if there is no manifest.

    Raises:
        ValueError: it is of another program.
    """
    if not manifest.exists():
        return []
    content = json.loads(manifest.read_bytes())
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{manifest} is no manifest of a report")
    names = [Path(part["name"]).name for part in content["parts"]]
    return [manifest.with_name(name) for name in names]


def has_foreign_parts(manifest: Path) -> bool:
    """Whether parts lie where a new manifest would name its own."""
    is_new = not manifest.exists()
    return is_new and next(manifest.parent.glob("part-*.parquet"), None) is not None


def _dtype(hint: Any) -> str:
    """The column type of pandas for the hint of a field, such as `int | None`."""
    kinds = set(typing.get_args(hint)) or {hint}
    return next((_DTYPES[kind] for kind in kinds if kind in _DTYPES), "string")


def _value(value: Any) -> Any:
    """Fractions as texts, which are exact; texts without what is not UTF-8."""
    if isinstance(value, Fraction):
        return str(value)
    is_text = isinstance(value, str)
    return value.encode("utf-8", "backslashreplace").decode() if is_text else value
