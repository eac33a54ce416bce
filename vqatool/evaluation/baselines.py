"""Baselines without pixels: the bitrate alone, and a linear regression on stream facts.

Neither baseline uses pixels. A model that does not beat both has learned nothing of use.
"""

from collections.abc import Sequence

import numpy as np

from vqatool.data.labels import LabelledEncode
from vqatool.metrics import Values

BITRATE, REGRESSION = "bitrate", "regression"
BASELINES = (BITRATE, REGRESSION)


def baseline_predictions(
    encodes: Sequence[LabelledEncode], training: Sequence[LabelledEncode]
) -> dict[str, Values]:
    """The prediction of each baseline for `encodes`, (N,) each.

    Args:
        encodes: what is judged.
        training: what the regression is fitted on; none: it is fitted on `encodes`, anew for each
            source on all others, which lets it see labels that the model never saw.

    Returns:
        `bitrate`: the logarithm of the bitrate in kbit/s. `regression`: VMAF by least squares from
        the logarithm of bits per displayed pixel, coded height over displayed height, and codec;
        not clipped; NaN where there is no other source to learn from.
    """
    bitrate_N = np.log([max(encode.bitrate_kbps, 1e-3) for encode in encodes])
    learned_N = _fitted(training, encodes) if training else _fitted_without_own_source(encodes)
    return {BITRATE: bitrate_N, REGRESSION: learned_N}


def _fitted_without_own_source(encodes: Sequence[LabelledEncode]) -> Values:
    predicted_N = np.full(len(encodes), np.nan)
    for source in {encode.source for encode in encodes}:
        own = [number for number, encode in enumerate(encodes) if encode.source == source]
        others = [encode for encode in encodes if encode.source != source]
        if others:
            predicted_N[own] = _fitted(others, [encodes[number] for number in own])
    return predicted_N


def _fitted(training: Sequence[LabelledEncode], encodes: Sequence[LabelledEncode]) -> Values:
    codecs = sorted({encode.codec for encode in training})
    labels = np.array([encode.vmaf for encode in training])
    found, *_ = np.linalg.lstsq(_facts(training, codecs), labels, rcond=None)
    return np.asarray(_facts(encodes, codecs) @ found, dtype=np.float64)


def _facts(encodes: Sequence[LabelledEncode], codecs: Sequence[str]) -> Values:
    """One row an encode: 1, log bits per pixel, height ratio, and one column for each codec.

    Codec columns are 1 - 1/K for the own one and -1/K elsewhere, so that a codec of which the
    fit knows nothing, all of whose columns are 0, gets the mean of those it knows.
    """
    rows = []
    for encode in encodes:
        width_px, height_px = encode.display
        pixels_per_s = max(width_px * height_px * encode.fps, 1.0)
        bits_per_pixel = max(encode.bitrate_kbps, 1e-3) * 1000 / pixels_per_s
        height_ratio = encode.height_px / max(min(encode.display), 1)
        is_known = encode.codec in codecs
        marks = [is_known * ((encode.codec == codec) - 1 / len(codecs)) for codec in codecs]
        rows.append([1.0, np.log(bits_per_pixel), height_ratio, *marks])
    return np.array(rows, dtype=np.float64)
