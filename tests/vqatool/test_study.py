"""Variants of the method, trained alike and held against each other."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from tests.vqatool.program import rows_of, vqatool
from vqatool.checkpoint import Card, Checkpoint, load_checkpoint, save_checkpoint
from vqatool.cli.study import STUDY_NAMES
from vqatool.errors import CheckpointError
from vqatool.evaluation.cost import Cost
from vqatool.methods import Method
from vqatool.recipes import recipe_for
from vqatool.report import study_table
from vqatool.study import STUDIES, StudyRow, Variant, lead_over, over_seeds, run_study
from vqatool.training.learner import TrainConfig
from vqatool.training.start import Start

BASE = TrainConfig(
    shape={"size": "pico", "features": 32, "grid": 2, "patch": 32},
    epochs=1,
    rungs=2,
    clip_frames=2,
)
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
COST = Cost(parameters_m=1.5, macs_g=0.25, clip_s=2.0, peak_mb=700.0)


def test_the_command_knows_every_study() -> None:
    assert set(STUDY_NAMES) == set(STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_variants_of_a_study_are_unlike_and_can_be_built(study: str) -> None:
    variants = STUDIES[study]
    configs = [
        (variant.is_taught, asdict(variant.config(TrainConfig(), seed=0))) for variant in variants
    ]
    assert len({variant.name for variant in variants}) == len(variants) > 1
    assert all(one != other for i, one in enumerate(configs) for other in configs[:i])
    for variant in variants:
        recipe_for(variant.method, variant.config(TrainConfig(), seed=0).shape)


def test_mean_and_interval_over_seeds_are_students() -> None:
    spread = over_seeds([0.90, 0.92, None, 0.94])
    assert spread.mean == pytest.approx(0.92)
    # t of 2 degrees of freedom at 97.5 %: 4.303; standard error 0.02 / sqrt(3)
    assert spread.half == pytest.approx(4.303 * 0.02 / math.sqrt(3), rel=1e-3)
    assert math.isnan(over_seeds([0.9]).half)
    assert math.isnan(over_seeds([None]).mean)


def test_a_lead_is_taken_seed_by_seed() -> None:
    others = [replace(ROW, seed=seed, srcc=0.5 + 0.1 * seed) for seed in range(3)]
    ahead = [replace(row, srcc=(row.srcc or 0) + 0.02) for row in others]
    lead = lead_over(ahead, others)
    assert (lead.mean, lead.half) == pytest.approx((0.02, 0.0), abs=1e-9)


def test_the_table_holds_variants_against_the_first_of_their_study() -> None:
    rows = [replace(ROW, variant=name, seed=s) for name in ("none", "both") for s in (0, 1)]
    table = study_table(rows)
    columns = [list(column.cells) for column in table.columns]
    assert columns[1] == ["none", "both"]
    assert columns[-1] == ["", "+0.000 ±0.000"]


def test_costs_are_columns_of_the_table_where_they_were_measured() -> None:
    costly = replace(ROW, **asdict(COST))
    rows = [replace(costly, seed=seed) for seed in (0, 1)]
    columns = {str(each.header): list(each.cells) for each in study_table(rows).columns}
    assert columns["M parameters"] == ["1.50"]
    assert columns["GMACs"] == ["0.25"]
    assert columns["s a clip"] == ["2.00"]
    assert columns["peak MB"] == ["700"]
    assert len(study_table([ROW]).columns) == len(columns) - 4


@pytest.mark.slow
def test_a_study_trains_what_is_missing_and_nothing_twice(work_folder: Path) -> None:
    out = work_folder / "study.csv"
    first = list(run_study(work_folder, out, ["temporal"], BASE, seeds=1, device="cpu"))
    assert [row.variant for row in first] == ["transformer", "mean"]
    assert {row.encodes for row in first} == {4}
    models = {path: path.stat().st_mtime_ns for path in (work_folder / "study").glob("*.st*")}
    again = list(run_study(work_folder, out, ["temporal"], BASE, seeds=1, device="cpu"))
    assert [row.key for row in again] == [row.key for row in first]
    assert len(rows_of(out)) == 2
    assert all(path.stat().st_mtime_ns == made for path, made in models.items())


@pytest.mark.slow
def test_costs_are_measured_once_also_of_what_was_trained_without(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Path] = []

    def measure(model: Path, clip: Path) -> Cost:
        assert model.exists()
        measured.append(clip)
        return COST

    monkeypatch.setattr("vqatool.study.cost_of", measure)
    out, clip = work_folder / "study.csv", Path("clip.mp4")
    rows = []
    for asked in (None, clip, clip):
        told = run_study(work_folder, out, ["temporal"], BASE, seeds=1, device="cpu", clip=asked)
        rows.append(list(told))
    assert [row.clip_s for row in rows[0]] == [None, None]
    assert [row.clip_s for row in rows[1]] == [row.clip_s for row in rows[2]] == [2.0, 2.0]
    assert measured == [clip, clip]


@pytest.mark.slow
def test_the_command_tells_what_it_compared(work_folder: Path) -> None:
    asked = ["--of", "temporal", "--seeds", 1, "--epochs", 1, "--device", "cpu"]
    result = vqatool("study", work_folder, *asked)
    assert result.exit_code == 0, result.output
    assert "transformer" in result.output
    assert "2 trainings" in result.output


@pytest.mark.slow
def test_parts_are_tuned_from_the_same_weights(work_folder: Path) -> None:
    recipe = recipe_for(Method.Q_MAMBA, {"size": "pico", "patch": 64})
    card = Card(method=Method.Q_MAMBA.value, shape=recipe.shape, clip_frames=2, label="vmaf_v0.6.1")
    init = Checkpoint(card, recipe.build().state_dict())
    out = work_folder / "study.csv"
    rows = list(run_study(work_folder, out, ["tune"], BASE, seeds=1, inits=[init], device="cpu"))
    assert [row.variant for row in rows] == ["head", "prompts", "all"]
    assert len({row.model for row in rows}) == 3
    made = [load_checkpoint(path) for path in (work_folder / "study").glob("*.safetensors")]
    (prompted,) = [each for each in made if each.card.shape["prompts"]]
    stem = next(name for name in init.weights if "_backbone" in name)
    assert torch.equal(prompted.weights[stem], init.weights[stem].half())


MODELS = {
    method: Checkpoint(Card(method=method, shape={}, clip_frames=8, label=""), {})
    for method in ("sama", "q-mamba")
}


def test_a_taught_variant_has_the_teacher_and_the_others_start_from_scratch() -> None:
    teacher = MODELS["sama"]
    assert Variant(name="alone").start([], teacher) == Start()
    assert Variant(name="taught", is_taught=True).start([], teacher) == Start(teacher=teacher)


def test_a_variant_goes_on_from_the_weights_of_its_method() -> None:
    given = list(MODELS.values())
    for method in (Method.SAMA, Method.Q_MAMBA):
        variant = Variant(name="", method=method)
        assert variant.start(given, None) == Start(init=MODELS[method.value])


@pytest.mark.parametrize(
    ("variant", "given"),
    [
        (Variant(name="Zoom-VQA", method=Method.ZOOM_VQA), ["sama"]),
        (Variant(name="head", method=Method.Q_MAMBA, tune="head"), []),
    ],
)
def test_no_variant_is_behind_for_want_of_weights(variant: Variant, given: list[str]) -> None:
    with pytest.raises(
        CheckpointError, match=rf"{variant.name} has no .*--method {variant.method.value}"
    ):
        variant.start([MODELS[method] for method in given], None)


@pytest.mark.parametrize("files", [["sama", "sama"], ["sama", "q-mamba"]])
def test_weights_that_serve_no_variant_are_refused(files: list[str], tmp_path: Path) -> None:
    inits: list[str | Path] = []
    for method in files:
        path = tmp_path / f"{method}.safetensors"
        shape = recipe_for(Method(method)).shape
        card = replace(MODELS[method].card, shape=shape)
        save_checkpoint(Checkpoint(card, {}), path)
        inits += ["--init", path]
    done = vqatool("study", tmp_path, "--of", "masks", *inits)
    assert done.exit_code == 2
    assert f"{files[1]}.safetensors is one too many" in done.stderr


@pytest.mark.slow
def test_given_weights_have_their_own_size(work_folder: Path) -> None:
    shape = {"size": "nano", "features": 32, "grid": 2, "temporal_layers": 1}
    recipe = recipe_for(Method.COARSE_TO_FINE, shape)
    card = Card(method="coarse-to-fine", shape=recipe.shape, clip_frames=2, label="pictures: made")
    init = Checkpoint(card, recipe.build().state_dict())
    told = run_study(
        work_folder, work_folder / "s.csv", ["window"], BASE, seeds=1, inits=[init], device="cpu"
    )
    next(told)
    (made,) = [load_checkpoint(path) for path in (work_folder / "s").glob("*.safetensors")]
    assert (made.card.shape["size"], made.card.shape["window"]) == ("nano", 4)


def test_a_model_of_pixels_alone_goes_on_from_one_that_reads_streams() -> None:
    whole, blind = (
        recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "has_stream": has}).build()
        for has in (True, False)
    )
    weights = whole.state_dict()
    blind.take(weights)
    assert all(torch.equal(weight, weights[name]) for name, weight in blind.state_dict().items())
    with pytest.raises(RuntimeError, match="_stream"):
        whole.take(blind.state_dict())
