"""`vqatool merge`: the reports of all shards -> one report."""

from pathlib import Path

import click

from vqatool.cli.options import count_rows


@click.command()
@click.argument("parts", nargs=-1, required=True,
                type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="Report to write: .csv, .json, .jsonl or .parquet.")  # fmt: skip
def merge(parts: tuple[Path, ...], out: Path) -> None:
    """Join the reports of all shards, sorted by path.

    It is an error if a shard is missing or given twice, or if the shards are of different models.

    \b
    Example:
        vqatool merge part-*.csv -o report.csv
    """
    from vqatool.scoring.report_file import read_report, write_whole
    from vqatool.scoring.shards import merge_shards
    from vqatool.terminal import print_note

    rows = merge_shards([(part, read_report(part)) for part in parts])
    write_whole(rows, out)
    print_note(f"{out}: {count_rows(rows)}")
