import math

import numpy as np
import pytest
from scipy import stats

from vqatool.evaluation.bootstrap import (
    interval,
    resampled_mean,
    resampled_plcc,
    resampled_rmse,
    resampled_srcc,
    source_weights,
)

SOURCES = [f"s{number // 4}" for number in range(32)]


def test_sources_are_drawn_whole_and_as_many_as_there_are() -> None:
    weights = source_weights(SOURCES, resamples=50, seed=3)
    by_source = weights.reshape(50, 8, 4)
    assert (by_source == by_source[..., :1]).all()
    assert (by_source[..., 0].sum(1) == 8).all()
    assert (by_source[..., 0] > 1).any()


def test_resamples_depend_on_the_seed_alone() -> None:
    one, same, other = (source_weights(SOURCES, resamples=20, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_a_weighted_figure_is_that_of_the_repeated_encodes() -> None:
    random = np.random.default_rng(0)
    labels = np.round(random.uniform(0, 12, 32))  # with ties
    predicted = labels + np.round(random.normal(0, 3, 32))
    weights = source_weights(SOURCES, resamples=10, seed=0)
    srcc, plcc, rmse = (
        figure(predicted, labels, weights)
        for figure in (resampled_srcc, resampled_plcc, resampled_rmse)
    )
    for number, row in enumerate(weights.astype(int)):
        x, y = np.repeat(predicted, row), np.repeat(labels, row)
        assert srcc[number] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert plcc[number] == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert rmse[number] == pytest.approx(math.sqrt(np.mean((x - y) ** 2)))


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(5).normal(50, 10, 400)
    weights = source_weights([str(number) for number in range(400)])
    low, high = interval(resampled_mean(values, weights))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.1)


def test_encodes_of_one_source_are_no_more_witnesses_than_one() -> None:
    # ten sources, each misjudged in its own way in all of its thirty encodes
    sources = [f"s{number // 30}" for number in range(300)]
    error = np.repeat(np.random.default_rng(1).normal(0, 10, 10), 30)
    by_source = interval(resampled_mean(error, source_weights(sources)))
    by_encode = interval(resampled_mean(error, source_weights([str(i) for i in range(300)])))
    # the spread of a mean goes with the root of how many are drawn: 30 as many, 5.5 as narrow
    ratio = (by_source.high - by_source.low) / (by_encode.high - by_encode.low)
    assert ratio == pytest.approx(math.sqrt(30), rel=0.15)


def test_a_resample_without_spread_has_no_rank_and_is_left_out() -> None:
    labels, sources = np.array([1.0, 1.0, 2.0, 2.0]), ["a", "a", "b", "b"]
    found = resampled_srcc(labels, labels, source_weights(sources, resamples=200))
    assert np.isnan(found).any()
    assert found[np.isfinite(found)] == pytest.approx(1)
    assert all(map(math.isnan, interval(np.array([math.nan, math.nan, 0.5]))))


def test_an_interval_leaves_out_one_resample_in_forty_on_either_side() -> None:
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
