"""What works on this machine, found by trying it, and how to mend what does not."""

import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av

from ladder.codecs import CODECS, coded_formats
from ladder.errors import CapabilityError
from ladder.label.libvmaf import probe_vmaf_model
from ladder.label.metrics import VMAF_MODELS
from ladder.media.ffmpeg import Ffmpeg, find_ffmpeg

_GET_FFMPEG = "pip install --upgrade imageio-ffmpeg, or name another with --ffmpeg PATH"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing tried: what it is, whether it works, what was found, how to mend it."""

    what: str
    works: bool
    found: str
    remedy: str = ""
    is_required: bool = True


def examine(option: Path | None) -> Iterator[Check]:
    """Every check, in the order of the pipeline; `option` is the ffmpeg asked for, if any."""
    yield Check(what="python", works=True, found=platform.python_version())
    try:
        ffmpeg = find_ffmpeg(option)
        yield Check(
            what="ffmpeg", works=True, found=f"{ffmpeg.version} ({ffmpeg.origin}: {ffmpeg.path})"
        )
        yield from _ffmpeg_checks(ffmpeg)
    except CapabilityError as error:
        yield Check(what="ffmpeg", works=False, found=str(error), remedy=_GET_FFMPEG)
    yield from _decoder_checks()
    yield from _model_checks()


def _ffmpeg_checks(ffmpeg: Ffmpeg) -> Iterator[Check]:
    for name in CODECS:
        works = name in ffmpeg.encoders
        yield Check(
            what=f"encoder {name}",
            works=works,
            found="compiled in" if works else "not compiled in",
            remedy=_GET_FFMPEG,
        )
    for short, model in VMAF_MODELS.items():
        reason = probe_vmaf_model(ffmpeg, model) if ffmpeg.has_libvmaf else "no libvmaf filter"
        yield Check(
            what=f"VMAF {short}",
            works=not reason,
            found=f"{model} {'runs' if not reason else f'fails: {reason}'}",
            remedy=_GET_FFMPEG,
            is_required=short == "v0",
        )


def _decoder_checks() -> Iterator[Check]:
    versions = ", ".join(
        f"{name} {'.'.join(map(str, version))}"
        for name, version in av.library_versions.items()
        if name in ("libavcodec", "libavformat")
    )
    yield Check(what="PyAV", works=True, found=f"{importlib.metadata.version('av')} ({versions})")
    for name in coded_formats():
        works = name in av.codecs_available
        yield Check(
            what=f"decoder {name}",
            works=works,
            found="compiled in" if works else "not compiled in",
            remedy="pip install --force-reinstall av",
        )


def _model_checks() -> Iterator[Check]:
    import torch

    from vqatool.errors import CheckpointError
    from vqatool.inference.device import device_named, fast_precision
    from vqatool.inference.model_file import default_checkpoint
    from vqatool.models.scan import fast_kernel

    device = device_named("auto")
    numbers = "bfloat16" if fast_precision(device) == "bf16" else "float32"
    yield Check(
        what="device", works=True, found=f"{device} in {numbers} (torch {torch.__version__})"
    )
    if device.type == "cuda":
        works = fast_kernel(device) is not None
        yield Check(
            what="scans of q-mamba",
            works=works,
            found="by mamba-ssm's kernel" if works else "in plain torch, which is slower",
            remedy="pip install mamba-ssm, built for this torch and CUDA",
            is_required=False,
        )
    try:
        checkpoint = default_checkpoint()
    except CheckpointError as error:
        remedy = "pip install --force-reinstall vqatool"
        yield Check(what="default model", works=False, found=str(error), remedy=remedy)
        return
    yield Check(what="default model", works=True, found=checkpoint.name)
