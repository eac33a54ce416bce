import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import MakeVideo
from tests.vqatool.evaluation.test_evaluator import ENCODES
from tests.vqatool.faults import WORDS, faulty_videos, with_faults
from vqatool.data.labels import LabelledEncode, read_labelled_encodes
from vqatool.data.splits import training_encodes
from vqatool.evaluation.run import Prediction, evaluate, predict_labelled, write_evaluation
from vqatool.evaluation.summary import remarks, summary_sentences
from vqatool.inference.model_file import load_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine

FEATURES = np.random.default_rng(0).normal(size=(len(ENCODES), 8))
PREDICTIONS = [
    Prediction(encode, encode.vmaf + 1, 2.0, feature)
    for encode, feature in zip(ENCODES, FEATURES, strict=True)
]


@pytest.mark.usefixtures("drawn_plots")
def test_an_evaluation_writes_predictions_metrics_and_plots(tmp_path: Path) -> None:
    evaluation = evaluate(PREDICTIONS, ENCODES)
    predictions, metric_rows, *plots = write_evaluation(evaluation, tmp_path / "sub" / "e", "m")
    table, rows = pd.read_csv(predictions), pd.read_csv(metric_rows)
    assert list(table)[-2:] == ["baseline_bitrate", "baseline_regression"]
    assert list(table["score"] - table["vmaf"]) == pytest.approx([1] * len(ENCODES))
    assert list(rows)[:6] == ["set", "name", "predictor", "count", "sources", "srcc"]
    assert rows["srcc"][0] == 1
    by_set = rows.set_index(["set", "name"])["value"]
    assert by_set["band", "2.0"] == 1
    assert by_set["similarity", "inside groups"] == pytest.approx(
        evaluation.similarity.inside, abs=1e-4
    )
    assert [path.name for path in plots] == ["e.png", "e-features.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots)
    pictures = [
        write_evaluation(evaluation, tmp_path / "e", model)[2].read_bytes()
        for model in ("m", "m", "$other_")
    ]
    assert pictures[0] == pictures[1] != pictures[2]  # the name of the model is in it


def test_the_branches_of_a_model_have_metrics_of_their_own() -> None:
    random = np.random.default_rng(1)
    fused = [
        prediction._replace(
            branches={"stills": float(random.normal()), "runs": prediction.encode.vmaf / 2}
        )
        for prediction in PREDICTIONS
    ]
    rows = evaluate(fused, []).metric_rows
    over_all = {row.predictor: row.srcc for row in rows if row.set == "all"}
    assert over_all["branch runs"] == 1
    assert over_all["model minus branch stills"] == pytest.approx(1 - over_all["branch stills"])
    (remark,) = [line for line in remarks(rows) if "branch stills" in line]
    assert f"SRCC {over_all['branch stills']:.3f}" in remark


@pytest.mark.parametrize("case", ["equal branch scores", "equal scores", "one source"])
def test_a_branch_without_a_defined_srcc_gets_no_remark(case: str) -> None:
    single_source = [
        prediction
        for prediction in PREDICTIONS
        if prediction.encode.source == PREDICTIONS[0].encode.source
    ]
    fused = [
        prediction._replace(
            score=50.0 if case == "equal scores" else prediction.score,
            branches={"stills": 50.0 if case == "equal branch scores" else prediction.encode.vmaf},
        )
        for prediction in (single_source if case == "one source" else PREDICTIONS)
    ]
    rows = evaluate(fused, []).metric_rows
    assert not [line for line in remarks(rows) if "stills" in line]
    assert not [line for line in remarks(rows) + summary_sentences(rows) if "nan" in line]


def test_an_evaluation_keeps_names_that_are_not_valid_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    odd = [
        Prediction(
            replace(prediction.encode, source=name, rung=name),
            prediction.score,
            prediction.band,
            prediction.feature_D,
        )
        for prediction in PREDICTIONS[:9]
    ]
    predictions, *_ = write_evaluation(evaluate(odd, []), tmp_path / "e", "m")
    assert b",caf\xe9," in predictions.read_bytes()


def test_one_encode_is_evaluated_without_an_srcc(tmp_path: Path) -> None:
    evaluation = evaluate(PREDICTIONS[:1], [])
    table, metric_rows, *_ = write_evaluation(evaluation, tmp_path / "e.csv", "m")
    assert (table.name, metric_rows.name) == ("e.csv", "e-figures.csv")
    figures = pd.read_csv(metric_rows)
    assert figures["srcc"].isna().all()
    assert "mean inside groups" not in set(figures["set"])  # there is no group to take it over


def refuse(encode: LabelledEncode, reason: str) -> None:
    raise AssertionError(reason)


def test_predictions_do_not_depend_on_the_cache_of_training(
    labelled: Path, small_model: Path
) -> None:
    predictor = Predictor(TorchEngine(load_checkpoint(small_model), "cpu"))
    encodes = read_labelled_encodes(labelled)[:3]
    first = list(predict_labelled(encodes, predictor, refuse))
    again = list(predict_labelled(encodes, predictor, refuse))
    assert [prediction.score for prediction in first] == [prediction.score for prediction in again]
    assert all(0 <= prediction.score <= 100 for prediction in first)
    assert all((a.feature_D == b.feature_D).all() for a, b in zip(first, again, strict=True))
    assert len({prediction.feature_D.tobytes() for prediction in first}) == 3


def test_a_decode_failure_leaves_out_only_its_encode(
    labelled: Path, small_model: Path, make_video: MakeVideo, marks: Path
) -> None:
    predictor = Predictor(TorchEngine(load_checkpoint(small_model), "cpu"))
    views = with_faults(predictor.preprocessor.views, marks)
    predictor.preprocessor = replace(predictor.preprocessor, views=views)
    first, *others = read_labelled_encodes(labelled)[:4]
    bad = [
        replace(encode, path=path)
        for encode, path in zip(others, faulty_videos(make_video), strict=True)
    ]
    failed: list[tuple[LabelledEncode, str]] = []
    predictions = predict_labelled(
        [*bad, first], predictor, lambda *failure: failed.append(failure), timeout_s=0.2
    )
    assert [prediction.encode for prediction in predictions] == [first]
    assert [encode for encode, _ in failed] == bad
    for (encode, reason), word in zip(failed, WORDS, strict=True):
        assert str(encode.path) in reason
        assert word in reason


def test_labelled_encodes_have_the_columns_that_the_baselines_need(labelled: Path) -> None:
    encodes = {encode.rung: encode for encode in read_labelled_encodes(labelled)}
    assert {encode.rate_mode for encode in encodes.values()} == {"crf", "vbr"}
    assert {encode.height_px for encode in encodes.values()} == {46, 90}
    assert all(encode.fps > 1 for encode in encodes.values())


def test_the_training_encodes_are_those_of_the_split(work_folder: Path) -> None:
    assert training_encodes(work_folder) == []
    (work_folder / "splits.csv").write_text("source,split\nbikes,train\nbunny,val\nrabbit,val\n")
    assert {encode.source for encode in training_encodes(work_folder)} == {"bikes"}
