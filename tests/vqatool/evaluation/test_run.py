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

FEATURES = np.random.default_rng(0).normal(size=(len(ENCODES), 8))
PREDICTIONS = [
    Prediction(encode, encode.vmaf + 1, feature)
    for encode, feature in zip(ENCODES, FEATURES, strict=True)
]


def test_an_evaluation_leaves_figures_predictions_and_pictures(tmp_path: Path) -> None:
    found = evaluate(PREDICTIONS, ENCODES, band=2.0)
    predictions, metric_rows, *pictures = write_evaluation(found, tmp_path / "sub" / "e")
    table, rows = pd.read_csv(predictions), pd.read_csv(metric_rows)
    assert list(table)[-2:] == ["baseline_bitrate", "baseline_regression"]
    assert list(table["score"] - table["vmaf"]) == pytest.approx([1] * len(ENCODES))
    assert list(rows)[:6] == ["set", "name", "predictor", "count", "sources", "srcc"]
    assert rows["srcc"][0] == 1
    by_set = rows.set_index(["set", "name"])["value"]
    assert by_set["band", "2.0"] == 1
    assert by_set["similarity", "inside groups"] == pytest.approx(found.similarity.inside, abs=1e-4)
    assert [path.name for path in pictures] == ["e.png", "e-features.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_the_branches_of_a_model_are_judged_beside_it() -> None:
    random = np.random.default_rng(1)
    fused = [
        one._replace(branches={"stills": float(random.normal()), "runs": one.encode.vmaf / 2})
        for one in PREDICTIONS
    ]
    found = evaluate(fused, [], band=2.0).metric_rows
    over_all = {row.predictor: row.srcc for row in found if row.set == "all"}
    assert over_all["branch runs"] == 1
    assert over_all["model minus branch stills"] == pytest.approx(1 - over_all["branch stills"])
    (message,) = [line for line in remarks(found) if "branch stills" in line]
    assert f"SRCC {over_all['branch stills']:.3f}" in message


@pytest.mark.parametrize("what", ["one score of a branch", "one score of all", "one source"])
def test_nothing_is_told_of_a_branch_where_nothing_can_be(what: str) -> None:
    few = [one for one in PREDICTIONS if one.encode.source == PREDICTIONS[0].encode.source]
    fused = [
        one._replace(
            score=50.0 if what == "one score of all" else one.score,
            branches={"stills": 50.0 if what == "one score of a branch" else one.encode.vmaf},
        )
        for one in (few if what == "one source" else PREDICTIONS)
    ]
    found = evaluate(fused, [], band=2.0).metric_rows
    assert not [line for line in remarks(found) if "stills" in line]
    assert not [line for line in remarks(found) + summary_sentences(found) if "nan" in line]


def test_an_evaluation_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    odd = [
        Prediction(replace(one.encode, source=name, rung=name), one.score, one.feature_D)
        for one in PREDICTIONS[:9]
    ]
    predictions, *_ = write_evaluation(evaluate(odd, [], band=2.0), tmp_path / "e")
    assert b",caf\xe9," in predictions.read_bytes()


def test_one_encode_is_evaluated_as_far_as_that_goes(tmp_path: Path) -> None:
    found = evaluate(PREDICTIONS[:1], [], band=2.0)
    table, metric_rows, *_ = write_evaluation(found, tmp_path / "e.csv")
    assert (table.name, metric_rows.name) == ("e.csv", "e-figures.csv")
    assert pd.read_csv(metric_rows)["srcc"].isna().all()


def refuse(encode: LabelledEncode, reason: str) -> None:
    raise AssertionError(reason)


def test_predictions_do_not_depend_on_the_cache_of_training(
    labelled: Path, small_model: Path
) -> None:
    predictor = Predictor(load_checkpoint(small_model), "cpu")
    encodes = read_labelled_encodes(labelled)[:3]
    first = list(predict_labelled(encodes, predictor, refuse))
    again = list(predict_labelled(encodes, predictor, refuse))
    assert [one.score for one in first] == [one.score for one in again]
    assert all(0 <= one.score <= 100 for one in first)
    assert all((a.feature_D == b.feature_D).all() for a, b in zip(first, again, strict=True))
    assert len({one.feature_D.tobytes() for one in first}) == 3


def test_a_decoder_that_fails_costs_one_prediction(
    labelled: Path, small_model: Path, make_video: MakeVideo
) -> None:
    predictor = Predictor(load_checkpoint(small_model), "cpu")
    views = with_faults(predictor.preprocessor.views)
    predictor.preprocessor = replace(predictor.preprocessor, views=views)
    first, *others = read_labelled_encodes(labelled)[:4]
    bad = [
        replace(encode, path=path)
        for encode, path in zip(others, faulty_videos(make_video), strict=True)
    ]
    failed: list[tuple[LabelledEncode, str]] = []
    found = predict_labelled(
        [*bad, first], predictor, lambda *failure: failed.append(failure), timeout_s=4
    )
    assert [one.encode for one in found] == [first]
    assert [encode for encode, _ in failed] == bad
    for (encode, reason), word in zip(failed, WORDS, strict=True):
        assert str(encode.path) in reason
        assert word in reason


def test_an_encode_is_read_with_what_the_baselines_need(labelled: Path) -> None:
    encodes = {encode.rung: encode for encode in read_labelled_encodes(labelled)}
    assert {encode.rate_mode for encode in encodes.values()} == {"crf", "vbr"}
    assert {encode.height_px for encode in encodes.values()} == {46, 90}
    assert all(encode.fps > 1 for encode in encodes.values())


def test_the_training_side_is_what_the_split_says(work_folder: Path) -> None:
    assert training_encodes(work_folder) == []
    (work_folder / "splits.csv").write_text("source,split\nbikes,train\nbunny,val\nrabbit,val\n")
    assert {encode.source for encode in training_encodes(work_folder)} == {"bikes"}
