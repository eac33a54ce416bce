"""Rated pictures: the published folders of CLIVE, LIVE, KonIQ-10k, KADID-10k, and any CSV.

A reader for each set gives records of one type: the picture, its quality (0 to 1, higher is better,
relative to the set's published scale), its content, and its side of a split. Each set has its own
rating scale: qualities of two sets cannot be compared.
"""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from vqatool.errors import TrainingDataError

TRAIN, TEST = "train", "test"


_CLIVE_TRAINING_PICTURES = 7  # shown to train the raters; they are in another folder


_LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


_KONIQ_SCORES = "koniq10k_scores_and_distributions.csv"


_FIVE_POINTS = (1.0, 5.0)


_HUNDRED = (0.0, 100.0)


@dataclass(frozen=True)
class RatedPicture:
    """One picture of a set; `side` is `train` or `test`, or empty where the set has no split."""

    path: Path
    quality: float
    reference: str
    side: str = ""


def read_rated(name: str, folder: Path) -> list[RatedPicture]:
    """The pictures of a set, in the order of its own list.

    Args:
        name: `clive`, `live`, `koniq` or `kadid`; any other name reads a CSV of path,mos.
        folder: of the set as published, or for a CSV the file or the folder that holds it.

    Raises:
        TrainingDataError: a file is missing or has unexpected content.
    """
    readers: dict[str, Callable[[Path], list[RatedPicture]]] = {
        "clive": read_clive,
        "live": read_live,
        "koniq": read_koniq,
        "kadid": read_kadid,
    }
    rated = readers.get(name, read_csv)(folder)
    if not rated:
        raise TrainingDataError(f"{folder} lists no pictures")
    missing = next((picture.path for picture in rated if not picture.path.is_file()), None)
    if missing:
        raise TrainingDataError(
            f"{missing} is listed in {folder} but does not exist: unpack the whole set, or give "
            "its folder"
        )
    return rated


def read_clive(folder: Path) -> list[RatedPicture]:
    """LIVE In the Wild Image Quality Challenge (TIP 2016): 1162 photographs, MOS of 0 to 100."""
    names = _texts(_mat(folder / "Data" / "AllImages_release.mat", "AllImages_release"))
    scores = _mat(folder / "Data" / "AllMOS_release.mat", "AllMOS_release").ravel()
    _require_same_length(folder, AllImages_release=names, AllMOS_release=scores)
    return [
        RatedPicture(
            folder / "Images" / name, _relative_quality(score, _HUNDRED, name), reference=name
        )
        for name, score in list(zip(names, scores, strict=True))[_CLIVE_TRAINING_PICTURES:]
    ]


def read_live(folder: Path) -> list[RatedPicture]:
    """LIVE Image Quality Assessment Database, release 2: 29 contents, DMOS of 0 (best) to 100.

    Copies of the references among the distorted pictures (`orgs`) are left out, as is usual. DMOS
    may be outside 0 to 100: the few such values are clipped.
    """
    dmos_values = _mat(folder / "dmos.mat", "dmos").ravel()
    is_original = _mat(folder / "dmos.mat", "orgs").ravel().astype(bool)
    references = _texts(_mat(folder / "refnames_all.mat", "refnames_all"))
    paths = [
        folder / kind / f"img{number}.bmp"
        for kind, count in _LIVE_FOLDERS.items()
        for number in range(1, count + 1)
    ]
    _require_same_length(
        folder, dmos=dmos_values, orgs=is_original, refnames_all=references, pictures=paths
    )
    return [
        RatedPicture(
            path, 1 - _relative_quality(np.clip(dmos, *_HUNDRED), _HUNDRED, str(path)), reference
        )
        for path, dmos, original, reference in zip(
            paths, dmos_values, is_original, references, strict=True
        )
        if not original
    ]


def read_koniq(folder: Path) -> list[RatedPicture]:
    """KonIQ-10k (TIP 2020): 10,073 photographs, MOS of 1 to 5."""
    images = next((folder / size for size in ("1024x768", "512x384")
                   if (folder / size).is_dir()), None)  # fmt: skip
    if images is None:
        raise TrainingDataError(f"{folder} has no folder 1024x768 or 512x384 of pictures")
    return [
        RatedPicture(images / row["image_name"], quality, reference=row["image_name"])
        for row, quality in _rows(folder / _KONIQ_SCORES, "image_name", "MOS", _FIVE_POINTS)
    ]


def read_kadid(folder: Path) -> list[RatedPicture]:
    """KADID-10k (QoMEX 2019): 81 contents; its column `dmos` holds a MOS, 1 (worst) to 5."""
    return [
        RatedPicture(folder / "images" / row["dist_img"], quality, row["ref_img"])
        for row, quality in _rows(folder / "dmos.csv", "dist_img", "dmos", _FIVE_POINTS)
    ]


def read_csv(folder: Path) -> list[RatedPicture]:
    """A CSV with the columns path (relative to it) and mos (higher is better).

    It may have the columns reference (what the picture shows; its own path if there is none) and
    split (train or test, in every row or in none). The scale goes from the smallest to the largest
    mos.
    """
    file = folder if folder.is_file() else _only_csv(folder)
    scores = [_number(row["mos"], file) for row in _table(file, "path", "mos")]
    scale = (min(scores, default=0.0), max(scores, default=1.0))
    if scale[0] == scale[1]:
        raise TrainingDataError(
            f"{file} gives every picture the mos {scale[0]:g}: training needs scores that differ"
        )
    _require_whole_split(file)
    return [
        RatedPicture(
            file.parent / row["path"],
            quality,
            row.get("reference") or row["path"],
            _side(row.get("split") or "", file),
        )
        for row, quality in _rows(file, "path", "mos", scale)
    ]


def with_sides(rated: Sequence[RatedPicture], *, test_share: float, seed: int) -> list[str]:
    """The side of each picture: from the set's own split, else by content (none is on both sides).

    Raises:
        TrainingDataError: one side is empty.
    """
    sides = [picture.side for picture in rated]
    if not any(sides):
        contents = sorted({picture.reference for picture in rated})
        order = np.random.default_rng(seed).permutation(len(contents))
        held_out = {contents[i] for i in order[: max(1, round(test_share * len(contents)))]}
        sides = [TEST if picture.reference in held_out else TRAIN for picture in rated]
    if not {TRAIN, TEST} <= set(sides):
        raise TrainingDataError(
            f"{rated[0].path.parent} leaves no picture on one side of the split: at least two "
            f"contents, or both {TRAIN} and {TEST} in the column split, are needed"
        )
    return sides


def _mat(path: Path, name: str) -> Any:
    _require(path)
    try:
        variables = loadmat(path)
    except (MatReadError, ValueError, NotImplementedError, OSError) as error:
        raise TrainingDataError(f"{path} cannot be read as a MATLAB file: {error}") from error
    if name not in variables:
        names = ", ".join(key for key in variables if not key.startswith("__"))
        raise TrainingDataError(f"{path} has no variable {name}, only {names}: is it the release?")
    return variables[name]


def _texts(cells: Any) -> list[str]:
    """The strings of a MATLAB cell array, in which each cell is an array of one string."""
    return [str(np.ravel(cell)[0]) for cell in np.ravel(cells)]


def _require_same_length(folder: Path, **columns: Sequence[Any]) -> None:
    counts = {name: len(values) for name, values in columns.items()}
    if len(set(counts.values())) > 1:
        lengths = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise TrainingDataError(
            f"{folder} has columns of different lengths ({lengths}): is it the release?"
        )


def _rows(
    file: Path, path: str, score: str, scale: tuple[float, float]
) -> list[tuple[dict[str, str], float]]:
    table = _table(file, path, score)
    return [
        (row, _relative_quality(_number(row[score], file), scale, f"{file}: {row[path]}"))
        for row in table
    ]


def _table(file: Path, *columns: str) -> list[dict[str, str]]:
    _require(file)
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        missing = set(columns) - set(reader.fieldnames or ())
        if missing:
            raise TrainingDataError(
                f"{file} has no column {', '.join(sorted(missing))}: its first line has to name "
                f"{', '.join(columns)}"
            )
        return list(reader)


def _number(text: str, file: Path) -> float:
    try:
        return float(text)
    except (TypeError, ValueError) as error:
        raise TrainingDataError(f"{file} has {text!r} in place of a score") from error


def _relative_quality(value: float, scale: tuple[float, float], what: str) -> float:
    """The position of a value on its scale, 0 to 1."""
    low, high = scale
    if not math.isfinite(value) or not low <= value <= high:
        raise TrainingDataError(
            f"{what} has the score {value:g}, and the scale is {low:g} to {high:g}: take the "
            "release's own file, or write a CSV of path,mos"
        )
    return (float(value) - low) / (high - low)


def _side(split: str, file: Path) -> str:
    if split not in (TRAIN, TEST, ""):
        raise TrainingDataError(f"{file} has the split {split!r}: write {TRAIN} or {TEST}")
    return split


def _require_whole_split(file: Path) -> None:
    """Refuse a split of only some rows: the other rows would not be used."""
    rows = _table(file, "path", "mos")
    unset = [number for number, row in enumerate(rows, 2) if not row.get("split")]
    if 0 < len(unset) < len(rows):
        path = rows[unset[0] - 2]["path"]
        raise TrainingDataError(
            f"{file} has no split in {len(unset)} of {len(rows)} rows, first in line {unset[0]} "
            f"({path}): write {TRAIN} or {TEST} in every row, or in none"
        )


def _only_csv(folder: Path) -> Path:
    files = sorted(folder.glob("*.csv"))
    if len(files) != 1:
        raise TrainingDataError(
            f"{folder} holds {len(files)} CSV files, but one of path,mos is needed: name the file"
        )
    return files[0]


def _require(path: Path) -> None:
    if not path.is_file():
        raise TrainingDataError(f"{path} does not exist: give the folder of the set as published")
