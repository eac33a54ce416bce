"""The figures of a label: from libvmaf's log into a row's columns, and whether it has them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ladder.tables import LabelRow
from ladder.vmaf import Measurement
from ladder.vmaf_log import VmafLog, pool
from ladder.vmaf_models import VMAF_MODELS, metric_of

_COLUMN_OF_MODEL = {
    VMAF_MODELS["neg"]: "vmaf_neg",
    VMAF_MODELS["4k-neg"]: "vmaf_neg",
    VMAF_MODELS["v1"]: "vmaf_v1",
    VMAF_MODELS["phone"]: "vmaf_phone",
    VMAF_MODELS["4k"]: "vmaf_4k",
}
_COLUMN_OF_METRIC = {"psnr_y": "psnr_y", "float_ssim": "ssim", "cambi": "cambi"}
_NOT_MEASURED = "no_{}"  # libvmaf has no CAMBI for small pictures
_ENHANCED_BY = 6.0  # one just noticeable difference: NEG takes back what sharpening won


def with_figures(
    label: LabelRow, log: VmafLog, wanted: Measurement, warnings: Iterable[str]
) -> LabelRow:
    """`label` with what the log holds, and `warnings` with what the figures warn of."""
    metric = metric_of(wanted.models[0])
    pools = pool(log.metrics[metric])
    extra: dict[str, Any] = {
        column: _mean_of(log, metric_of(model))
        for model, column in _COLUMN_OF_MODEL.items()
        if model in wanted.models
    }
    extra |= {column: _mean_of(log, name) for name, column in _COLUMN_OF_METRIC.items()}
    missing = [_NOT_MEASURED.format(name) for name in wanted.features if extra[name] is None]
    enhanced = ["enhanced"] if _is_enhanced(log, wanted.models) else []
    return replace(
        label,
        vmaf=pools.mean,
        vmaf_hmean=pools.hmean,
        vmaf_min=pools.min,
        vmaf_p1=pools.p1,
        vmaf_p5=pools.p5,
        vmaf_p10=pools.p10,
        vmaf_std=pools.std,
        vmaf_model=wanted.models[0],
        frames_compared=len(log.metrics[metric]),
        subsample=wanted.subsample,
        libvmaf_version=log.version,
        warnings=";".join([*warnings, *enhanced, *missing]),
        **extra,
    )


def has_figures(label: LabelRow, wanted: Measurement) -> bool:
    """Whether a good `label` holds all that `wanted` would give."""
    columns = [_COLUMN_OF_MODEL[model] for model in wanted.models[1:] if model in _COLUMN_OF_MODEL]
    return (
        label.vmaf_model == wanted.models[0]
        and all(getattr(label, column) is not None for column in columns)
        and all(_was_looked_for(label, feature) for feature in wanted.features)
        and (label.subsample or 1) == wanted.subsample
    )


def _was_looked_for(label: LabelRow, feature: str) -> bool:
    is_missing = _NOT_MEASURED.format(feature) in label.warnings.split(";")
    return is_missing or getattr(label, feature) is not None


def _mean_of(log: VmafLog, metric: str) -> float | None:
    values = log.metrics.get(metric)
    return pool(values).mean if values else None


def _is_enhanced(log: VmafLog, models: Sequence[str]) -> bool:
    """Whether a model gives far more than its own NEG variant does."""
    pairs = [(metric_of(model), metric_of(f"{model}neg")) for model in models]
    return any(
        pool(log.metrics[plain]).mean - pool(log.metrics[neg]).mean > _ENHANCED_BY
        for plain, neg in pairs
        if neg in log.metrics
    )
