"""The same rows in every format."""

import json
import os
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from ladder.errors import CapabilityError
from vqatool.errors import ReportError
from vqatool.scoring import formats
from vqatool.scoring.parquet import MANIFEST
from vqatool.scoring.report_file import ReportFile
from vqatool.scoring.rows import ReportRow, as_stored

ROWS = [
    as_stored(ReportRow(path="a,b.mp4", status="ok", score=81.23456, fps=Fraction(30000, 1001),
                         width_px=640, warnings="vfr;hdr", frames_scored=8)),
    as_stored(ReportRow(path='line\n"two".mp4', status="error", error_code="empty", error="é")),
    as_stored(ReportRow(path=os.fsdecode(b"caf\xe9.mp4"), status="ok", score=0.0, rotation=90)),
]  # fmt: skip
PARTS = f"/{MANIFEST}"
SUFFIXES = [".csv", ".json", ".jsonl", ".parquet", ".JSON", PARTS]


def leave(path: Path, rows: list[ReportRow]) -> None:
    file = ReportFile(path, ReportRow)
    file.known()
    file.begin(())
    for row in rows:
        file.append(row)
    file.end(rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_read_back_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"report{suffix}"
    # Parquet's texts are UTF-8
    rows = ROWS[:2] if suffix in (".parquet", PARTS) else ROWS
    leave(path, rows)
    assert ReportFile(path, ReportRow).known() == rows
    files = sorted(each.name for each in path.parent.iterdir())
    assert files == ([MANIFEST, "part-00000.parquet"] if suffix == PARTS else [path.name])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_killed_run_wrote_is_known_to_the_next(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"report{suffix}"
    leave(path, ROWS[:1])
    killed = ReportFile(path, ReportRow)
    killed.begin(killed.known())
    killed.append(ROWS[1])
    assert ReportFile(path, ReportRow).known() == ROWS[:2]


def test_json_has_numbers_and_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    for name in ("r.json", "r.jsonl"):
        leave(tmp_path / name, ROWS)
    records = json.loads((tmp_path / "r.json").read_text())
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert records == [json.loads(line) for line in lines]
    empty = {name: value or None for name, value in asdict(ROWS[0]).items() if value != 0}
    expected = empty | {"path": "a,b.mp4", "fps": 30000 / 1001, "warnings": ["vfr", "hdr"]}
    assert records[0] == expected
    assert (records[1]["score"], records[1]["warnings"]) == (None, [])


def test_json_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    row = asdict(ROWS[0]) | {"fps": "30000/1001"}
    del row["verdict"]
    path.write_text(json.dumps([row]))
    assert ReportFile(path, ReportRow).known() == [ROWS[0]]


@pytest.mark.parametrize("fps", ["24000/1001", "60000/1001", "25", "12345/678", "999999/1000000"])
def test_json_keeps_frame_rates_exactly(fps: str, tmp_path: Path) -> None:
    row = as_stored(ReportRow(path="a.mp4", status="ok", fps=Fraction(fps)))
    leave(tmp_path / "r.json", [row])
    assert ReportFile(tmp_path / "r.json", ReportRow).known() == [row]


@pytest.mark.parametrize("name", ["r.xlsx", "r.html.gz", "r.txt"])
def test_a_suffix_of_no_format_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"\.csv, \.json, \.jsonl or \.parquet"):
        ReportFile(tmp_path / name, ReportRow)


def test_parquet_has_typed_columns(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    leave(path, ROWS)
    table = pd.read_parquet(path)
    assert list(table.columns) == list(asdict(ROWS[0]))
    assert table.score.isna().tolist() == [False, True, False]
    assert pd.api.types.is_float_dtype(table.score)
    assert pd.api.types.is_integer_dtype(table.width_px)
    assert table.path[2] == r"caf\udce9.mp4"


def test_parts_are_as_long_as_they_may_be_and_the_manifest_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqatool.scoring.parquet.ROWS_A_PART", 2)
    manifest = formats.report_path(f"{tmp_path}/out/")
    rows = [replace(ROWS[0], path=f"{number}.mp4") for number in range(5)]
    leave(manifest, rows)
    parts = sorted(manifest.parent.glob("part-*.parquet"))
    assert [len(pd.read_parquet(part)) for part in parts] == [2, 2, 1]
    assert list(pd.read_parquet(parts[2]).path) == ["4.mp4"]
    content = json.loads(manifest.read_text())
    assert content["rows"] == 5
    assert [part["name"] for part in content["parts"]] == [part.name for part in parts]
    leave(manifest, rows[:1])
    assert [each.name for each in manifest.parent.glob("part-*")] == ["part-00000.parquet"]
    leave(manifest, [])
    assert ReportFile(manifest, ReportRow).known() == []


def test_parts_of_another_program_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(b"theirs")
    with pytest.raises(ReportError, match="another folder"):
        ReportFile(formats.report_path(f"{tmp_path}/"), ReportRow)


def test_parquet_without_pyarrow_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(CapabilityError, match=r"vqatool\[parquet\]"):
        ReportFile(tmp_path / "r.parquet", ReportRow)
    formats.require_writable(tmp_path / "r.json")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"dear diary", b"[1, 2]", b'{"a": 1}', bytes(range(256))])
def test_a_file_of_another_kind_is_left_as_it_is(
    suffix: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"r{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ReportError, match="left as it is"):
        ReportFile(path, ReportRow).known()
    assert path.read_bytes() == content


@pytest.mark.parametrize(("name", "names_page"), [("x.txt", True), ("x.html", False)])
def test_a_refused_suffix_names_all_that_can_be_written(name: str, names_page: bool) -> None:
    with pytest.raises(ReportError, match=r"ends in \.csv, .* or \.parquet") as caught:
        formats.require_writable(Path(name))
    assert ("make a page, .html" in str(caught.value)) == names_page
