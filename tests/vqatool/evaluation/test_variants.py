"""What a study compares, and what each variant begins with."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vqatool.program import vqatool
from vqatool.errors import CheckpointError
from vqatool.evaluation.study import run_study
from vqatool.evaluation.variants import FROM_SCRATCH, STUDIES, trials
from vqatool.inference.model_file import Checkpoint, ModelCard, load_checkpoint, save_checkpoint
from vqatool.methods import Method, recipe_for
from vqatool.training.initialization import Initialization
from vqatool.training.trainer import TrainConfig


@pytest.mark.parametrize("study", STUDIES)
def test_variants_of_a_study_are_unlike_and_can_be_built(study: str) -> None:
    variants = STUDIES[study]
    configs = [
        (variant.has_teacher, asdict(variant.config(TrainConfig(), seed=0))) for variant in variants
    ]
    assert len({variant.name for variant in variants}) == len(variants) > 1
    assert all(one != other for i, one in enumerate(configs) for other in configs[:i])
    for variant in variants:
        recipe_for(variant.method, variant.config(TrainConfig(), seed=0).shape)


def made(method: str, **shape: Any) -> Checkpoint:
    """A small model of that method, as `pretrain` leaves one."""
    recipe = recipe_for(Method(method), {"size": "pico", **shape})
    card = ModelCard(method=method, shape=recipe.shape, clip_frames=2, label="pictures: made")
    return Checkpoint(card, recipe.build().state_dict())


def by_method(*inits: Checkpoint) -> dict[str, Checkpoint]:
    return {init.card.method: init for init in inits}


def starts(studies: Sequence[str], *inits: Checkpoint) -> dict[str, Initialization]:
    return {trial.name: trial.initialization for trial in trials(studies, by_method(*inits))}


def test_a_taught_variant_has_the_teacher_and_the_others_start_from_scratch() -> None:
    teacher = made("sama")
    begun = [trial.initialization for trial in trials(["teacher"], teacher=teacher)]
    assert begun == [
        Initialization(),
        Initialization(teacher=teacher),
        Initialization(teacher=teacher),
    ]


def test_variants_go_on_from_the_weights_of_their_method() -> None:
    sama, mamba = made("sama"), made("q-mamba")
    begun = starts(["tune", "masks"], sama, mamba)
    assert begun["masks: sama-c"] == Initialization(init=sama)
    assert begun["tune: head"] == Initialization(init=mamba)


def test_a_study_of_other_methods_starts_from_scratch() -> None:
    begun = starts(["masks", "terms"], made("sama"))
    assert begun["masks: sama"].init
    assert begun["terms: both"] == Initialization()


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
        trial.require_weights(TrainConfig(shape={"size": "nano"}))
        assert bool(trial.initialization.init) == (study not in FROM_SCRATCH)


def test_weights_that_a_variant_cannot_take_are_refused_before_any_training(tmp_path: Path) -> None:
    shaped = made("q-mamba", prompts=8)
    asked = trials(["tune"], by_method(shaped))
    with pytest.raises(
        CheckpointError, match=r"tune: prompts: q-mamba-\w+ cannot start a model of another"
    ):
        run_study(tmp_path, tmp_path / "s.csv", asked, TrainConfig(), seeds=1)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    old = replace(made("sama"), weights={"conv": torch.zeros(1)})
    path = tmp_path / "old.safetensors"
    save_checkpoint(old, path)
    for part in ("init", "teacher"):
        model = load_checkpoint(path)
        given = {"inits": {"sama": model}} if part == "init" else {"teacher": model}
        touched = [
            each
            for each in trials(["masks", "teacher"], **given)
            if each.initialization != Initialization()
        ]
        assert touched
        for trial in touched:
            with pytest.raises(CheckpointError, match=r"old\.safetensors was made by another"):
                trial.require_weights(TrainConfig(shape={"size": "pico"}))


def test_names_are_true_of_weights_of_another_shape() -> None:
    blind = made("coarse-to-fine", has_stream=False, grid=2, patch=64)
    first, *_ = trials(
        ["methods"],
        by_method(blind, *map(made, ("sama", "zoom-vqa", "q-mamba", "intern-vqa"))),
    )
    assert first.config(TrainConfig(), 0).shape_with(blind)["has_stream"]
    with pytest.raises(CheckpointError, match="_stream"):
        first.require_weights(TrainConfig())
    patches, *_ = trials(["view"], by_method(blind))
    shape = patches.config(TrainConfig(), 0).shape_with(blind)
    assert patches.variant.name == "4 x 4 patches of 32 px"
    assert (shape["grid"], shape["patch"]) == (4, 32)


@pytest.mark.parametrize("study", ["temporal", "view", "input", "methods"])
def test_the_first_of_a_study_is_the_model_as_it_usually_is(study: str) -> None:
    # so it is trained once for all of them
    first, *_ = trials([study])
    config = first.config(TrainConfig(), 0)
    assert (
        first.initialization.student_recipe(config).shape == recipe_for(Method.COARSE_TO_FINE).shape
    )


@pytest.mark.parametrize(
    ("files", "sentences"),
    [
        (["sama", "sama"], "is a second file of sama"),
        (["q-mamba"], "is of q-mamba, which this study does not train"),
        (["coarse-to-fine"], "is of coarse-to-fine, which this study does not train"),
    ],
)
def test_weights_that_serve_no_variant_are_refused(
    files: list[str], sentences: str, tmp_path: Path
) -> None:
    inits: list[str | Path] = []
    for number, method in enumerate(files):
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(made(method), path)
        inits += ["--init", path]
    done = vqatool("study", tmp_path, "--of", "masks", "--of", "input", *inits)
    assert done.exit_code == 2
    assert f"{len(files) - 1}.safetensors {sentences}" in " ".join(done.stderr.split())


def test_given_weights_have_a_size_already(tmp_path: Path) -> None:
    save_checkpoint(made("sama"), tmp_path / "s.safetensors")
    asked = ["--of", "masks", "--init", tmp_path / "s.safetensors"]
    done = vqatool("study", tmp_path, *asked, "--size", "nano")
    assert done.exit_code == 2
    assert "--size is for new models" in done.stderr
    # as far as other studies go, new models are made
    done = vqatool("study", tmp_path, *asked, "--of", "terms", "--size", "nano")
    assert "holds no labelled encodes" in " ".join(done.stderr.split())


def test_weights_of_a_kind_that_has_not_these_masks_are_refused(tmp_path: Path) -> None:
    save_checkpoint(made("sama", kind="image"), tmp_path / "s.safetensors")
    done = vqatool("study", tmp_path, "--of", "masks", "--init", tmp_path / "s.safetensors")
    assert done.exit_code == 2
    assert "mask 'sama-c' of kind image" in " ".join(done.stderr.split())


def test_a_model_of_pixels_alone_goes_on_from_one_that_reads_streams() -> None:
    whole, blind = (
        recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "has_stream": has}).build()
        for has in (True, False)
    )
    weights = whole.state_dict()
    blind.load_weights(weights)
    assert all(torch.equal(weight, weights[name]) for name, weight in blind.state_dict().items())
    with pytest.raises(RuntimeError, match="_stream"):
        whole.load_weights(blind.state_dict())
