import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.media.probe import Size
from vqatool.cli.tables import agreement_table, baseline_table
from vqatool.data.labels import LabelledEncode
from vqatool.evaluation.baselines import BITRATE, REGRESSION
from vqatool.evaluation.evaluator import MEAN, MINUS, MODEL, Evaluator, MetricRow
from vqatool.evaluation.features import Similarity
from vqatool.evaluation.summary import remarks, summary_sentences
from vqatool.metrics import Values

SOURCES, RUNGS = 12, 6


def encode(source: int, rung: int) -> LabelledEncode:
    is_crf = rung % 2 == 1
    return LabelledEncode(
        path=Path(f"{source}-{rung}.mp4"),
        source=f"s{source}",
        rung=f"{90 * (rung + 1)}p-{'crf30' if is_crf else '300k'}",
        codec="libx265" if rung > 3 else "libx264",
        vmaf=12.0 * rung + (source * 5 % SOURCES) + 0.1 * source,
        display=Size(64, 64),
        bitrate_kbps=100.0 * (rung + 1) + 20 * (source * 7 % SOURCES),
        height_px=90 * (rung + 1),
        rate_mode="capped-crf" if is_crf else "two-pass",
        fps=25.0,
    )


ENCODES = [encode(source, rung) for source in range(SOURCES) for rung in range(RUNGS)]
LABELS = np.array([each.vmaf for each in ENCODES])
RATES = np.array([each.bitrate_kbps for each in ENCODES])


def metric_rows(scores: Values, encodes: list[LabelledEncode] | None = None) -> list[MetricRow]:
    chosen = encodes or ENCODES
    rates = np.array([each.bitrate_kbps for each in chosen])
    predicted = {MODEL: scores, BITRATE: np.log(rates), REGRESSION: rates / 10}
    evaluator = Evaluator(chosen, predicted)
    return [
        *evaluator.metric_rows(),
        evaluator.coverage(5.0),
        *evaluator.similarity_rows(Similarity(0.8, 0.3)),
    ]


def message(found: list[MetricRow]) -> str:
    return "\n".join(summary_sentences(found))


def row(found: list[MetricRow], kind: str, name: str, predictor: str = MODEL) -> MetricRow:
    (one,) = [x for x in found if (x.set, x.name, x.predictor) == (kind, name, predictor)]
    return one


def test_a_model_that_is_the_label_is_perfect_in_every_set() -> None:
    own = [one for one in metric_rows(LABELS) if one.predictor == MODEL and math.isnan(one.value)]
    assert {one.set for one in own} == {"all", "group", "codec", "height", MEAN}
    for one in own:
        assert (one.srcc, one.srcc_low, one.srcc_high) == pytest.approx((1, 1, 1))
        if one.set != MEAN:
            assert one.krcc == pytest.approx(1)
            assert one.plcc == pytest.approx(1, abs=1e-4)
            assert one.rmse == pytest.approx(0, abs=0.2)


def test_every_predictor_stands_in_every_set() -> None:
    found = [one for one in metric_rows(LABELS) if math.isnan(one.value)]
    sets = {(one.set, one.name) for one in found}
    assert len(sets) == 1 + 6 + 2 + 6 + 3
    predictors = {MODEL, BITRATE, REGRESSION, MINUS + BITRATE, MINUS + REGRESSION}
    assert {(*one, each) for one in sets for each in predictors} == {
        (one.set, one.name, one.predictor) for one in found
    }
    assert row(found, "codec", "libx264").count == SOURCES * 4
    assert [one.name for one in found if one.set == "height" and one.predictor == MODEL] == [
        "90p", "180p", "270p", "360p", "450p", "540p",
    ]  # fmt: skip


def test_order_inside_a_group_is_seen_though_the_overall_figure_hides_it() -> None:
    step = np.array([12.0 * (number % RUNGS) for number in range(len(ENCODES))])
    found = metric_rows(2 * step - (LABELS - step))
    assert row(found, "all", "all").srcc > 0.8
    for name in ("all", "bitrate", "crf"):
        assert row(found, MEAN, name).srcc == pytest.approx(-1)
        assert row(found, MEAN, name).srcc_high == pytest.approx(-1)


def test_groups_of_a_bitrate_and_of_a_crf_are_averaged_apart() -> None:
    is_crf = np.array([each.rate_mode == "capped-crf" for each in ENCODES])
    found = metric_rows(np.where(is_crf, -LABELS, LABELS))
    assert row(found, MEAN, "bitrate").srcc == pytest.approx(1)
    assert row(found, MEAN, "crf").srcc == pytest.approx(-1)
    assert row(found, MEAN, "all").srcc == pytest.approx(0)
    assert [row(found, MEAN, each).groups for each in ("all", "bitrate", "crf")] == [6, 3, 3]


def test_a_group_needs_five_sources_to_count() -> None:
    eight = [each for each in ENCODES if int(each.source[1:]) < 8]
    few = [e for e in eight if e.rung != "90p-300k" or int(e.source[1:]) < 4]
    found = metric_rows(np.array([each.vmaf for each in few]), few)
    assert row(found, "group", "90p-300k").sources == 4
    assert row(found, MEAN, "all").groups == 5
    assert remarks(found)[0].endswith("5 of 6")
    none = ENCODES[: 4 * RUNGS]
    assert row(metric_rows(LABELS[: 4 * RUNGS], none), MEAN, "all").groups == 0


def test_a_model_that_says_the_same_for_a_whole_group_gets_nothing_there() -> None:
    lowest = np.array([each.rung == "90p-300k" for each in ENCODES])
    found = metric_rows(np.where(lowest, 0, LABELS))
    assert math.isnan(row(found, "group", "90p-300k").srcc)
    assert row(found, MEAN, "bitrate").srcc == pytest.approx(2 / 3)
    assert row(found, MEAN, "bitrate").srcc_high == pytest.approx(2 / 3)


def test_figures_are_the_same_each_time() -> None:
    noise = np.random.default_rng(0).normal(0, 9, LABELS.size)
    one, again = metric_rows(LABELS + noise), metric_rows(LABELS + noise)
    # LAPACK's last digits depend on where in memory its input happens to lie
    for name in ("srcc_low", "srcc_high", "plcc_low", "plcc_high", "rmse_low", "rmse_high"):
        first, second = ([getattr(each, name) for each in found] for found in (one, again))
        np.testing.assert_allclose(first, second, rtol=1e-6)
    whole = row(one, "all", "all")
    assert whole.srcc_low < whole.srcc < whole.srcc_high
    assert whole.plcc_low < whole.plcc < whole.plcc_high
    assert whole.rmse_low < whole.rmse < whole.rmse_high


def test_the_band_is_judged_by_the_share_of_labels_in_it() -> None:
    scores = LABELS + np.where(np.arange(LABELS.size) % 4 == 0, 5.5, -4.5)
    band = row(metric_rows(scores), "band", "5.0")
    assert band.value == pytest.approx(0.75)
    assert band.value_low <= 0.75 <= band.value_high


def test_a_model_that_is_the_bitrate_has_learned_nothing() -> None:
    found = metric_rows(RATES)
    assert row(found, "all", "all", MINUS + BITRATE).srcc == pytest.approx(0)
    assert "has learned nothing beyond the baseline" in message(found)
    assert "bitrate alone and the regression" in message(found)


def test_a_model_that_is_ahead_is_told_by_how_much() -> None:
    found = metric_rows(LABELS)
    gap = row(found, "all", "all", MINUS + BITRATE)
    assert gap.srcc == pytest.approx(1 - row(found, "all", "all", BITRATE).srcc)
    assert 0 < gap.srcc_low < gap.srcc < gap.srcc_high
    assert "is ahead of both baselines" in message(found)
    assert f"model minus bitrate alone: {gap.srcc:+.3f} " in message(found)


def test_a_better_rank_over_all_is_not_enough_without_one_inside_groups() -> None:
    # the steps between rungs are seen perfectly, and inside each rung the order is turned round
    step = np.array([12.0 * (number % RUNGS) for number in range(len(ENCODES))])
    found = metric_rows(step - 0.01 * (LABELS - step))
    assert row(found, "all", "all", MINUS + BITRATE).srcc_low > 0
    assert "has learned nothing beyond the baseline" in message(found)


def test_a_lead_that_other_sources_could_undo_is_none() -> None:
    random = np.random.default_rng(4)
    found = metric_rows(LABELS + random.normal(0, 0.1, LABELS.size))
    assert "is ahead" in message(found)
    # as good as the bitrate, by other mistakes: the difference has either sign
    shuffled = RATES + random.normal(0, 1, LABELS.size)
    gap = row(metric_rows(shuffled), "all", "all", MINUS + BITRATE)
    assert gap.srcc_low < 0
    assert "learned nothing" in message(metric_rows(shuffled))


def test_four_sources_are_too_few_for_a_told() -> None:
    few = ENCODES[: 4 * RUNGS]
    assert "too few" in message(metric_rows(LABELS[: 4 * RUNGS], few))


def test_a_model_that_always_says_the_same_has_learned_nothing() -> None:
    found = metric_rows(np.full(LABELS.size, 50.0))
    assert "learned nothing" in message(found)
    assert agreement_table(found).row_count > 0


def test_a_single_source_is_judged_without_a_crash() -> None:
    alone = [replace(each, source="s") for each in ENCODES[:3]]
    found = metric_rows(np.array([1.0, 3.0, 2.0]), alone)
    assert math.isfinite(row(found, "all", "all").srcc)
    assert "too few" in message(found)


def test_the_tables_hold_the_sets_that_count() -> None:
    found = metric_rows(LABELS)
    assert agreement_table(found).row_count == 1 + 6 + 2 + 6 + 3
    assert baseline_table(found).row_count == 1 + 2 + 3
    assert remarks(found)[2].endswith("0.800 inside a bitrate group and 0.300 between groups")
