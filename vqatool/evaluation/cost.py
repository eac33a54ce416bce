"""The cost of a model: parameters, operations, and time and memory for one clip."""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ladder.media.ffmpeg import Ffmpeg, file_url, run
from ladder.media.probe import probe
from vqatool.inference.model_file import load_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inputs.clip import collate
from vqatool.models.quality import QualityModel

CLIP_S = 10
SCREEN = (1920, 1080)
_TIMES = 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a model: parameters in millions; of a clip of ten seconds at 1920 x 1080: the rest.

    `macs_g` are multiplications of convolutions, linear layers and attention, in thousands of
    millions; what is done element by element is not counted. `clip_s` is the time from the file to
    the score, once all is loaded: the median of three. `peak_mb` is the most memory of a process
    that does nothing else.
    """

    parameters_m: float
    macs_g: float
    clip_s: float
    peak_mb: float


def make_clip(ffmpeg: Ffmpeg, video: Path, out: Path) -> Path:
    """A clip of ten seconds at 1920 x 1080: `video` enlarged, again and again."""
    scale = "scale={}:{}:flags=bicubic,setsar=1,format=yuv420p".format(*SCREEN)
    part = out.with_name(f"part-{out.name}")
    coded = ["-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-y", file_url(part)]
    source = ["-stream_loop", "-1", "-i", file_url(video), "-t", str(CLIP_S)]
    run(ffmpeg, [*source, "-vf", scale, *coded])
    return part.replace(out)


def cost_of(model: Path, clip: Path) -> Cost:
    """What the model file costs on that clip, measured in a process of its own, on the CPU."""
    # forked, it would begin with the memory of this one
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (model, clip))


def macs_of(model: QualityModel, views: Sequence[Tensor]) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention; meta tensors will do.

    The count is that of the unfused layers, whichever kernels this release of torch or this
    processor would take: the counter does not know all of the fused ones.
    """
    was_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
            torch.inference_mode(),
        ):
            model(*views)
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fused)
    return int(counter.get_total_flops()) // 2


def _peak_mb() -> float:
    """The most memory of this process so far."""
    try:
        # what the system tells elsewhere outlives the start of a program: it would be the parent's
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(peak) / 1024
    except (OSError, ValueError):  # a system without it
        import resource  # which not every system has either

        unit = 1024 if sys.platform != "darwin" else 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _measured(path: Path, clip: Path) -> Cost:
    predictor, info = Predictor(load_checkpoint(path), "cpu"), probe(clip)

    def ask() -> float:
        started = time.monotonic()
        predictor.predict([predictor.preprocessor.load_views(info, SCREEN)])
        return time.monotonic() - started

    ask()  # with all that is loaded and laid out once
    clip_s = statistics.median(ask() for _ in range(_TIMES))
    peak_mb = _peak_mb()  # counting needs memory of its own, so it comes last
    model = load_checkpoint(path).model()
    views = [collate([view]) for view in predictor.preprocessor.load_views(info, SCREEN)]
    return Cost(
        parameters_m=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        macs_g=macs_of(model, views) / 1e9,
        clip_s=clip_s,
        peak_mb=peak_mb,
    )
