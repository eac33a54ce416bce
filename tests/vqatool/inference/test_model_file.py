from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vqatool.errors import CheckpointError
from vqatool.inference.card import ModelCard
from vqatool.inference.fitted_clips import FittedClips
from vqatool.inference.model_file import (
    Checkpoint,
    default_checkpoint,
    load_checkpoint,
    save_checkpoint,
    shape_mismatch,
)
from vqatool.inference.ood import expose_to_outliers, fit_ood_detector
from vqatool.methods import Method, recipe_for


def test_a_checkpoint_comes_back_as_it_was(small_model: Path, tmp_path: Path) -> None:
    first = load_checkpoint(small_model)
    save_checkpoint(first, tmp_path / "again.safetensors")
    again = load_checkpoint(tmp_path / "again.safetensors")
    assert again.card == first.card
    assert again.name == first.name
    assert (tmp_path / "again.safetensors").read_bytes() == small_model.read_bytes()


@pytest.mark.parametrize("has_learned", [False, True])
def test_the_ood_detector_is_stored_in_full_precision(
    has_learned: bool, small_model: Path, tmp_path: Path
) -> None:
    first = load_checkpoint(small_model)
    assert first.ood is None
    features = torch.randn(9, 4)
    ood = fit_ood_detector(features, features)
    if has_learned:
        ood = expose_to_outliers(ood, features, features, features + 9)
    known = replace(first, ood=ood)
    save_checkpoint(known, tmp_path / "known.safetensors")
    again = load_checkpoint(tmp_path / "known.safetensors")
    assert known.ood
    assert again.ood
    assert torch.equal(again.ood.distances(features), known.ood.distances(features))
    stored, given = again.ood.tensors(), ood.tensors()
    assert stored.keys() == given.keys()
    assert all(torch.equal(stored[name], given[name]) for name in given)
    assert again.name == first.name


def test_the_clips_of_the_last_fit_are_stored(small_model: Path, tmp_path: Path) -> None:
    first, path = load_checkpoint(small_model), tmp_path / "fitted.safetensors"
    clips = FittedClips(torch.randn(5, 4), torch.rand(5), torch.tensor([0.0, 1, 0, 0, 1]))
    save_checkpoint(replace(first, fitted=clips), path)
    again = load_checkpoint(path)
    assert again.fitted
    assert again.weights.keys() == first.weights.keys()
    assert again.name == first.name
    assert torch.equal(again.fitted.unit_NU, clips.unit_NU.half().float())
    assert torch.equal(again.fitted.label_N, clips.label_N)
    assert torch.equal(again.fitted.twice_N, clips.twice_N)


def test_clips_of_a_fit_that_lack_labels_are_refused(small_model: Path, tmp_path: Path) -> None:
    clips = FittedClips(torch.randn(5, 4), torch.rand(4), torch.zeros(5))
    path = tmp_path / "fitted.safetensors"
    save_checkpoint(replace(load_checkpoint(small_model), fitted=clips), path)
    with pytest.raises(CheckpointError, match="different numbers of figures and labels"):
        load_checkpoint(path)


def test_a_model_from_before_an_argument_existed_is_one_without_it(
    small_model: Path, tmp_path: Path
) -> None:
    new = {
        "has_probing": False,
        "has_spread": False,
        "figure_noise": 0.0,
        "has_tiles": False,
        "has_figure_score": False,
        "has_deep": False,
        "has_octaves": False,
        "has_swing": True,
    }
    shape = {"size": "pico", "features": 32, "temporal_layers": 1}
    first = load_checkpoint(small_model)
    weights = recipe_for(Method.COARSE_TO_FINE, {**shape, **new}).build().state_dict()
    save_checkpoint(
        replace(first, card=replace(first.card, shape=shape), weights=weights),
        tmp_path / "former.safetensors",
    )
    again = load_checkpoint(tmp_path / "former.safetensors")
    assert again.card.shape == {**shape, **new}
    assert again.model().training is False


def test_other_weights_have_another_name(small_model: Path) -> None:
    first = load_checkpoint(small_model)
    changed = {key: value + 1 for key, value in first.weights.items()}
    assert Checkpoint(first.card, changed).name != first.name


@pytest.mark.parametrize(
    ("value", "reason"),
    [(torch.nan, "not finite"), (-torch.inf, "not finite"), (1e6, r"1e\+06, and half precision")],
)
def test_weights_that_half_precision_cannot_hold_are_refused_by_name(
    value: float, reason: str, small_model: Path, tmp_path: Path
) -> None:
    first, path = load_checkpoint(small_model), tmp_path / "model.safetensors"
    name = sorted(first.weights)[3]
    broken = first.weights[name].float().clone()
    broken.view(-1)[0] = value
    with pytest.raises(CheckpointError, match=rf"model\.safetensors .* {name} .*{reason}"):
        save_checkpoint(replace(first, weights={**first.weights, name: broken}), path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_a_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for content in (b"", b"not a model", bytes(200)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            load_checkpoint(path)


def test_weights_without_a_card_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="no card"):
        load_checkpoint(tmp_path / "bare.safetensors")


def test_a_method_of_another_version_is_refused(small_model: Path, tmp_path: Path) -> None:
    first = load_checkpoint(small_model)
    path = tmp_path / "future.safetensors"
    save_checkpoint(replace(first, card=replace(first.card, method="telepathy")), path)
    with pytest.raises(CheckpointError, match="telepathy"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "2"}, r"format '2'"),
        ({"shape": {"size": "giant"}}, r"size 'giant'"),
        ({"shape": {"colour": 3}}, r"'colour'"),
        ({"shape": [1]}, "mapping"),
    ],
)
def test_a_card_of_another_version_is_refused_by_file_and_value(
    change: dict[str, Any], words: str, small_model: Path, tmp_path: Path
) -> None:
    first = load_checkpoint(small_model)
    path = tmp_path / "future.safetensors"
    save_checkpoint(replace(first, card=replace(first.card, **change)), path)
    with pytest.raises(CheckpointError, match=rf"future\.safetensors.*{words}"):
        load_checkpoint(path)


def test_weights_that_learned_from_other_deep_features_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, {"size": "pico", "features": 32})
    card = ModelCard(method="coarse-to-fine", shape=recipe.shape, clip_frames=2, label="vmaf")
    path = tmp_path / "other.safetensors"
    with monkeypatch.context() as other:
        other.setattr("vqatool.methods.coarse_to_fine.network_digest", lambda: "other")
        save_checkpoint(Checkpoint(card, recipe.build().state_dict()), path)
    with pytest.raises(CheckpointError, match=r"other\.safetensors.*of another network"):
        load_checkpoint(path)


@pytest.mark.parametrize("card", ["[]", "{}", "no JSON", '{"format": "2", "new": 1}'])
def test_an_invalid_card_is_refused_by_file(card: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"vqatool": card})
    with pytest.raises(CheckpointError, match=r"odd\.safetensors"):
        load_checkpoint(path)


def test_weights_that_do_not_fit_their_card_are_refused(small_model: Path) -> None:
    first = load_checkpoint(small_model)
    wrong = replace(first, weights={"x": torch.zeros(1)})
    with pytest.raises(
        CheckpointError, match=r"another version of vqatool, make it again: .* do not fit"
    ):
        wrong.model()


def test_the_packaged_model_is_small_and_has_its_accuracy_in_the_card() -> None:
    with resources.as_file(resources.files("vqatool") / "weights" / "default.safetensors") as path:
        assert path.stat().st_size < 25_000_000
    checkpoint = default_checkpoint()
    assert all(value.dtype == torch.float16 for value in checkpoint.weights.values())
    count = sum(value.numel() for value in checkpoint.weights.values())
    assert 1e6 <= count <= 10e6
    assert checkpoint.card.validation["srcc"] > 0.5
    assert checkpoint.card.band > 0
    assert checkpoint.card.data["val"]["sources"] >= 10


def test_long_lists_of_weights_are_cut() -> None:
    told = shape_mismatch(RuntimeError("of a model:\n" + '"a.weight", ' * 90))
    assert told.startswith('the weights do not fit the model\'s shape: of a model:; "a.weight",')
    assert told.endswith(" ...")
    assert len(told) < 250
