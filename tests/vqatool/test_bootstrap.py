import math

import numpy as np
import pytest
from scipy import stats

from vqatool import bootstrap
from vqatool.bootstrap import (
    interval,
    origin_weights,
    resampled_krcc,
    resampled_mean,
    resampled_plcc,
    resampled_rmse,
    resampled_srcc,
)

SOURCES = [f"s{number // 4}" for number in range(32)]


def test_a_resample_draws_whole_sources_and_keeps_their_number() -> None:
    weights = origin_weights(SOURCES, resamples=50, seed=3)
    by_source = weights.reshape(50, 8, 4)
    assert (by_source == by_source[..., :1]).all()
    assert (by_source[..., 0].sum(1) == 8).all()
    assert (by_source[..., 0] > 1).any()


def test_resamples_depend_only_on_the_seed() -> None:
    first, same, other = (origin_weights(SOURCES, resamples=20, seed=seed) for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


def test_a_weighted_metric_equals_that_of_repeated_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_BLOCK", 7)  # several, and a last one that is smaller
    random = np.random.default_rng(0)
    labels = np.round(random.uniform(0, 12, 32))  # with ties
    predicted = labels + np.round(random.normal(0, 3, 32))
    weights = origin_weights(SOURCES, resamples=10, seed=0)
    srcc, krcc, plcc, rmse = (
        metric(predicted, labels, weights)
        for metric in (resampled_srcc, resampled_krcc, resampled_plcc, resampled_rmse)
    )
    for number, row in enumerate(weights.astype(int)):
        x, y = np.repeat(predicted, row), np.repeat(labels, row)
        assert srcc[number] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert krcc[number] == pytest.approx(stats.kendalltau(x, y).statistic)
        assert plcc[number] == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert rmse[number] == pytest.approx(math.sqrt(np.mean((x - y) ** 2)))


def test_the_interval_of_a_mean_has_its_theoretical_width() -> None:
    values = np.random.default_rng(5).normal(50, 10, 400)
    weights = origin_weights([str(number) for number in range(400)])
    low, high = interval(resampled_mean(values, weights))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.1)


def test_encodes_of_one_source_count_as_one_independent_sample() -> None:
    # ten sources with one error each, the same for all of its thirty encodes
    sources = [f"s{number // 30}" for number in range(300)]
    error = np.repeat(np.random.default_rng(1).normal(0, 10, 10), 30)
    by_source = interval(resampled_mean(error, origin_weights(sources)))
    by_encode = interval(resampled_mean(error, origin_weights([str(i) for i in range(300)])))
    # the deviation of a mean falls with the root of the number of samples: sqrt(30) = 5.5
    ratio = (by_source.high - by_source.low) / (by_encode.high - by_encode.low)
    assert ratio == pytest.approx(math.sqrt(30), rel=0.15)


def test_a_resample_of_equal_values_has_no_srcc_and_is_ignored() -> None:
    labels, sources = np.array([1.0, 1.0, 2.0, 2.0]), ["a", "a", "b", "b"]
    srcc_R = resampled_srcc(labels, labels, origin_weights(sources, resamples=200))
    assert np.isnan(srcc_R).any()
    assert srcc_R[np.isfinite(srcc_R)] == pytest.approx(1)
    assert all(map(math.isnan, interval(np.array([math.nan, math.nan, 0.5]))))


def test_an_interval_excludes_2_5_percent_of_the_resamples_at_each_end() -> None:
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
