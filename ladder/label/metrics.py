"""The VMAF models: their short names, which suit a source, and whether this ffmpeg runs them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ladder.media.probe import VideoInfo

VMAF_MODELS = {
    "v0": "vmaf_v0.6.1",
    "neg": "vmaf_v0.6.1neg",
    "v1": "vmaf_v1.0.16_3d0h",
    "phone": "vmaf_v0.6.1:enable_transform=true",
    "4k": "vmaf_4k_v0.6.1",
    "4k-neg": "vmaf_4k_v0.6.1neg",
}
"""Short names of the models `label` writes columns for, and libvmaf's words for them."""


AUTO = "auto"
"""The model and its NEG variant that suit the source: for 4K, or for HD and below."""


FEATURES = {"psnr": "psnr", "ssim": "float_ssim", "cambi": "cambi"}
"""Measures beside VMAF, and libvmaf's names of them; PSNR is always taken, as an alarm."""


_4K_ABOVE_PX = 1440  # short side


def model_names(models: Iterable[str]) -> tuple[str, ...]:
    """libvmaf's words for short names such as `v0`; any other word is passed on as it is."""
    return tuple(dict.fromkeys(VMAF_MODELS.get(model, model) for model in models))


def models_for(display_size: tuple[int, int], models: Sequence[str]) -> tuple[str, ...]:
    """`models`, with `auto` made into what suits a source shown at `display_size`."""
    suited = ("4k", "4k-neg") if min(display_size) > _4K_ABOVE_PX else ("v0", "neg")
    chosen = [name for model in models for name in (suited if model == AUTO else (model,))]
    return model_names(chosen)


def log_metric_name(model: str) -> str:
    """A name for the model's column in the log, free of characters the graph gives a meaning."""
    return model.replace(".", "_").replace(":enable_transform=true", "_phone").replace(":", "_")


@dataclass(frozen=True, kw_only=True)
class MetricRequest:
    """What is measured of every encode in one run.

    Attributes:
        models: libvmaf's words, see `vmaf_models`.
        features: of `vmaf_models.FEATURES`.
        subsample: every n-th frame is measured; odd, since even steps are biased.
    """

    models: tuple[str, ...]
    features: tuple[str, ...] = ()
    subsample: int = 1


def common_pix_fmt(videos: Sequence[VideoInfo], models: Sequence[str]) -> str:
    """The pixel format all sides are brought to: 10 bit if one is deeper, or for v1."""
    is_deep = max(video.bit_depth for video in videos) > 8
    return "yuv420p10le" if is_deep or any("v1." in model for model in models) else "yuv420p"
