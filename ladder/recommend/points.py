"""Points of rate and quality: read from work folders, CSV and JSON, and checked.

A table has a row for each encode. Which columns hold rate, quality and source is the caller's
choice; the names of `encodes.csv` and `labels.csv` are the default.
"""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ladder.encode.plan import encodes_table
from ladder.errors import TableError
from ladder.label.rows import labels_table
from ladder.storage import Status

_UNNAMED = "(without a name)"  # cells beyond the header
_ENCODES, _LABELS = "encodes.csv", "labels.csv"

Record = Mapping[str, Any]
"""A row of any table, by column."""


class Point(NamedTuple):
    """Bitrate and quality of one encode; a higher quality is better."""

    rate_kbps: float
    quality: float


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        rate: bitrate, in any one unit.
        quality: a quality that is higher for better encodes.
        source: what was encoded; a table without this column has one source.
        only: column -> text that it must hold; other rows are passed over.
    """

    rate: str = "bitrate_kbps"
    quality: str = "vmaf"
    source: str = "source"
    only: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_points(path: Path, columns: Columns) -> dict[str, list[Point]]:
    """The points of each source in a table; rows without rate or quality are left out.

    Args:
        path: a work folder, its `labels.csv` or `encodes.csv`, a CSV, or a JSON file: a list of
            objects, or an object with such a list as `samples`.
        columns: what to read.

    Raises:
        TableError: the file cannot be read, lacks a column, or has a cell that is no such number.
    """
    records = read_records(path)
    wanted = [columns.rate, columns.quality, *columns.only]
    known = dict.fromkeys(column for record in records for column in record)
    for column in wanted:
        if column not in known:
            raise TableError(
                f"{path} has no column {column!r} in {len(records)} rows; "
                f"its columns are {', '.join(known) or 'none'}"
            )
    points: dict[str, list[Point]] = {}
    for number, record in enumerate(records, 1):
        if any(_text(record.get(column)) != text for column, text in columns.only.items()):
            continue
        where = f"{path}, row {number}"
        rate = _number(where, columns.rate, record.get(columns.rate))
        quality = _number(where, columns.quality, record.get(columns.quality))
        if rate is None or quality is None:  # what failed
            continue
        if rate <= 0:
            raise TableError(f"{where}: {columns.rate} is {rate:g}, not a bitrate above 0")
        points.setdefault(_text(record.get(columns.source)), []).append(Point(rate, quality))
    if not points:
        limits = " and ".join(f"{column}={text}" for column, text in columns.only.items())
        raise TableError(
            f"{path} has no row with {columns.rate} and {columns.quality}"
            + (f" where {limits}" if limits else "")
        )
    return points


def read_records(path: Path) -> Sequence[Record]:
    """The rows of any table that `read_points` takes; of a work folder, encodes with their labels.

    Raises:
        TableError: it cannot be read.
    """
    if path.is_dir():
        return _labelled(path)
    text = _file_text(path)
    if path.suffix.lower() == ".json":
        return _json_records(path, text)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restkey=_UNNAMED))
    except csv.Error as error:
        raise TableError(f"{path} cannot be read as a CSV: {error}") from error
    # of encodes of a ladder, labels of version 0.1 have no bitrates
    is_stage_file = path.name in (_ENCODES, _LABELS)
    return _labelled(path.parent) if is_stage_file and _is_work_folder(path.parent) else rows


def _is_work_folder(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (_ENCODES, _LABELS))


def _labelled(folder: Path) -> list[Record]:
    labels = {row.key: row for row in labels_table(folder).rows() if row.status == Status.OK}
    rows = [row for row in encodes_table(folder).rows() if row.status == Status.OK]
    records: list[Record] = [
        {**dataclasses.asdict(labels.pop(row.key)), **dataclasses.asdict(row)}
        for row in rows
        if row.key in labels
    ]
    # encodes made elsewhere; of the ladder's own ones that are left, the encodes are gone
    records += [dataclasses.asdict(label) for label in labels.values() if label.source_path]
    if not records:
        raise TableError(
            f"{folder} holds no labelled encodes: run `vqatool ladder SRC... -o {folder}`, then "
            f"`vqatool label {folder}`"
        )
    return records


def _file_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read as a table: {error}") from error


def _json_records(path: Path, text: str) -> list[Record]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise TableError(f"{path} is not JSON: {error}") from error
    rows = content.get("samples") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TableError(
            f"{path} is neither a list of objects nor an object with such a list as `samples`"
        )
    return rows


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)


def _number(where: str, column: str, cell: object) -> float | None:
    """The cell as a finite number; None if it is empty."""
    if cell is None or _text(cell).strip() == "":
        return None
    try:
        value = float(_text(cell))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TableError(f"{where}: {column} is {_text(cell)!r}, not a number")
    return value


def rising(points: Iterable[Point]) -> list[Point]:
    """The points by ascending rate, without those that cost as much as a better one, or more.

    VMAF saturates and encoders miss their rates, so measured points need not rise; a curve over
    them has to.
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.rate_kbps, -point.quality)):
        if not kept or (point.quality > kept[-1].quality and point.rate_kbps > kept[-1].rate_kbps):
            kept.append(point)
    return kept
