"""Pre-training: the spatial module on rated pictures, as clips of one frame.

The spatial module is all of a model that looks at single frames; it is trained inside the whole
model, so what comes out is an ordinary model file that `vqatool train --init` starts from. Sets
rate on scales of their own, so each is learnt from by its order and its linear agreement alone;
only sets on VMAF's scale (without one, the first set) say where scores lie.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vqatool.errors import TrainingDataError
from vqatool.inference.model_file import Checkpoint, ModelCard
from vqatool.inference.predictor import predict, to_label_scale
from vqatool.inputs.clip import Clip
from vqatool.inputs.preprocessor import preprocess
from vqatool.losses import plcc_loss, quality_loss, rank_loss
from vqatool.methods.recipe import Recipe
from vqatool.metrics import Agreement, agreement
from vqatool.models.quality import QualityModel, TrainingOutput
from vqatool.pretraining.batches import PictureBatch, PictureBatches
from vqatool.pretraining.iqa_datasets import TEST
from vqatool.pretraining.picture_sets import PictureSet
from vqatool.training.initialization import Initialization
from vqatool.training.step import OptimizerConfig, TrainStep, make_accelerator, round_to_half

TILE_PX = 128
"""Side of the pictures a self-made set is cut into: one view of a model shaped as usual."""


_NUM_CROPS = 4  # views whose scores are averaged where a picture is larger than one


_JUDGED_AT_ONCE = 64


_JUDGED_ON_THE_WAY = 200  # pictures of each set: enough to see whether it learns


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(OptimizerConfig):
    """What a pre-training is decided by; stored in the model file.

    A step sees `batch` pictures, as many of each set, up to `versions` of one content.
    """

    steps: int = 3000
    batch: int = 32
    versions: int = 4
    plcc: float = 0.3
    rank: float = 1.0
    validations: int = 5


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step done; `srcc` is of each set's newest validation, empty before the first."""

    step: int
    steps: int
    terms: dict[str, float]
    srcc: dict[str, float]


OnProgress = Callable[[Progress], None]


def pretrain(
    sets: Sequence[PictureSet],
    config: PretrainConfig,
    *,
    init: Checkpoint | None = None,
    device: str = "auto",
    on_progress: OnProgress = lambda progress: None,
) -> Checkpoint:
    """Train on the `train` side of all sets; the card tells how good it is on their `test` sides.

    Args:
        sets: at least one; batches hold as many pictures of each.
        config: settings.
        init: weights to start from; None starts from scratch.
        device: `auto` or a torch device.
        on_progress: told after every step.

    Returns:
        The running average at the end; nothing is chosen by the test sides.

    Raises:
        TrainingDataError: no sets, or a batch too small to compare two pictures of each.
    """
    if not sets or config.batch // len(sets) < 2:
        raise TrainingDataError(
            f"{len(sets)} set(s) cannot share a batch of {config.batch}: two pictures of each are "
            "compared at least"
        )
    names = [each.name for each in sets]
    if len(set(names)) < len(names):
        raise TrainingDataError(f"two sets have one name among {', '.join(names)}: rename one")
    return _Pretraining(sets, config, init, device).run(on_progress)


class _Pretraining:
    """One pre-training: who learns, and from what."""

    def __init__(
        self,
        sets: Sequence[PictureSet],
        config: PretrainConfig,
        init: Checkpoint | None,
        device: str,
    ) -> None:
        torch.manual_seed(config.seed)
        self._sets, self._config = sets, config
        self._accelerator = make_accelerator(device)
        start = Initialization(init=init)
        self._recipe = start.recipe(config)
        self._train_step = TrainStep(
            start.model(config),
            config,
            self._accelerator,
            steps=config.steps,
            is_refined=init is not None,
        )
        self._batches = PictureBatches(
            sets,
            self._recipe.views,
            count=config.batch,
            versions=config.versions,
            seed=config.seed,
        )
        self._srcc: dict[str, float] = {}
        self._anchors = torch.tensor([each.is_vmaf_scale for each in sets])
        if not self._anchors.any():
            self._anchors[0] = True

    def run(self, on_progress: OnProgress) -> Checkpoint:
        started = time.monotonic()
        limit_s = (self._config.max_hours or float("inf")) * 3600
        steps, step = self._config.steps, 0
        for batch in self._batches.ahead(steps):
            # time may run out before the steps do: then the schedule follows the time
            share = max(step / steps, (time.monotonic() - started) / limit_s)
            if share >= 1:
                break
            loss = partial(self._terms, batch)
            terms = self._train_step.step(batch.views, loss, step=step, share=share)
            step += 1
            if step % max(1, steps // self._config.validations) == 0 and step < steps:
                found = self._evaluate(most=_JUDGED_ON_THE_WAY)
                self._srcc = {name: each.srcc for name, each in found.items()}
            on_progress(Progress(step=step, steps=steps, terms=terms, srcc=self._srcc))
        return self._checkpoint(step)

    def _terms(self, batch: PictureBatch, output: TrainingOutput) -> dict[str, Tensor]:
        """Of the score, and of each it is fused from: their sum alone leaves open where each is."""
        quality = output.quality
        scores = [quality.score_B, *(branch.score_B for branch in quality.branches)]
        terms = [self._terms_of(batch, score_B.float().cpu()) for score_B in scores]
        return {name: torch.stack([each[name] for each in terms]).mean() for name in terms[0]}

    def _terms_of(self, batch: PictureBatch, score_B: Tensor) -> dict[str, Tensor]:
        config = self._config
        members = [batch.set_B == number for number in range(len(self._sets))]
        plcc = [plcc_loss(score_B[member], batch.quality_B[member]) for member in members]
        is_anchor_B = self._anchors[batch.set_B]
        ranks = [
            rank_loss(score_B, batch.quality_B, group_B)
            for group_B in (batch.set_B, batch.content_B)
        ]
        return {
            "quality": quality_loss(score_B[is_anchor_B], batch.quality_B[is_anchor_B]),
            "plcc": config.plcc * torch.stack(plcc).mean(),
            "rank in set": config.rank * ranks[0],
            "rank in content": config.rank * ranks[1],
        }

    def _evaluate(self, most: int | None = None) -> dict[str, Agreement]:
        """Agreement on each set's test side, qualities times 100."""
        device = self._accelerator.device
        return {
            each.name: evaluate_set(
                self._train_step.ema_model, self._recipe, each, device, most=most
            )
            for each in self._sets
        }

    def _checkpoint(self, step: int) -> Checkpoint:
        average = self._train_step.ema_model
        weights = round_to_half(average, average.state_dict())
        found = self._evaluate()
        anchor = next(name for name, is_one in zip(found, self._anchors, strict=True) if is_one)
        card = ModelCard(
            method=self._config.method,
            shape=dict(self._recipe.shape),
            clip_frames=1,
            label=f"pictures: {', '.join(found)}",
            validation=asdict(found[anchor]),
            training={
                **asdict(self._config),
                "steps_done": step,
                "test_srcc": {name: each.srcc for name, each in found.items()},
            },
        )
        return Checkpoint(card, weights)


def evaluate_set(
    model: QualityModel,
    recipe: Recipe,
    pictures: PictureSet,
    device: torch.device,
    *,
    most: int | None = None,
) -> Agreement:
    """Agreement of scores with the qualities (times 100) of a set's test side.

    Of more than `most` pictures as many are taken, evenly spread.
    """
    indices = pictures.side(TEST)
    indices = indices[:: -(-len(indices) // (most or len(indices)))]
    scores: list[float] = []
    for start in range(0, len(indices), _JUDGED_AT_ONCE):
        crops = [
            _crops(recipe, pictures.pixels(i)) for i in indices[start : start + _JUDGED_AT_ONCE]
        ]
        every = [view for each in crops for view in each]
        flat = to_label_scale(predict(model, every, device, batch=32).score_B)
        ends = np.cumsum([len(each) for each in crops])[:-1]
        scores += [float(np.mean(part)) for part in np.split(np.array(flat), ends)]
    return agreement(scores, [100 * pictures.qualities[index] for index in indices])


def _crops(recipe: Recipe, picture_CHW: Tensor) -> list[list[Tensor]]:
    """A picture's views without chance, several where one does not show all of it."""
    count = 1 if max(picture_CHW.shape[-2:]) <= TILE_PX else _NUM_CROPS
    views = preprocess(recipe.views, Clip(picture_CHW.expand(count, -1, -1, -1)))
    return [
        [
            view[decode_first_segments : decode_first_segments + 1] if view.ndim > 1 else view
            for view in views
        ]
        for decode_first_segments in range(count)
    ]
