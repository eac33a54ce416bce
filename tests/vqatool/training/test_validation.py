import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from tests.vqatool.data.test_groups import encodes
from vqatool.training.validation import band, validate


def test_the_selection_metric_is_the_mean_of_the_srcc_overall_and_inside_groups() -> None:
    # rungs in the right order, sources inside each rung in the opposite one
    members = [replace(e, vmaf=e.vmaf + int(e.source[1:])) for e in encodes(4, 3)]
    scores = [e.vmaf - 2 * int(e.source[1:]) for e in members]
    validation = validate(scores, [e.vmaf for e in members], members)
    assert validation.in_group_srcc == pytest.approx(-1)
    assert validation.srcc > 0.5
    assert validation.selection_metric == pytest.approx((validation.srcc - 1) / 2)


def test_without_groups_of_three_the_srcc_alone_counts() -> None:
    members = encodes(2, 4)
    labels = [e.vmaf for e in members]
    validation = validate(labels, labels, members)
    assert math.isnan(validation.in_group_srcc)
    assert validation.selection_metric == validation.srcc == pytest.approx(1)


def test_without_any_srcc_the_selection_metric_is_its_minimum() -> None:
    members = encodes(1, 2)
    assert validate([1.0, 2.0], [3.0, 4.0], members).selection_metric == -1


def test_errors_are_those_of_the_scores_as_they_are() -> None:
    members = encodes(6, 4)
    labels = [e.vmaf for e in members]
    found = validate([label + 3 for label in labels], labels, members)
    assert [found.raw_rmse, found.bias] == pytest.approx([3, 3])
    assert found.rmse == pytest.approx(0, abs=0.1)  # the logistic hides it
    assert [found.raw_rmse_low, found.bias_high] == pytest.approx([3, 3])
    assert [found.srcc_low, found.srcc_high] == pytest.approx([1, 1])
    assert (found.sources, found.origins) == (6, 6)


def test_few_origins_give_no_intervals() -> None:
    members = [replace(e, origin="film") for e in encodes(6, 4)]
    found = validate([e.vmaf for e in members], [e.vmaf for e in members], members)
    assert (found.sources, found.origins) == (6, 1)
    ends = [value for name, value in asdict(found).items() if name.endswith(("_low", "_high"))]
    assert len(ends) == 6
    assert all(map(math.isnan, ends))


def test_the_band_contains_nine_of_ten_sources() -> None:
    names = [f"s{number}" for number in range(100)]
    assert band(list(range(1, 101)), [0.0] * 100, names) == 90


def test_a_source_of_many_encodes_counts_as_one() -> None:
    sources = ["long"] * 1000 + [f"s{number}" for number in range(98)]
    assert band([50.0] * 1000 + [1.0] * 98, [0.0] * 1098, sources) == 1
    assert band([50.0] * 1000 + [1.0] * 8, [0.0] * 1008, sources[:1008]) == 50


def test_few_sources_give_the_largest_error() -> None:
    assert band([1.0, 7.0, 3.0], [0.0] * 3, ["a", "b", "c"]) == 7


def test_the_band_covers_unseen_sources_about_nine_times_in_ten() -> None:
    random = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        # errors of one source are correlated: half of the variance is the source's
        errors = random.normal(size=(31, 1)) + random.normal(size=(31, 12))
        sources = [f"s{number}" for number in range(30) for _ in range(12)]
        half = band(errors[:30].ravel().tolist(), [0.0] * 360, sources)
        covered.append((np.abs(errors[30]) <= half).mean())
    assert 0.86 < np.mean(covered) < 0.92


def test_a_band_in_units_of_the_spread_is_narrow_where_the_model_is_sure() -> None:
    random = np.random.default_rng(0)
    spreads = np.tile([0.5, 8.0], 200)
    errors = random.laplace(scale=spreads)
    sources = [f"source {number // 4}" for number in range(400)]
    labels = [0.0] * 400
    factor = band(errors.tolist(), labels, sources, spreads.tolist())
    for spread in (0.5, 8.0):
        chosen = spreads == spread
        assert 0.8 < (np.abs(errors[chosen]) <= factor * spread).mean() < 0.98
    assert factor * 0.5 < band(errors.tolist(), labels, sources) / 4
