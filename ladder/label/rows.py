"""The row of `labels.csv`: its columns, filled from libvmaf's log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

from ladder.errors import VmafError
from ladder.label.libvmaf import VmafLog, pool
from ladder.label.metrics import (
    LABEL_COLUMNS,
    METRICS,
    MetricRequest,
    Pooling,
    features,
    log_metric_name,
    vmaf_models,
)
from ladder.label.pairing import PairingMode
from ladder.storage import Status, Table


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """The label of one encode, a row of `labels.csv`; VMAF is 0 (worst) to 100 (best).

    `source_path` is empty for an encode of `encodes.csv`, which has the path of its source. Paths
    are relative to the folder of the table where the files lie below it, else absolute.
    """

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
    pairing: PairingMode | None = None
    scale: str = ""
    pix_fmt: str = ""
    vmaf_model: str = ""
    libvmaf_version: str = ""
    warnings: str = ""
    label_s: float | None = None
    status: Status = Status.OK
    error: str = ""
    vmaf_p10: float | None = None
    vmaf_phone: float | None = None
    vmaf_4k: float | None = None
    ssim: float | None = None
    cambi: float | None = None
    offset_frames: int | None = None
    subsample: int | None = None
    codec: str = ""
    bitrate_kbps: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    display_width_px: int | None = None
    display_height_px: int | None = None
    fps: Fraction | None = None
    duration_s: float | None = None
    size_bytes: int | None = None
    modified: str = ""
    source_path: str = ""
    source_size_bytes: int | None = None
    source_modified: str = ""
    vmaf_v1_phone: float | None = None
    vmaf_v1_4k: float | None = None
    vmaf_v1_4k_3h: float | None = None
    vmaf_v1_hfr: float | None = None
    vmaf_v1_phone_hfr: float | None = None
    vmaf_v1_4k_hfr: float | None = None
    vmaf_v1_4k_3h_hfr: float | None = None

    @property
    def key(self) -> str:
        """The encode's path inside the work folder."""
        return self.encode_path


def label_row_type() -> type[LabelRow]:
    """`LabelRow`, with a column at the end for each metric's column that it does not declare."""
    declared = {field.name for field in fields(LabelRow)}
    columns = dict.fromkeys(column for metric in METRICS.values() for column in metric.columns)
    return _row_type(tuple(column for column in columns if column not in declared))


@cache
def _row_type(extra: tuple[str, ...]) -> type[LabelRow]:
    if not extra:
        return LabelRow
    columns = [(column, float | None, None) for column in extra]
    return make_dataclass("LabelRow", columns, bases=(LabelRow,), frozen=True, kw_only=True)


def labels_table(folder: Path) -> Table[LabelRow]:
    """The table that stage 2 writes."""
    return Table(folder / "labels.csv", label_row_type())


_NOT_MEASURED = "no_{}"  # libvmaf has no CAMBI for small pictures


_ENHANCED_BY = 6.0  # one just noticeable difference: NEG leaves out what sharpening gains


def with_metrics(
    label: LabelRow, log: VmafLog, request: MetricRequest, warnings: Iterable[str]
) -> LabelRow:
    """`label` with the pooled values of the log; `warnings` with those that the values raise.

    Raises:
        VmafError: the log holds no values of the first model.
    """
    metric = log_metric_name(request.models[0])
    if not log.metrics.get(metric):
        raise VmafError(f"libvmaf's log holds no values of {request.models[0]}")
    values = _pooled(log, metric, LABEL_COLUMNS)
    for model in vmaf_models().values():
        if model.libvmaf_name in request.models:
            values |= _pooled(log, model.log_name, model.columns)
    for feature in features().values():
        values |= _pooled(log, feature.log_name, feature.columns)
    missing = [
        _NOT_MEASURED.format(name)
        for name in request.features
        if any(values[column] is None for column in METRICS[name].columns)
    ]
    enhanced = ["enhanced"] if _is_enhanced(log, request.models) else []
    measured = replace(
        label,
        vmaf_model=request.models[0],
        frames_compared=len(log.metrics[metric]),
        subsample=request.subsample,
        libvmaf_version=log.version,
        warnings=";".join([*warnings, *enhanced, *missing]),
    )
    return replace(measured, **values)  # type: ignore[arg-type]  # each column holds a float


def has_metrics(label: LabelRow, request: MetricRequest) -> bool:
    """Whether a good `label` holds everything that `request` would measure."""
    others = [model for model in vmaf_models().values() if model.libvmaf_name in request.models[1:]]
    columns = [column for model in others for column in model.columns]
    return (
        label.vmaf_model == request.models[0]
        and all(getattr(label, column) is not None for column in columns)
        and all(_was_measured(label, feature) for feature in request.features)
        and (label.subsample or 1) == request.subsample
    )


def _was_measured(label: LabelRow, feature: str) -> bool:
    is_missing = _NOT_MEASURED.format(feature) in label.warnings.split(";")
    values = [getattr(label, column) for column in METRICS[feature].columns]
    return is_missing or all(value is not None for value in values)


def _pooled(log: VmafLog, metric: str, columns: Mapping[str, Pooling]) -> dict[str, float | None]:
    """The value of each column; None where the log does not hold the metric."""
    if not log.metrics.get(metric):
        return dict.fromkeys(columns)
    scores = pool(log.metrics[metric])
    return {column: getattr(scores, pooling) for column, pooling in columns.items()}


def _is_enhanced(log: VmafLog, models: Sequence[str]) -> bool:
    """Whether a model gives far more than its own NEG variant."""
    pairs = [(log_metric_name(model), log_metric_name(f"{model}neg")) for model in models]
    return any(
        pool(log.metrics[plain]).mean - pool(log.metrics[neg]).mean > _ENHANCED_BY
        for plain, neg in pairs
        if neg in log.metrics
    )
