"""Tables of a page: what is cut, what can be chosen."""

import json

from vqatool.reporting.tables import ROWS_SHOWN, Choice, Column, DataTable

COLUMNS = (Column("file"), Column("score", True), Column("warnings"))


def table_of(*rows: tuple[str, str, str]) -> DataTable:
    return DataTable.of("files", "All files", COLUMNS, rows, choices_of=("warnings",))


def test_choices_are_the_words_of_the_cells_with_their_counts() -> None:
    table = table_of(("a", "1", "hdr, vfr"), ("b", "2", ""), ("c", "3", "vfr"))
    assert table.choices == {"warnings": [Choice("hdr", 1), Choice("vfr", 2)]}


def test_a_cut_table_has_as_many_rows_as_fit_and_knows_how_many_there_are() -> None:
    table = table_of(*((f"<{number}>.mp4", "1.0", "é") for number in range(100, 590)))
    as_written = json.dumps(table.rows, ensure_ascii=False, separators=(",", ":"))
    size = len(as_written.replace("<", r"\u003c").replace(">", r"\u003e").encode())
    assert table.num_bytes == size - 1  # two brackets less, one comma more
    assert table.cut(table.num_bytes).rows == table.rows
    assert table.cut(table.num_bytes - 1).rows == table.rows[:-1]
    assert table.cut(table.num_bytes // 10).rows == table.rows[:49]
    none = table.cut(-1)
    assert none.rows == ()
    assert none.total == 490
    assert none.first == table.rows[:ROWS_SHOWN]
