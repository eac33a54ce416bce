"""Read the files that give each source a word: `origins.csv` and `splits.csv`. No torch."""

import csv
from collections.abc import Collection
from pathlib import Path

from vqatool.errors import TrainingDataError


def read_source_column(
    path: Path, column: str, *, expected: str, conflict: str, allowed: Collection[str] | None = None
) -> dict[str, str]:
    """Source -> its value in `column` of a CSV with a column `source`; empty if there is no file.

    Args:
        path: the file.
        column: name of the column of values.
        expected: what the values are, for the error of a row without one.
        conflict: what two values of one source are, for their error, with `{}` for the source.
        allowed: the values that there are; None: any but an empty one.

    Raises:
        TrainingDataError: a row lacks the source or an allowed value, or gives a source a second
            value.
    """
    if not path.exists():
        return {}
    # source names are file names, which need not be valid UTF-8
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    values: dict[str, str] = {}
    for row in rows:
        source, value = row.get("source"), row.get(column)
        if not source or not value or (allowed is not None and value not in allowed):
            raise TrainingDataError(
                f"{path} has the row {','.join(map(str, row.values()))}: write the columns "
                f"source,{column} with {expected}"
            )
        if values.setdefault(source, value) != value:
            raise TrainingDataError(
                f"{path} {conflict.format(source)}, {values[source]} and {value}: delete one of "
                "the rows"
            )
    return values
