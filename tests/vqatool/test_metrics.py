import math

import numpy as np
import pytest

from vqatool.metrics import agreement, logistic_fit, neighbours_in_order, raw_errors, srcc

LABELS = np.linspace(10, 95, 40)


def test_a_monotone_curve_is_ranked_perfectly_and_fitted_well() -> None:
    curved = 1 / (1 + np.exp(-(LABELS - 60) / 20))
    found = agreement(curved.tolist(), LABELS.tolist())
    assert found.srcc == pytest.approx(1)
    assert found.krcc == pytest.approx(1)
    assert found.plcc > 0.99
    assert found.rmse < 3


def test_rmse_is_in_label_points_after_the_fit() -> None:
    noise = np.random.default_rng(0).normal(0, 5, LABELS.size)
    assert agreement((LABELS + noise) / 100, LABELS).rmse == pytest.approx(5, abs=1.5)


def test_the_fit_recovers_a_known_curve() -> None:
    x = np.linspace(-3, 5, 30)
    curve = (92 - 14) / (1 + np.exp(-(x - 1.5) / 0.7)) + 14
    assert logistic_fit(x, curve) == pytest.approx(curve, abs=1e-3)
    assert agreement(x, curve).plcc == pytest.approx(1)
    assert agreement(x, curve).rmse == pytest.approx(0, abs=1e-3)


def test_reversed_predictions_correlate_negatively_in_rank() -> None:
    assert agreement(-LABELS, LABELS).srcc == pytest.approx(-1)


def test_srcc_is_as_computed_by_hand() -> None:
    # one swap of neighbours among four: 1 - 6 * 2 / (4 * 15)
    assert srcc([1, 3, 2, 4], [1, 2, 3, 4]) == pytest.approx(0.8)


@pytest.mark.parametrize("predictions", [[1.0, 2.0], [5.0] * 3, [], [1.0, math.nan, 3.0]])
def test_an_undefined_agreement_is_nan_and_not_0(predictions: list[float]) -> None:
    found = agreement(predictions, [float(i) for i in range(len(predictions))])
    assert found.count == len(predictions)
    assert all(math.isnan(v) for v in (found.srcc, found.krcc, found.plcc, found.rmse))


@pytest.mark.parametrize("count", [3, 4, 5])
def test_three_or_four_values_have_an_agreement(count: int) -> None:
    found = agreement([1.0, 3.0, 2.0, 5.0, 4.0][:count], [10.0, 30.0, 25.0, 50.0, 45.0][:count])
    assert found.srcc == pytest.approx(1)
    assert 0.9 < found.plcc <= 1


def test_the_fit_is_never_worse_than_a_line() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        x, y = random.normal(size=12), random.uniform(0, 100, 12)
        line = np.polyval(np.polyfit(x, y, 1), x)
        assert np.square(logistic_fit(x, y) - y).sum() <= np.square(line - y).sum() + 1e-6


def test_raw_errors_are_those_counted_by_hand() -> None:
    labels = np.array([98.0, 92.0, 80.0, 99.0, 60.0, 97.0])
    scores = np.array([85.0, 91.0, 82.0, 99.0, 61.0, 95.0])
    sources = ["a", "a", "a", "b", "b", "c"]
    # pairs 5 apart: a 98-92 wrong, a 98-80 right, a 92-80 right, b right
    # pairs 10 apart: a 98-80, a 92-80, b
    found = raw_errors(scores, labels, sources)
    assert found.order == 3 / 4
    assert found.flips == 0
    assert found.good_lowest == 85
    assert 85 < found.good_p5 < 95
    assert found.bias == pytest.approx((-13 - 1 + 2 + 0 + 1 - 2) / 6)
    assert found.rmse == pytest.approx(math.sqrt((169 + 1 + 4 + 0 + 1 + 4) / 6))
    flipped = raw_errors(np.array([70.0, 91.0, 82.0, 99.0, 61.0, 95.0]), labels, sources)
    assert flipped.flips == 1 / 3  # 98-80 by 12 points
    assert raw_errors(scores + 9, labels, sources).bias == pytest.approx(found.bias + 9)


def test_neighbouring_rungs_are_counted_by_hand() -> None:
    kbps = [100.0, 300.0, 200.0, 400.0, 100.0, 200.0]
    labels = np.array([20.0, 60.0, 40.0, 60.5, 70.0, 60.0])
    scores = np.array([25.0, 30.0, 40.0, 10.0, 50.0, 50.0])
    ladders = ["a", "a", "a", "a", "b", "b"]
    # a: 100-200 right, 200-300 wrong, 300-400 less than a point apart; b: equal scores
    found = neighbours_in_order(scores, labels, ladders, kbps)
    assert found.is_true_P.tolist() == [1, 0, 0]
    assert found.first_P.tolist() == [0, 2, 4]
    assert found.share == pytest.approx(1 / 3)
    assert math.isnan(neighbours_in_order(scores[:1], labels[:1], ["a"], [1.0]).share)


def test_raw_errors_that_cannot_be_counted_are_nan() -> None:
    found = raw_errors(np.array([50.0]), np.array([60.0]), ["a"])
    assert (found.rmse, found.bias) == (10, -10)
    assert all(map(math.isnan, (found.order, found.flips, found.good_lowest, found.good_p5)))
