"""Predictions of a model against the labels of a work folder: metrics, tables and plots."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ladder.storage import Table
from vqatool.data.groups import bitrate_groups
from vqatool.data.labels import LabelledEncode
from vqatool.evaluation.baselines import BITRATE, REGRESSION, baseline_predictions
from vqatool.evaluation.evaluator import BRANCH, MODEL, Evaluator, MetricRow
from vqatool.evaluation.features import Similarity, similarity
from vqatool.evaluation.plots import draw_features, draw_scatter
from vqatool.files import require_own_files
from vqatool.inference.predictor import Predictor, to_label_scale
from vqatool.inputs.clip import Array
from vqatool.inputs.decode_pool import WHOLE_VIDEO_TIMEOUT_S, DecodeFailure, DecodePool
from vqatool.inputs.preprocessor import decode_views
from vqatool.metrics import Values

OnFailed = Callable[[LabelledEncode, str], None]
"""Receives an encode that has no prediction, and the reason."""

_ENDINGS = (".csv", "-figures.csv", ".png", "-features.png")


class Prediction(NamedTuple):
    """A model's output for one encode: its score, 0 to 100, and features (D,).

    `band` is half the width of the model's 90 % interval around the score. `branches` are the
    scores, 0 to 100, that the score was fused from.
    """

    encode: LabelledEncode
    score: float
    band: float
    feature_D: Values
    branches: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """One encode, a row of `evaluation.csv`: label, score, and the baselines' scores."""

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
    """Predictions of N encodes, those of the baselines, and the metrics of both."""

    predictions: Sequence[Prediction]
    baselines: dict[str, Values]
    metric_rows: list[MetricRow]
    similarity: Similarity


def predict_labelled(
    encodes: Sequence[LabelledEncode],
    predictor: Predictor,
    on_failed: OnFailed,
    *,
    timeout_s: float = WHOLE_VIDEO_TIMEOUT_S,
) -> Iterator[Prediction]:
    """Each encode with its prediction, at its source's size as in training.

    Workers decode the next encodes while the model works. An encode without a prediction is left
    out, and `on_failed` receives the reason.
    """
    with DecodePool(timeout_s=timeout_s) as pool:
        preprocessor = replace(predictor.preprocessor, threads=pool.num_threads)
        decoded = pool.map(
            encodes,
            lambda encode: pool.submit(encode.path, decode_views, preprocessor, encode.display),
        )
        for encode, views in decoded:
            if isinstance(views, DecodeFailure):
                on_failed(encode, views.reason)
                continue
            prediction = _prediction(encode, views, predictor)
            if math.isfinite(prediction.score):
                yield prediction
            else:
                name = predictor.name
                on_failed(encode, f"{encode.path}: model {name} gives a score that is not finite")


def _prediction(encode: LabelledEncode, views: list[Array], predictor: Predictor) -> Prediction:
    output = predictor.predict([views])
    (score,) = to_label_scale(output.score_B)
    branches = {branch.name: to_label_scale(branch.score_B)[0] for branch in output.branches}
    (band,) = predictor.bands(output)
    return Prediction(encode, score, band, output.features_BD[0].astype(np.float64), branches)


def evaluate(
    predictions: Sequence[Prediction],
    training: Sequence[LabelledEncode],
    *,
    seed: int = 0,
) -> Evaluation:
    """All metrics of a model's predictions, of its branches, and of the baselines.

    Args:
        predictions: at least one.
        training: encodes to fit the regression baseline to; may be empty: `baseline_predictions`.
        seed: of the bootstrap over origins.
    """
    encodes = [prediction.encode for prediction in predictions]
    baselines = baseline_predictions(encodes, training)
    scores = {MODEL: np.array([prediction.score for prediction in predictions])}
    branches = {
        BRANCH + name: np.array([prediction.branches[name] for prediction in predictions])
        for name in predictions[0].branches
    }
    evaluator = Evaluator(encodes, scores | branches | baselines, seed=seed)
    groups, sources = bitrate_groups(encodes), [encode.source for encode in encodes]
    feature_similarity = similarity(
        np.array([prediction.feature_D for prediction in predictions]), groups, sources
    )
    metric_rows = [
        *evaluator.metric_rows(),
        evaluator.coverage([prediction.band for prediction in predictions]),
        *evaluator.similarity_rows(feature_similarity),
    ]
    return Evaluation(predictions, baselines, metric_rows, feature_similarity)


def output_paths(stem: Path) -> list[Path]:
    """`STEM.csv` (every encode), `STEM-figures.csv` (every set) and two pictures.

    Args:
        stem: path of `STEM.csv`, with or without the suffix.

    Raises:
        OutputNameError: one of them exists and was not written by vqatool.
    """
    stem = stem.with_name(stem.name.removesuffix(_ENDINGS[0]))
    paths = [stem.with_name(stem.name + end) for end in _ENDINGS]
    columns = [[field.name for field in fields(row)][:2] for row in (PredictionRow, MetricRow)]
    require_own_files(dict(zip(paths, columns, strict=False)), paths[2:])
    return paths


def write_evaluation(evaluation: Evaluation, stem: Path, model: str) -> list[Path]:
    """Write the files of `output_paths`; `model` is the name in the pictures.

    Raises:
        OutputNameError: one of them exists and was not written by vqatool.
    """
    paths = output_paths(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    Table(paths[0], PredictionRow).rewrite(_prediction_rows(evaluation))
    # a mean over no group says nothing
    Table(paths[1], MetricRow).rewrite(row for row in evaluation.metric_rows if row.groups != 0)
    _draw(evaluation, paths[2], paths[3], model)
    return paths


def _prediction_rows(evaluation: Evaluation) -> Iterator[PredictionRow]:
    for index, prediction in enumerate(evaluation.predictions):
        yield PredictionRow(
            encode_path=str(prediction.encode.path),
            source=prediction.encode.source,
            rung=prediction.encode.rung,
            codec=prediction.encode.codec,
            bitrate_kbps=prediction.encode.bitrate_kbps,
            vmaf=prediction.encode.vmaf,
            score=prediction.score,
            height_px=prediction.encode.height_px,
            rate_mode=prediction.encode.rate_mode,
            baseline_bitrate=float(evaluation.baselines[BITRATE][index]),
            baseline_regression=float(evaluation.baselines[REGRESSION][index]),
        )


def _draw(evaluation: Evaluation, scatter: Path, features: Path, model: str) -> None:
    encodes = [prediction.encode for prediction in evaluation.predictions]
    score_N = np.array([prediction.score for prediction in evaluation.predictions])
    label_N = np.array([encode.vmaf for encode in encodes])
    overall, codecs = evaluation.metric_rows[0], [encode.codec for encode in encodes]
    draw_scatter(score_N, label_N, codecs, overall, scatter, model=model)
    feature_ND = np.array([prediction.feature_D for prediction in evaluation.predictions])
    groups = bitrate_groups(encodes)
    told = evaluation.similarity if overall.is_enough else None
    draw_features(feature_ND, groups, label_N, told, features)
