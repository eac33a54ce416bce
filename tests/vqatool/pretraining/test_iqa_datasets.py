"""Readers of rated pictures, on small folders with the published layouts."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from vqatool.errors import TrainingDataError
from vqatool.pretraining.iqa_datasets import RatedPicture, read_rated, with_sides

LIVE_COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def cells(texts: Sequence[str], *, is_row: bool) -> np.ndarray:
    """A cell array of strings as MATLAB writes it."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array.reshape((1, -1) if is_row else (-1, 1))


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def clive(tmp_path: Path) -> Path:
    training_pictures = [f"t{number}.bmp" for number in range(1, 8)]
    names, scores = [*training_pictures, "3.bmp", "4.bmp"], [50.0] * 7 + [20.0, 80.0]
    (tmp_path / "Data").mkdir()
    for file, values in {
        "AllImages_release": cells(names, is_row=False),
        "AllMOS_release": np.array([scores]),
    }.items():
        savemat(tmp_path / "Data" / f"{file}.mat", {file: values})
    for name in names:
        folder = "Images/trainingImages" if name in training_pictures else "Images"
        touch(tmp_path / folder / name)
    return tmp_path


@pytest.fixture
def live(tmp_path: Path) -> Path:
    count = sum(LIVE_COUNTS.values())
    dmos = np.full((1, count), 40.0)
    dmos[0, [0, 227, count - 1]] = [25.0, 110.0, 10.0]
    orgs = np.zeros((1, count))
    dmos[0, 5], orgs[0, 5] = 0, 1
    references = ["bikes.bmp"] * (count - 1) + ["sailing1.bmp"]
    savemat(tmp_path / "dmos.mat", {"dmos": dmos, "orgs": orgs})
    savemat(tmp_path / "refnames_all.mat", {"refnames_all": cells(references, is_row=True)})
    for kind, number in LIVE_COUNTS.items():
        for index in range(1, number + 1):
            touch(tmp_path / kind / f"img{index}.bmp")
    return tmp_path


@pytest.fixture
def koniq(tmp_path: Path) -> Path:
    rows = [
        {"image_name": name, "c1": 0, "c2": 0, "c3": 25, "c4": 73, "c5": 7, "c_total": 105,
         "MOS": mos, "SD": 0.5, "MOS_zscore": 77.4}
        for name, mos in (("10004473376.jpg", 4.0), ("10007357496.jpg", 2.0))
    ]  # fmt: skip
    table(tmp_path / "koniq10k_scores_and_distributions.csv", rows)
    for row in rows:
        touch(tmp_path / "512x384" / str(row["image_name"]))
    return tmp_path


@pytest.fixture
def kadid(tmp_path: Path) -> Path:
    rows = [
        {"dist_img": "I01_01_01.png", "ref_img": "I01.png", "dmos": 4.57, "var": 0.496},
        {"dist_img": "I01_01_05.png", "ref_img": "I01.png", "dmos": 1.0, "var": 0.3},
        {"dist_img": "I02_01_05.png", "ref_img": "I02.png", "dmos": 3.0, "var": 0.3},
    ]
    table(tmp_path / "dmos.csv", rows)
    for row in rows:
        touch(tmp_path / "images" / str(row["dist_img"]))
    return tmp_path


def test_clive_leaves_out_the_pictures_that_trained_the_raters(clive: Path) -> None:
    assert read_rated("clive", clive) == [
        RatedPicture(clive / "Images" / "3.bmp", 0.2, "3.bmp"),
        RatedPicture(clive / "Images" / "4.bmp", 0.8, "4.bmp"),
    ]


def test_live_dmos_is_inverted_and_follows_the_order_of_the_folders(live: Path) -> None:
    rated = read_rated("live", live)
    assert len(rated) == 982 - 1  # one copy of a reference
    by_path = {picture.path.relative_to(live).as_posix(): picture for picture in rated}
    assert by_path["jp2k/img1.bmp"].quality == 0.75
    assert by_path["jpeg/img1.bmp"].quality == 0  # 110 is clipped to 100
    assert by_path["fastfading/img174.bmp"].quality == 0.9
    assert by_path["fastfading/img174.bmp"].reference == "sailing1.bmp"
    assert by_path["gblur/img7.bmp"].reference == "bikes.bmp"
    assert "jp2k/img6.bmp" not in by_path


def test_koniq_scores_are_on_a_scale_of_1_to_5(koniq: Path) -> None:
    assert [picture.quality for picture in read_rated("koniq", koniq)] == [0.75, 0.25]
    assert {picture.path.parent.name for picture in read_rated("koniq", koniq)} == {"512x384"}


def test_koniq_uses_the_larger_pictures_if_both_sizes_exist(koniq: Path) -> None:
    for path in list((koniq / "512x384").iterdir()):
        touch(koniq / "1024x768" / path.name)
    assert {picture.path.parent.name for picture in read_rated("koniq", koniq)} == {"1024x768"}


def test_a_higher_dmos_of_kadid_is_better(kadid: Path) -> None:
    rated = read_rated("kadid", kadid)
    assert [picture.quality for picture in rated] == pytest.approx([0.8925, 0.0, 0.5])
    assert [picture.reference for picture in rated] == ["I01.png", "I01.png", "I02.png"]


def test_a_csv_is_read_by_its_file_or_its_folder(tmp_path: Path) -> None:
    rows = [
        {"path": "a/one.jpg", "mos": 12, "split": "train"},
        {"path": "a/two.jpg", "mos": 15, "split": "test"},
        {"path": "a/three.jpg", "mos": 20, "split": "train"},
    ]
    table(tmp_path / "scores.csv", rows)
    for row in rows:
        touch(tmp_path / str(row["path"]))
    rated = read_rated("mine", tmp_path)
    assert rated == read_rated("mine", tmp_path / "scores.csv")
    assert [picture.quality for picture in rated] == [0, 0.375, 1]
    assert with_sides(rated, test_share=0.5, seed=0) == ["train", "test", "train"]


def test_no_content_is_on_both_sides() -> None:
    rated = [RatedPicture(Path(f"{n}.png"), n / 40, f"content {n % 10}") for n in range(40)]
    sides = with_sides(rated, test_share=0.2, seed=3)
    held_out = {picture.reference for picture, side in zip(rated, sides, strict=True)
                if side == "test"}  # fmt: skip
    assert len(held_out) == 2
    assert sides.count("test") == 8
    assert sides == with_sides(rated, test_share=0.2, seed=3)
    assert sides != with_sides(rated, test_share=0.2, seed=4)


def test_one_content_cannot_be_split() -> None:
    with pytest.raises(TrainingDataError, match="at least two contents"):
        with_sides([RatedPicture(Path("a.png"), 0.5, "a")] * 3, test_share=0.2, seed=0)


@pytest.mark.parametrize(
    ("name", "header", "line", "message"),
    [
        ("koniq", "image_name,MOS", "10.jpg,63.2", "63.2.*1 to 5"),
        ("koniq", "image_name,MOS_zscore", "10.jpg,63.2", "no column MOS"),
        ("koniq", "image_name,MOS", "10.jpg,good", "'good'"),
        ("koniq", "image_name,MOS", "10.jpg,nan", "nan"),
        ("mine", "path,mos,split", "10.jpg,3,half", "'half'.*train or test"),
        ("mine", "path,mos", "10.jpg,3", "every picture the mos 3"),
        ("mine", "file,mos", "10.jpg,3", "no column path"),
    ],
)
def test_the_error_of_an_invalid_value_names_the_file(
    tmp_path: Path, name: str, header: str, line: str, message: str
) -> None:
    file = "koniq10k_scores_and_distributions.csv"
    (tmp_path / file).write_text(f"{header}\n{line}\n" + ("8.jpg,4,test\n" * ("split" in header)))
    for picture in ("10.jpg", "8.jpg"):
        touch(tmp_path / "1024x768" / picture)
        touch(tmp_path / picture)
    with pytest.raises(TrainingDataError, match=rf"{file}.*{message}"):
        read_rated(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("clive", "Data/AllMOS_release.mat", "AllMOS_release.mat does not exist"),
        ("clive", "Images/4.bmp", "4.bmp is listed"),
    ],
)
def test_the_error_names_a_missing_file(clive: Path, name: str, missing: str, message: str) -> None:
    (clive / missing).unlink()
    with pytest.raises(TrainingDataError, match=message):
        read_rated(name, clive)


def test_other_matlab_files_are_refused(clive: Path, live: Path) -> None:
    savemat(live / "dmos.mat", {"dmos_new": np.zeros((1, 982))})
    with pytest.raises(TrainingDataError, match=r"no variable dmos, only dmos_new"):
        read_rated("live", live)
    savemat(live / "dmos.mat", {"dmos": np.zeros((1, 3)), "orgs": np.zeros((1, 3))})
    with pytest.raises(TrainingDataError, match=r"dmos 3.*refnames_all 982"):
        read_rated("live", live)
    (clive / "Data" / "AllMOS_release.mat").write_text("no matlab file")
    with pytest.raises(TrainingDataError, match="cannot be read as a MATLAB file"):
        read_rated("clive", clive)


def test_a_folder_with_two_csv_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("path,mos\n")
    with pytest.raises(TrainingDataError, match="2 CSV files"):
        read_rated("mine", tmp_path)
    with pytest.raises(TrainingDataError, match="lists no pictures"):
        read_rated("koniq_like", tmp_path / "a.csv")


def test_a_split_of_some_rows_is_refused_with_the_first_row_without_one(tmp_path: Path) -> None:
    table = tmp_path / "s.csv"
    table.write_text("path,mos,split\na.png,1,train\nb.png,2,\nc.png,3,test\nd.png,4,\n")
    with pytest.raises(TrainingDataError, match=r"no split in 2 of 4 rows.*line 3 \(b\.png\)"):
        read_rated("mine", table)
    table.write_text("path,mos,split\na.png,1,\nb.png,2,\n")
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    assert [picture.side for picture in read_rated("mine", table)] == ["", ""]
