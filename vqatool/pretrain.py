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

from vqatool.checkpoint import Card, Checkpoint
from vqatool.clips import Clip, see
from vqatool.errors import TrainingDataError
from vqatool.losses import plcc_loss, quality_loss, rank_loss
from vqatool.metrics import Agreement, agreement
from vqatool.models.quality import Quality, QualityModel
from vqatool.predict import scores_and_features
from vqatool.pretraining.iqa import TEST
from vqatool.pretraining.picture_batches import PictureBatch, PictureBatches
from vqatool.pretraining.pictures import PictureSet
from vqatool.recipes import Recipe
from vqatool.training.optimise import OptimiseConfig, Trainee, accelerator_on, as_stored
from vqatool.training.start import Start

TILE_PX = 128
"""Side of the pictures a self-made set is cut into: one view of a model shaped as usual."""

_LOOKS = 4  # views whose scores are averaged where a picture is larger than one
_JUDGED_AT_ONCE = 64
_JUDGED_ON_THE_WAY = 200  # pictures of each set: enough to see whether it learns


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(OptimiseConfig):
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
        self._accelerator = accelerator_on(device)
        start = Start(init=init)
        self._recipe = start.recipe(config)
        self._trainee = Trainee(
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
            terms = self._trainee.learn(batch.views, loss, step=step, share=share)
            step += 1
            if step % max(1, steps // self._config.validations) == 0 and step < steps:
                found = self._judge(most=_JUDGED_ON_THE_WAY)
                self._srcc = {name: each.srcc for name, each in found.items()}
            on_progress(Progress(step=step, steps=steps, terms=terms, srcc=self._srcc))
        return self._checkpoint(step)

    def _terms(self, batch: PictureBatch, quality: Quality) -> dict[str, Tensor]:
        """Of the score, and of each it is fused from: their sum alone leaves open where each is."""
        said = [quality.score_B, *(branch.score_B for branch in quality.branches)]
        terms = [self._terms_of(batch, score_B.float().cpu()) for score_B in said]
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

    def _judge(self, most: int | None = None) -> dict[str, Agreement]:
        """Agreement on each set's test side, qualities times 100."""
        device = self._accelerator.device
        return {
            each.name: judge(self._trainee.average, self._recipe, each, device, most=most)
            for each in self._sets
        }

    def _checkpoint(self, step: int) -> Checkpoint:
        average = self._trainee.average
        weights = as_stored(average, average.state_dict())
        found = self._judge()
        anchor = next(name for name, is_one in zip(found, self._anchors, strict=True) if is_one)
        card = Card(
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


def judge(
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
        looks = [
            _looks(recipe, pictures.pixels(i)) for i in indices[start : start + _JUDGED_AT_ONCE]
        ]
        every = [view for each in looks for view in each]
        flat, _ = scores_and_features(model, every, device, batch=32)
        ends = np.cumsum([len(each) for each in looks])[:-1]
        scores += [float(np.mean(part)) for part in np.split(np.array(flat), ends)]
    return agreement(scores, [100 * pictures.qualities[index] for index in indices])


def _looks(recipe: Recipe, picture_CHW: Tensor) -> list[list[Tensor]]:
    """A picture's views without chance, several where one does not show all of it."""
    count = 1 if max(picture_CHW.shape[-2:]) <= TILE_PX else _LOOKS
    views = see(recipe.views, Clip(picture_CHW.expand(count, -1, -1, -1)))
    return [
        [view[look : look + 1] if view.ndim > 1 else view for view in views]
        for look in range(count)
    ]
