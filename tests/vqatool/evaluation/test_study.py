"""Studies: trainings that differ in one setting, and their comparison in a table."""

import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ladder.errors import TableError
from tests.vqatool.conftest import BRIEF_FRAMES, BRIEF_SHAPE
from tests.vqatool.program import read_rows, vqatool
from vqatool.cli.study import STUDY_NAMES
from vqatool.cli.tables import study_table
from vqatool.errors import OutputNameError
from vqatool.evaluation.cost import Cost
from vqatool.evaluation.study import StudyRow, mean_over_seeds, paired_difference, run_study
from vqatool.evaluation.variants import STUDIES, trials
from vqatool.inference.card import ModelCard
from vqatool.inference.model_file import Checkpoint, load_checkpoint
from vqatool.methods import Method, recipe_for
from vqatool.training.trainer import TrainConfig

BRIEF: dict[str, Any] = {"rungs": 2, "clip_frames": BRIEF_FRAMES}
BASE = TrainConfig(shape=BRIEF_SHAPE, epochs=1, **BRIEF)
ROW = StudyRow(
    study="terms",
    variant="both",
    seed=0,
    model="m",
    encodes=9,
    srcc=0.5,
    in_group_srcc=None,
    plcc=0.5,
    rmse=9.0,
)
TEMPORAL = trials(["temporal"])
COST = Cost(parameters_m=1.5, macs_g=0.25, clip_s=2.0, peak_mb=700.0)


@pytest.fixture
def work_folder(decoded_folder: Path) -> Path:
    """The folder of a test, with decoded encodes."""
    return decoded_folder


def test_the_command_knows_every_study() -> None:
    assert set(STUDY_NAMES) == set(STUDIES)


def test_mean_and_interval_over_seeds_follow_students_t() -> None:
    interval = mean_over_seeds([0.90, 0.92, None, 0.94])
    assert interval.mean == pytest.approx(0.92)
    # Student's t, 2 degrees of freedom, 97.5 %: 4.303; standard error 0.02 / sqrt(3)
    assert interval.half == pytest.approx(4.303 * 0.02 / math.sqrt(3), rel=1e-3)
    assert math.isnan(mean_over_seeds([0.9]).half)
    assert math.isnan(mean_over_seeds([None]).mean)


def test_the_difference_of_two_variants_is_paired_by_seed() -> None:
    others = [replace(ROW, seed=seed, srcc=0.5 + 0.1 * seed) for seed in range(3)]
    better = [replace(row, srcc=(row.srcc or 0) + 0.02) for row in others]
    lead = paired_difference(better, others)
    assert (lead.mean, lead.half) == pytest.approx((0.02, 0.0), abs=1e-9)


def test_the_table_compares_variants_with_the_first_of_their_study() -> None:
    rows = [replace(ROW, variant=name, seed=s) for name in ("none", "both") for s in (0, 1)]
    table = study_table(rows)
    columns = [list(column.cells) for column in table.columns]
    assert columns[1] == ["none", "both"]
    assert columns[-1] == ["", "+0.000 ±0.000"]


def test_measured_costs_are_columns_of_the_table() -> None:
    with_cost = replace(ROW, **asdict(COST))
    rows = [replace(with_cost, seed=seed) for seed in (0, 1)]
    columns = {str(column.header): list(column.cells) for column in study_table(rows).columns}
    assert columns["M parameters"] == ["1.50"]
    assert columns["GMACs"] == ["0.25"]
    assert columns["s a clip"] == ["2.00"]
    assert columns["peak MB"] == ["700"]
    assert len(study_table([ROW]).columns) == len(columns) - 4


@pytest.mark.slow
def test_a_study_trains_only_what_is_missing(work_folder: Path) -> None:
    out = work_folder / "study.csv"
    first = run_study(work_folder, out, TEMPORAL, BASE, seeds=1, device="cpu")
    assert [row.variant for row in first] == ["mean", "transformer"]
    assert {row.encodes for row in first} == {4}
    models = {
        path: path.stat().st_mtime_ns for path in (work_folder / "study").glob("*.safetensors")
    }
    assert {path.name for path in models} == {row["file"] for row in read_rows(out)}
    again = run_study(work_folder, out, TEMPORAL, BASE, seeds=1, device="cpu")
    assert [row.key for row in again] == [row.key for row in first]
    assert len(read_rows(out)) == 2
    assert all(path.stat().st_mtime_ns == mtime_ns for path, mtime_ns in models.items())


@pytest.mark.slow
def test_costs_are_measured_once_also_for_earlier_trainings(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips: list[Path] = []

    def measure(model: Path, clip: Path) -> Cost:
        assert model.exists()
        clips.append(clip)
        return COST

    monkeypatch.setattr("vqatool.evaluation.study.cost_of", measure)
    # it takes seconds to encode one of full size, and nothing is measured on it here
    monkeypatch.setattr("vqatool.evaluation.cost.SCREEN", (160, 90))
    out, clip = work_folder / "study.csv", work_folder / "study" / "clip.mp4"
    rows = []
    for has_cost in (False, True, True):
        rows.append(
            run_study(work_folder, out, TEMPORAL, BASE, seeds=1, device="cpu", has_cost=has_cost)
        )
    assert [row.clip_s for row in rows[0]] == [None, None]
    assert [row.clip_s for row in rows[1]] == [row.clip_s for row in rows[2]] == [2.0, 2.0]
    assert clips == [clip, clip]


@pytest.mark.slow
def test_the_command_reports_what_it_compared(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it has no options for the frames of a clip and the encodes of a batch
    monkeypatch.setattr("vqatool.training.trainer.TrainConfig", partial(TrainConfig, **BRIEF))
    arguments = ["--of", "temporal", "--seeds", 1, "--epochs", 1, "--size", "pico"]
    result = vqatool("study", work_folder, *arguments, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "transformer" in result.output
    assert "2 trainings" in result.output


@pytest.mark.slow
def test_variants_that_tune_parts_start_from_the_same_weights(work_folder: Path) -> None:
    recipe = recipe_for(Method.Q_MAMBA, {"size": "pico", "patch": 64})
    card = ModelCard(
        method=Method.Q_MAMBA.value, shape=recipe.shape, clip_frames=2, label="vmaf_v0.6.1"
    )
    init = Checkpoint(card, recipe.build().state_dict())
    out = work_folder / "study.csv"
    base = replace(BASE, shape={})
    rows = list(
        run_study(
            work_folder, out, trials(["tune"], {"q-mamba": init}), base, seeds=1, device="cpu"
        )
    )
    assert [row.variant for row in rows] == ["head", "prompts", "all"]
    assert {row["init"] for row in read_rows(out)} == {init.name}
    assert len({row.model for row in rows}) == 3
    models = [load_checkpoint(path) for path in (work_folder / "study").glob("*.safetensors")]
    (prompted,) = [model for model in models if model.card.shape["prompts"]]
    stem = next(name for name in init.weights if "_backbone" in name)
    assert torch.equal(prompted.weights[stem], init.weights[stem].half())


@pytest.mark.slow
def test_initial_weights_keep_their_size(work_folder: Path) -> None:
    shape = {"size": "nano", "features": 32, "grid": 2, "temporal_layers": 1}
    recipe = recipe_for(Method.COARSE_TO_FINE, shape)
    card = ModelCard(
        method="coarse-to-fine", shape=recipe.shape, clip_frames=2, label="pictures: made"
    )
    init = Checkpoint(card, recipe.build().state_dict())
    window = trials(["window"], {"coarse-to-fine": init})
    run_study(work_folder, work_folder / "s.csv", window[:1], BASE, seeds=1, device="cpu")
    (trained,) = [load_checkpoint(path) for path in (work_folder / "s").glob("*.safetensors")]
    assert (trained.card.shape["size"], trained.card.shape["window"]) == ("nano", 4)


@pytest.mark.parametrize("kind", ["no ending", "a folder", "models are a file", "another table"])
def test_a_table_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, kind: str
) -> None:
    out = tmp_path / ("result" if kind == "no ending" else "result.csv")
    if kind == "a folder":
        out.mkdir()
    elif kind == "models are a file":
        (tmp_path / "result").write_text("notes")
    elif kind == "another table":
        out.write_text("name,age\n")
    with pytest.raises((OutputNameError, TableError), match="result"):
        run_study(tmp_path, out, TEMPORAL, BASE, seeds=1, device="cpu")
    assert len(list(tmp_path.iterdir())) == (kind != "no ending")
