"""Adaptive ladders: rungs of each source that are evenly spaced in VMAF."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from pathlib import Path

import pytest

from ladder.codecs import CODECS
from ladder.encode.ladders import LADDERS, Ladder
from ladder.encode.plan import encodes_table
from ladder.encode.run import make_encodes
from ladder.encode.rungs import Rung
from ladder.label.rows import labels_table
from ladder.label.run import LabelOptions, make_labels, plan_labels
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.time_ranges import TimeRange, TrimSpec
from ladder.recommend.adaptive import EncodeRound, expected_vmaf, ladder_rounds, next_rungs

Chosen = list[tuple[Rung, float | None]]

ONE_CODEC = [Rung(height_px=720, crf=crf) for crf in range(1, 50)]
V0 = LabelOptions(models=("vmaf_v0.6.1",))


def mixed_chain(length: int) -> list[Rung]:
    """Every codec in turn."""
    return [
        Rung(height_px=720, crf=1 + index, codec=tuple(CODECS)[index % len(CODECS)])
        for index in range(length)
    ]


def played(
    candidates: Sequence[Rung], vmaf: Callable[[int], float | None], num_rungs: int
) -> list[list[int]]:
    """The places in `candidates` that each round takes if its encodes come out as `vmaf(place)`."""
    chosen: Chosen = []
    rounds: list[list[int]] = []
    while rungs := next_rungs(candidates, chosen, num_rungs):
        rounds.append([candidates.index(rung) for rung in rungs])
        chosen += [(rung, vmaf(candidates.index(rung))) for rung in rungs]
        assert len(rounds) < 100
    return rounds


# ---- the choice of the next rungs


def test_the_first_rungs_span_all_candidates() -> None:
    assert [ONE_CODEC.index(rung) for rung in next_rungs(ONE_CODEC, [], 16)] == [0, 16, 32, 48]


def test_the_first_rungs_have_different_codecs() -> None:
    first = next_rungs(mixed_chain(40), [], 16)
    assert {rung.codec for rung in first} == set(CODECS)


@pytest.mark.parametrize(
    ("vmaf_at_24", "place"),
    [(90, 36), (20, 12)],  # 99 to 90 to 5; 99 to 20 to 5
)
def test_the_widest_gap_is_halved_first(vmaf_at_24: float, place: int) -> None:
    chosen: Chosen = [(ONE_CODEC[0], 99), (ONE_CODEC[24], vmaf_at_24), (ONE_CODEC[48], 5)]
    assert next_rungs(ONE_CODEC, chosen, 4) == [ONE_CODEC[place]]


def test_a_vmaf_of_0_is_a_value() -> None:
    chosen: Chosen = [(ONE_CODEC[0], 99), (ONE_CODEC[24], 60), (ONE_CODEC[48], 0.0)]
    assert next_rungs(ONE_CODEC, chosen, 4) == [ONE_CODEC[36]]


def test_a_round_takes_one_rung_per_gap_and_at_most_four() -> None:
    chosen: Chosen = [(ONE_CODEC[place], 99 - 2 * place) for place in range(0, 49, 8)]
    picked = [ONE_CODEC.index(rung) for rung in next_rungs(ONE_CODEC, chosen, 16)]
    assert len(picked) == 4
    assert len({place // 8 for place in picked}) == 4
    assert len(next_rungs(ONE_CODEC, chosen, 9)) == 2
    assert next_rungs(ONE_CODEC, chosen, 7) == []
    assert next_rungs(ONE_CODEC, chosen, 4) == []  # of an earlier run that wanted more


def test_the_least_used_codec_fills_a_gap() -> None:
    candidates = mixed_chain(41)
    chosen: Chosen = [
        (candidates[0], 95),
        (candidates[40], 20),
        (candidates[1], None),
        (candidates[2], None),
    ]
    (picked,) = next_rungs(candidates, chosen, 5)
    assert picked.codec == tuple(CODECS)[3]
    assert 10 <= candidates.index(picked) <= 30


def test_a_wrong_expected_order_is_corrected_by_measured_vmaf() -> None:
    """The rung thought to be the worst is the best: gaps lie between values, not places."""
    chosen: Chosen = [(ONE_CODEC[0], 60), (ONE_CODEC[20], 95), (ONE_CODEC[48], 5)]
    # 5 to 60 is the widest: between 0 and 48, of which 20 is taken
    (picked,) = next_rungs(ONE_CODEC, chosen, 4)
    assert 12 <= ONE_CODEC.index(picked) <= 36
    assert picked not in [rung for rung, _ in chosen]


CURVES: dict[str, Callable[[int], float | None]] = {
    "straight": lambda place: 100 - 2 * place,
    "easy": lambda place: 100 - 95 * (place / 48) ** 6,
    "hard": lambda place: 100 - 95 * (place / 48) ** 0.2,
    "flat": lambda place: 97.0,
    "backwards": lambda place: 5 + 1.9 * place,
    "some fail": lambda place: None if place % 3 == 1 else 100 - 2 * place,
    "ends fail": lambda place: None if place in (0, 48) else 100 - 2 * place,
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("candidates", [ONE_CODEC, mixed_chain(49)], ids=["one codec", "mixed"])
@pytest.mark.parametrize("num_rungs", [4, 6, 16, 49])
def test_rungs_are_chosen_once_and_up_to_the_wanted_number(
    candidates: list[Rung], curve: str, num_rungs: int
) -> None:
    rounds = played(candidates, CURVES[curve], num_rungs)
    places = [place for each in rounds for place in each]
    assert len(set(places)) == len(places) <= num_rungs
    assert all(0 < len(each) <= 4 for each in rounds)
    if num_rungs <= 16:
        assert len(places) == num_rungs
    assert rounds == played(candidates, CURVES[curve], num_rungs)  # a choice, not a chance


def test_all_rungs_are_chosen_if_their_number_is_wanted() -> None:
    places = [place for each in played(ONE_CODEC, lambda p: 100 - 2 * p, 49) for place in each]
    assert sorted(places) == list(range(49))


@pytest.mark.parametrize("curve", ["straight", "easy", "hard"])
def test_adaptive_rungs_have_smaller_vmaf_gaps_than_equal_steps(curve: str) -> None:
    def widest(places: Sequence[int]) -> float:
        values = sorted(float(CURVES[curve](place) or 0) for place in places)
        return max(after - before for before, after in pairwise(values))

    chosen = [place for each in played(ONE_CODEC, CURVES[curve], 16) for place in each]
    assert len(chosen) == 16
    even = widest([round(index * 48 / 15) for index in range(16)])
    one_step = widest(range(49))  # no choice can do better
    assert widest(chosen) <= max(one_step, even) + 1
    if curve == "easy":
        assert widest(chosen) < 0.6 * even


def test_the_choice_ends_after_one_candidate_or_without_any_vmaf() -> None:
    assert next_rungs(ONE_CODEC[:1], [], 4) == ONE_CODEC[:1]
    assert next_rungs(ONE_CODEC[:1], [(ONE_CODEC[0], 80.0)], 4) == []
    failed: Chosen = [(rung, None) for rung in ONE_CODEC[:4]]
    assert next_rungs(ONE_CODEC, failed, 16) == []


def test_every_codec_is_used_by_the_training_ladder() -> None:
    candidates = sorted(
        (rung for rung in LADDERS["training"].rungs if 216 <= rung.height_px <= 1080),
        key=lambda rung: -expected_vmaf(rung, (1920, 1080), 25),
    )
    rounds = played(candidates, lambda place: 100 - 95 * (place / len(candidates)) ** 2, 16)
    used = Counter(candidates[place].codec for each in rounds for place in each)
    assert set(used) == set(CODECS)
    assert min(used.values()) >= 2


# ---- the guess


def test_expected_vmaf_grows_with_bitrate_quality_and_size() -> None:
    def guess(**fields: int | str) -> float:
        return expected_vmaf(Rung(**fields), (1920, 1080), 25)  # type: ignore[arg-type]

    assert guess(height_px=1080, crf=20) > guess(height_px=1080, crf=35)
    assert guess(height_px=1080, crf=30) > guess(height_px=540, crf=30)
    by_rate = [guess(height_px=540, bitrate_kbps=kbps) for kbps in (100, 400, 1600)]
    assert by_rate == sorted(by_rate)
    thrifty = guess(height_px=540, bitrate_kbps=400, codec="libsvtav1")
    assert thrifty > guess(height_px=540, bitrate_kbps=400)
    # 51 of x264 is 63 of AV1
    assert guess(height_px=540, crf=34) == pytest.approx(
        guess(height_px=540, crf=42, codec="libsvtav1")
    )


# ---- rounds over a work folder

SMALL = Ladder(
    tuple(
        Rung(height_px=height, crf=crf, codec=codec)
        for height, crf in ((108, 15), (108, 28), (108, 40), (54, 20), (54, 35), (36, 30), (24, 45))
        for codec in ("libx264", "libsvtav1")
    ),
    num_rungs=6,
)


def work(each: EncodeRound, folder: Path, ffmpeg: Ffmpeg) -> None:
    """Make a round's encodes and their labels."""
    list(make_encodes(each.plan, folder, ffmpeg))
    if each.labels:
        list(make_labels(plan_labels(folder, each.labels, each.keys), folder, ffmpeg))


def test_a_ladder_without_num_rungs_has_one_round(source_video: Path, tmp_path: Path) -> None:
    fixed = Ladder((*SMALL.rungs, Rung(height_px=720, crf=20)))
    (only,) = ladder_rounds([source_video], fixed, tmp_path)
    assert not only.labels
    assert [job.rung for job in only.plan.jobs] == list(SMALL.rungs)
    assert only.keys == {job.row.key for job in only.plan.jobs}


@pytest.mark.slow
def test_a_resumed_adaptive_ladder_chooses_the_same_rungs(
    source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    def rounds(folder: Path) -> list[EncodeRound]:
        found = []
        for each in ladder_rounds([source_video], SMALL, folder, options=V0):
            found.append(each)
            work(each, folder, ffmpeg)
        return found

    smooth = tmp_path / "smooth"
    whole = rounds(smooth)
    keys = [each.keys for each in whole]
    assert [len(each) for each in keys] == [4, 2]
    assert all(each.labels and not each.plan.done for each in whole)
    encodes = {row.key for row in encodes_table(smooth).rows() if row.status == "ok"}
    labels = {row.key: row.vmaf for row in labels_table(smooth).rows()}
    assert encodes == set(labels) == keys[0] | keys[1]
    assert all(vmaf is not None and 0 <= vmaf <= 100 for vmaf in labels.values())
    assert len({rung.split("-")[2] for rung in labels}) == 2  # both codecs

    # nothing is left to do
    again = rounds(smooth)
    assert [each.keys for each in again] == keys
    assert not any(each.plan.jobs for each in again)

    # cut off after one encode of the first round was labelled, and one more only made
    killed = tmp_path / "killed"
    (first,) = islice(ladder_rounds([source_video], SMALL, killed, options=V0), 1)
    made = list(islice(make_encodes(first.plan, killed, ffmpeg, jobs=4), 2))
    list(make_labels(plan_labels(killed, V0, {made[0].key}), killed, ffmpeg))
    assert [each.keys for each in rounds(killed)] == keys
    assert {row.key: row.vmaf for row in labels_table(killed).rows()} == labels


@pytest.mark.slow
def test_an_unreadable_source_is_reported_once_and_does_not_stop_the_rounds(
    source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    sources = [tmp_path / "gone.mp4", source_video]
    trim = TrimSpec(clip=TimeRange(0, 0.4))
    failed = []
    for each in ladder_rounds(sources, SMALL, tmp_path / "work", trim=trim, options=V0):
        failed.append(len(each.plan.failed))
        work(each, tmp_path / "work", ffmpeg)
    assert failed == [1, 0]
    rows = encodes_table(tmp_path / "work").rows()
    assert Counter(row.status for row in rows) == {"ok": 6, "error": 1}
    assert {row.pieces for row in rows if row.status == "ok"} == {"0+0.4"}
    (alone,) = ladder_rounds(sources[:1], SMALL, tmp_path / "other", options=V0)
    assert (alone.plan.jobs, len(alone.plan.failed)) == ((), 1)
