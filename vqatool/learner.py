"""One training in progress: steps, running average, validation, and the state to go on from."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vqatool.checkpoint import Card, Checkpoint
from vqatool.dataset import Batch, CachedViews
from vqatool.device import device_named, fast_precision
from vqatool.groups import balanced_batches
from vqatool.methods import Method
from vqatool.metrics import agreement
from vqatool.models.quality import QualityModel
from vqatool.predict import score_views
from vqatool.recipes import LossWeights, Recipe, recipe_for

SAVE_EVERY_S = 30.0
_BAND_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What a training is decided by; stored in the model file.

    A batch holds `sources` x `rungs` encodes, `step_frames` of each one's `clip_frames` frames.
    `lr` None takes 5e-4 from scratch and 1e-4 when weights are refined.
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
    seed: int = 0
    weights: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step done; `terms` are the loss terms, `val_srcc` the newest validation's, if any."""

    step: int
    steps: int
    epoch: int
    terms: dict[str, float]
    val_srcc: float | None


OnProgress = Callable[[Progress], None]


@dataclass
class _Best:
    """The running average that did best on the held-out sources so far."""

    srcc: float = -math.inf
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


class Learner:
    """One training: model, average, optimizer, and how far it has come."""

    def __init__(
        self,
        config: TrainConfig,
        clips: CachedViews,
        val_clips: CachedViews,
        init: Checkpoint | None,
        device: str,
        out: Path,
        fingerprint: str,
    ) -> None:
        torch.manual_seed(config.seed)
        self._config, self._clips, self._val_clips = config, clips, val_clips
        self._fingerprint = fingerprint
        self.state_path = out.with_name(out.name + ".training")
        where = device_named(device)
        self._accelerator = Accelerator(
            cpu=where.type == "cpu", mixed_precision=fast_precision(where)
        )
        self.is_main = self._accelerator.is_main_process
        shape = init.card.shape if init else config.shape
        self._recipe: Recipe = recipe_for(Method(config.method), shape, config.weights)
        model = init.model() if init else self._recipe.build()
        self._average: QualityModel = copy.deepcopy(model).to(self._accelerator.device)
        self._steps = sum(len(self._batches(epoch)) for epoch in range(config.epochs))
        self._peak_lr = config.lr or (1e-4 if init else 5e-4)
        optimizer = torch.optim.AdamW(_decayed_apart(model, config.weight_decay), self._peak_lr)
        self._model, self._optimizer = self._accelerator.prepare(model, optimizer)
        self._step, self._epoch, self._best = 0, 0, _Best()
        self._val_srcc: float | None = None
        self._resume()

    def learn(self, on_progress: OnProgress) -> None:
        """All epochs that are left."""
        saved_at = time.monotonic()
        while self._epoch < self._config.epochs:
            # each epoch's chances depend on its number alone, so a resumed run repeats them
            torch.manual_seed(hash((self._config.seed, self._epoch)))
            for number, indices in enumerate(self._batches(self._epoch)):
                terms = self._learn_batch(indices, hash((self._config.seed, self._epoch, number)))
                on_progress(self._progress(terms))
            self._epoch += 1
            if self._is_validation_due():
                self._validate()
            if self.is_main and time.monotonic() - saved_at > SAVE_EVERY_S:
                self._save()
                saved_at = time.monotonic()

    def checkpoint(self, label: str) -> Checkpoint:
        """The best average with its card, judged once more on the held-out sources."""
        # judge what will be used: the weights as they are stored, in half precision
        halves = {key: value.half() for key, value in self._best.weights.items()}
        self._average.load_state_dict({key: value.float() for key, value in halves.items()})
        scores, labels = self._judge()
        found = agreement(scores, labels)
        card = Card(
            method=self._config.method,
            shape=dict(self._recipe.shape),
            clip_frames=self._config.clip_frames,
            label=label,
            validation=asdict(found),
            band=_band(scores, labels),
            training={
                **asdict(self._config),
                "best_epoch": self._best.epoch,
                "train_sources": len({e.source for e in self._clips.encodes}),
                "train_encodes": len(self._clips.encodes),
                "val_sources": len({e.source for e in self._val_clips.encodes}),
            },
            fingerprint=self._fingerprint,
        )
        return Checkpoint(card, {key: value.cpu() for key, value in halves.items()})

    def _batches(self, epoch: int) -> list[list[int]]:
        config = self._config
        batches = balanced_batches(
            self._clips.encodes,
            sources=config.sources,
            rungs=config.rungs,
            seed=config.seed * 100_003 + epoch,
        )
        # every process takes as many, for they wait for each other; too few are shared by all
        processes = self._accelerator.num_processes
        whole = len(batches) - len(batches) % processes
        return batches[self._accelerator.process_index : whole : processes] or batches

    def _learn_batch(self, indices: Sequence[int], seed: int) -> dict[str, float]:
        self._model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self._peak_lr * self._warmth()
        batch = self._on_device(
            self._clips.batch(indices, seed=seed, frames=self._config.step_frames)
        )
        with self._accelerator.autocast():
            quality = self._model(*batch.views)
        terms = self._recipe.loss(quality, batch.label_B, batch.group_B)
        self._optimizer.zero_grad()
        self._accelerator.backward(torch.stack(list(terms.values())).sum())
        self._accelerator.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._step += 1
        self._follow()
        return {name: float(term.detach()) for name, term in terms.items()}

    def _on_device(self, batch: Batch) -> Batch:
        device = self._accelerator.device
        return Batch(
            views=tuple(view.to(device) for view in batch.views),
            label_B=batch.label_B.to(device),
            group_B=batch.group_B.to(device),
            frame_label_BT=batch.frame_label_BT.to(device),
        )

    def _warmth(self) -> float:
        """Share of the learning rate: a linear warm-up, then half a cosine."""
        warmup = max(1, round(self._config.warmup_share * self._steps))
        if self._step < warmup:
            return (self._step + 1) / warmup
        done = (self._step - warmup) / max(1, self._steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the model, faster in the first steps."""
        decay = min(self._config.average, (1 + self._step) / (10 + self._step))
        model = self._accelerator.unwrap_model(self._model)
        for kept, new in zip(self._average.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)

    def _is_validation_due(self) -> bool:
        every = max(1, self._config.epochs // self._config.validations)
        return self._epoch % every == 0 or self._epoch == self._config.epochs

    def _validate(self) -> None:
        found = agreement(*self._judge())
        # two encodes have no rank correlation worth the name: then the newest is the best
        srcc = found.srcc if math.isfinite(found.srcc) else -1.0
        self._val_srcc = found.srcc
        if srcc >= self._best.srcc or not self._best.weights:
            weights = {key: value.clone() for key, value in self._average.state_dict().items()}
            self._best = _Best(srcc, self._epoch, weights)

    def _judge(self) -> tuple[list[float], list[float]]:
        views = (self._val_clips.seen(index) for index in range(len(self._val_clips.encodes)))
        scores = score_views(self._average, list(views), self._accelerator.device)
        return scores, [encode.vmaf for encode in self._val_clips.encodes]

    def _progress(self, terms: dict[str, float]) -> Progress:
        return Progress(
            step=self._step,
            steps=self._steps,
            epoch=self._epoch,
            terms=terms,
            val_srcc=self._val_srcc,
        )

    def _save(self) -> None:
        state = {
            "fingerprint": self._fingerprint,
            "step": self._step,
            "epoch": self._epoch,
            "val_srcc": self._val_srcc,
            "best": asdict(self._best),
            "model": self._accelerator.unwrap_model(self._model).state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        part = self.state_path.with_name(self.state_path.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        part.replace(self.state_path)

    def _resume(self) -> None:
        """Go on from a saved state of the same data and settings.

        One of others is passed over, and the next save takes its place.
        """
        if not self.state_path.exists():
            return
        device = self._accelerator.device
        state: dict[str, Any] = torch.load(self.state_path, device, weights_only=True)
        if state["fingerprint"] != self._fingerprint:
            return
        self._step, self._epoch = state["step"], state["epoch"]
        self._val_srcc, self._best = state["val_srcc"], _Best(**state["best"])
        self._accelerator.unwrap_model(self._model).load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])


def _decayed_apart(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices are decayed; biases, norms and scales, being vectors, are not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = (([p for p in parameters if p.ndim > 1], weight_decay),
              ([p for p in parameters if p.ndim <= 1], 0.0))  # fmt: skip
    return [{"params": members, "weight_decay": decay} for members, decay in groups]


def _band(scores: Sequence[float], labels: Sequence[float]) -> float:
    errors = np.abs(np.subtract(scores, labels))
    return float(np.quantile(errors, _BAND_SHARE, method="higher"))
