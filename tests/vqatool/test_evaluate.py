import math
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from vqatool.checkpoint import load_checkpoint
from vqatool.evaluate import judge, mean_in_group_srcc, predict_labelled, write_evaluation
from vqatool.groups import LabelledEncode, read_labelled
from vqatool.predict import Predictor
from vqatool.report import evaluation_summary


def labelled_encode(source: int, rung: int, codec: str) -> LabelledEncode:
    return LabelledEncode(
        path=Path(f"{source}-{rung}.mp4"),
        source=f"s{source}",
        rung=f"r{rung}",
        codec=codec,
        vmaf=10.0 * rung + source,
        display=(64, 64),
        bitrate_kbps=100.0 * rung,
    )


PAIRS = [
    (labelled_encode(source, rung, "libx264" if rung % 2 else "libx265"), 20.0 * rung - source)
    for source in range(4)
    for rung in range(6)
]


def test_agreement_is_told_overall_inside_each_group_and_for_each_codec() -> None:
    found = {(one.kind, one.name): one.agreement for one in judge(PAIRS)}
    assert len(found) == 1 + 6 + 2
    assert found["all", "all"].srcc > 0.9
    # inside a rung the order of the sources is reversed, which the overall figure hides
    assert found["rung", "r3"].srcc == pytest.approx(-1)
    assert found["codec", "libx264"].count == 12
    assert mean_in_group_srcc(judge(PAIRS)) == pytest.approx(-1)


def test_groups_too_small_to_rank_are_left_out_of_the_mean() -> None:
    assert math.isnan(mean_in_group_srcc(judge(PAIRS[:2])))


def test_an_evaluation_leaves_figures_predictions_and_a_picture(tmp_path: Path) -> None:
    found = judge(PAIRS)
    table, predictions, picture = write_evaluation(PAIRS, found, tmp_path / "sub" / "e")
    assert list(pd.read_csv(table)["set"]) == ["all", *["rung"] * 6, *["codec"] * 2]
    assert len(pd.read_csv(predictions)) == len(PAIRS)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert evaluation_summary(found, 0.5).row_count == len(found) + 1


def test_an_evaluation_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    pairs = [(replace(encode, source=name), score) for encode, score in PAIRS]
    _, predictions, _ = write_evaluation(pairs, judge(pairs), tmp_path / "e")
    assert b",caf\xe9," in predictions.read_bytes()


def refuse(encode: LabelledEncode, reason: str) -> None:
    raise AssertionError(reason)


def test_predictions_do_not_depend_on_the_cache_of_training(
    labelled: Path, small_model: Path
) -> None:
    predictor = Predictor(load_checkpoint(small_model), "cpu")
    encodes = read_labelled(labelled)[:3]
    scores = [score for _, score in predict_labelled(encodes, predictor, refuse)]
    assert scores == [score for _, score in predict_labelled(encodes, predictor, refuse)]
    assert all(0 <= score <= 100 for score in scores)
