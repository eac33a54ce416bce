"""One training: steps, validation, the best weights, and the state to resume from."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from vqatool.data.cached_inputs import Batch, CachedInputs
from vqatool.data.labels import origins_of
from vqatool.data.splits import TRAIN, VAL
from vqatool.inference.card import LABEL_SCALE, ModelCard
from vqatool.inference.model_file import Checkpoint
from vqatool.inference.ood import OodDetector, fit_ood_detector
from vqatool.inputs.clip import DEFAULT_FRAME_GROUPS
from vqatool.methods.recipe import LossWeights
from vqatool.models.quality import FIGURES, TrainingOutput
from vqatool.training.batch_loader import BatchIndex, BatchLoader
from vqatool.training.contents import training_contents
from vqatool.training.figures import fit_figure_network
from vqatool.training.initialization import Initialization
from vqatool.training.state import (
    MetricsLog,
    TrainingState,
    plot_history,
    read_state,
    write_state,
)
from vqatool.training.step import OnProgress, OptimizerConfig, Progress, TrainStep, round_to_half
from vqatool.training.validation import Predictions, band, predict_all, validate

SAVE_EVERY_S = 30.0


_MAX_SAVE_SHARE = 0.05  # of the time goes into saving the state


_LOG_EVERY = 20  # steps; each validation writes a row, too


_MAX_OOD_CLIPS = (
    600  # clips of the training side that the out-of-distribution detector is fitted on
)


_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(OptimizerConfig):
    """Settings of a training; stored in the model file.

    A batch holds `sources` x `rungs` encodes, and `step_frames` of the `clip_frames` frame groups
    of each. The method decides how many frames a group has, and whether a step uses all groups. The
    training ends early after `patience` validations without a better one. Where `tune` is
    `FIGURES` it has no steps: the figure network is fitted to the encodes, the rest stays.
    """

    epochs: int = 30
    sources: int = 4
    rungs: int = 4
    clip_frames: int = DEFAULT_FRAME_GROUPS
    step_frames: int = 2
    val_share: float = 0.25
    validations: int = 20
    patience: int | None = None
    licence: str = ""  # of the weights, for the model card
    weights: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True)
class TrainingFiles:
    """The files of a training whose model file is `model`."""

    model: Path

    @property
    def state(self) -> Path:
        """What the training resumes from; deleted when it ends."""
        return self.model.with_name(self.model.name + ".training")

    @property
    def metrics(self) -> Path:
        """CSV of losses and validations."""
        return self.model.with_name(f"{self.model.stem}-metrics.csv")

    @property
    def picture(self) -> Path:
        """Plot of the same."""
        return self.model.with_suffix(".png")


class Trainer:
    """One training, from its saved state on if there is one.

    No random state is carried from step to step: what a step draws depends on the seed, the step
    and the process alone. So a training that was killed takes the same steps again when it resumes.

    Args:
        config: settings.
        inputs: decoded encodes to learn from.
        val_inputs: decoded encodes to validate on.
        initialization: weights to start from, and a teacher.
        accelerator: device, precision and processes.
        files: where it writes.
        fingerprint: of data and settings; a state of another fingerprint is not resumed.
    """

    def __init__(
        self,
        config: TrainConfig,
        inputs: CachedInputs,
        val_inputs: CachedInputs,
        initialization: Initialization,
        accelerator: Accelerator,
        files: TrainingFiles,
        fingerprint: str,
    ) -> None:
        torch.manual_seed(config.seed)
        self._config, self._inputs, self._val_inputs = config, inputs, val_inputs
        self._files, self._fingerprint, self._accelerator = files, fingerprint, accelerator
        self._metrics_log = MetricsLog(files.metrics)
        self._recipe = initialization.recipe(config, config.weights)
        uses_all = self._recipe.needs_all_frames
        self._loader = BatchLoader(
            inputs,
            sources=config.sources,
            rungs=config.rungs,
            num_frame_groups=config.clip_frames if uses_all else config.step_frames,
            epochs=config.epochs,
            seed=config.seed,
            process=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )
        self._train_step = TrainStep(
            initialization.model(config),
            config,
            accelerator,
            steps=self._loader.num_steps,
            is_from_scratch=initialization.init is None,
        )
        self._init = initialization.init
        self._best_weights: dict[str, Tensor] = {}
        self._state, self._share = TrainingState(), 0.0
        self._resume()

    def fit(self, on_progress: OnProgress) -> None:
        """Take all steps that are left; calls `on_progress` after each."""
        if self._config.tune == FIGURES:
            self._keep_weights()
            return
        if self._accelerator.is_main_process:
            self._metrics_log.truncate_after(self._state.step)
        self._saved_s, self._save_took_s = time.monotonic(), 0.0
        self._started_s = self._saved_s - self._state.elapsed_s
        self._update_clock()
        first = self._loader.batches_from(self._state.epoch, self._state.batch)
        with contextlib.closing(first) as batches:
            while not self._is_over():
                on_progress(self._take_step(batches))
        if self._accelerator.is_main_process:
            plot_history(self._files.metrics, self._files.picture)

    def checkpoint(self, label: str) -> Checkpoint:
        """The best averaged weights, validated once more as their file will hold them.

        Args:
            label: name of the VMAF model that the score predicts.
        """
        model = self._train_step.ema_model
        model.load_state_dict(self._best_weights)
        start = self._init.model() if self._init else None
        known = self._init.fitted if self._init else None
        fitted = fit_figure_network(
            model, self._inputs, seed=self._config.seed, start=start, known=known
        )
        weights = round_to_half(model, model.state_dict())
        predictions, origins = self._predict(), origins_of(self._val_inputs.encodes)
        config = asdict(self._config)
        validation = validate(predictions.scores, predictions.labels, self._val_inputs.encodes)
        card = ModelCard(
            method=config["method"],
            shape=dict(self._recipe.shape),
            clip_frames=config["clip_frames"],
            label=label,
            label_scale=LABEL_SCALE,
            preprocessing=self._recipe.preprocessing,
            data={TRAIN: self._inputs.summary(), VAL: self._val_inputs.summary()},
            validation=asdict(validation),
            band=band(predictions.scores, predictions.labels, origins),
            band_per_spread=(
                band(predictions.scores, predictions.labels, origins, predictions.spreads)
                if predictions.spreads
                else 0.0
            ),
            training={
                **config,
                "steps": self._state.step,
                "best_step": self._state.best_step,
                "best_epoch": self._state.best_epoch,
            },
            licence=config["licence"],
            fingerprint=self._fingerprint,
        )
        contents = training_contents(
            self._recipe, self._inputs, self._init.contents if self._init else None
        )
        return Checkpoint(
            card, weights, self._ood_detector(predictions), contents=contents, fitted=fitted
        )

    def _ood_detector(self, predictions: Predictions) -> OodDetector:
        """A new one; that of the weights a training began with if its features are the same."""
        if self._config.tune == FIGURES and self._init and self._init.ood:
            return self._init.ood
        model, device = self._train_step.ema_model, self._accelerator.device
        learned = predict_all(model, self._inputs, device, max_clips=_MAX_OOD_CLIPS)
        return fit_ood_detector(learned.features_ND, predictions.features_ND)

    def _take_step(self, batches: Iterator[tuple[BatchIndex, Batch]]) -> Progress:
        asked_s = time.monotonic()
        index, batch = next(batches)
        wait_s = time.monotonic() - asked_s
        state, lr = self._state, self._train_step.lr(self._share)
        terms = self._step_on_batch(batch)
        state.add_step(terms, wait_s)
        state.epoch, state.batch = index.epoch, index.number + 1
        self._update_clock()
        is_validated = self._validate_if_due()
        if is_validated or state.log_steps >= _LOG_EVERY:
            self._log_row(lr, is_validated=is_validated)
        self._save_if_due()
        return Progress(
            step=state.step,
            steps=max(state.step, round(state.step / self._share)),
            epoch=state.epoch,
            terms=terms,
            metrics=state.validation or {},
            data_wait_share=state.data_wait_share,
        )

    def _step_on_batch(self, batch: Batch) -> dict[str, float]:
        # dropout depends on these alone, so a resumed training repeats it
        seed = (self._config.seed, self._state.step, self._accelerator.process_index)
        torch.manual_seed(hash(seed))
        views, *targets = batch
        device = self._accelerator.device

        def loss(output: TrainingOutput) -> dict[str, Tensor]:
            return self._recipe.loss(output, *(target.to(device) for target in targets))

        return self._train_step.step(views, loss, share=self._share)

    def _update_clock(self) -> None:
        """Share of the steps that is done or, where that is more, of the time that is gone."""
        self._state.elapsed_s = time.monotonic() - self._started_s
        self._share = self._state.step / self._loader.num_steps
        if self._config.max_hours is not None:
            gone = self._state.elapsed_s / (3600 * self._config.max_hours)
            (self._share,) = broadcast_object_list([min(1.0, max(self._share, gone))])

    def _is_over(self) -> bool:
        patience = self._config.patience
        return self._share >= 1 or (
            patience is not None and self._state.validations_without_improvement >= patience
        )

    def _validate_if_due(self) -> bool:
        state = self._state
        due = int(self._share * self._config.validations + 1e-9)
        if due <= state.num_validations:
            return False
        state.num_validations = due
        predictions = self._predict()
        validation = validate(predictions.scores, predictions.labels, self._val_inputs.encodes)
        # processes may differ in a last digit, and must agree on which weights are best
        (validation,) = broadcast_object_list([validation])
        state.validation = asdict(validation)
        metric, best = validation.selection_metric, state.best_selection_metric
        is_better = best is None or metric > best
        state.validations_without_improvement = (
            0 if is_better else state.validations_without_improvement + 1
        )
        if is_better or metric == best:  # of equal ones, the later has learned from more steps
            state.best_selection_metric = metric
            state.best_step, state.best_epoch = state.step, state.epoch
            self._keep_weights()
            _log.info("step %d: kept the weights, selection metric %.4f", state.step, metric)
        return True

    def _keep_weights(self) -> None:
        weights = self._train_step.ema_model.state_dict()
        self._best_weights = {key: value.clone() for key, value in weights.items()}

    def _predict(self) -> Predictions:
        model, device = self._train_step.ema_model, self._accelerator.device
        return predict_all(model, self._val_inputs, device)

    def _log_row(self, lr: float, *, is_validated: bool) -> None:
        row = self._state.next_row(lr, is_validated=is_validated)
        if self._accelerator.is_main_process:
            self._metrics_log.append(row)

    def _save_if_due(self) -> None:
        """Save every half minute, or less often where saving would take much of the time."""
        began_s = time.monotonic()
        wait_s = max(SAVE_EVERY_S, self._save_took_s / _MAX_SAVE_SHARE)
        if not self._accelerator.is_main_process or began_s - self._saved_s < wait_s:
            return
        weights = {"best": self._best_weights, **self._train_step.state_dict()}
        write_state(self._files.state, weights, self._state, self._fingerprint)
        plot_history(self._files.metrics, self._files.picture)
        self._saved_s = time.monotonic()
        self._save_took_s = self._saved_s - began_s
        _log.debug("step %d: saved %s", self._state.step, self._files.state)

    def _resume(self) -> None:
        """Restore a saved state of the same data and settings; the next save replaces others."""
        saved = read_state(self._files.state, self._fingerprint)
        if saved is None:
            return
        weights, self._state = saved
        self._best_weights = weights["best"]
        self._train_step.load_state_dict(weights)
        _log.info("resumed at step %d of %s", self._state.step, self._files.state)
