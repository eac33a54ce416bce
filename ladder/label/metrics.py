"""The metrics a label can hold, one record each: to add a metric, add one entry to `METRICS`.

A metric is a VMAF model or one of libvmaf's feature extractors. The columns of `labels.csv`, the
options of `vqatool label` and the checks of `vqatool doctor` follow from the table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads the table for its help, without loading PyAV
    from ladder.media.probe import VideoInfo


class Pooling(StrEnum):
    """How the values of all frames become one number; `PooledScores` has a field for each."""

    MEAN = "mean"
    HMEAN = "hmean"
    MIN = "min"
    P1 = "p1"
    P5 = "p5"
    P10 = "p10"
    STD = "std"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of libvmaf.

    Attributes:
        name: its name on the command line.
        libvmaf_name: a VMAF model's version with its options, or a feature extractor.
        log_name: name of its values in libvmaf's log.
        columns: columns of `labels.csv` and how each is pooled. A column that `LabelRow` does not
            declare is added at the end of the table.
        is_model: a VMAF model, which `--vmaf-model` takes; else a feature, for `--features`.
        is_always_measured: part of every label.
        needs_10_bit: the model expects samples of 10 bit.
    """

    name: str
    libvmaf_name: str
    log_name: str
    columns: Mapping[str, Pooling]
    is_model: bool = False
    is_always_measured: bool = False
    needs_10_bit: bool = False


def _model(name: str, version: str, column: str = "", *, needs_10_bit: bool = False) -> Metric:
    return Metric(
        name=name,
        libvmaf_name=version,
        log_name=log_metric_name(version),
        columns={column: Pooling.MEAN} if column else {},
        is_model=True,
        needs_10_bit=needs_10_bit,
    )


_V1_CONDITIONS = {"v1": "3d0h", "v1-phone": "5d0h", "v1-4k": "1d5h_2160", "v1-4k-3h": "3d0h_2160"}
"""The distance in heights of the screen, and the lines of the screen if it is 4K."""


def _v1_models() -> Iterator[Metric]:
    """VMAF v1 by viewing condition, each with its variant for 50 or 60 frames a second.

    libvmaf, resource/doc/models_v1.md.
    """
    for hfr, infix in (("", ""), ("-hfr", "hfr_")):
        for name, condition in _V1_CONDITIONS.items():
            column = f"vmaf_{name}{hfr}".replace("-", "_")
            version = f"vmaf_v1.0.16_{infix}{condition}"
            yield _model(f"{name}{hfr}", version, column, needs_10_bit=True)


def log_metric_name(model: str) -> str:
    """The name of a VMAF model's values in the log, without characters that a graph would parse."""
    return model.replace(".", "_").replace(":enable_transform=true", "_phone").replace(":", "_")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _model("v0", "vmaf_v0.6.1"),
        _model("neg", "vmaf_v0.6.1neg", "vmaf_neg"),
        _model("phone", "vmaf_v0.6.1:enable_transform=true", "vmaf_phone"),
        _model("4k", "vmaf_4k_v0.6.1", "vmaf_4k"),
        _model("4k-neg", "vmaf_4k_v0.6.1neg", "vmaf_neg"),
        *_v1_models(),
        Metric(
            name="psnr",
            libvmaf_name="psnr",
            log_name="psnr_y",
            columns={"psnr_y": Pooling.MEAN},
            is_always_measured=True,  # a low PSNR with a high VMAF is an alarm
        ),
        Metric(
            name="ssim",
            libvmaf_name="float_ssim",
            log_name="float_ssim",
            columns={"ssim": Pooling.MEAN},
        ),
        Metric(
            name="cambi", libvmaf_name="cambi", log_name="cambi", columns={"cambi": Pooling.MEAN}
        ),
    )
}
"""Every metric by its name on the command line."""


LABEL_COLUMNS: Mapping[str, Pooling] = {
    "vmaf": Pooling.MEAN,
    "vmaf_hmean": Pooling.HMEAN,
    "vmaf_min": Pooling.MIN,
    "vmaf_p1": Pooling.P1,
    "vmaf_p5": Pooling.P5,
    "vmaf_p10": Pooling.P10,
    "vmaf_std": Pooling.STD,
}
"""Columns of the label itself: the values of the first VMAF model."""


AUTO = "auto"
"""Stands for the model that suits the source, 4K or not, and its NEG variant."""


_4K_ABOVE_PX = 1440  # short side


def vmaf_models() -> dict[str, Metric]:
    """The VMAF models of `METRICS`."""
    return {name: metric for name, metric in METRICS.items() if metric.is_model}


def features() -> dict[str, Metric]:
    """The metrics of `METRICS` that are no VMAF models."""
    return {name: metric for name, metric in METRICS.items() if not metric.is_model}


def model_names(models: Iterable[str]) -> tuple[str, ...]:
    """libvmaf's names of models such as `v0`, each once; an unknown name is kept as it is."""
    known = vmaf_models()
    names = (known[model].libvmaf_name if model in known else model for model in models)
    return tuple(dict.fromkeys(names))


def models_for(display_size: tuple[int, int], models: Sequence[str]) -> tuple[str, ...]:
    """libvmaf's names of `models`, with `auto` replaced by what suits a source of that size."""
    suited = ("4k", "4k-neg") if min(display_size) > _4K_ABOVE_PX else ("v0", "neg")
    chosen = [name for model in models for name in (suited if model == AUTO else (model,))]
    return model_names(chosen)


SHORTEST_RANGE_S = 0.0
"""Seconds of a range by default; 0: no ranges, because one process of libvmaf fills two cores."""


@dataclass(frozen=True, kw_only=True)
class MetricRequest:
    """What one run of libvmaf measures of an encode.

    Attributes:
        models: libvmaf's names of VMAF models; the first one gives the label.
        features: names of `features()`, besides those that are always measured.
        subsample: every n-th frame is measured; odd, because even steps are biased.
    """

    models: tuple[str, ...]
    features: tuple[str, ...] = ()
    subsample: int = 1

    @property
    def extractors(self) -> tuple[str, ...]:
        """libvmaf's names of the features, those first that are always measured."""
        always = [metric for metric in features().values() if metric.is_always_measured]
        wanted = [*always, *(METRICS[name] for name in self.features)]
        return tuple(dict.fromkeys(metric.libvmaf_name for metric in wanted))


def common_pix_fmt(videos: Sequence["VideoInfo"], models: Sequence[str]) -> str:
    """The pixel format that encode and source are converted to.

    10 bit if one of them has more than 8 bits, or if a model needs it.
    """
    needy = {metric.libvmaf_name for metric in METRICS.values() if metric.needs_10_bit}
    # a model that is not in the table is named by its version
    needs_10_bit = any(model in needy or "v1." in model for model in models)
    is_10_bit = needs_10_bit or max(video.bit_depth for video in videos) > 8
    return "yuv420p10le" if is_10_bit else "yuv420p"
