"""Predictions of a model against the labels of a work folder: its figures, tables and pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ladder.errors import LadderError
from ladder.media.probe import probe
from ladder.storage import Table
from vqatool.data.groups import bitrate_groups
from vqatool.data.labels import LabelledEncode
from vqatool.evaluation.baselines import BITRATE, REGRESSION, baseline_predictions
from vqatool.evaluation.evaluator import BRANCH, MODEL, Evaluator, MetricRow
from vqatool.evaluation.features import Similarity, similarity
from vqatool.evaluation.plots import draw_features, draw_scatter
from vqatool.inference.predictor import Predictor, to_label_scale
from vqatool.metrics import Values

OnFailed = Callable[[LabelledEncode, str], None]
"""Told an encode that has no prediction, and why."""


_ENDINGS = (".csv", "-figures.csv", ".png", "-features.png")


class Prediction(NamedTuple):
    """What a model says of one encode: a score, 0 to 100, and the features (D,) it came from.

    `branches` are the scores that one was fused from, 0 to 100 too.
    """

    encode: LabelledEncode
    score: float
    feature_D: Values
    branches: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """One encode, a row of `evaluation.csv`: label, score, and what the baselines say."""

    encode_path: str
    source: str
    rung: str
    codec: str
    bitrate_kbps: float
    vmaf: float
    score: float
    height_px: int
    rate_mode: str
    baseline_bitrate: float
    baseline_regression: float

    @property
    def key(self) -> str:
        """The encode's path."""
        return self.encode_path


@dataclass(frozen=True)
class Evaluation:
    """Predictions of N encodes beside those of the baselines, and what was found of them."""

    predictions: Sequence[Prediction]
    baselines: dict[str, Values]
    metric_rows: list[MetricRow]
    similarity: Similarity


def predict_labelled(
    encodes: Sequence[LabelledEncode], predictor: Predictor, on_failed: OnFailed
) -> Iterator[Prediction]:
    """Each encode with its prediction, judged at its source's size as in training.

    One that cannot be decoded is left out, and `on_failed` is told the reason.
    """
    for encode in encodes:
        try:
            views = predictor.preprocessor.load_views(probe(encode.path), encode.display)
        except LadderError as error:
            on_failed(encode, str(error))
        except (OSError, ValueError) as error:
            # what a damaged file can still make the decoder say
            on_failed(encode, f"{encode.path}: {error!r}")
        else:
            sentences = predictor.predict(views)
            (score,), feature_D = (
                to_label_scale(sentences.score_B),
                sentences.features_BD[0].cpu().double().numpy(),
            )
            branches = {
                branch.name: to_label_scale(branch.score_B)[0] for branch in sentences.branches
            }
            yield Prediction(encode, score, feature_D, branches)


def evaluate(
    predictions: Sequence[Prediction],
    training: Sequence[LabelledEncode],
    *,
    band: float,
    seed: int = 0,
) -> Evaluation:
    """All figures of some predictions, those of a model's branches and the baselines' beside them.

    Args:
        predictions: at least one.
        training: what the regression baseline learns from; none: see `baseline_predictions`.
        band: the model's own 90 % band, label points to either side.
        seed: of the bootstrap over sources.
    """
    encodes = [one.encode for one in predictions]
    baselines = baseline_predictions(encodes, training)
    scores = {MODEL: np.array([one.score for one in predictions])}
    branches = {
        BRANCH + name: np.array([one.branches[name] for one in predictions])
        for name in predictions[0].branches
    }
    evaluator = Evaluator(encodes, scores | branches | baselines, seed=seed)
    groups, sources = bitrate_groups(encodes), [one.source for one in encodes]
    alike = similarity(np.array([one.feature_D for one in predictions]), groups, sources)
    metric_rows = [
        *evaluator.metric_rows(),
        evaluator.coverage(band),
        *evaluator.similarity_rows(alike),
    ]
    return Evaluation(predictions, baselines, metric_rows, alike)


def write_evaluation(evaluation: Evaluation, stem: Path) -> list[Path]:
    """`STEM.csv` (every encode), `STEM-metric_rows.csv` (every set) and two pictures.

    A stem may be given as the first of these files.
    """
    stem = stem.with_name(stem.name.removesuffix(_ENDINGS[0]))
    paths = [stem.with_name(stem.name + end) for end in _ENDINGS]
    stem.parent.mkdir(parents=True, exist_ok=True)
    Table(paths[0], PredictionRow).rewrite(_prediction_rows(evaluation))
    Table(paths[1], MetricRow).rewrite(evaluation.metric_rows)
    _draw(evaluation, paths[2], paths[3])
    return paths


def _prediction_rows(evaluation: Evaluation) -> Iterator[PredictionRow]:
    for index, one in enumerate(evaluation.predictions):
        yield PredictionRow(
            encode_path=str(one.encode.path),
            source=one.encode.source,
            rung=one.encode.rung,
            codec=one.encode.codec,
            bitrate_kbps=one.encode.bitrate_kbps,
            vmaf=one.encode.vmaf,
            score=one.score,
            height_px=one.encode.height_px,
            rate_mode=one.encode.rate_mode,
            baseline_bitrate=float(evaluation.baselines[BITRATE][index]),
            baseline_regression=float(evaluation.baselines[REGRESSION][index]),
        )


def _draw(evaluation: Evaluation, scatter: Path, features: Path) -> None:
    encodes = [one.encode for one in evaluation.predictions]
    score_N = np.array([one.score for one in evaluation.predictions])
    label_N = np.array([encode.vmaf for encode in encodes])
    overall, codecs = evaluation.metric_rows[0], [encode.codec for encode in encodes]
    draw_scatter(score_N, label_N, codecs, overall, scatter)
    feature_ND = np.array([one.feature_D for one in evaluation.predictions])
    groups = bitrate_groups(encodes)
    draw_features(feature_ND, groups, label_N, evaluation.similarity, features)
