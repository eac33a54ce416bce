from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ladder import find_ffmpeg
from vqatool import learner
from vqatool.checkpoint import load_checkpoint
from vqatool.dataset import CachedViews
from vqatool.errors import CheckpointError, TrainingDataError
from vqatool.groups import VAL, labelled_of, read_labelled
from vqatool.learner import Learner, Progress, TrainConfig
from vqatool.methods import Method
from vqatool.recipes import recipe_for
from vqatool.train import train

SHAPE = {"size": "pico", "features": 32, "grid": 2, "patch": 32}
CONFIG = TrainConfig(shape=SHAPE, epochs=3, clip_frames=2, step_frames=2)


class Interrupted(Exception):
    """Stands for a kill: nothing after it runs."""


def test_training_leaves_a_model_with_its_figures_and_nothing_else(work_folder: Path) -> None:
    out = work_folder / "model.safetensors"
    before = set(work_folder.iterdir())
    checkpoint = train(work_folder, out, CONFIG, device="cpu")
    made = {path.name for path in set(work_folder.iterdir()) - before}
    assert made == {"model.safetensors", "splits.csv", ".views", ".lock"} - {
        path.name for path in before
    }
    card = checkpoint.card
    assert card.validation["count"] == len(labelled_of(work_folder, VAL)) == 4
    assert card.label == "vmaf_v0.6.1"
    assert card.band > 0
    assert card.training["epochs"] == 3
    assert card.training["train_sources"] == 2
    assert load_checkpoint(out).name == checkpoint.name


def test_every_loss_term_is_told_apart(work_folder: Path) -> None:
    seen: list[Progress] = []
    train(work_folder, work_folder / "m.safetensors", CONFIG, device="cpu", on_progress=seen.append)
    assert [progress.step for progress in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].step == seen[-1].steps
    assert set(seen[0].terms) == {"quality", "plcc", "group", "rank"}
    assert seen[-1].val_srcc is not None


def test_epochs_of_unlike_length_are_all_counted(work_folder: Path) -> None:
    """Where sources differ in their rungs, an epoch's batches depend on which ones meet."""
    encodes = read_labelled(work_folder)[:9]
    uneven = [replace(e, source=name) for e, name in zip(encodes, "abbccdddd", strict=True)]
    views = recipe_for(Method.COARSE_TO_FINE, CONFIG.shape).views
    clips = CachedViews(uneven, work_folder / ".views", views, 2, find_ffmpeg())
    list(clips.decode_missing())
    config = replace(CONFIG, epochs=6, sources=2, rungs=2)
    seen: list[Progress] = []
    Learner(config, clips, clips, None, "cpu", work_folder / "m", "x").learn(seen.append)
    lengths = Counter(progress.epoch for progress in seen)
    assert len(set(lengths.values())) > 1
    assert {progress.steps for progress in seen} == {len(seen)}


def test_an_interrupted_training_ends_with_the_same_file(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "SAVE_EVERY_S", 0.0)
    whole, broken = work_folder / "whole.safetensors", work_folder / "broken.safetensors"
    train(work_folder, whole, CONFIG, device="cpu")

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(work_folder, broken, CONFIG, device="cpu", on_progress=interrupt)
    assert not broken.exists()
    torch.manual_seed(99)  # what went on elsewhere must not matter
    steps: list[Progress] = []
    train(work_folder, broken, CONFIG, device="cpu", on_progress=steps.append)
    assert {progress.epoch for progress in steps} == {2}
    assert broken.read_bytes() == whole.read_bytes()


def test_a_finished_training_is_not_done_again(work_folder: Path) -> None:
    out = work_folder / "model.safetensors"
    first = train(work_folder, out, CONFIG, device="cpu")

    def refuse(progress: Progress) -> None:
        raise AssertionError("trained again")

    again = train(work_folder, out, CONFIG, device="cpu", on_progress=refuse)
    assert again.name == first.name
    other = train(work_folder, out, replace(CONFIG, seed=1), device="cpu")
    assert other.name != first.name


def test_training_goes_on_from_given_weights(work_folder: Path, small_model: Path) -> None:
    init = load_checkpoint(small_model)
    config = replace(CONFIG, shape={}, epochs=1, lr=1e-12)
    tuned = train(work_folder, work_folder / "m.safetensors", config, init=init, device="cpu")
    for name, value in init.weights.items():
        assert torch.allclose(tuned.weights[name].float(), value.float(), atol=1e-3)


def test_weights_of_another_method_are_refused(work_folder: Path, small_model: Path) -> None:
    init = load_checkpoint(small_model)
    foreign = replace(init, card=replace(init.card, method="other"))
    with pytest.raises(CheckpointError, match="other"):
        train(work_folder, work_folder / "m.safetensors", CONFIG, init=foreign, device="cpu")


def test_a_labelled_encode_that_is_gone_is_told_by_name_and_how_to_mend_it(
    work_folder: Path,
) -> None:
    gone = [encode.path for encode in read_labelled(work_folder)[1:3]]
    for path in gone:
        path.unlink()
    with pytest.raises(TrainingDataError, match="2 labelled encodes are gone") as told:
        train(work_folder, work_folder / "m.safetensors", CONFIG, device="cpu")
    for part in (gone[0], "vqatool ladder SRC", work_folder / "labels.csv"):
        assert str(part) in str(told.value)


def test_labels_of_two_models_are_not_mixed(work_folder: Path) -> None:
    path = work_folder / "labels.csv"
    path.write_text(path.read_text().replace("vmaf_v0.6.1", "vmaf_4k_v0.6.1", 1))
    with pytest.raises(TrainingDataError, match="mixes labels"):
        train(work_folder, work_folder / "m.safetensors", CONFIG, device="cpu")
