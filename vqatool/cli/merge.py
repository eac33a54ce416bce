"""`vqatool merge`: the reports of all shards -> one report."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import FileType, counts_text

if TYPE_CHECKING:  # for annotations alone
    from collections.abc import Iterator

    from vqatool.scoring.rows import ReportRow


@click.command()
@click.argument("parts", nargs=-1, required=True,
                type=FileType(exists=True))  # fmt: skip
@click.option("-o", "--out", type=FileType(), required=True,
              help="Report to write: .csv, .json, .jsonl or .parquet; a folder such as out/: "
              "Parquet in parts.")  # fmt: skip
def merge(parts: tuple[Path, ...], out: Path) -> None:
    """Join the reports of all shards, sorted by path.

    It is an error if a shard is missing or given twice, or if the shards are of different models.

    \b
    Example:
        vqatool merge part-*.csv -o report.csv
    """
    from vqatool.scoring.report_file import write_whole
    from vqatool.scoring.shards import merge_shards
    from vqatool.terminal import print_note

    counts: Counter[str] = Counter()

    def counted() -> "Iterator[ReportRow]":
        for row in merge_shards(parts):
            counts[row.status] += 1
            yield row

    write_whole(counted(), out)
    print_note(f"{out}: {counts_text(counts, 'scored')}")
