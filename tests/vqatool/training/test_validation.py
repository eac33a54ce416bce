import math
from dataclasses import replace

import numpy as np
import pytest

from tests.vqatool.data.test_groups import encodes
from vqatool.training.validation import band, validation


def test_merit_is_the_mean_of_the_srcc_and_that_inside_groups() -> None:
    # rungs in the right order, sources inside each rung in the opposite one
    members = [replace(e, vmaf=e.vmaf + int(e.source[1:])) for e in encodes(4, 3)]
    scores = [e.vmaf - 2 * int(e.source[1:]) for e in members]
    found = validation(scores, [e.vmaf for e in members], members)
    assert found.in_group_srcc == pytest.approx(-1)
    assert found.srcc > 0.5
    assert found.selection_metric == pytest.approx((found.srcc - 1) / 2)


def test_without_groups_of_three_the_srcc_alone_counts() -> None:
    members = encodes(2, 4)
    labels = [e.vmaf for e in members]
    found = validation(labels, labels, members)
    assert math.isnan(found.in_group_srcc)
    assert found.selection_metric == found.srcc == pytest.approx(1)


def test_what_cannot_be_judged_has_the_least_merit() -> None:
    members = encodes(1, 2)
    assert validation([1.0, 2.0], [3.0, 4.0], members).selection_metric == -1


def test_the_band_holds_nine_of_ten_sources_to_come() -> None:
    names = [f"s{number}" for number in range(99)]
    # of 99 sources with one encode each and the one to come, 90 err by less
    assert band(list(range(1, 100)), [0.0] * 99, names) == 90


def test_a_source_of_many_encodes_counts_as_one() -> None:
    sources = ["long"] * 1000 + [f"s{number}" for number in range(98)]
    assert band([50.0] * 1000 + [1.0] * 98, [0.0] * 1098, sources) == 1
    assert band([50.0] * 1000 + [1.0] * 8, [0.0] * 1008, sources[:1008]) == 50


def test_few_sources_give_the_largest_error() -> None:
    assert band([1.0, 7.0, 3.0], [0.0] * 3, ["a", "b", "c"]) == 7


def test_the_band_covers_unseen_sources_nine_times_in_ten() -> None:
    random = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        # errors of one source are alike: half of each is the source's own
        errors = random.normal(size=(31, 1)) + random.normal(size=(31, 12))
        sources = [f"s{number}" for number in range(30) for _ in range(12)]
        half = band(errors[:30].ravel().tolist(), [0.0] * 360, sources)
        covered.append((np.abs(errors[30]) <= half).mean())
    assert 0.88 < np.mean(covered) < 0.95
