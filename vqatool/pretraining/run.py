"""Pre-training: the spatial module on rated pictures, which are clips of one frame.

The spatial module is the part of a model that processes single frames. It is trained inside the
whole model, so the result is an ordinary model file that `vqatool train --init` can start from.
Every set has its own rating scale, so the losses of a set compare its pictures by rank and linear
correlation only; the sets on VMAF's scale (without one, the first set) fix the scale of the scores.
"""

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vqatool.errors import TrainingDataError
from vqatool.inference.card import ModelCard
from vqatool.inference.model_file import Checkpoint
from vqatool.inference.predictor import to_label_scale
from vqatool.inference.torch_engine import predict
from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.preprocessor import preprocess
from vqatool.losses import plcc_loss, quality_loss, rank_loss
from vqatool.methods.recipe import Recipe
from vqatool.metrics import Agreement, agreement
from vqatool.models.quality import QualityModel, TrainingOutput
from vqatool.pretraining.batches import PictureBatch, PictureBatches
from vqatool.pretraining.iqa_datasets import TEST
from vqatool.pretraining.picture_sets import PictureSet
from vqatool.training.initialization import Initialization
from vqatool.training.step import (
    OnProgress,
    OptimizerConfig,
    Progress,
    TrainStep,
    make_accelerator,
    round_to_half,
)

TILE_PX = 128
"""Side of the tiles of a synthetic set: the view of a model in its default shape."""


_NUM_CROPS = 4  # their scores are averaged where a picture is larger than one view


_PICTURES_AT_ONCE = 64  # in memory


_VALIDATION_PICTURES = 200  # of each set, for validations during training


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(OptimizerConfig):
    """Settings of a pre-training; stored in the model file.

    A batch holds `batch` pictures in equal shares of the sets, at most `versions` of one content.
    `plcc` and `rank` are the weights of loss terms.
    """

    steps: int = 3000
    batch: int = 32
    versions: int = 4
    plcc: float = 0.3
    rank: float = 1.0
    validations: int = 5


_log = logging.getLogger(__name__)


def pretrain(
    sets: Sequence[PictureSet],
    config: PretrainConfig,
    *,
    init: Checkpoint | None = None,
    device: str = "auto",
    on_progress: OnProgress = lambda progress: None,
) -> Checkpoint:
    """Train on the `train` side of all sets; the model card has the agreement on the `test` sides.

    Args:
        sets: at least one, with names that differ.
        config: settings.
        init: weights to start from; None for random weights.
        device: `auto` or a torch device.
        on_progress: called after every step; its `metrics` are the SRCC of each set by name.

    Returns:
        The averaged weights after the last step; the test sides select nothing.

    Raises:
        TrainingDataError: no sets, a batch of fewer than two pictures of each set, or two sets of
            the same name.
    """
    if not sets or config.batch // len(sets) < 2:
        raise TrainingDataError(
            f"{len(sets)} set(s) cannot share a batch of {config.batch}: it must hold at least two "
            "pictures of each, so raise --batch"
        )
    names = [pictures.name for pictures in sets]
    if len(set(names)) < len(names):
        raise TrainingDataError(f"two sets have the same name in {', '.join(names)}: rename one")
    return _Pretraining(sets, config, init, device).run(on_progress)


class _Pretraining:
    """One pre-training: model, batches and validation."""

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
        initialization = Initialization(init=init)
        self._recipe = initialization.recipe(config)
        self._train_step = TrainStep(
            initialization.model(config),
            config,
            self._accelerator,
            steps=config.steps,
            is_from_scratch=init is None,
        )
        self._batches = PictureBatches(
            sets,
            self._recipe.step_views,
            count=config.batch,
            versions=config.versions,
            seed=config.seed,
        )
        self._srcc: dict[str, float] = {}
        self._anchors = torch.tensor([pictures.is_vmaf_scale for pictures in sets])
        if not self._anchors.any():
            self._anchors[0] = True

    def run(self, on_progress: OnProgress) -> Checkpoint:
        started_s = time.monotonic()
        limit_s = (self._config.max_hours or float("inf")) * 3600
        steps, step = self._config.steps, 0
        with contextlib.closing(self._batches.batches(steps)) as batches:
            for batch in batches:
                # if the time limit comes before the last step, the schedule follows the time
                share = max(step / steps, (time.monotonic() - started_s) / limit_s)
                if share >= 1 and step:  # at least one step, so that there is a model
                    _log.info("the time limit ended the training after %d of %d steps", step, steps)
                    break
                loss = partial(self._terms, batch)
                terms = self._train_step.step(batch.views, loss, share=share)
                step += 1
                if step % max(1, steps // self._config.validations) == 0 and step < steps:
                    agreements = self._evaluate(max_pictures=_VALIDATION_PICTURES)
                    self._srcc = {name: each.srcc for name, each in agreements.items()}
                on_progress(Progress(step=step, steps=steps, terms=terms, metrics=self._srcc))
        return self._checkpoint(step)

    def _terms(self, batch: PictureBatch, output: TrainingOutput) -> dict[str, Tensor]:
        """Mean of the loss terms over the fused score and the score of each branch.

        A loss of only the fused score does not determine the branch scores: one could grow without
        limit while another falls.
        """
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

    def _evaluate(self, max_pictures: int | None = None) -> dict[str, Agreement]:
        """Agreement on the test side of each set, by its name."""
        model, device = self._train_step.ema_model, self._accelerator.device
        return {
            pictures.name: evaluate_set(
                model, self._recipe, pictures, device, max_pictures=max_pictures
            )
            for pictures in self._sets
        }

    def _checkpoint(self, step: int) -> Checkpoint:
        model = self._train_step.ema_model
        weights = round_to_half(model, model.state_dict())
        agreements = self._evaluate()
        names = zip(agreements, self._anchors, strict=True)
        anchor = next(name for name, is_anchor in names if is_anchor)
        card = ModelCard(
            method=self._config.method,
            shape=dict(self._recipe.shape),
            clip_frames=1,
            label=f"pictures: {', '.join(agreements)}",
            validation=asdict(agreements[anchor]),
            training={
                **asdict(self._config),
                "steps_done": step,
                "test_srcc": {name: each.srcc for name, each in agreements.items()},
            },
        )
        return Checkpoint(card, weights)


def evaluate_set(
    model: QualityModel,
    recipe: Recipe,
    pictures: PictureSet,
    device: torch.device,
    *,
    max_pictures: int | None = None,
) -> Agreement:
    """Agreement of scores with the qualities, times 100, of a set's test side.

    If the side is larger than `max_pictures`, every n-th picture is used.
    """
    indices = pictures.side(TEST)
    indices = indices[:: -(-len(indices) // (max_pictures or len(indices)))]
    scores: list[float] = []
    for start in range(0, len(indices), _PICTURES_AT_ONCE):
        crops = [
            _crops(recipe, pictures.pixels(i)) for i in indices[start : start + _PICTURES_AT_ONCE]
        ]
        all_crops = [views for each in crops for views in each]
        quality = predict(model, all_crops, device, batch=32)
        crop_scores = to_label_scale(quality.score_B.numpy())
        ends = np.cumsum([len(each) for each in crops])[:-1]
        scores += [float(np.mean(part)) for part in np.split(np.array(crop_scores), ends)]
    return agreement(scores, [100 * pictures.qualities[index] for index in indices])


def _crops(recipe: Recipe, picture_CHW: Array) -> list[list[Array]]:
    """The views of each crop of a picture, at fixed positions; one if it covers all."""
    count = 1 if max(picture_CHW.shape[-2:]) <= TILE_PX else _NUM_CROPS
    same = np.broadcast_to(picture_CHW, (count, *picture_CHW.shape))
    views = preprocess(recipe.step_views, Clip(same))
    return [
        [view[crop : crop + 1] if view.ndim > 1 else view for view in views]
        for crop in range(count)
    ]
