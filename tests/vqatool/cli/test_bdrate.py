"""`vqatool bdrate`: tables in, a verdict or none out."""

import json
from pathlib import Path

import pytest

from tests.vqatool.program import vqatool

POINTS = ((400, 61.2), (800, 74.9), (1600, 85.0), (3200, 91.8), (6400, 95.1))


def table(
    path: Path, sources: int, factor: float, header: str = "source,bitrate_kbps,vmaf"
) -> Path:
    rows = [
        f"s{number},{rate * factor * (1 + 0.01 * number)},{quality - number}"
        for number in range(sources)
        for rate, quality in POINTS
    ]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_clear_difference_is_a_verdict(tmp_path: Path) -> None:
    a, b = table(tmp_path / "a.csv", 6, 1), table(tmp_path / "b.csv", 6, 0.8)
    out = tmp_path / "bd.json"
    done = vqatool("bdrate", a, b, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "B needs 20.0 % less bitrate than A" in done.stdout
    assert "drawn over 6 sources" in done.stderr
    content = json.loads(out.read_text())
    assert content["bd_rate"]["pchip"]["value"] == pytest.approx(-20)
    assert content["is_verdict"]
    assert len(content["sources"]) == 6
    done = vqatool("bdrate", a, b, "-o", a)
    assert done.exit_code == 2
    assert "vqatool did not write it" in done.stderr


def test_a_table_against_itself_is_equal(tmp_path: Path) -> None:
    a = table(tmp_path / "a.csv", 3, 1)
    done = vqatool("bdrate", a, a)
    assert done.exit_code == 0, done.stderr
    assert "A and B are equal" in done.stdout
    assert "no verdict" not in done.stdout


def test_a_difference_smaller_than_its_interval_is_no_verdict(tmp_path: Path) -> None:
    a, b = table(tmp_path / "a.csv", 3, 1), table(tmp_path / "b.csv", 3, 1)
    lines = b.read_text().splitlines()  # one source is dearer, the next as much cheaper
    for at in range(1, 11):
        source, rate, quality = lines[at].split(",")
        lines[at] = f"{source},{float(rate) * (1.2 if at <= 5 else 0.84)},{quality}"
    b.write_text("\n".join(lines) + "\n")
    done = vqatool("bdrate", a, b)
    assert done.exit_code == 0, done.stderr
    assert "no verdict" in done.stdout
    assert "3 sources, which are few" in done.stderr


def test_one_source_says_what_its_interval_means(tmp_path: Path) -> None:
    a, b = table(tmp_path / "a.csv", 1, 1), table(tmp_path / "b.csv", 1, 0.8)
    done = vqatool("bdrate", a, b, "--log-vmaf")
    assert done.exit_code == 0, done.stderr
    assert "drawn over its points" in done.stderr
    assert "-log10(1 - VMAF/100)" in done.stdout


def test_columns_and_rows_are_chosen_by_options(tmp_path: Path) -> None:
    both = table(tmp_path / "both.csv", 2, 1, header="clip,kbps,psnr")
    columns = ("--rate", "kbps", "--quality", "psnr", "--source", "codec")
    done = vqatool("bdrate", both, both, *columns, "--only-a", "clip=s0", "--only-b", "clip=s1")
    assert done.exit_code == 0, done.stderr
    assert "BD-psnr" in done.stdout
    assert "B needs" in done.stdout or "no verdict" in done.stdout


def test_a_source_of_one_side_is_left_out_and_the_exit_code_tells(tmp_path: Path) -> None:
    a, b = table(tmp_path / "a.csv", 6, 1), table(tmp_path / "b.csv", 5, 0.8)
    done = vqatool("bdrate", a, b)
    assert done.exit_code == 4
    assert "left out: source s5: B has 0 points" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--rate", "kbps"), "no column 'kbps'"),
        (("--only-a", "codec"), "not COLUMN=TEXT"),
        (("--only-a", "source=none"), "no row with bitrate_kbps and vmaf where source=none"),
        (("--min-overlap", "0.99"), "they share"),
    ],
)
def test_what_cannot_be_compared_exits_2(
    args: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    a = table(tmp_path / "a.csv", 1, 1)
    b = tmp_path / "b.csv"
    b.write_text("".join(a.read_text().splitlines(keepends=True)[:5]))
    done = vqatool("bdrate", a, b, *args)
    assert done.exit_code == 2
    assert message in done.stderr
