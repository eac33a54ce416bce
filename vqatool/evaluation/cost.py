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
from vqatool.inference.torch_engine import TorchEngine
from vqatool.inputs.clip import collate, finished
from vqatool.models.quality import QualityModel

CLIP_S = 10
SCREEN = (1920, 1080)
_TIMES = 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Parameters of a model in millions, and its costs for a 10-second clip of 1920 x 1080.

    `macs_g` counts multiply-accumulates of convolutions, linear layers and attention, in thousands
    of millions; element-wise operations are not counted. `clip_s` is the time from the file to the
    score with the model loaded: the median of three runs. `peak_mb` is the peak memory of a process
    that does only this.
    """

    parameters_m: float
    macs_g: float
    clip_s: float
    peak_mb: float


def make_clip(ffmpeg: Ffmpeg, video: Path, out: Path) -> Path:
    """Write a 10-second clip of 1920 x 1080: `video`, scaled and repeated."""
    scale = "scale={}:{}:flags=bicubic,setsar=1,format=yuv420p".format(*SCREEN)
    part = out.with_name(f"part-{out.name}")
    coded = ["-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-y", file_url(part)]
    source = ["-stream_loop", "-1", "-i", file_url(video), "-t", str(CLIP_S)]
    run(ffmpeg, [*source, "-vf", scale, *coded])
    return part.replace(out)


def cost_of(model: Path, clip: Path) -> Cost:
    """Measure the cost of a model file on that clip, in a separate process on the CPU."""
    # a forked process would start with the memory of this one
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (model, clip))


def macs_of(model: QualityModel, views: Sequence[Tensor]) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention.

    Tensors on the meta device are enough. Layers are counted unfused, so that the count does not
    depend on the kernels that torch chooses: the counter does not know all fused ones.
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
    """Peak memory of this process so far, in MB."""
    try:
        # `ru_maxrss` is kept when a program starts another one: it would be the parent's peak
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(peak) / 1024
    except (OSError, ValueError):  # not Linux
        import resource  # Windows does not have it

        unit = 1024 if sys.platform != "darwin" else 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _measure(path: Path, clip: Path) -> Cost:
    checkpoint, video = load_checkpoint(path), probe(clip)
    predictor = Predictor(TorchEngine(checkpoint, "cpu", is_alone=True))

    def time_prediction() -> float:
        started = time.monotonic()
        predictor.predict([predictor.preprocessor.load_views(video, SCREEN)])
        return time.monotonic() - started

    time_prediction()  # the first run also loads libraries and allocates memory
    clip_s = statistics.median(time_prediction() for _ in range(_TIMES))
    peak_mb = _peak_mb()  # before the operations are counted: that needs memory, too
    model = checkpoint.model()
    loaded = predictor.preprocessor.load_views(video, SCREEN)
    ready = finished(predictor.preprocessor.views, loaded)
    views = [torch.from_numpy(collate([view])) for view in ready]
    return Cost(
        parameters_m=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        macs_g=macs_of(model, views) / 1e9,
        clip_s=clip_s,
        peak_mb=peak_mb,
    )
