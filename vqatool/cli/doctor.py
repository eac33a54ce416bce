"""`vqatool doctor`: what works on this machine, found by trying it, and how to get the rest."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import ffmpeg_option
from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone: this module loads PyAV
    from ladder.media.ffmpeg import Ffmpeg

_GET_FFMPEG = "pip install --upgrade imageio-ffmpeg, or name another with --ffmpeg PATH"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part that was tried: its name, whether it works, the details, and the remedy if not."""

    name: str
    works: bool
    details: str
    remedy: str = ""
    is_required: bool = True


@click.command()
@ffmpeg_option
@click.option("--json", "is_json", is_flag=True,
              help="Print each check on stdout as a line of JSON.")  # fmt: skip
def doctor(ffmpeg_path: Path | None, is_json: bool) -> None:
    """Check what works on this machine.

    Everything that vqatool needs is tried; what does not work is listed with the remedy.

    \b
    Example:
        vqatool doctor
    """
    checks = []
    for check in run_checks(ffmpeg_path):
        checks.append(check)
        if is_json:
            click.echo(json.dumps(asdict(check)))
    if not is_json:
        _print_table(checks)
    if any(check.is_required and not check.works for check in checks):
        raise click.exceptions.Exit(ExitCode.NO_CAPABILITY)


def _print_table(checks: Iterable[Check]) -> None:
    from rich.table import Table

    from vqatool.terminal import console

    table = Table(title="vqatool doctor", title_justify="left")
    for heading in ("part", "works", "details"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        works = "yes" if check.works else "no" if check.is_required else "no (optional)"
        details = check.details if check.works else f"{check.details}\nremedy: {check.remedy}"
        table.add_row(check.name, works, details)
    console(is_result=True).print(table)


def run_checks(ffmpeg_path: Path | None) -> Iterator[Check]:
    """Every check, in the order of the pipeline; `ffmpeg_path` is the --ffmpeg option."""
    import platform

    from ladder.errors import CapabilityError
    from ladder.media.ffmpeg import find_ffmpeg

    yield Check(name="python", works=True, details=platform.python_version())
    try:
        ffmpeg = find_ffmpeg(ffmpeg_path)
    except CapabilityError as error:
        yield Check(name="ffmpeg", works=False, details=str(error), remedy=_GET_FFMPEG)
    else:
        details = f"{ffmpeg.version} ({ffmpeg.origin}: {ffmpeg.path})"
        yield Check(name="ffmpeg", works=True, details=details)
        yield from _passed_over_checks(ffmpeg)
        yield from _libvmaf_checks(ffmpeg)
        yield from _ffmpeg_checks(ffmpeg)
    yield from _decoder_checks()
    yield from _model_checks()


def _passed_over_checks(ffmpeg: "Ffmpeg") -> Iterator[Check]:
    """The ffmpeg on PATH, where the bundled one is used instead."""
    from ladder.media.ffmpeg import ffmpeg_on_path

    on_path = ffmpeg_on_path() if ffmpeg.origin == "bundled" else None
    if on_path:
        other, reason = on_path
        yield Check(
            name="ffmpeg on PATH",
            works=False,
            details=f"{other.path} has {reason}: the bundled ffmpeg is used instead",
            remedy="none is needed; to use it all the same, name it with --ffmpeg PATH",
            is_required=False,
        )


def _libvmaf_checks(ffmpeg: "Ffmpeg") -> Iterator[Check]:
    """The version of libvmaf, and its fault if one is known."""
    if version := ffmpeg.libvmaf_version:
        yield Check(
            name="libvmaf",
            works=not ffmpeg.libvmaf_fault,
            details=ffmpeg.libvmaf_fault or version,
            remedy=_GET_FFMPEG,
            is_required=False,
        )


def _ffmpeg_checks(ffmpeg: "Ffmpeg") -> Iterator[Check]:
    from ladder.codecs import CODECS
    from ladder.label.libvmaf import probe_vmaf_model
    from ladder.label.metrics import vmaf_models

    for name in CODECS:
        works = name in ffmpeg.encoders
        yield Check(
            name=f"encoder {name}",
            works=works,
            details="compiled in" if works else "not compiled in",
            remedy=_GET_FFMPEG,
        )
    for short, metric in vmaf_models().items():
        model = metric.libvmaf_name
        reason = probe_vmaf_model(ffmpeg, model) if ffmpeg.has_libvmaf else "no libvmaf filter"
        yield Check(
            name=f"VMAF {short}",
            works=not reason,
            details=f"{model} {'runs' if not reason else f'fails: {reason}'}",
            remedy=_GET_FFMPEG,
            is_required=short == "v0",
        )


def _decoder_checks() -> Iterator[Check]:
    import importlib.metadata

    import av

    from ladder.codecs import coded_formats

    versions = ", ".join(
        f"{name} {'.'.join(map(str, version))}"
        for name, version in av.library_versions.items()
        if name in ("libavcodec", "libavformat")
    )
    details = f"{importlib.metadata.version('av')} ({versions})"
    yield Check(name="PyAV", works=True, details=details)
    for name in coded_formats():
        works = name in av.codecs_available
        yield Check(
            name=f"decoder {name}",
            works=works,
            details="compiled in" if works else "not compiled in",
            remedy="pip install --force-reinstall av",
        )


def _model_checks() -> Iterator[Check]:
    import importlib.metadata

    from vqatool.errors import CheckpointError
    from vqatool.inference.loading import has_torch, load_predictor

    yield Check(name="ONNX Runtime", works=True, details=importlib.metadata.version("onnxruntime"))
    try:
        name = load_predictor(device="cpu").name
    except CheckpointError as error:
        remedy = "pip install --force-reinstall vqatool"
        yield Check(name="default model", works=False, details=str(error), remedy=remedy)
    else:
        yield Check(name="default model", works=True, details=name)
    if has_torch():
        yield from _torch_checks()
    else:
        yield Check(
            name="torch",
            works=False,
            details="not installed: train, evaluate, pretrain, study and GPUs need it",
            remedy="pip install 'vqatool[train]'",
            is_required=False,
        )


def _torch_checks() -> Iterator[Check]:
    import torch

    from vqatool.inference.device import device_named, fast_precision
    from vqatool.models.scan import fast_kernel

    device = device_named("auto")
    precision = "bfloat16" if fast_precision(device) == "bf16" else "float32"
    details = f"{device} in {precision} (torch {torch.__version__})"
    yield Check(name="device of torch", works=True, details=details)
    if device.type == "cuda":
        works = fast_kernel(device) is not None
        yield Check(
            name="scan kernel of q-mamba",
            works=works,
            details="mamba-ssm" if works else "plain torch, which is slower",
            remedy="pip install mamba-ssm, built for this torch and CUDA",
            is_required=False,
        )
