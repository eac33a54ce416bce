"""Splits: which source is for training, validation or test, kept in `splits.csv`. No torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ladder.storage import atomic_write, csv_line
from vqatool.data.labels import LabelledEncode, read_labelled_encodes, read_origins
from vqatool.data.source_columns import read_source_column
from vqatool.errors import TrainingDataError

SPLITS_FILE = "splits.csv"


TRAIN, VAL, TEST = "train", "val", "test"


def split_by_source(
    folder: Path, sources: Sequence[str], *, val_share: float, seed: int
) -> dict[str, str]:
    """Source -> its side in the folder's `splits.csv`; new sources are added to the file.

    Sources of one origin (`origins.csv`) are added to one side, that of those already there. New
    origins are drawn at random for validation until `val_share` of the sources is held out. An
    origin with more sources than are still wanted goes to training, unless no other origin fits;
    then the smallest is held out if that comes closer to `val_share` or nothing else is held out.

    The file can be written by hand, to keep similar sources on one side. Its rows never change, so
    a source that was held out stays held out. A source becomes `test` by hand only: it neither
    trains a model nor chooses between its weights.

    Raises:
        TrainingDataError: fewer than two sources, one side empty, a word that is no side, or an
            origin with sources on two sides.
    """
    path, names = folder / SPLITS_FILE, sorted(set(sources))
    split = _read_split(path)
    origins = read_origins(folder)
    fresh = [name for name in names if name not in split]
    side_of_origin = _sides_of_origins(path, split, origins)
    split |= {
        name: side_of_origin[origin]
        for name in fresh
        if (origin := origins.get(name, name)) in side_of_origin
    }
    by_origin: dict[str, list[str]] = {}
    for name in fresh:
        if name not in split:
            by_origin.setdefault(origins.get(name, name), []).append(name)
    order = [str(name) for name in np.random.default_rng(seed).permutation(sorted(by_origin))]
    open_names = [name for name in names if split.get(name) != TEST]
    wanted = min(len(open_names) - 1, max(1, round(val_share * len(open_names))))
    held_out = sum(split.get(name) == VAL for name in names)
    sizes = {origin: len(by_origin[origin]) for origin in order}
    num_needed = 0 if TRAIN in {split.get(name) for name in names} else 1
    for_validation = _choose_for_validation(sizes, held_out, wanted, num_needed)
    for origin, members in by_origin.items():
        split |= dict.fromkeys(members, VAL if origin in for_validation else TRAIN)
    chosen = {name: split[name] for name in names}
    if not {TRAIN, VAL} <= set(chosen.values()):
        raise TrainingDataError(
            f"{folder} has {len(open_names)} labelled source(s) to learn from, which leaves one "
            f"side of the split empty: learning needs at least one to train on and one to judge "
            f"by. Add sources with `vqatool ladder`, or correct {path}"
        )
    if fresh:
        _write_split(path, split)
    return chosen


def encodes_of_split(folder: Path, side: str | None) -> list[LabelledEncode]:
    """The labelled encodes of one side of the split; None: of the one that is furthest from it.

    That is `test` if any source is on it, else `val`, and without a split all.

    Raises:
        TrainingDataError: no labels, no split to choose from, or nothing on that side.
    """
    encodes = read_labelled_encodes(folder)
    split = _read_split(folder / SPLITS_FILE)
    held_out = TEST if TEST in split.values() else VAL
    chosen = side or (held_out if split else "all")
    if chosen == "all":
        return encodes
    members = [encode for encode in encodes if split.get(encode.source) == chosen]
    if not members:
        raise TrainingDataError(
            f"{folder / SPLITS_FILE} puts none of the labelled sources on the side {chosen!r}: "
            "run `vqatool train` to make it, or choose --split all"
        )
    return members


def training_encodes(folder: Path) -> list[LabelledEncode]:
    """The labelled encodes that the split puts on the training side; none without a split."""
    split = _read_split(folder / SPLITS_FILE)
    return [encode for encode in read_labelled_encodes(folder) if split.get(encode.source) == TRAIN]


def _choose_for_validation(
    sizes: dict[str, int], held_out: int, wanted: int, num_needed: int
) -> set[str]:
    """The new origins to hold out, with about `wanted - held_out` sources together.

    Args:
        sizes: origin -> its number of sources, in the order in which the origins are drawn.
        held_out: sources that are held out already.
        wanted: sources to hold out in all.
        num_needed: new origins that training needs.
    """
    chosen: set[str] = set()
    for origin, size in sizes.items():
        if held_out + size <= wanted:
            chosen.add(origin)
            held_out += size
    skipped = [origin for origin in sizes if origin not in chosen]
    if held_out < wanted and len(skipped) > num_needed:
        smallest = min(skipped, key=lambda origin: sizes[origin])
        is_closer = held_out + sizes[smallest] - wanted < wanted - held_out
        if is_closer or not held_out:
            chosen.add(smallest)
    return chosen


def _sides_of_origins(path: Path, split: dict[str, str], origins: dict[str, str]) -> dict[str, str]:
    sides: dict[str, str] = {}
    for source, side in split.items():
        origin = origins.get(source, source)
        if sides.setdefault(origin, side) != side:
            raise TrainingDataError(
                f"{path} puts sources of the origin {origin} on two sides, {sides[origin]} and "
                f"{side}: sources of one origin look alike, so put them on one side"
            )
    return sides


def _read_split(path: Path) -> dict[str, str]:
    return read_source_column(
        path,
        "split",
        expected=f"{TRAIN}, {VAL} or {TEST}",
        conflict="puts the source {} on two sides",
        allowed=(TRAIN, VAL, TEST),
    )


def _write_split(path: Path, split: dict[str, str]) -> None:
    with atomic_write(path) as file:
        for row in (("source", "split"), *sorted(split.items())):
            file.write(csv_line(row).encode("utf-8", "surrogateescape"))
