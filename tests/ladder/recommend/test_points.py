"""Tables of rate and quality: work folders, CSV, JSON, and what is wrong with them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ladder.encode.plan import EncodeRow, encodes_table
from ladder.encode.rungs import RateMode
from ladder.errors import TableError
from ladder.label.rows import LabelRow, labels_table
from ladder.recommend.points import Columns, Point, read_points
from ladder.storage import Status


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two encodes with labels, one whose label failed, one that failed."""
    encodes, labels = encodes_table(tmp_path), labels_table(tmp_path)
    for name, codec, kbps, vmaf in [
        ("a", "libx264", 500.0, 71.0),
        ("b", "libx265", 400.0, 72.0),
        ("c", "libx264", 900.0, None),
        ("d", "libx264", None, None),
    ]:
        status = Status.OK if kbps else Status.ERROR
        encodes.append(
            EncodeRow(
                source="clip", source_path="/clip.mp4", encode_path=f"clip/{name}.mp4", rung=name,
                codec=codec, rate_mode=RateMode.CRF, bitrate_kbps=kbps, status=status,
            )
        )  # fmt: skip
        if kbps:
            status = Status.OK if vmaf else Status.ERROR
            key = f"clip/{name}.mp4"
            labels.append(
                LabelRow(encode_path=key, source="clip", rung=name, vmaf=vmaf, status=status)
            )
    return tmp_path


@pytest.mark.parametrize("name", ["", "labels.csv", "encodes.csv"])
def test_a_work_folder_joins_encodes_and_labels(labelled: Path, name: str) -> None:
    assert read_points(labelled / name, Columns()) == {"clip": [Point(500, 71), Point(400, 72)]}
    only = Columns(only={"codec": "libx265"})
    assert read_points(labelled / name, only) == {"clip": [Point(400, 72)]}


def test_encodes_made_elsewhere_count_by_their_labels_alone(labelled: Path) -> None:
    labels = labels_table(labelled)
    mine = LabelRow(encode_path="e.mp4", source="clip", rung="", vmaf=80.0, bitrate_kbps=700.0)
    labels.append(replace(mine, source_path="/clip.mp4"))
    labels.append(replace(mine, encode_path="clip/gone.mp4"))  # the ladder's, and no more there
    expected = [Point(500, 71), Point(400, 72), Point(700, 80)]
    assert read_points(labelled, Columns()) == {"clip": expected}
    (labelled / "encodes.csv").unlink()
    assert read_points(labelled, Columns()) == {"clip": expected[2:]}


def test_any_csv_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffrate,psnr,clip\n100,30.5,x\n,31,x\n300,33,y\n")
    columns = Columns(rate="rate", quality="psnr", source="clip")
    assert read_points(path, columns) == {"x": [Point(100, 30.5)], "y": [Point(300, 33)]}
    assert read_points(path, Columns(rate="rate", quality="psnr")) == {
        "": [Point(100, 30.5), Point(300, 33)]
    }


def test_json_is_a_list_or_has_one_as_samples(tmp_path: Path) -> None:
    rows = [
        {"source": "x", "bitrate_kbps": 100, "vmaf": 40},
        {"source": "x", "bitrate_kbps": 200, "vmaf": None},
    ]
    for content in (rows, {"samples": rows, "more": 1}):
        path = table(tmp_path, json.dumps(content), "t.json")
        assert read_points(path, Columns()) == {"x": [Point(100, 40)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate,vmaf\n1,2\n", "no column 'bitrate_kbps' in 1 rows; its columns are rate, vmaf"),
        ("", "its columns are none"),
        ("bitrate_kbps,vmaf\n100,high\n", "row 1: vmaf is 'high', not a number"),
        ("bitrate_kbps,vmaf\n100,nan\n", "row 1: vmaf is 'nan', not a number"),
        ("bitrate_kbps,vmaf\n100,1\n-5,1\n", "row 2: bitrate_kbps is -5, not a bitrate above 0"),
        ("bitrate_kbps,vmaf\n,1\n", "no row with bitrate_kbps and vmaf"),
        ("bitrate_kbps,vmaf\n100,1,9\n", "no row with bitrate_kbps and vmaf where rung=z"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    only = {"rung": "z"} if "rung" in message else {}
    path = table(tmp_path, text.replace("vmaf\n", "vmaf,rung\n", 1) if only else text)
    with pytest.raises(TableError, match=message) as caught:
        read_points(path, Columns(only=only))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["{", '{"samples": 3}', "[1]", "3"])
def test_json_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TableError, match=r"t\.json is n"):
        read_points(table(tmp_path, text, "t.json"), Columns())


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="cannot be read as a table"):
        read_points(tmp_path / "t.csv", Columns())
    with pytest.raises(TableError, match="holds no labelled encodes"):
        read_points(tmp_path, Columns())
