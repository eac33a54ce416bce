"""The benchmark of ensembles on figures: what it reports must come from unseen origins."""

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import figures
from vqatool.data.labels import read_labelled_encodes
from vqatool.inputs.bitstream import BitstreamFeatures
from vqatool.inputs.probing import NUM_PROBING_FEATURES
from vqatool.metrics import Values


@pytest.mark.parametrize("num_origins", [None, 2])
def test_no_origin_is_predicted_by_a_model_that_saw_it(
    num_origins: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin_N = np.repeat(np.arange(6), 4)

    def recorded(train_NF: Values, label_N: Values, test_NF: Values) -> Values:
        assert not set(train_NF[:, 0]) & set(test_NF[:, 0])
        assert len(set(train_NF[:, 0])) == (num_origins or 4)
        assert (label_N == train_NF[:, 0]).all()
        return test_NF[:, 0]

    monkeypatch.setattr(figures, "predicted", recorded)
    found = figures.cross_validated(
        origin_N[:, None].astype(float),
        origin_N.astype(float),
        [f"origin {number}" for number in origin_N],
        folds=3,
        repeats=2,
        num_origins=num_origins,
    )
    assert (found == origin_N).all()


def test_figures_are_those_of_each_encode(work_folder: Path) -> None:
    encodes = read_labelled_encodes(work_folder)[:4]
    found = figures.figures_of(work_folder, encodes)
    widths = {part: values.shape for part, values in found.items()}
    assert widths["bitstream"] == (len(encodes), len(BitstreamFeatures._fields))
    assert widths["probing"] == (len(encodes), NUM_PROBING_FEATURES)
    assert all(np.isfinite(values).all() for values in found.values())
    assert len(np.unique(found["bitstream"], axis=0)) == len(encodes)


def test_an_ensemble_learns_what_can_be_learned() -> None:
    chance = np.random.default_rng(0)
    figure_NF = chance.normal(size=(200, 5))
    label_N = 50 + 20 * np.tanh(figure_NF[:, 0])
    found = figures.predicted(figure_NF[:150], label_N[:150], figure_NF[150:])
    assert np.sqrt(np.mean((found - label_N[150:]) ** 2)) < 4
