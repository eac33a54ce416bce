"""The variants of each study, their initial weights and teachers."""

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
from vqatool.inference.card import ModelCard
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.methods import Method, recipe_for
from vqatool.training.initialization import Initialization
from vqatool.training.trainer import TrainConfig


@pytest.mark.parametrize("study", STUDIES)
def test_variants_of_a_study_differ_and_can_be_built(study: str) -> None:
    variants = STUDIES[study]
    configs = [
        (variant.has_teacher, asdict(variant.config(TrainConfig(), seed=0))) for variant in variants
    ]
    assert len({variant.name for variant in variants}) == len(variants) > 1
    assert all(config != other for i, config in enumerate(configs) for other in configs[:i])
    for variant in variants:
        recipe_for(variant.method, variant.config(TrainConfig(), seed=0).shape)


def small_checkpoint(method: str, **shape: Any) -> Checkpoint:
    """A small model of that method, as `pretrain` writes it."""
    recipe = recipe_for(Method(method), {"size": "pico", **shape})
    card = ModelCard(method=method, shape=recipe.shape, clip_frames=2, label="pictures: made")
    return Checkpoint(card, recipe.build().state_dict())


def by_method(*inits: Checkpoint) -> dict[str, Checkpoint]:
    return {init.card.method: init for init in inits}


def initializations(studies: Sequence[str], *inits: Checkpoint) -> dict[str, Initialization]:
    return {trial.name: trial.initialization for trial in trials(studies, by_method(*inits))}


def test_only_variants_with_a_teacher_get_the_teacher() -> None:
    teacher = small_checkpoint("sama")
    used = [trial.initialization for trial in trials(["teacher"], teacher=teacher)]
    assert used == [
        Initialization(),
        Initialization(teacher=teacher),
        Initialization(teacher=teacher),
    ]


def test_variants_start_from_the_weights_of_their_method() -> None:
    sama, mamba = small_checkpoint("sama"), small_checkpoint("q-mamba")
    by_trial = initializations(["tune", "masks"], sama, mamba)
    assert by_trial["masks: sama-c"] == Initialization(init=sama)
    assert by_trial["tune: head"] == Initialization(init=mamba)


def test_a_study_of_other_methods_starts_from_scratch() -> None:
    by_trial = initializations(["masks", "terms"], small_checkpoint("sama"))
    assert by_trial["masks: sama"].init
    assert by_trial["terms: both"] == Initialization()


def test_a_study_mixes_no_variants_with_and_without_initial_weights() -> None:
    with pytest.raises(CheckpointError, match=r"methods: coarse-to-fine would start from scratch"):
        trials(["methods"], by_method(small_checkpoint("sama")))


def test_tuning_a_part_needs_a_trained_model() -> None:
    with pytest.raises(
        CheckpointError, match=r"tune: head starts from a trained model.* --init FILE of q-mamba"
    ):
        trials(["tune"])


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_starts_from_default_weights_of_each_method(study: str) -> None:
    inits = [
        small_checkpoint(method) for method in {variant.method.value for variant in STUDIES[study]}
    ]
    for trial in trials([study], by_method(*inits), teacher=inits[0]):
        trial.require_weights(TrainConfig(shape={"size": "nano"}))
        assert bool(trial.initialization.init) == (study not in FROM_SCRATCH)


def test_weights_of_another_shape_are_refused_before_any_training(tmp_path: Path) -> None:
    prompted = small_checkpoint("q-mamba", prompts=8)
    tune_trials = trials(["tune"], by_method(prompted))
    with pytest.raises(
        CheckpointError, match=r"tune: prompts: q-mamba-\w+ cannot start a model of another"
    ):
        run_study(tmp_path, tmp_path / "s.csv", tune_trials, TrainConfig(), seeds=1)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    old = replace(small_checkpoint("sama"), weights={"conv": torch.zeros(1)})
    path = tmp_path / "old.safetensors"
    save_checkpoint(old, path)
    for part in ("init", "teacher"):
        model = load_checkpoint(path)
        inputs: dict[str, Any] = (
            {"inits": {"sama": model}} if part == "init" else {"teacher": model}
        )
        affected = [
            trial
            for trial in trials(["masks", "teacher"], **inputs)
            if trial.initialization != Initialization()
        ]
        assert affected
        for trial in affected:
            with pytest.raises(CheckpointError, match=r"old\.safetensors was made by another"):
                trial.require_weights(TrainConfig(shape={"size": "pico"}))


def test_variants_match_their_names_with_weights_of_another_shape() -> None:
    without_stream = small_checkpoint("coarse-to-fine", has_stream=False, grid=2, patch=64)
    first, *_ = trials(
        ["methods"],
        by_method(
            without_stream, *map(small_checkpoint, ("sama", "zoom-vqa", "q-mamba", "intern-vqa"))
        ),
    )
    assert first.config(TrainConfig(), 0).shape_with(without_stream)["has_stream"]
    with pytest.raises(CheckpointError, match="_stream"):
        first.require_weights(TrainConfig())
    patches, *_ = trials(["view"], by_method(without_stream))
    shape = patches.config(TrainConfig(), 0).shape_with(without_stream)
    assert patches.variant.name == "4 x 4 patches of 32 px"
    assert (shape["grid"], shape["patch"]) == (4, 32)


@pytest.mark.parametrize("study", ["temporal", "view", "input", "methods"])
def test_the_first_variant_of_a_study_is_the_default_model(study: str) -> None:
    # so that it is trained once for all studies
    first, *_ = trials([study])
    config = first.config(TrainConfig(), 0)
    assert (
        first.initialization.student_recipe(config).shape == recipe_for(Method.COARSE_TO_FINE).shape
    )


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["sama", "sama"], "is a second file of sama"),
        (["q-mamba"], "is of q-mamba, which this study does not train"),
        (["coarse-to-fine"], "is of coarse-to-fine, which this study does not train"),
    ],
)
def test_weights_that_no_variant_uses_are_refused(
    methods: list[str], message: str, tmp_path: Path
) -> None:
    inits: list[str | Path] = []
    for number, method in enumerate(methods):
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(small_checkpoint(method), path)
        inits += ["--init", path]
    done = vqatool("study", tmp_path, "--of", "masks", "--of", "input", *inits)
    assert done.exit_code == 2
    assert f"{len(methods) - 1}.safetensors {message}" in " ".join(done.stderr.split())


def test_a_size_is_refused_if_all_variants_have_initial_weights(tmp_path: Path) -> None:
    save_checkpoint(small_checkpoint("sama"), tmp_path / "s.safetensors")
    arguments = ["--of", "masks", "--init", tmp_path / "s.safetensors"]
    done = vqatool("study", tmp_path, *arguments, "--size", "nano")
    assert done.exit_code == 2
    assert "--size is for new models" in done.stderr
    # another study starts from new models
    done = vqatool("study", tmp_path, *arguments, "--of", "terms", "--size", "nano")
    assert "holds no labelled encodes" in " ".join(done.stderr.split())


def test_weights_without_the_masks_of_the_study_are_refused(tmp_path: Path) -> None:
    save_checkpoint(small_checkpoint("sama", kind="image"), tmp_path / "s.safetensors")
    done = vqatool("study", tmp_path, "--of", "masks", "--init", tmp_path / "s.safetensors")
    assert done.exit_code == 2
    assert "mask 'sama-c' of kind image" in " ".join(done.stderr.split())


def test_a_pixel_model_starts_from_one_with_bitstream_features() -> None:
    with_stream, without_stream = (
        recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "has_stream": has}).build()
        for has in (True, False)
    )
    weights = with_stream.state_dict()
    without_stream.init_from(with_stream)
    own = without_stream.state_dict()
    same = {name for name, weight in own.items() if torch.equal(weight, weights[name])}
    # layers of probing and bitstream features together fit no model without the latter
    assert all(name.startswith("_stream.") for name in own.keys() - same)
    assert {name for name in own if not name.startswith("_stream.")} <= same
    with pytest.raises(RuntimeError, match="_stream"):
        with_stream.init_from(without_stream)
    with pytest.raises(RuntimeError, match="_stream"):  # a model file has to fit as a whole
        without_stream.load_weights(weights)
