"""Tables of a page that a reader sorts, filters and turns over; the script of the page does it.

A table is in the page twice: its first rows as HTML, for readers without scripts, and all rows as
JSON, of which the script shows a hundred at a time.
"""

import bisect
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from vqatool.reporting.html import visible

ROWS_SHOWN = 100
"""Rows on the screen at a time: more make the page slow to lay out."""

_SEPARATOR = ", "


class Column(NamedTuple):
    """A column; one of numbers sorts by value and is aligned to the right."""

    title: str
    is_number: bool = False


class Choice(NamedTuple):
    """A value that rows can be filtered by, and how many rows have it."""

    value: str
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class DataTable:
    """Rows of text; the first cell of a row is its heading.

    A cell may hold several words, joined by `, `: the filter of a column with choices offers each.

    Attributes:
        name: of the table in the page, for links.
        caption: what the rows are.
        columns: one for each cell.
        rows: in the order they are shown at first.
        first: the rows that readers without scripts see.
        total: the number of rows, also where `rows` has been cut.
        links: where the headings of the first rows lead to.
        sorted_by: title of the column that the rows are sorted by, in ascending order.
        range_of: title of the column of numbers that a range can be chosen of; empty: none.
        choices: of the columns that rows can be filtered by, by title.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    first: tuple[tuple[str, ...], ...] = ()
    total: int = 0
    links: tuple[str, ...] = ()
    sorted_by: str = ""
    range_of: str = ""
    choices: dict[str, list[Choice]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        caption: str,
        columns: Sequence[Column],
        rows: Iterable[Sequence[str]],
        *,
        links: Sequence[str] = (),
        sorted_by: str = "",
        range_of: str = "",
        choices_of: Sequence[str] = (),
    ) -> Self:
        """A table of these rows; `choices_of` are titles of columns to filter by."""
        shown = tuple(tuple(map(visible, row)) for row in rows)
        titles = [column.title for column in columns]
        return cls(
            name=name,
            caption=caption,
            columns=tuple(columns),
            rows=shown,
            first=shown[:ROWS_SHOWN],
            total=len(shown),
            links=tuple(links),
            sorted_by=sorted_by,
            range_of=range_of,
            choices={title: _choices(shown, titles.index(title)) for title in choices_of},
        )

    def cut(self, max_bytes: int) -> Self:
        """The table with as many of its first rows as JSON of this size holds."""
        sizes = itertools.accumulate(map(_num_bytes, self.rows))
        return replace(self, rows=self.rows[: bisect.bisect_right(list(sizes), max_bytes)])

    def index(self, title: str) -> int:
        """The position of a column."""
        return [column.title for column in self.columns].index(title)

    @property
    def num_bytes(self) -> int:
        """The size of all rows as JSON."""
        return sum(map(_num_bytes, self.rows))

    @property
    def data(self) -> dict[str, object]:
        """What the script of the page needs."""
        return {
            "numbers": [int(column.is_number) for column in self.columns],
            "links": self.links,
            "rows": self.rows,
            "shown": ROWS_SHOWN,
        }


def _num_bytes(row: Sequence[str]) -> int:
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":")) + ","
    # inside of a page these are written in six bytes
    return len(text.encode()) + 5 * sum(map(text.count, "<>&'"))


def _choices(rows: Iterable[Sequence[str]], index: int) -> list[Choice]:
    words = Counter(word for row in rows for word in row[index].split(_SEPARATOR) if word)
    return [Choice(word, count) for word, count in sorted(words.items())]
