"""The CSV files between the stages: rows are appended as they are done and read back by type.

A row is a frozen dataclass, its fields are the columns. Empty cells are None. A line torn by a
power cut or a `kill -9` is dropped when the table is opened for writing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ladder.label.libvmaf import VmafLog, pool
from ladder.label.metrics import VMAF_MODELS, MetricRequest, log_metric_name


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """The label of one encode, a row of `labels.csv`; VMAF is 0 (worst) to 100 (best)."""

    encode_path: str
    source: str
    rung: str
    vmaf: float | None = None
    vmaf_hmean: float | None = None
    vmaf_min: float | None = None
    vmaf_p1: float | None = None
    vmaf_p5: float | None = None
    vmaf_std: float | None = None
    vmaf_neg: float | None = None
    vmaf_v1: float | None = None
    psnr_y: float | None = None
    frames_source: int | None = None
    frames_encode: int | None = None
    frames_compared: int | None = None
    pairing: str = ""
    scale: str = ""
    pix_fmt: str = ""
    vmaf_model: str = ""
    libvmaf_version: str = ""
    warnings: str = ""
    label_s: float | None = None
    status: str = "ok"
    error: str = ""
    vmaf_p10: float | None = None
    vmaf_phone: float | None = None
    vmaf_4k: float | None = None
    ssim: float | None = None
    cambi: float | None = None
    offset_frames: int | None = None
    subsample: int | None = None

    @property
    def key(self) -> str:
        """The encode's path inside the work folder."""
        return self.encode_path


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


def with_metrics(
    label: LabelRow, log: VmafLog, request: MetricRequest, warnings: Iterable[str]
) -> LabelRow:
    """`label` with what the log holds, and `warnings` with what the figures warn of."""
    metric = log_metric_name(request.models[0])
    pools = pool(log.metrics[metric])
    extra: dict[str, Any] = {
        column: _mean_of(log, log_metric_name(model))
        for model, column in _COLUMN_OF_MODEL.items()
        if model in request.models
    }
    extra |= {column: _mean_of(log, name) for name, column in _COLUMN_OF_METRIC.items()}
    missing = [_NOT_MEASURED.format(name) for name in request.features if extra[name] is None]
    enhanced = ["enhanced"] if _is_enhanced(log, request.models) else []
    return replace(
        label,
        vmaf=pools.mean,
        vmaf_hmean=pools.hmean,
        vmaf_min=pools.min,
        vmaf_p1=pools.p1,
        vmaf_p5=pools.p5,
        vmaf_p10=pools.p10,
        vmaf_std=pools.std,
        vmaf_model=request.models[0],
        frames_compared=len(log.metrics[metric]),
        subsample=request.subsample,
        libvmaf_version=log.version,
        warnings=";".join([*warnings, *enhanced, *missing]),
        **extra,
    )


def has_metrics(label: LabelRow, request: MetricRequest) -> bool:
    """Whether a good `label` holds all that `request` would give."""
    columns = [_COLUMN_OF_MODEL[model] for model in request.models[1:] if model in _COLUMN_OF_MODEL]
    return (
        label.vmaf_model == request.models[0]
        and all(getattr(label, column) is not None for column in columns)
        and all(_was_measured(label, feature) for feature in request.features)
        and (label.subsample or 1) == request.subsample
    )


def _was_measured(label: LabelRow, feature: str) -> bool:
    is_missing = _NOT_MEASURED.format(feature) in label.warnings.split(";")
    return is_missing or getattr(label, feature) is not None


def _mean_of(log: VmafLog, metric: str) -> float | None:
    values = log.metrics.get(metric)
    return pool(values).mean if values else None


def _is_enhanced(log: VmafLog, models: Sequence[str]) -> bool:
    """Whether a model gives far more than its own NEG variant does."""
    pairs = [(log_metric_name(model), log_metric_name(f"{model}neg")) for model in models]
    return any(
        pool(log.metrics[plain]).mean - pool(log.metrics[neg]).mean > _ENHANCED_BY
        for plain, neg in pairs
        if neg in log.metrics
    )
