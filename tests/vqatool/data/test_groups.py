import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.media.probe import Size
from vqatool.data.groups import balanced_batches, bitrate_groups, loss_groups
from vqatool.data.labels import LabelledEncode, origins_of, read_labelled_encodes
from vqatool.data.splits import TEST, TRAIN, VAL, encodes_of_split, split_by_source
from vqatool.errors import TrainingDataError

SOURCES = [f"source{i}" for i in range(12)]


def encodes(sources: int, rungs: int) -> list[LabelledEncode]:
    return [
        LabelledEncode(
            path=Path(f"{s}/{r}.mp4"),
            source=f"s{s}",
            rung=f"r{r}",
            codec="libx264",
            vmaf=20.0 + 5 * r,
            display=Size(64, 64),
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


def test_a_split_depends_only_on_its_seed(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    first, same, other = (
        split_by_source(folder, SOURCES, val_share=0.5, seed=seed)
        for folder, seed in zip(folders, (1, 1, 2), strict=True)
    )
    assert first == same != other


def test_a_source_keeps_its_side_in_later_splits(tmp_path: Path) -> None:
    first = split_by_source(tmp_path, SOURCES[:6], val_share=0.5, seed=0)
    later = split_by_source(tmp_path, SOURCES, val_share=0.25, seed=9)
    assert {name: later[name] for name in SOURCES[:6]} == first


def test_a_split_written_by_hand_is_used(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("source,split\na,train\nb,val\n")
    split = split_by_source(tmp_path, ["a", "b", "a"], val_share=0.5, seed=0)
    assert split == {"a": TRAIN, "b": VAL}


def test_a_test_source_is_not_used_for_training_or_validation(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("source,split\na,test\nb,test\nc,test\n")
    split = split_by_source(tmp_path, list("abcdefgh"), val_share=0.4, seed=0)
    assert [split[name] for name in "abc"] == [TEST] * 3
    assert sorted(split[name] for name in "defgh") == [TRAIN] * 3 + [VAL] * 2
    with pytest.raises(TrainingDataError, match=r"1 labelled source\(s\) to learn from"):
        split_by_source(tmp_path, list("abcd"), val_share=0.4, seed=0)


def write_origins(folder: Path, *rows: str) -> None:
    (folder / "origins.csv").write_text("\n".join(["source,origin", *rows]))


@pytest.mark.parametrize("seed", range(5))
def test_sources_of_one_origin_are_split_as_one(seed: int, tmp_path: Path) -> None:
    write_origins(tmp_path, *(f"source{i},film{i // 3}" for i in range(12)))
    split = split_by_source(tmp_path, SOURCES, val_share=0.25, seed=seed)
    for film in range(4):
        assert len({split[f"source{i}"] for i in range(3 * film, 3 * film + 3)}) == 1
    assert Counter(split.values()) == {TRAIN: 9, VAL: 3}


def test_a_new_source_goes_to_the_side_of_its_origin(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("source,split\na,test\nb,val\nc,train\n")
    write_origins(tmp_path, "a,film", "d,film", "b,other", "e,other")
    split = split_by_source(tmp_path, list("abcdefg"), val_share=0.2, seed=0)
    assert (split["d"], split["e"]) == (TEST, VAL)
    assert (split["f"], split["g"]) == (TRAIN, TRAIN)


@pytest.mark.parametrize("seed", range(5))
def test_a_source_may_give_its_origin_the_name(seed: int, tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("source,split\npark,val\n")
    write_origins(tmp_path, "park_b,park")
    split = split_by_source(tmp_path, ["park", "park_b", *"abcdef"], val_share=0.3, seed=seed)
    assert split["park_b"] == VAL


@pytest.mark.parametrize("seed", range(5))
def test_a_large_origin_leaves_something_to_train_on(seed: int, tmp_path: Path) -> None:
    write_origins(tmp_path, *(f"{name},film" for name in "abcde"))
    split = split_by_source(tmp_path, list("abcdef"), val_share=0.4, seed=seed)
    assert set(split.values()) == {TRAIN, VAL}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("sizes", "num_held_out"),
    [
        ((30, *[1] * 20), 5),  # there are enough small ones
        ((30, 8, 12), 8),  # none fits: the smallest
        ((30, 17, 3), 3),  # one fits, and any other would be further from five
        ((20, 4, 26), 4),
    ],
)
def test_a_large_origin_is_not_held_out_where_a_smaller_one_will_do(
    sizes: tuple[int, ...], num_held_out: int, seed: int, tmp_path: Path
) -> None:
    origins = {f"o{i}-{k}": f"o{i}" for i, size in enumerate(sizes) for k in range(size)}
    write_origins(tmp_path, *(f"{source},{origin}" for source, origin in origins.items()))
    split = split_by_source(tmp_path, list(origins), val_share=0.1, seed=seed)
    assert Counter(split.values())[VAL] == num_held_out


@pytest.mark.parametrize(
    ("origins", "split", "message"),
    [
        ("a,film\nb,film", "a,train\nb,val", "origin film on two sides, train and val"),
        ("a,film\na,other", "", "gives the source a two origins, film and other"),
        ("a,", "", "has the row a,"),
    ],
)
def test_origins_that_contradict_are_refused(
    origins: str, split: str, message: str, tmp_path: Path
) -> None:
    write_origins(tmp_path, origins)
    (tmp_path / "splits.csv").write_text(f"source,split\n{split}\n")
    with pytest.raises(TrainingDataError, match=message):
        split_by_source(tmp_path, list("abcd"), val_share=0.4, seed=0)


def test_the_origin_of_an_encode_is_read(work_folder: Path) -> None:
    encodes = read_labelled_encodes(work_folder)
    assert origins_of(encodes) == [encode.source for encode in encodes]
    write_origins(work_folder, f"{encodes[0].source},film")
    encodes = read_labelled_encodes(work_folder)
    assert origins_of(encodes)[0] == "film"
    assert "film" not in origins_of(encodes[-1:])


def test_the_default_side_to_evaluate_is_test_then_val_then_all(work_folder: Path) -> None:
    names = sorted({encode.source for encode in read_labelled_encodes(work_folder)})
    splits = work_folder / "splits.csv"
    for sides, evaluated in (((TEST, VAL, TRAIN), names[:1]), ((VAL, VAL, TRAIN), names[:2])):
        lines = [f"{name},{side}" for name, side in zip(names, sides, strict=True)]
        splits.write_text("\n".join(["source,split", *lines]))
        assert {encode.source for encode in encodes_of_split(work_folder, None)} == set(evaluated)
    splits.unlink()
    assert {encode.source for encode in encodes_of_split(work_folder, None)} == set(names)


def test_a_split_with_an_unknown_side_is_refused(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("source,split\na,training\n")
    with pytest.raises(TrainingDataError, match=r"splits\.csv has the row a,training"):
        split_by_source(tmp_path, ["a", "b"], val_share=0.5, seed=0)


def test_one_source_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="Add sources"):
        split_by_source(tmp_path, ["only"] * 5, val_share=0.25, seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [2, 3, 5])
def test_at_least_one_source_is_left_to_train_on(count: int, tmp_path: Path) -> None:
    split = split_by_source(tmp_path, SOURCES[:count], val_share=0.99, seed=0)
    assert sorted(split.values()) == [TRAIN] + [VAL] * (count - 1)


def test_a_split_keeps_names_that_are_not_valid_text(tmp_path: Path) -> None:
    sources = ["a", os.fsdecode(b"caf\xe9"), "b"]
    split = split_by_source(tmp_path, sources, val_share=0.5, seed=0)
    assert split_by_source(tmp_path, sources, val_share=0.5, seed=1) == split
    assert b"caf\xe9," in (tmp_path / "splits.csv").read_bytes()


def test_many_encodes_of_few_sources_still_leave_a_source_to_train_on(tmp_path: Path) -> None:
    split = split_by_source(tmp_path, ["a"] * 10 + ["b"] * 10, val_share=0.25, seed=0)
    assert set(split.values()) == {TRAIN, VAL}


def adaptive_ladder(sources: int, num_rungs: int, seed: int = 0) -> list[LabelledEncode]:
    """Encodes as from `--rungs training`: even in VMAF, few rungs shared by sources."""
    random = np.random.default_rng(seed)
    return [
        replace(
            encode,
            rung=f"{encode.source}-{encode.rung}",
            vmaf=15 + 80 * r / num_rungs,
            bitrate_kbps=float(100 * 2 ** (6 * r / num_rungs + random.uniform(-0.8, 0.8))),
            display=Size(960, 540),
        )
        for s in range(sources)
        for r, encode in enumerate(encodes(sources, num_rungs)[s * num_rungs : (s + 1) * num_rungs])
    ]


def test_a_rung_that_half_of_the_sources_have_is_a_group() -> None:
    members = encodes(4, 3)
    rare = [replace(e, rung="own") if e.source == "s0" else e for e in members]
    assert loss_groups(members) == [e.rung for e in members]
    groups = dict(zip([(e.source, e.rung) for e in rare], loss_groups(rare), strict=True))
    assert groups["s1", "r0"] == "r0"
    assert groups["s0", "own"].endswith("bit/px/s")


def test_other_encodes_are_grouped_by_half_octaves_of_bitrate_for_each_pixel() -> None:
    # 1, 1.3, 1.5, 2.1 bits for each pixel and second; the last at a quarter of the pixels
    kbps = (100.0, 130.0, 150.0, 210.0 / 4)
    members = [
        replace(e, rung=e.source, vmaf=10.0 * i, bitrate_kbps=rate, display=Size(400, 250))
        for i, (e, rate) in enumerate(zip(encodes(4, 1), kbps, strict=True))
    ]
    members[3] = replace(members[3], display=Size(200, 125))
    assert loss_groups(members) == [
        "1-1.41 bit/px/s", "1-1.41 bit/px/s", "1.41-2 bit/px/s", "2-2.83 bit/px/s",
    ]  # fmt: skip


def test_a_rung_of_twenty_sources_is_a_group_among_any_number_of_sources() -> None:
    for number, is_group in ((20, True), (19, False)):
        common = {f"s{source}" for source in range(number)}
        kept = [e for e in encodes(60, 2) if e.rung == "r1" or e.source in common]
        assert ("r0" in bitrate_groups(kept)) is is_group


def test_equal_encodes_of_several_rungs_are_one_group_of_their_source() -> None:
    """On easy content the encodes of the upper rungs do not reach their caps, so they are equal."""
    members = encodes(3, 5)
    easy = {1: 96.0, 2: 96.7, 3: 97.5}  # each less than a point from the next
    members = [
        replace(e, vmaf=easy.get(i, e.vmaf), bitrate_kbps=100.0 * (i + 1)) if i < 5 else e
        for i, e in enumerate(members)
    ]
    groups = loss_groups(members)
    assert groups[:5] == ["r0", "r1", "r1", "r1", "r4"]
    assert groups[5:] == [e.rung for e in members[5:]]  # the other sources keep their groups


def test_similar_encodes_of_a_source_are_in_the_same_group() -> None:
    random = np.random.default_rng(0)
    members = [replace(e, vmaf=float(random.uniform(20, 60))) for e in encodes(5, 30)]
    groups = loss_groups(members)
    similar = [
        (i, j)
        for i, a in enumerate(members)
        for j, b in enumerate(members)
        if i < j and a.source == b.source and abs(a.vmaf - b.vmaf) < 1
    ]
    assert len(similar) > 50
    assert all(groups[i] == groups[j] for i, j in similar)
    assert len(set(groups)) > 5


def test_groups_do_not_depend_on_the_order_of_encodes() -> None:
    members = [*encodes(4, 4), *adaptive_ladder(3, 8)]
    order = np.random.default_rng(1).permutation(len(members))
    groups = loss_groups(members)
    assert loss_groups([members[i] for i in order]) == [groups[i] for i in order]


@pytest.mark.parametrize("seed", range(4))
def test_batches_without_common_rungs_cover_each_ladder_and_share_groups(seed: int) -> None:
    members = adaptive_ladder(8, 16, seed)
    groups = loss_groups(members)
    batches = balanced_batches(members, sources=4, rungs=4, seed=seed)
    assert sorted(i for batch in batches for i in batch) == list(range(len(members)))
    shared = []
    for batch in batches:
        of_source = Counter(members[i].source for i in batch)
        assert set(of_source.values()) == {4}
        assert len(of_source) == 4
        for source in of_source:  # one of each quarter of the source's ladder
            rungs = {members[i].rung.rpartition("-r")[2] for i in batch
                      if members[i].source == source}  # fmt: skip
            assert {int(rung) // 4 for rung in rungs} == {0, 1, 2, 3}
        sizes = Counter(groups[i] for i in batch)
        shared.append(sum(size for size in sizes.values() if size >= 2) / len(batch))
    assert sum(shared) / len(shared) > 0.72  # random batches: 0.6 to 0.7


def test_a_batch_of_a_common_ladder_has_every_source_at_every_chosen_rung() -> None:
    members = encodes(8, 12)
    for batch in balanced_batches(members, sources=4, rungs=4, seed=2):
        by_rung = Counter(members[i].rung for i in batch)
        assert set(by_rung.values()) == {4}
        assert len(by_rung) == 4


@pytest.mark.parametrize(("sources", "rungs"), [(8, 6), (7, 5), (3, 9), (2, 2), (5, 1)])
def test_an_epoch_holds_every_encode_once(sources: int, rungs: int) -> None:
    members = encodes(sources, rungs)
    batches = balanced_batches(members, sources=4, rungs=4, seed=3)
    assert sorted(i for batch in batches for i in batch) == list(range(len(members)))


@pytest.mark.parametrize("seed", range(5))
def test_every_batch_has_several_sources_at_several_rungs(seed: int) -> None:
    members = encodes(9, 5)  # 4 divides neither: each leaves a remainder of one
    for batch in balanced_batches(members, sources=4, rungs=4, seed=seed):
        chosen = [members[i] for i in batch]
        assert len({e.source for e in chosen}) >= 2
        assert len({e.rung for e in chosen}) >= 2


def test_epochs_differ_and_repeat_by_seed() -> None:
    members = encodes(8, 8)
    first, same, other = (
        balanced_batches(members, sources=4, rungs=4, seed=seed) for seed in (0, 0, 1)
    )
    assert first == same != other


def test_the_error_of_a_folder_without_labels_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="vqatool label"):
        read_labelled_encodes(tmp_path)
    with pytest.raises(TrainingDataError, match="vqatool ladder"):
        encodes_of_split(tmp_path, None)


def test_a_source_on_two_sides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("source,split\na,train\nb,val\na,val\n")
    with pytest.raises(TrainingDataError, match="source a on two sides, train and val"):
        split_by_source(tmp_path, ["a", "b"], val_share=0.25, seed=0)


def test_a_split_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("\ufeffsource,split\na,train\nb,val\n", encoding="utf-8")
    split = split_by_source(tmp_path, ["a", "b"], val_share=0.25, seed=0)
    assert split == {"a": TRAIN, "b": VAL}
