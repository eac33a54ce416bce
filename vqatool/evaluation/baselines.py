"""Baselines without pixels: the bitrate alone, and a linear regression on bitstream features.

Neither baseline uses pixels. A model that does not beat both has learned nothing of use.
"""

from collections.abc import Sequence

import numpy as np

from vqatool.data.labels import LabelledEncode, origins_of
from vqatool.metrics import Values

BITRATE, REGRESSION = "bitrate", "regression"
BASELINES = (BITRATE, REGRESSION)


def baseline_predictions(
    encodes: Sequence[LabelledEncode], training: Sequence[LabelledEncode]
) -> dict[str, Values]:
    """The prediction of each baseline for `encodes`, (N,) each.

    Args:
        encodes: the encodes to predict.
        training: the encodes that the regression is fitted to. If there are none, the predictions
            for each origin come from a fit to all other origins of `encodes`; the regression then
            has labels that the model never had.

    Returns:
        `bitrate`: the logarithm of the bitrate in kbit/s. `regression`: VMAF by least squares from
        the logarithm of bits per displayed pixel, coded height over displayed height, and codec;
        not clipped; NaN where there is no other origin to fit to.
    """
    bitrate_N = np.log([max(encode.bitrate_kbps, 1e-3) for encode in encodes])
    regression_N = (
        _fit_and_predict(training, encodes) if training else _predict_from_other_origins(encodes)
    )
    return {BITRATE: bitrate_N, REGRESSION: regression_N}


def _predict_from_other_origins(encodes: Sequence[LabelledEncode]) -> Values:
    predicted_N = np.full(len(encodes), np.nan)
    origins = origins_of(encodes)
    for origin in set(origins):
        own = [number for number, each in enumerate(origins) if each == origin]
        others = [e for e, each in zip(encodes, origins, strict=True) if each != origin]
        if others:
            predicted_N[own] = _fit_and_predict(others, [encodes[number] for number in own])
    return predicted_N


def _fit_and_predict(
    training: Sequence[LabelledEncode], encodes: Sequence[LabelledEncode]
) -> Values:
    codecs = sorted({encode.codec for encode in training})
    labels = np.array([encode.vmaf for encode in training])
    coefficients, *_ = np.linalg.lstsq(_regressors(training, codecs), labels, rcond=None)
    return np.asarray(_regressors(encodes, codecs) @ coefficients, dtype=np.float64)


def _regressors(encodes: Sequence[LabelledEncode], codecs: Sequence[str]) -> Values:
    """One row for each encode: 1, log bits per pixel, height ratio, one column for each codec.

    A codec column is 1 - 1/K for encodes of its codec and -1/K for others (K codecs). An encode of
    a codec that the fit has no encodes of has 0 in all of them: it gets the mean over all codecs.
    """
    rows = []
    for encode in encodes:
        width_px, height_px = encode.display
        pixels_per_s = max(width_px * height_px * encode.fps, 1.0)
        bits_per_pixel = max(encode.bitrate_kbps, 1e-3) * 1000 / pixels_per_s
        height_ratio = encode.height_px / max(min(encode.display), 1)
        is_known = encode.codec in codecs
        codec_columns = [is_known * ((encode.codec == codec) - 1 / len(codecs)) for codec in codecs]
        rows.append([1.0, np.log(bits_per_pixel), height_ratio, *codec_columns])
    return np.array(rows, dtype=np.float64)
