import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ladder.media.probe import Size
from vqatool.cli.tables import agreement_table, baseline_table, order_table, raw_error_table
from vqatool.data.labels import LabelledEncode
from vqatool.evaluation.baselines import BITRATE, REGRESSION
from vqatool.evaluation.evaluator import MEAN, MINUS, MODEL, Evaluator, MetricRow
from vqatool.evaluation.features import Similarity
from vqatool.evaluation.summary import remarks, summary_sentences
from vqatool.metrics import Values

SOURCES, RUNGS = 12, 6


def make_encode(source: int, rung: int) -> LabelledEncode:
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


ENCODES = [make_encode(source, rung) for source in range(SOURCES) for rung in range(RUNGS)]
LABELS = np.array([encode.vmaf for encode in ENCODES])
RATES = np.array([encode.bitrate_kbps for encode in ENCODES])


def metric_rows(scores: Values, encodes: list[LabelledEncode] | None = None) -> list[MetricRow]:
    """The rows of scores; made once for the same ones, because a bootstrap takes 0.3 s."""
    key = (scores.tobytes(), tuple(encodes or ENCODES))
    if key not in _known_rows:
        _known_rows[key] = new_metric_rows(scores, encodes or ENCODES)
    return _known_rows[key].copy()


_known_rows: dict[tuple[bytes, tuple[LabelledEncode, ...]], list[MetricRow]] = {}


def new_metric_rows(scores: Values, chosen: list[LabelledEncode]) -> list[MetricRow]:
    rates = np.array([encode.bitrate_kbps for encode in chosen])
    predicted = {MODEL: scores, BITRATE: np.log(rates), REGRESSION: rates / 10}
    evaluator = Evaluator(chosen, predicted)
    return [
        *evaluator.metric_rows(),
        evaluator.coverage([5.0] * len(chosen)),
        *evaluator.similarity_rows(Similarity(0.8, 0.3)),
    ]


def summary(rows: list[MetricRow]) -> str:
    return "\n".join(summary_sentences(rows))


def only_row(rows: list[MetricRow], kind: str, name: str, predictor: str = MODEL) -> MetricRow:
    (row,) = [x for x in rows if (x.set, x.name, x.predictor) == (kind, name, predictor)]
    return row


def test_a_model_that_predicts_the_labels_is_perfect_in_every_set() -> None:
    own = [row for row in metric_rows(LABELS) if row.predictor == MODEL and math.isnan(row.value)]
    assert {row.set for row in own} == {"all", "group", "codec", "height", MEAN}
    for row in own:
        assert (row.srcc, row.srcc_low, row.srcc_high) == pytest.approx((1, 1, 1))
        if row.set != MEAN:
            assert row.krcc == pytest.approx(1)
            assert row.plcc == pytest.approx(1, abs=1e-4)
            assert row.rmse == pytest.approx(0, abs=0.2)


def test_every_set_has_a_row_for_each_predictor() -> None:
    rows = [row for row in metric_rows(LABELS) if math.isnan(row.value)]
    sets = {(row.set, row.name) for row in rows}
    assert len(sets) == 1 + 6 + 2 + 6 + 3
    predictors = {MODEL, BITRATE, REGRESSION, MINUS + BITRATE, MINUS + REGRESSION}
    assert {(*key, predictor) for key in sets for predictor in predictors} == {
        (row.set, row.name, row.predictor) for row in rows
    }
    assert only_row(rows, "codec", "libx264").count == SOURCES * 4
    assert [row.name for row in rows if row.set == "height" and row.predictor == MODEL] == [
        "90p", "180p", "270p", "360p", "450p", "540p",
    ]  # fmt: skip


def test_a_wrong_order_inside_groups_shows_despite_a_high_overall_srcc() -> None:
    step = np.array([12.0 * (number % RUNGS) for number in range(len(ENCODES))])
    rows = metric_rows(2 * step - (LABELS - step))
    assert only_row(rows, "all", "all").srcc > 0.8
    for name in ("all", "bitrate", "crf"):
        assert only_row(rows, MEAN, name).srcc == pytest.approx(-1)
        assert only_row(rows, MEAN, name).srcc_high == pytest.approx(-1)


def test_groups_of_a_bitrate_and_of_a_crf_have_separate_means() -> None:
    is_crf = np.array([each.rate_mode == "capped-crf" for each in ENCODES])
    rows = metric_rows(np.where(is_crf, -LABELS, LABELS))
    assert only_row(rows, MEAN, "bitrate").srcc == pytest.approx(1)
    assert only_row(rows, MEAN, "crf").srcc == pytest.approx(-1)
    assert only_row(rows, MEAN, "all").srcc == pytest.approx(0)
    assert [only_row(rows, MEAN, each).groups for each in ("all", "bitrate", "crf")] == [6, 3, 3]


def test_a_group_needs_five_sources() -> None:
    eight = [each for each in ENCODES if int(each.source[1:]) < 8]
    few = [e for e in eight if e.rung != "90p-300k" or int(e.source[1:]) < 4]
    rows = metric_rows(np.array([encode.vmaf for encode in few]), few)
    assert only_row(rows, "group", "90p-300k").sources == 4
    assert only_row(rows, MEAN, "all").groups == 5
    assert remarks(rows)[0].endswith("5 of 6")
    none = ENCODES[: 4 * RUNGS]
    assert only_row(metric_rows(LABELS[: 4 * RUNGS], none), MEAN, "all").groups == 0


def test_two_encodes_and_no_groups_have_no_correlations_to_compare() -> None:
    few = [replace(each, codec="libx264") for each in ENCODES[:5]]
    few += [replace(each, codec="libvpx-vp9") for each in ENCODES[6:8]]
    # the model puts the two of VP9 in the wrong order, and the baselines do not
    rows = metric_rows(np.array([1.0, 2, 3, 4, 5, 7, 6]), few)
    gaps = [row for row in rows if row.name == "libvpx-vp9"]
    assert len(gaps) == 5
    assert all(math.isnan(row.srcc) for row in gaps)
    console = Console(width=100)
    with console.capture() as printed:
        console.print(baseline_table(rows))
    lines = printed.get().splitlines()
    assert [line.split()[0] for line in lines if "." in line] == ["all", "libx264"]
    assert "mean" not in printed.get()


def of_few_origins(sources_an_origin: int, encodes: list[LabelledEncode]) -> list[LabelledEncode]:
    return [
        replace(each, origin=f"o{int(each.source[1:]) // sources_an_origin}") for each in encodes
    ]


def test_sources_of_one_origin_count_once_for_a_group() -> None:
    joined = [
        replace(each, origin="film") if int(each.source[1:]) < 6 else each for each in ENCODES
    ]
    chosen = [each for each in joined if each.origin or each.rung != "90p-300k"]
    rows = metric_rows(np.array([encode.vmaf for encode in chosen]), chosen)
    group = only_row(rows, "group", "90p-300k")
    assert (group.sources, group.origins) == (6, 1)
    assert only_row(rows, MEAN, "all").groups == 5
    assert remarks(rows)[0] == "bitrate groups of 5 origins or more: 5 of 6"
    assert agreement_table(rows).row_count == agreement_table(metric_rows(LABELS)).row_count - 1


def test_texts_count_origins_where_several_sources_are_one() -> None:
    few = of_few_origins(3, ENCODES)
    rows = metric_rows(LABELS, few)
    assert summary(rows).startswith("4 origin(s) are too few to tell")
    title = "scores as they are, VMAF points; "
    assert raw_error_table(rows).title == f"{title}no intervals, too few origins (4)"
    assert only_row(rows, "all", "all").sources == SOURCES
    assert "is ahead of both baselines" in summary(metric_rows(LABELS, of_few_origins(2, ENCODES)))
    plain = metric_rows(LABELS)
    assert raw_error_table(plain).title == f"{title}95 % intervals over 12 sources"
    assert remarks(plain)[0] == "bitrate groups of 5 sources or more: 6 of 6"


def test_no_interval_comes_of_fewer_than_five_origins() -> None:
    few = only_row(metric_rows(LABELS + 1, of_few_origins(3, ENCODES)), "all", "all")
    assert few.raw_rmse == pytest.approx(1)
    ends = [value for name, value in asdict(few).items() if name.endswith(("_low", "_high"))]
    assert ends
    assert all(map(math.isnan, ends))


def test_every_figure_of_a_set_has_an_interval_around_it() -> None:
    scores = LABELS + np.random.default_rng(1).normal(0, 4, len(LABELS))
    row = only_row(metric_rows(scores), "all", "all")
    for name in ("raw_rmse", "bias", "order", "neighbours", "srcc", "krcc", "plcc", "rmse"):
        low, value, high = (getattr(row, f"{name}{end}") for end in ("_low", "", "_high"))
        assert low < value < high, name
    assert 0 <= row.flips_low <= row.flips <= row.flips_high < 0.2


def test_neighbours_are_encodes_of_one_source_and_codec_next_to_each_other_in_bitrate() -> None:
    # libx264 has four rungs a source, libx265 two: three neighbours and one
    worse = [each.rung == "270p-300k" for each in ENCODES]
    lowered = np.where(worse, LABELS - 14, LABELS)  # below the rung before it, above the first
    row = only_row(metric_rows(lowered), "all", "all")
    assert row.neighbours == pytest.approx(3 / 4)
    assert only_row(metric_rows(lowered), "codec", "libx265").neighbours == 1
    assert math.isnan(only_row(metric_rows(lowered), "group", "90p-300k").neighbours)


def test_equal_scores_in_a_whole_group_count_as_srcc_0() -> None:
    lowest = np.array([each.rung == "90p-300k" for each in ENCODES])
    rows = metric_rows(np.where(lowest, 0, LABELS))
    assert math.isnan(only_row(rows, "group", "90p-300k").srcc)
    assert only_row(rows, MEAN, "bitrate").srcc == pytest.approx(2 / 3)
    assert only_row(rows, MEAN, "bitrate").srcc_high == pytest.approx(2 / 3)


def test_metrics_and_intervals_are_reproducible() -> None:
    noise = np.random.default_rng(0).normal(0, 9, LABELS.size)
    once, again = (new_metric_rows(LABELS + noise, ENCODES) for _ in range(2))
    # LAPACK's last digits depend on where in memory its input happens to lie
    for name in ("srcc_low", "srcc_high", "plcc_low", "plcc_high", "rmse_low", "rmse_high"):
        first, second = ([getattr(each, name) for each in rows] for rows in (once, again))
        np.testing.assert_allclose(first, second, rtol=1e-6)
    overall = only_row(once, "all", "all")
    assert overall.srcc_low < overall.srcc < overall.srcc_high
    assert overall.plcc_low < overall.plcc < overall.plcc_high
    assert overall.rmse_low < overall.rmse < overall.rmse_high


def test_the_coverage_of_the_band_is_the_share_of_labels_in_it() -> None:
    scores = LABELS + np.where(np.arange(LABELS.size) % 4 == 0, 5.5, -4.5)
    band = only_row(metric_rows(scores), "band", "5.0")
    assert band.value == pytest.approx(0.75)
    assert band.value_low <= 0.75 <= band.value_high


def test_groups_and_heights_of_one_name_are_told_apart() -> None:
    names = list(agreement_table(metric_rows(LABELS)).columns[0].cells)
    assert "group 90p-300k" in names
    assert "height 90p" in names
    assert len(names) == len(set(names))


def test_an_interval_without_width_is_not_told() -> None:
    rows = metric_rows(LABELS)
    assert only_row(rows, "band", "5.0").value_low == only_row(rows, "band", "5.0").value_high
    assert "holds 100 % of the labels; it was made" in "\n".join(remarks(rows))
    cells = [cell for column in order_table(rows).columns for cell in column.cells]
    assert "100.0" in cells
    assert not any(".." in str(cell) for cell in cells)


def test_a_model_that_predicts_the_bitrate_has_learned_nothing() -> None:
    rows = metric_rows(RATES)
    assert only_row(rows, "all", "all", MINUS + BITRATE).srcc == pytest.approx(0)
    assert "has learned nothing beyond the baseline" in summary(rows)
    assert "bitrate alone and the regression" in summary(rows)


def test_the_summary_gives_the_lead_of_a_better_model() -> None:
    rows = metric_rows(LABELS)
    gap = only_row(rows, "all", "all", MINUS + BITRATE)
    assert gap.srcc == pytest.approx(1 - only_row(rows, "all", "all", BITRATE).srcc)
    assert 0 < gap.srcc_low < gap.srcc < gap.srcc_high
    assert "is ahead of both baselines" in summary(rows)
    assert f"model minus bitrate alone: {gap.srcc:+.3f} " in summary(rows)


def test_a_lead_over_all_encodes_is_not_enough_without_one_inside_groups() -> None:
    # perfect order between rungs, reversed order inside each rung
    step = np.array([12.0 * (number % RUNGS) for number in range(len(ENCODES))])
    rows = metric_rows(step - 0.01 * (LABELS - step))
    assert only_row(rows, "all", "all", MINUS + BITRATE).srcc_low > 0
    assert "has learned nothing beyond the baseline" in summary(rows)


def test_a_lead_with_an_interval_that_contains_0_does_not_count() -> None:
    random = np.random.default_rng(4)
    rows = metric_rows(LABELS + random.normal(0, 0.1, LABELS.size))
    assert "is ahead" in summary(rows)
    # as good as the bitrate with other errors: the difference has either sign
    shuffled = RATES + random.normal(0, 1, LABELS.size)
    gap = only_row(metric_rows(shuffled), "all", "all", MINUS + BITRATE)
    assert gap.srcc_low < 0 < gap.srcc_high
    told = summary(metric_rows(shuffled))
    assert "Whether the model is ahead of bitrate alone" in told
    assert "learned nothing" not in told


def test_a_model_that_is_behind_has_learned_nothing() -> None:
    assert "learned nothing beyond the baseline: not ahead of bitrate" in summary(
        metric_rows(-RATES)
    )


def test_four_sources_are_too_few_for_a_conclusion() -> None:
    few = ENCODES[: 4 * RUNGS]
    assert "too few" in summary(metric_rows(LABELS[: 4 * RUNGS], few))


def test_a_model_with_equal_scores_has_learned_nothing() -> None:
    rows = metric_rows(np.full(LABELS.size, 50.0))
    assert "learned nothing" in summary(rows)
    assert agreement_table(rows).row_count > 0


def test_a_single_source_is_evaluated_without_an_error() -> None:
    single = [replace(each, source="s") for each in ENCODES[:3]]
    rows = metric_rows(np.array([1.0, 3.0, 2.0]), single)
    assert math.isfinite(only_row(rows, "all", "all").srcc)
    assert "too few" in summary(rows)


def test_the_tables_have_a_row_for_each_set_with_enough_sources() -> None:
    rows = metric_rows(LABELS)
    assert agreement_table(rows).row_count == 1 + 6 + 2 + 6 + 3
    assert baseline_table(rows).row_count == 1 + 2 + 3
    assert remarks(rows)[2].endswith("0.800 inside a bitrate group and 0.300 between groups")


def test_scores_as_they_are_have_errors_and_baselines_have_none() -> None:
    labels = np.array([encode.vmaf for encode in ENCODES])
    rows = metric_rows(labels - 4)
    by_predictor = {row.predictor: row for row in rows if row.set == "all"}
    model = by_predictor[MODEL]
    assert model.raw_rmse == pytest.approx(4)
    assert (model.raw_rmse_low, model.raw_rmse_high) == pytest.approx((4, 4))
    assert model.rmse == pytest.approx(0, abs=0.1)  # the logistic hides the bias
    assert model.bias == pytest.approx(-4)
    assert (model.order, model.flips) == (1, 0)
    assert math.isnan(by_predictor[BITRATE].raw_rmse)


def test_random_treatments_are_sets_by_preset_and_kind() -> None:
    presets = ("libx264 fast", "libsvtav1 8")
    kinds = ("coded once", "coded twice")
    encodes = [
        replace(
            encode,
            preset=presets[i % 2],
            kind=kinds[i // 2 % 2],
            display=Size(64, 36) if i % 3 else Size(720, 1280),
        )
        for i, encode in enumerate(ENCODES)
    ]
    rows = metric_rows(np.array([encode.vmaf for encode in encodes]), encodes)
    for kind, names in (("preset", presets), ("kind", kinds)):
        assert {row.name for row in rows if row.set == kind} == set(names)
    plain = metric_rows(np.array([encode.vmaf for encode in ENCODES]))
    assert {row.name for row in rows if row.set == "display"} == {"36 lines", "720 lines"}
    assert not {row.set for row in plain} & {"preset", "kind", "display"}


def test_intervals_draw_whole_origins() -> None:
    scores = LABELS + np.random.default_rng(0).normal(scale=8, size=len(LABELS))
    few = of_few_origins(4, ENCODES)
    widths = []
    for encodes in (ENCODES, few):
        row = only_row(metric_rows(scores, encodes), "all", "all")
        widths.append(row.srcc_high - row.srcc_low)
        assert row.sources == SOURCES
    assert widths[0] != widths[1]
