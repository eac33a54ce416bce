import math
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from ladder.errors import LockedError
from ladder.storage import work_lock
from tests.vqatool.conftest import BRIEF_FRAMES, BRIEF_SHAPE
from tests.vqatool.program import read_rows
from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.groups import loss_groups
from vqatool.data.labels import LabelledEncode, read_labelled_encodes
from vqatool.data.splits import TRAIN, VAL, encodes_of_split
from vqatool.errors import CheckpointError, OutputNameError, TrainingDataError
from vqatool.inference.model_file import load_checkpoint
from vqatool.inference.ood import fit_ood_detector
from vqatool.inputs.clip import collate
from vqatool.methods import Method, recipe_for
from vqatool.methods.recipe import LossWeights
from vqatool.models.quality import FIGURES
from vqatool.training import run as training_run
from vqatool.training import trainer
from vqatool.training.initialization import Initialization
from vqatool.training.run import CACHE_FOLDER, train
from vqatool.training.state import WAIT
from vqatool.training.step import OnProgress, Progress, make_accelerator
from vqatool.training.trainer import TrainConfig, Trainer, TrainingFiles

CONFIG = TrainConfig(shape=BRIEF_SHAPE, epochs=3, rungs=2, clip_frames=BRIEF_FRAMES, step_frames=2)

ONE_EPOCH = replace(CONFIG, epochs=1)


@pytest.fixture
def work_folder(decoded_folder: Path) -> Path:
    """The folder of a test, with decoded encodes."""
    return decoded_folder


class Interrupted(Exception):
    """Ends a training as a kill does: no later step runs."""


def test_training_writes_a_model_with_its_metrics_and_nothing_else(work_folder: Path) -> None:
    shutil.rmtree(work_folder / CACHE_FOLDER)
    out = work_folder / "model.safetensors"
    before = set(work_folder.iterdir())
    checkpoint = train(work_folder, out, CONFIG, device="cpu")
    written = {path.name for path in set(work_folder.iterdir()) - before} - {".lock"}
    new = {"model.safetensors", "model-metrics.csv", "model.png", "splits.csv", CACHE_FOLDER}
    assert written == new
    card = checkpoint.card
    assert card.validation["count"] == len(encodes_of_split(work_folder, VAL)) == 4
    assert card.label == "vmaf_v0.6.1"
    assert card.band > 0
    assert card.training["epochs"] == 3
    assert card.data["train"]["sources"] == 2
    assert load_checkpoint(out).name == checkpoint.name
    assert checkpoint.contents is not None
    learned = {encode.source for encode in encodes_of_split(work_folder, TRAIN)}
    assert set(checkpoint.contents.names) == learned


def test_progress_has_every_loss_term_and_the_newest_validation(work_folder: Path) -> None:
    updates: list[Progress] = []
    train(
        work_folder, work_folder / "m.safetensors", CONFIG, device="cpu", on_progress=updates.append
    )
    assert [progress.step for progress in updates] == list(range(1, len(updates) + 1))
    assert updates[-1].step == updates[-1].steps
    assert set(updates[0].terms) == {
        "quality",
        "plcc",
        "group",
        "rank",
        "frame",
        "spread",
        "tile",
        "pixels",
    }
    assert set(updates[-1].metrics) >= {"srcc", "plcc", "rmse", "in_group_srcc"}


def test_the_number_of_steps_counts_epochs_of_different_lengths(work_folder: Path) -> None:
    """With uneven sources, the number of batches depends on which sources are in a batch."""
    encodes = read_labelled_encodes(work_folder)
    uneven = [replace(e, source=name) for e, name in zip(encodes, "abcccccddddd", strict=True)]
    clips = inputs_of(work_folder, uneven)
    config = replace(CONFIG, epochs=4, sources=2, rungs=2)
    updates: list[Progress] = []
    Trainer(
        config,
        clips,
        clips,
        Initialization(),
        make_accelerator("cpu"),
        TrainingFiles(work_folder / "m"),
        "x",
    ).fit(updates.append)
    lengths = Counter(progress.epoch for progress in updates)
    assert len(set(lengths.values())) > 1
    assert {progress.steps for progress in updates} == {len(updates)}


def inputs_of(folder: Path, encodes: list[LabelledEncode]) -> CachedInputs:
    """The inputs of these encodes for a training with `CONFIG`."""
    recipe = recipe_for(Method.COARSE_TO_FINE, CONFIG.shape)
    clips = CachedInputs(encodes, folder / CACHE_FOLDER, recipe, 2)
    list(clips.decode_missing())
    return clips


@pytest.mark.slow
def test_a_training_interrupted_at_any_step_ends_with_the_same_file(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(trainer, "_MAX_SAVE_SHARE", math.inf)
    monkeypatch.setattr(trainer, "_LOG_EVERY", 3)
    monkeypatch.setattr(trainer, "plot_history", lambda table, picture: None)
    config = replace(CONFIG, validations=2)
    whole = work_folder / "whole.safetensors"
    train(work_folder, whole, config, device="cpu")
    for last_step in (1, 3, 4):
        broken = work_folder / f"broken-{last_step}.safetensors"
        with pytest.raises(Interrupted):
            train(work_folder, broken, config, device="cpu", on_progress=interrupt_at(last_step))
        assert not broken.exists()
        torch.manual_seed(99)  # the global random state must not matter
        steps: list[Progress] = []
        train(work_folder, broken, config, device="cpu", on_progress=steps.append)
        assert [progress.step for progress in steps] == list(range(last_step + 1, 7))
        assert broken.read_bytes() == whole.read_bytes()
        assert history(broken) == history(whole)


def interrupt_at(last_step: int) -> OnProgress:
    def interrupt(progress: Progress) -> None:
        if progress.step == last_step:
            raise Interrupted

    return interrupt


def test_a_half_written_state_is_removed_at_the_end(work_folder: Path) -> None:
    half = work_folder / "m.safetensors.training.vqatool.part"
    half.write_bytes(b"PK")
    train(work_folder, work_folder / "m.safetensors", ONE_EPOCH, device="cpu")
    assert not half.exists()


@pytest.mark.slow
def test_a_training_killed_at_a_random_step_ends_with_the_same_weights(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` may come inside a step, or while the state or the table is written."""
    monkeypatch.setattr(trainer, "_LOG_EVERY", 3)
    whole, broken = work_folder / "whole.safetensors", work_folder / "broken.safetensors"
    train(work_folder, whole, LONG, device="cpu")
    config = work_folder / "config"
    config.write_bytes(pickle.dumps(LONG))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, config, broken], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for _ in range(np.random.default_rng().integers(2, 6)):
        assert process.stderr.readline().strip().isdigit()  # a step is done
    time.sleep(np.random.default_rng().uniform(0, 0.1))  # it waits after the last step but one
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    steps: list[Progress] = []
    train(work_folder, broken, LONG, device="cpu", on_progress=steps.append)
    assert steps[0].step > 1, "it started from the beginning"
    assert broken.read_bytes() == whole.read_bytes()
    assert history(broken) == history(whole)
    assert not list(work_folder.glob("broken*.part"))


LONG = replace(CONFIG, epochs=4, validations=2)  # 8 steps
SCRIPT = """
import math, pickle, sys, time
from pathlib import Path
from vqatool.training import trainer
from vqatool.training.run import train

trainer.SAVE_EVERY_S, trainer._MAX_SAVE_SHARE, trainer._LOG_EVERY = 0.0, math.inf, 3
trainer.plot_history = lambda table, picture: None
def show(now):
    print(now.step, file=sys.stderr, flush=True)
    time.sleep(600 * (now.step == now.steps - 1))

config, out = map(Path, sys.argv[1:])
train(out.parent, out, pickle.loads(config.read_bytes()), device="cpu", on_progress=show)
"""


def history(model: Path) -> list[dict[str, str]]:
    """The rows of the metrics log beside a model, without the columns of time."""
    rows = read_rows(model.with_name(f"{model.stem}-metrics.csv"))
    return [{k: v for k, v in row.items() if k not in ("elapsed_s", WAIT)} for row in rows]


@pytest.mark.usefixtures("drawn_plots")
def test_the_history_of_a_training_is_in_a_table_and_a_plot(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_LOG_EVERY", 2)
    updates: list[Progress] = []
    config = replace(CONFIG, validations=1)
    train(
        work_folder, work_folder / "m.safetensors", config, device="cpu", on_progress=updates.append
    )
    rows = read_rows(work_folder / "m-metrics.csv")
    terms = ["quality", "plcc", "group", "rank", "frame", "spread", "tile", "pixels"]
    predictions = ["val_srcc", "val_plcc", "val_rmse", "val_in_group_srcc"]
    predictions += ["val_raw_rmse", "val_bias"]
    assert list(rows[0]) == ["step", "epoch", "lr", *terms, *predictions, "elapsed_s", WAIT]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for name in terms:  # each the mean of the steps since the last line
        mean = (updates[2].terms[name] + updates[3].terms[name]) / 2
        assert float(rows[1][name]) == pytest.approx(mean, rel=1e-5)
    assert [bool(row["val_srcc"]) for row in rows] == [False, False, True]
    assert float(rows[-1]["lr"]) < float(rows[0]["lr"])
    assert all(0 <= float(row[WAIT]) <= 1 for row in rows)
    assert (work_folder / "m.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_without_progress_ends_early(work_folder: Path) -> None:
    updates: list[Progress] = []
    out = work_folder / "m.safetensors"
    shape = {**CONFIG.shape, "figure_noise": 0.0}  # means of figures move without the weights
    still = replace(CONFIG, shape=shape, epochs=50, validations=100, patience=3, lr=1e-12)
    card = train(work_folder, out, still, device="cpu", on_progress=updates.append).card
    # the first validation is the best one, the three after it are not better
    assert [progress.step for progress in updates] == [1, 2, 3, 4]
    assert card.training["steps"] == 4


def test_a_training_ends_in_its_hours_with_a_learning_rate_of_about_zero(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates: list[Progress] = []
    out = work_folder / "m.safetensors"
    config = replace(CONFIG, epochs=5000, max_hours=7.5 / 3600, validations=2)
    clock = SimpleNamespace(monotonic=lambda: float(len(updates)))  # a second for each step
    monkeypatch.setattr(trainer, "time", clock)
    monkeypatch.setattr(trainer, "_LOG_EVERY", 2)
    card = train(work_folder, out, config, device="cpu", on_progress=updates.append).card
    assert len(updates) == 9
    assert updates[-1].steps == len(updates) == card.training["steps"]
    rows = read_rows(work_folder / "m-metrics.csv")
    assert float(rows[-1]["lr"]) < 0.3 * max(float(row["lr"]) for row in rows)
    assert float(rows[-1]["elapsed_s"]) == pytest.approx(8)
    assert rows[-1]["val_srcc"]


@pytest.mark.slow
def test_a_model_can_overfit_a_few_clips(work_folder: Path) -> None:
    """Eight clips of two sources, validated on the same clips: it ranks all of them."""
    encodes = [e for e in read_labelled_encodes(work_folder) if e.source != "bikes"]
    clips = inputs_of(work_folder, encodes)
    weights = LossWeights(group=0.3)
    config = replace(
        CONFIG, epochs=30, rungs=4, validations=6, lr=3e-3, ema_decay=0.85, weights=weights
    )
    updates: list[Progress] = []
    trainer_of_clips = Trainer(
        config,
        clips,
        clips,
        Initialization(),
        make_accelerator("cpu"),
        TrainingFiles(work_folder / "m"),
        "x",
    )
    trainer_of_clips.fit(updates.append)
    checkpoint = trainer_of_clips.checkpoint("vmaf")
    assert max(p.metrics["srcc"] for p in updates if p.metrics) == 1
    inputs = [
        torch.from_numpy(collate(column))
        for column in zip(*(clips.evaluation_views(i) for i in range(8)), strict=True)
    ]
    with torch.no_grad():
        unit_BD = F.normalize(checkpoint.model()(*inputs).features_BD, dim=1)
    groups = np.array(loss_groups(encodes))
    is_same = torch.tensor(groups[:, None] == groups[None, :])
    alike = unit_BD @ unit_BD.T
    off_diagonal = ~torch.eye(8, dtype=torch.bool)
    # the group contrast does this
    assert alike[is_same & off_diagonal].mean() > alike[~is_same].mean() + 0.1


def test_a_finished_training_is_not_repeated(work_folder: Path) -> None:
    out = work_folder / "model.safetensors"
    first = train(work_folder, out, ONE_EPOCH, device="cpu")

    def refuse(progress: Progress) -> None:
        raise AssertionError("trained again")

    again = train(work_folder, out, ONE_EPOCH, device="cpu", on_progress=refuse)
    assert again.name == first.name
    other = train(work_folder, out, replace(ONE_EPOCH, seed=1), device="cpu")
    assert other.name != first.name


def test_origins_make_it_another_training(work_folder: Path) -> None:
    out = work_folder / "model.safetensors"
    first = train(work_folder, out, ONE_EPOCH, device="cpu")
    source = read_labelled_encodes(work_folder)[0].source
    (work_folder / "origins.csv").write_text(f"source,origin\n{source},film\n")
    other = train(work_folder, out, ONE_EPOCH, device="cpu")
    assert other.card.fingerprint != first.card.fingerprint
    (work_folder / "origins.csv").unlink()
    again = train(work_folder, out, ONE_EPOCH, device="cpu")
    assert again.card.fingerprint == first.card.fingerprint


def test_training_starts_from_initial_weights(work_folder: Path, small_model: Path) -> None:
    init = load_checkpoint(small_model)
    config = replace(CONFIG, shape={}, epochs=1, lr=1e-12)
    tuned = train(
        work_folder,
        work_folder / "m.safetensors",
        config,
        initialization=Initialization(init=init),
        device="cpu",
    )
    for name, weight in init.model().named_parameters():  # means of figures are of the new data
        if not weight.requires_grad:  # the figure network is fitted anew
            continue
        assert torch.allclose(tuned.weights[name].float(), init.weights[name].float(), atol=1e-3)


def test_figures_are_fitted_alone_to_more_encodes(work_folder: Path, small_model: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 8, generator=generator)
    init = load_checkpoint(small_model)
    fitted = {**init.weights, "_figures.share": torch.ones(2).half()}
    detector = fit_ood_detector(features[:40], features[40:])
    init = replace(init, weights=fitted, ood=detector)
    config = replace(CONFIG, shape={}, tune=FIGURES)
    out = work_folder / "m.safetensors"
    tuned = train(work_folder, out, config, initialization=Initialization(init=init), device="cpu")
    changed = {
        name.split(".")[0]
        for name, weight in tuned.weights.items()
        if not torch.equal(weight, init.weights[name])
    }
    assert changed == {"_figures"}
    moved = tuned.weights["_figures._by_figures.0.weight"].float()
    moved -= init.weights["_figures._by_figures.0.weight"].float()
    assert moved.abs().mean() < 0.02  # from where it was, not from new ones
    assert tuned.ood is not None
    assert init.ood is not None
    assert tuned.ood.tensors().keys() == init.ood.tensors().keys()
    assert all(torch.equal(v, init.ood.tensors()[k]) for k, v in tuned.ood.tensors().items())
    assert tuned.card.band != init.card.band
    assert not (work_folder / "m-metrics.csv").exists()  # it has no steps
    assert train(
        work_folder, out, config, initialization=Initialization(init=init), device="cpu"
    ).card == tuned.card  # fmt: skip


def test_weights_of_another_method_are_refused(work_folder: Path, small_model: Path) -> None:
    init = load_checkpoint(small_model)
    foreign = replace(init, card=replace(init.card, method="other"))
    with pytest.raises(CheckpointError, match="other"):
        train(
            work_folder,
            work_folder / "m.safetensors",
            CONFIG,
            initialization=Initialization(init=foreign),
            device="cpu",
        )


def test_a_missing_encode_gets_an_error_that_names_it_and_the_next_step(
    work_folder: Path,
) -> None:
    missing = [encode.path for encode in read_labelled_encodes(work_folder)[1:3]]
    for path in missing:
        path.unlink()
    with pytest.raises(TrainingDataError, match="2 labelled encodes are missing") as raised:
        train(work_folder, work_folder / "m.safetensors", CONFIG, device="cpu")
    for part in (missing[0], "vqatool ladder SRC", work_folder / "labels.csv"):
        assert str(part) in str(raised.value)


def test_labels_of_two_models_are_not_mixed(work_folder: Path) -> None:
    path = work_folder / "labels.csv"
    path.write_text(path.read_text().replace("vmaf_v0.6.1", "vmaf_4k_v0.6.1", 1))
    with pytest.raises(TrainingDataError, match="mixes labels"):
        train(work_folder, work_folder / "m.safetensors", CONFIG, device="cpu")


def test_the_folder_is_locked_for_the_whole_training_and_no_longer(work_folder: Path) -> None:
    refused = []

    def use_folder(progress: Progress) -> None:
        with pytest.raises(LockedError, match="in use by another run"), work_lock(work_folder):
            pass
        refused.append(progress.step)

    out = work_folder / "m.safetensors"
    train(work_folder, out, ONE_EPOCH, device="cpu", on_progress=use_folder)
    assert refused
    with work_lock(work_folder), pytest.raises(LockedError, match="in use by another run"):
        train(work_folder, out, ONE_EPOCH, device="cpu")

    def interrupt(progress: Progress) -> None:
        raise Interrupted

    other = work_folder / "other.safetensors"
    with pytest.raises(Interrupted) as kept:  # its traceback keeps every frame of the training
        train(work_folder, other, ONE_EPOCH, device="cpu", on_progress=interrupt)
    with work_lock(work_folder):
        assert kept.tb is not None


@pytest.mark.parametrize("name", ["photo.png", "photo-metrics.csv", "photo.safetensors"])
def test_files_of_other_programs_are_not_overwritten(work_folder: Path, name: str) -> None:
    (work_folder / name).write_text("not ours")
    before = set(work_folder.iterdir())
    with pytest.raises(OutputNameError, match=rf"{name} exists .* choose another name with -o"):
        train(work_folder, work_folder / "photo.safetensors", CONFIG, device="cpu")
    assert (work_folder / name).read_text() == "not ours"
    assert set(work_folder.iterdir()) - before <= {work_folder / ".lock"}


def test_a_model_named_as_its_plot_is_refused(work_folder: Path) -> None:
    with pytest.raises(OutputNameError, match=r"ends in \.safetensors"):
        train(work_folder, work_folder / "m.png", CONFIG, device="cpu")


def test_a_cache_of_version_0_1_is_renamed_and_used(work_folder: Path) -> None:
    old = work_folder / ".views"
    shutil.rmtree(work_folder / CACHE_FOLDER)
    old.mkdir()
    (old / "x.npy").touch()
    inputs = training_run.cached_inputs(
        work_folder, read_labelled_encodes(work_folder), recipe_for(Method.COARSE_TO_FINE), 2
    )
    assert len(inputs.missing()) == 12
    assert not old.exists()
    assert (work_folder / CACHE_FOLDER / "x.npy").exists()


class OtherProcess:
    """An accelerator of a process that is not the first; any collective operation would raise."""

    is_main_process = False
    process_index = 1


def test_processes_wait_for_the_decoding_of_the_first_without_a_collective(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled = threading.Event()
    monkeypatch.setattr(training_run, "_POLL_S", 0.01)

    def sleep(seconds: float) -> None:
        polled.set()
        time.sleep(seconds)

    monkeypatch.setattr(training_run, "time", SimpleNamespace(sleep=sleep))
    encodes, recipe = read_labelled_encodes(work_folder)[:4], recipe_for(Method.SAMA)
    first, other = (training_run.cached_inputs(work_folder, encodes, recipe, 1) for _ in range(2))
    accelerator = cast(Accelerator, OtherProcess())
    waiting = threading.Thread(
        target=training_run._decode, args=([other], accelerator, lambda done, total: None)
    )
    waiting.start()
    assert polled.wait(60)
    assert waiting.is_alive()
    list(first.decode_missing())
    waiting.join(60)
    assert not waiting.is_alive()
    assert not other.missing()
