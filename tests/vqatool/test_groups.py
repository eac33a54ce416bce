import os
from pathlib import Path

import pytest

from vqatool.errors import TrainingDataError
from vqatool.groups import (
    TRAIN,
    VAL,
    LabelledEncode,
    balanced_batches,
    labelled_of,
    read_labelled,
    split_by_source,
)

SOURCES = [f"source{i}" for i in range(12)]


def encodes(sources: int, rungs: int) -> list[LabelledEncode]:
    return [
        LabelledEncode(
            path=Path(f"{s}/{r}.mp4"),
            source=f"s{s}",
            rung=f"r{r}",
            codec="libx264",
            vmaf=50.0,
            display=(64, 64),
            bitrate_kbps=100.0,
            height_px=64,
            rate_mode="vbr",
            fps=25.0,
        )
        for s in range(sources)
        for r in range(rungs)
    ]


def test_a_split_has_both_sides_and_every_source_on_one(tmp_path: Path) -> None:
    split = split_by_source(tmp_path, SOURCES, val_share=0.25, seed=0)
    assert set(split) == set(SOURCES)
    assert sum(side == VAL for side in split.values()) == 3


def test_a_split_depends_on_its_seed_alone(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one, same, other = (
        split_by_source(folder, SOURCES, val_share=0.5, seed=seed)
        for folder, seed in zip(folders, (1, 1, 2), strict=True)
    )
    assert one == same != other


def test_a_source_once_held_out_stays_held_out(tmp_path: Path) -> None:
    first = split_by_source(tmp_path, SOURCES[:6], val_share=0.5, seed=0)
    later = split_by_source(tmp_path, SOURCES, val_share=0.25, seed=9)
    assert {name: later[name] for name in SOURCES[:6]} == first


def test_a_split_written_by_hand_is_followed(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("source,split\na,train\nb,val\n")
    split = split_by_source(tmp_path, ["a", "b", "a"], val_share=0.5, seed=0)
    assert split == {"a": TRAIN, "b": VAL}


def test_a_split_with_a_word_it_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("source,split\na,training\n")
    with pytest.raises(TrainingDataError, match=r"splits\.csv has the line a,training"):
        split_by_source(tmp_path, ["a", "b"], val_share=0.5, seed=0)


def test_one_source_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="Add sources"):
        split_by_source(tmp_path, ["only"] * 5, val_share=0.25, seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [2, 3, 5])
def test_however_many_are_held_out_one_source_is_left_to_train_on(
    count: int, tmp_path: Path
) -> None:
    split = split_by_source(tmp_path, SOURCES[:count], val_share=0.99, seed=0)
    assert sorted(split.values()) == [TRAIN] + [VAL] * (count - 1)


def test_a_split_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    sources = ["a", os.fsdecode(b"caf\xe9"), "b"]
    split = split_by_source(tmp_path, sources, val_share=0.5, seed=0)
    assert split_by_source(tmp_path, sources, val_share=0.5, seed=1) == split
    assert b"caf\xe9," in (tmp_path / "splits.csv").read_bytes()


def test_many_encodes_of_few_sources_still_leave_a_source_to_train_on(tmp_path: Path) -> None:
    split = split_by_source(tmp_path, ["a"] * 10 + ["b"] * 10, val_share=0.25, seed=0)
    assert set(split.values()) == {TRAIN, VAL}


@pytest.mark.parametrize(("sources", "rungs"), [(8, 6), (7, 5), (3, 9), (2, 2), (5, 1)])
def test_an_epoch_holds_every_encode_once(sources: int, rungs: int) -> None:
    members = encodes(sources, rungs)
    batches = balanced_batches(members, sources=4, rungs=4, seed=3)
    assert sorted(i for batch in batches for i in batch) == list(range(len(members)))


@pytest.mark.parametrize("seed", range(5))
def test_every_batch_has_several_sources_at_several_rungs(seed: int) -> None:
    members = encodes(9, 5)  # both leave a rest of one
    for batch in balanced_batches(members, sources=4, rungs=4, seed=seed):
        chosen = [members[i] for i in batch]
        assert len({e.source for e in chosen}) >= 2
        assert len({e.rung for e in chosen}) >= 2


def test_epochs_differ_and_repeat_by_seed() -> None:
    members = encodes(8, 8)
    one, same, other = (
        balanced_batches(members, sources=4, rungs=4, seed=seed) for seed in (0, 0, 1)
    )
    assert one == same != other


def test_a_folder_without_labels_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="vqatool label"):
        read_labelled(tmp_path)
    with pytest.raises(TrainingDataError, match="vqatool ladder"):
        labelled_of(tmp_path, None)
