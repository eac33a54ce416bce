"""One training in progress: steps, running average, validation, and the state to go on from."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from vqatool.data.cached_inputs import Batch, CachedInputs
from vqatool.data.splits import TRAIN, VAL
from vqatool.inference.model_file import LABEL_SCALE, Checkpoint, ModelCard
from vqatool.inference.ood import fit_ood_detector
from vqatool.inputs.clip import DEFAULT_FRAME_GROUPS
from vqatool.methods.recipe import LossWeights
from vqatool.models.quality import TrainingOutput
from vqatool.training.batch_loader import BatchIndex, BatchLoader
from vqatool.training.history import MetricsLog, plot_history
from vqatool.training.initialization import Initialization
from vqatool.training.state import TrainingState, read_state, write_state
from vqatool.training.step import OptimizerConfig, TrainStep, round_to_half
from vqatool.training.validation import Predictions, Validation, band, predict_all, validation

SAVE_EVERY_S = 30.0


_SAVE_SHARE = 0.05  # of the time, at most, goes into saving


_LINE_EVERY = 20  # steps; validations have a line besides


_OOD_CLIPS = 600  # of the training side tell what the model has learned from


@dataclass(frozen=True, kw_only=True)
class TrainConfig(OptimizerConfig):
    """What a training is decided by; stored in the model file.

    A batch holds `sources` x `rungs` encodes, `step_frames` of the `clip_frames` bursts of
    each; how many frames a burst has is the method's, and whether a step sees all bursts.
    After `patience` validations without a better one it ends early.
    """

    epochs: int = 30
    sources: int = 4
    rungs: int = 4
    clip_frames: int = DEFAULT_FRAME_GROUPS
    step_frames: int = 2
    val_share: float = 0.25
    validations: int = 20
    patience: int | None = None
    licence: str = ""  # of the weights, for their card
    weights: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step done of about `steps`; `terms` are the loss terms, `found` the newest validation."""

    step: int
    steps: int
    epoch: int
    terms: dict[str, float]
    found: Validation | None
    data_wait_share: float


OnProgress = Callable[[Progress], None]


class Trainer:
    """One training: who learns, from what, and how far it has come.

    Nothing is left to a random state that goes on from step to step: what a step draws depends on
    the seed, the step and the process alone. So a training that is killed and goes on from its
    saved state takes the same steps again.
    """

    def __init__(
        self,
        config: TrainConfig,
        clips: CachedInputs,
        val_clips: CachedInputs,
        initialization: Initialization,
        accelerator: Accelerator,
        out: Path,
        fingerprint: str,
    ) -> None:
        torch.manual_seed(config.seed)
        self._config, self._clips, self._val_clips = config, clips, val_clips
        self._fingerprint, self._accelerator = fingerprint, accelerator
        self.state_path = out.with_name(out.name + ".training")
        self._table = MetricsLog(out.with_name(f"{out.stem}-metrics.csv"))
        self._picture = out.with_suffix(".png")
        self._recipe = initialization.recipe(config, config.weights)
        self._loader = BatchLoader(
            clips,
            sources=config.sources,
            rungs=config.rungs,
            num_frame_groups=config.clip_frames
            if self._recipe.needs_all_frames
            else config.step_frames,
            epochs=config.epochs,
            seed=config.seed,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        self._steps = self._loader.steps
        self._train_step = TrainStep(
            initialization.model(config),
            config,
            accelerator,
            steps=self._steps,
            is_refined=initialization.init is not None,
        )
        self._best_weights: dict[str, Tensor] = {}
        self._at, self._share = TrainingState(), 0.0
        self._resume()

    def fit(self, on_progress: OnProgress) -> None:
        """All steps that are left."""
        if self._accelerator.is_main_process:
            self._table.truncate_after(self._at.step)
        self._saved_s, self._save_took_s = time.monotonic(), 0.0
        self._started_s = self._saved_s - self._at.elapsed_s
        self._update_clock()
        with contextlib.closing(self._loader.left(self._at.epoch, self._at.number)) as batches:
            while not self._is_over():
                on_progress(self._take_step(batches))
        if self._accelerator.is_main_process:
            plot_history(self._table.path, self._picture)

    def checkpoint(self, label: str) -> Checkpoint:
        """The best average with its card, judged once more on the held-out sources."""
        model = self._train_step.ema_model
        weights = round_to_half(model, self._best_weights)  # what will be used is what is judged
        found = self._judged()
        known = predict_all(model, self._clips, self._accelerator.device, most=_OOD_CLIPS)
        config = asdict(self._config)
        card = ModelCard(
            method=config["method"],
            shape=dict(self._recipe.shape),
            clip_frames=config["clip_frames"],
            label=label,
            label_scale=LABEL_SCALE,
            preprocessing=self._recipe.preprocessing,
            data={TRAIN: self._clips.summary(), VAL: self._val_clips.summary()},
            validation=asdict(validation(found.scores, found.labels, self._val_clips.encodes)),
            band=band(found.scores, found.labels, [e.source for e in self._val_clips.encodes]),
            training={
                **config,
                "steps": self._at.step,
                "best_step": self._at.best_step,
                "best_epoch": self._at.best_epoch,
            },
            licence=config["licence"],
            fingerprint=self._fingerprint,
        )
        return Checkpoint(card, weights, fit_ood_detector(known.features_ND, found.features_ND))

    def _take_step(self, batches: Iterator[tuple[BatchIndex, Batch]]) -> Progress:
        asked_s = time.monotonic()
        place, batch = next(batches)
        wait_s = time.monotonic() - asked_s
        at, share = self._at, self._share
        terms = self._step_on_batch(batch)
        at.count(terms, wait_s)
        at.epoch, at.number = place.epoch, place.number + 1
        self._update_clock()
        is_judged = self._validate_if_due()
        if is_judged or at.line_steps >= _LINE_EVERY:
            self._write_line(self._train_step.lr(share), is_judged=is_judged)
        self._save_if_due()
        return Progress(
            step=at.step,
            steps=max(at.step, round(at.step / self._share)),
            epoch=at.epoch,
            terms=terms,
            found=Validation(**at.found) if at.found else None,
            data_wait_share=at.data_wait_share,
        )

    def _step_on_batch(self, batch: Batch) -> dict[str, float]:
        # the chances of a step (dropout) depend on these alone, so a resumed run repeats them
        chance = (self._config.seed, self._at.step, self._accelerator.process_index)
        torch.manual_seed(hash(chance))
        views, *targets = batch
        device = self._accelerator.device

        def loss(output: TrainingOutput) -> dict[str, Tensor]:
            return self._recipe.loss(output, *(target.to(device) for target in targets))

        return self._train_step.step(views, loss, step=self._at.step, share=self._share)

    def _update_clock(self) -> None:
        """What is gone of the steps or, where that is more, of the time there is."""
        self._at.elapsed_s = time.monotonic() - self._started_s
        self._share = self._at.step / self._steps
        if self._config.max_hours is not None:
            gone = self._at.elapsed_s / (3600 * self._config.max_hours)
            (self._share,) = broadcast_object_list([min(1.0, max(self._share, gone))])

    def _is_over(self) -> bool:
        patience = self._config.patience
        return self._share >= 1 or (
            patience is not None and self._at.validations_without_improvement >= patience
        )

    def _validate_if_due(self) -> bool:
        due = int(self._share * self._config.validations + 1e-9)
        if due <= self._at.predictions:
            return False
        self._at.predictions = due
        # processes may differ in a last digit, and have to agree on what is best
        predictions = self._judged()
        found = validation(predictions.scores, predictions.labels, self._val_clips.encodes)
        (found,) = broadcast_object_list([found])
        self._at.found = asdict(found)
        best = self._at.best_selection_metric
        if best is None or found.selection_metric >= best:
            self._at.validations_without_improvement = (
                0
                if best is None or found.selection_metric > best
                else self._at.validations_without_improvement + 1
            )
            self._at.best_selection_metric = found.selection_metric
            self._at.best_step, self._at.best_epoch = self._at.step, self._at.epoch
            weights = self._train_step.ema_model.state_dict()
            self._best_weights = {key: value.clone() for key, value in weights.items()}
        else:
            self._at.validations_without_improvement += 1
        return True

    def _judged(self) -> Predictions:
        return predict_all(self._train_step.ema_model, self._val_clips, self._accelerator.device)

    def _write_line(self, lr: float, *, is_judged: bool) -> None:
        line = self._at.line(lr, is_judged=is_judged)
        if self._accelerator.is_main_process:
            self._table.add(line)

    def _save_if_due(self) -> None:
        """Every half minute, but seldom enough to take little of the time."""
        began_s = time.monotonic()
        wait_s = max(SAVE_EVERY_S, self._save_took_s / _SAVE_SHARE)
        if not self._accelerator.is_main_process or began_s - self._saved_s < wait_s:
            return
        state = {"best": self._best_weights, **self._train_step.state()}
        write_state(self.state_path, state, self._at, self._fingerprint)
        plot_history(self._table.path, self._picture)
        self._saved_s = time.monotonic()
        self._save_took_s = self._saved_s - began_s

    def _resume(self) -> None:
        """Go on from a saved state of the same data and settings.

        One of others is passed over, and the next save takes its place.
        """
        found = read_state(self.state_path, self._fingerprint)
        if found is None:
            return
        state, self._at = found
        self._best_weights = state["best"]
        self._train_step.load_state(state)
