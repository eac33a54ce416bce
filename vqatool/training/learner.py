"""One training in progress: steps, running average, validation, and the state to go on from."""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from vqatool.checkpoint import LABEL_SCALE, Card, Checkpoint
from vqatool.dataset import Batch, CachedViews
from vqatool.domain import fit_domain
from vqatool.groups import TRAIN, VAL
from vqatool.methods import Method
from vqatool.models.quality import QualityModel
from vqatool.recipes import LossWeights, Recipe, recipe_for
from vqatool.training.curves import CourseTable, draw_course
from vqatool.training.feed import Feed, Place
from vqatool.training.optimise import decayed_apart, follow, warmth
from vqatool.training.standing import Standing, read_state, write_state
from vqatool.training.validation import Judged, Validation, band, judge, validation

SAVE_EVERY_S = 30.0
_SAVE_SHARE = 0.05  # of the time, at most, goes into saving
_LINE_EVERY = 20  # steps; validations have a line besides
_DOMAIN_CLIPS = 600  # of the training side tell what the model has learned from


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a training is decided by; stored in the model file.

    A batch holds `sources` x `rungs` encodes, `step_frames` of each one's `clip_frames` frames.
    `lr` None takes 5e-4 from scratch and 1e-4 when weights are refined. After `patience`
    validations without a better one it ends early. With `max_hours` the share of the hours that is
    gone stands for the share of the steps that is done where it is the larger, so the learning rate
    comes down to zero in time; how many steps that makes depends on the machine.
    """

    method: str = Method.COARSE_TO_FINE.value
    shape: Mapping[str, Any] = field(default_factory=dict)  # of a model from scratch
    epochs: int = 30
    sources: int = 4
    rungs: int = 4
    clip_frames: int = 8
    step_frames: int = 2
    lr: float | None = None
    weight_decay: float = 0.05
    warmup_share: float = 0.08
    average: float = 0.998  # decay of the running average of the weights that is kept
    val_share: float = 0.25
    validations: int = 20
    patience: int | None = None
    max_hours: float | None = None
    seed: int = 0
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


class Learner:
    """One training: model, average, optimizer, and how far it has come.

    Nothing is left to a random state that goes on from step to step: what a step draws depends on
    the seed, the step and the process alone. So a training that is killed and goes on from its
    saved state takes the same steps again.
    """

    def __init__(
        self,
        config: TrainConfig,
        clips: CachedViews,
        val_clips: CachedViews,
        init: Checkpoint | None,
        accelerator: Accelerator,
        out: Path,
        fingerprint: str,
    ) -> None:
        torch.manual_seed(config.seed)
        self._config, self._clips, self._val_clips = config, clips, val_clips
        self._fingerprint, self._accelerator = fingerprint, accelerator
        self.state_path = out.with_name(out.name + ".training")
        self._table = CourseTable(out.with_name(f"{out.stem}-metrics.csv"))
        self._picture = out.with_suffix(".png")
        shape = init.card.shape if init else config.shape
        self._recipe: Recipe = recipe_for(Method(config.method), shape, config.weights)
        model = init.model() if init else self._recipe.build()
        self._average: QualityModel = copy.deepcopy(model).to(accelerator.device)
        self._feed = Feed(
            clips,
            sources=config.sources,
            rungs=config.rungs,
            frames=config.step_frames,
            epochs=config.epochs,
            seed=config.seed,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        self._steps = self._feed.steps
        self._peak_lr = config.lr or (1e-4 if init else 5e-4)
        optimizer = torch.optim.AdamW(decayed_apart(model, config.weight_decay), self._peak_lr)
        self._model, self._optimizer = accelerator.prepare(model, optimizer)
        self._best_weights: dict[str, Tensor] = {}
        self._at, self._share = Standing(), 0.0
        self._resume()

    def learn(self, on_progress: OnProgress) -> None:
        """All steps that are left."""
        if self._accelerator.is_main_process:
            self._table.keep_until(self._at.step)
        self._saved_s, self._save_took_s = time.monotonic(), 0.0
        self._started_s = self._saved_s - self._at.elapsed_s
        self._keep_time()
        with contextlib.closing(self._feed.left(self._at.epoch, self._at.number)) as batches:
            while not self._is_over():
                on_progress(self._take_step(batches))
        if self._accelerator.is_main_process:
            draw_course(self._table.path, self._picture)

    def checkpoint(self, label: str) -> Checkpoint:
        """The best average with its card, judged once more on the held-out sources."""
        # judge what will be used: the weights as they are stored, in half precision
        halves = {key: value.half() for key, value in self._best_weights.items()}
        self._average.load_state_dict({key: value.float() for key, value in halves.items()})
        found, device = self._judged(), self._accelerator.device
        known = judge(self._average, self._clips, device, most=_DOMAIN_CLIPS)
        config = asdict(self._config)
        card = Card(
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
        weights = {key: value.cpu() for key, value in halves.items()}
        return Checkpoint(card, weights, fit_domain(known.features_ND, found.features_ND))

    def _take_step(self, batches: Iterator[tuple[Place, Batch]]) -> Progress:
        asked_s = time.monotonic()
        place, batch = next(batches)
        wait_s = time.monotonic() - asked_s
        lr = self._lr()
        terms = self._learn_batch(batch, lr)
        at = self._at
        at.count(terms, wait_s)
        at.epoch, at.number = place.epoch, place.number + 1
        follow(self._average, self._bare_model(), at.step, self._config.average)
        self._keep_time()
        is_judged = self._validate_if_due()
        if is_judged or at.line_steps >= _LINE_EVERY:
            self._write_line(lr, is_judged=is_judged)
        self._save_if_due()
        return Progress(
            step=at.step,
            steps=max(at.step, round(at.step / self._share)),
            epoch=at.epoch,
            terms=terms,
            found=Validation(**at.found) if at.found else None,
            data_wait_share=at.data_wait_share,
        )

    def _lr(self) -> float:
        step = round(self._share * self._steps)
        return self._peak_lr * warmth(step, self._steps, self._config.warmup_share)

    def _learn_batch(self, batch: Batch, lr: float) -> dict[str, float]:
        # the chances of a step (dropout) depend on these alone, so a resumed run repeats them
        chance = (self._config.seed, self._at.step, self._accelerator.process_index)
        torch.manual_seed(hash(chance))
        self._model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        views, *targets = (_moved(part, self._accelerator.device) for part in batch)
        with self._accelerator.autocast():
            quality = self._model(*views)
        terms = self._recipe.loss(quality, *targets)
        self._optimizer.zero_grad()
        self._accelerator.backward(torch.stack(list(terms.values())).sum())
        self._accelerator.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        values = torch.stack([term.detach() for term in terms.values()]).tolist()
        return dict(zip(terms, values, strict=True))

    def _keep_time(self) -> None:
        """What is gone of the steps or, where that is more, of the time there is."""
        self._at.elapsed_s = time.monotonic() - self._started_s
        self._share = self._at.step / self._steps
        if self._config.max_hours is not None:
            gone = self._at.elapsed_s / (3600 * self._config.max_hours)
            (self._share,) = broadcast_object_list([min(1.0, max(self._share, gone))])

    def _is_over(self) -> bool:
        patience = self._config.patience
        return self._share >= 1 or (patience is not None and self._at.stale >= patience)

    def _validate_if_due(self) -> bool:
        due = int(self._share * self._config.validations + 1e-9)
        if due <= self._at.judged:
            return False
        self._at.judged = due
        # processes may differ in a last digit, and have to agree on what is best
        judged = self._judged()
        found = validation(judged.scores, judged.labels, self._val_clips.encodes)
        (found,) = broadcast_object_list([found])
        self._at.found = asdict(found)
        best = self._at.best_merit
        if best is None or found.merit >= best:
            self._at.stale = 0 if best is None or found.merit > best else self._at.stale + 1
            self._at.best_merit = found.merit
            self._at.best_step, self._at.best_epoch = self._at.step, self._at.epoch
            weights = self._average.state_dict()
            self._best_weights = {key: value.clone() for key, value in weights.items()}
        else:
            self._at.stale += 1
        return True

    def _judged(self) -> Judged:
        return judge(self._average, self._val_clips, self._accelerator.device)

    def _bare_model(self) -> nn.Module:
        model: nn.Module = self._accelerator.unwrap_model(self._model)
        return model

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
        state = {
            "best": self._best_weights,
            "model": self._bare_model().state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        write_state(self.state_path, state, self._at, self._fingerprint)
        draw_course(self._table.path, self._picture)
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
        self._bare_model().load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])


def _moved(part: Any, device: torch.device) -> Any:
    if isinstance(part, tuple):
        return tuple(tensor.to(device) for tensor in part)
    return part.to(device)
