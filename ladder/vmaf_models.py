"""The VMAF models: their short names, which suit a source, and whether this ffmpeg runs them."""

from collections.abc import Iterable, Sequence

from ladder.errors import CapabilityError, FfmpegError
from ladder.ffmpeg import REMEDY, Ffmpeg, run

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


def metric_of(model: str) -> str:
    """A name for the model's column in the log, free of characters the graph gives a meaning."""
    return model.replace(".", "_").replace(":enable_transform=true", "_phone").replace(":", "_")


def probe_vmaf_model(ffmpeg: Ffmpeg, model: str) -> str:
    """Try a VMAF model on three synthetic frames: "" if it runs, else why it does not.

    Some builds list a model and fail when it is used, so a version number is not believed. The
    frames are not tiny: v1 refuses those.
    """
    escaped = model.replace(":", "\\:")
    graph = f"[0:v][1:v]libvmaf=model='version={escaped}'"
    pattern = ["-f", "lavfi", "-i", "testsrc2=size=576x324:rate=25:duration=0.12"]
    args = [*pattern, *pattern, "-lavfi", graph, "-f", "null", "-"]
    try:
        run(ffmpeg, args, timeout_s=60)
    except FfmpegError as error:
        return error.said.strip().partition("\n")[0] or str(error).partition("\n")[0]
    return ""


def require_vmaf_models(ffmpeg: Ffmpeg, models: Sequence[str]) -> None:
    """Raise CapabilityError unless libvmaf is there and runs every model in `models`."""
    if not ffmpeg.has_libvmaf:
        raise CapabilityError(f"{ffmpeg.path} has no libvmaf filter: {REMEDY}")
    for model in models:
        reason = probe_vmaf_model(ffmpeg, model)
        if reason:
            raise CapabilityError(
                f"{ffmpeg.path} cannot run the VMAF model {model} ({reason}): "
                f"choose another with --vmaf-model, or {REMEDY}"
            )
