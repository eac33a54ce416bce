"""Variants of the method, trained alike and held against each other."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

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
from vqatool.study import StudyRow, lead_over, over_seeds, run_study
from vqatool.training.learner import TrainConfig
from vqatool.training.start import Start
from vqatool.variants import FROM_SCRATCH, STUDIES, trials

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
TEMPORAL = trials(["temporal"])
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
    first = list(run_study(work_folder, out, TEMPORAL, BASE, seeds=1, device="cpu"))
    assert [row.variant for row in first] == ["transformer", "mean"]
    assert {row.encodes for row in first} == {4}
    models = {
        path: path.stat().st_mtime_ns for path in (work_folder / "study").glob("*.safetensors")
    }
    assert {path.name for path in models} == {row["file"] for row in rows_of(out)}
    again = list(run_study(work_folder, out, TEMPORAL, BASE, seeds=1, device="cpu"))
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
    out, clip = work_folder / "study.csv", work_folder / "study" / "clip.mp4"
    rows = []
    for asked in (False, True, True):
        told = run_study(work_folder, out, TEMPORAL, BASE, seeds=1, device="cpu", has_cost=asked)
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
    base = replace(BASE, shape={})
    rows = list(
        run_study(
            work_folder, out, trials(["tune"], {"q-mamba": init}), base, seeds=1, device="cpu"
        )
    )
    assert [row.variant for row in rows] == ["head", "prompts", "all"]
    assert {row["init"] for row in rows_of(out)} == {init.name}
    assert len({row.model for row in rows}) == 3
    kept = [load_checkpoint(path) for path in (work_folder / "study").glob("*.safetensors")]
    (prompted,) = [each for each in kept if each.card.shape["prompts"]]
    stem = next(name for name in init.weights if "_backbone" in name)
    assert torch.equal(prompted.weights[stem], init.weights[stem].half())


def made(method: str, **shape: Any) -> Checkpoint:
    """A small model of that method, as `pretrain` leaves one."""
    recipe = recipe_for(Method(method), {"size": "pico", **shape})
    card = Card(method=method, shape=recipe.shape, clip_frames=2, label="pictures: made")
    return Checkpoint(card, recipe.build().state_dict())


def by_method(*inits: Checkpoint) -> dict[str, Checkpoint]:
    return {init.card.method: init for init in inits}


def starts(studies: Sequence[str], *inits: Checkpoint) -> dict[str, Start]:
    return {trial.name: trial.start for trial in trials(studies, by_method(*inits))}


def test_a_taught_variant_has_the_teacher_and_the_others_start_from_scratch() -> None:
    teacher = made("sama")
    begun = [trial.start for trial in trials(["teacher"], teacher=teacher)]
    assert begun == [Start(), Start(teacher=teacher), Start(teacher=teacher)]


def test_variants_go_on_from_the_weights_of_their_method() -> None:
    sama, mamba = made("sama"), made("q-mamba")
    begun = starts(["tune", "masks"], sama, mamba)
    assert begun["masks: sama-c"] == Start(init=sama)
    assert begun["tune: head"] == Start(init=mamba)


def test_a_study_of_other_methods_starts_from_scratch() -> None:
    begun = starts(["masks", "terms"], made("sama"))
    assert begun["masks: sama"].init
    assert begun["terms: both"] == Start()


def test_no_variant_starts_from_scratch_beside_others_that_do_not() -> None:
    with pytest.raises(CheckpointError, match=r"methods: coarse-to-fine would start from scratch"):
        trials(["methods"], by_method(made("sama")))


def test_a_part_is_tuned_of_a_trained_model_alone() -> None:
    with pytest.raises(CheckpointError, match=r"tune: head goes on .* --init FILE of q-mamba"):
        trials(["tune"])


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_goes_on_from_weights_made_by_default(study: str) -> None:
    inits = [made(method) for method in {variant.method.value for variant in STUDIES[study]}]
    for trial in trials([study], by_method(*inits), teacher=inits[0]):
        trial.require_fit(TrainConfig(shape={"size": "nano"}))
        assert bool(trial.start.init) == (study not in FROM_SCRATCH)


def test_weights_that_a_variant_cannot_take_are_refused_before_any_training(tmp_path: Path) -> None:
    shaped = made("q-mamba", prompts=8)
    asked = trials(["tune"], by_method(shaped))
    with pytest.raises(
        CheckpointError, match=r"tune: prompts: q-mamba-\w+ cannot go on in another"
    ):
        next(run_study(tmp_path, tmp_path / "s.csv", asked, TrainConfig(), seeds=1))
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    old = replace(made("sama"), weights={"conv": torch.zeros(1)})
    path = tmp_path / "old.safetensors"
    save_checkpoint(old, path)
    for part in ("init", "teacher"):
        model = load_checkpoint(path)
        given = {"inits": {"sama": model}} if part == "init" else {"teacher": model}
        touched = [each for each in trials(["masks", "teacher"], **given) if each.start != Start()]
        assert touched
        for trial in touched:
            with pytest.raises(CheckpointError, match=r"old\.safetensors was made by another"):
                trial.require_fit(TrainConfig(shape={"size": "pico"}))


def test_names_are_true_of_weights_of_another_shape() -> None:
    blind = made("coarse-to-fine", has_stream=False, grid=2, patch=64)
    first, *_ = trials(
        ["methods"],
        by_method(blind, *map(made, ("sama", "zoom-vqa", "q-mamba", "intern-vqa"))),
    )
    assert first.config(BASE, 0).shape_after(blind)["has_stream"]
    with pytest.raises(CheckpointError, match="_stream"):
        first.require_fit(BASE)
    patches, *_ = trials(["view"], by_method(blind))
    shape = patches.config(BASE, 0).shape_after(blind)
    assert patches.variant.name == "4 x 4 patches of 32 px"
    assert (shape["grid"], shape["patch"]) == (4, 32)


@pytest.mark.parametrize("study", ["temporal", "view", "input", "methods"])
def test_the_first_of_a_study_is_the_model_as_it_usually_is(study: str) -> None:
    # so it is trained once for all of them
    first, *_ = trials([study])
    config = first.config(TrainConfig(), 0)
    assert first.start.own_recipe(config).shape == recipe_for(Method.COARSE_TO_FINE).shape


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["sama", "sama"], "is a second one of sama"),
        (["q-mamba"], "is of q-mamba, which nothing here goes on"),
        (["coarse-to-fine"], "is of coarse-to-fine, which nothing here goes on"),
    ],
)
def test_weights_that_serve_no_variant_are_refused(
    files: list[str], said: str, tmp_path: Path
) -> None:
    inits: list[str | Path] = []
    for number, method in enumerate(files):
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(made(method), path)
        inits += ["--init", path]
    done = vqatool("study", tmp_path, "--of", "masks", "--of", "input", *inits)
    assert done.exit_code == 2
    assert f"{len(files) - 1}.safetensors {said}" in " ".join(done.stderr.split())


def test_given_weights_have_a_size_already(tmp_path: Path) -> None:
    save_checkpoint(made("sama"), tmp_path / "s.safetensors")
    asked = ["--of", "masks", "--init", tmp_path / "s.safetensors"]
    done = vqatool("study", tmp_path, *asked, "--size", "nano")
    assert done.exit_code == 2
    assert "--size chooses new models" in done.stderr
    # as far as other studies go, new models are made
    done = vqatool("study", tmp_path, *asked, "--of", "terms", "--size", "nano")
    assert "holds no labelled encodes" in " ".join(done.stderr.split())


def test_weights_of_a_kind_that_has_not_these_masks_are_refused(tmp_path: Path) -> None:
    save_checkpoint(made("sama", kind="image"), tmp_path / "s.safetensors")
    done = vqatool("study", tmp_path, "--of", "masks", "--init", tmp_path / "s.safetensors")
    assert done.exit_code == 2
    assert "mask 'sama-c' of kind image" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_given_weights_have_their_own_size(work_folder: Path) -> None:
    shape = {"size": "nano", "features": 32, "grid": 2, "temporal_layers": 1}
    recipe = recipe_for(Method.COARSE_TO_FINE, shape)
    card = Card(method="coarse-to-fine", shape=recipe.shape, clip_frames=2, label="pictures: made")
    init = Checkpoint(card, recipe.build().state_dict())
    asked = trials(["window"], by_method(init))
    next(run_study(work_folder, work_folder / "s.csv", asked, BASE, seeds=1, device="cpu"))
    (kept,) = [load_checkpoint(path) for path in (work_folder / "s").glob("*.safetensors")]
    assert (kept.card.shape["size"], kept.card.shape["window"]) == ("nano", 4)


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
