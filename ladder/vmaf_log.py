"""libvmaf's per-frame log: read it, pool it, keep it."""

import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladder.errors import VmafError


@dataclass(frozen=True)
class VmafLog:
    """libvmaf's per-frame figures: metric name -> one value a compared frame."""

    version: str
    metrics: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Pools:
    """One metric over the frames of a video; `hmean` as libvmaf defines it."""

    mean: float
    hmean: float
    min: float
    p1: float
    p5: float
    p10: float
    std: float


def parse_log(log: str) -> VmafLog:
    """libvmaf's log as columns; refuses an empty one and figures that are none.

    Raises:
        VmafError: no frames, or a value that is not finite.
    """
    try:
        parsed = json.loads(log)
        frames = [frame["metrics"] for frame in parsed["frames"]]
        metrics = {name: [float(frame[name]) for frame in frames] for name in (frames or [{}])[0]}
    except (ValueError, KeyError, TypeError) as error:
        raise VmafError(f"libvmaf's log is not what it should be: {error!r}") from error
    if not frames:
        raise VmafError("libvmaf compared no frames: do encode and source overlap in time?")
    for name, values in metrics.items():
        if not all(map(math.isfinite, values)):
            raise VmafError(f"libvmaf gave a {name} that is not a number")
    return VmafLog(str(parsed.get("version", "")), metrics)


def pool(values: Sequence[float]) -> Pools:
    """Pools of per-frame values; the harmonic mean is n / sum(1 / (v + 1)) - 1, as libvmaf's."""
    array = np.asarray(values, dtype=np.float64)
    p1, p5, p10 = np.percentile(array, [1, 5, 10])
    return Pools(
        mean=float(array.mean()),
        hmean=float(len(array) / np.sum(1 / (array + 1)) - 1),
        min=float(array.min()),
        p1=float(p1),
        p5=float(p5),
        p10=float(p10),
        std=float(array.std()),
    )


def log_path(folder: Path, encode_path: str) -> Path:
    """Where the log of an encode is kept in its work folder."""
    return folder / "vmaf" / f"{encode_path}.json.gz"


def keep_log(path: Path, text: str) -> None:
    """Write the log compressed; the same pair makes the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    text = re.sub(r'"fps": [^,]*,\s*', "", text, count=1)  # the speed of the run
    part.write_bytes(gzip.compress(text.encode(), mtime=0))
    part.replace(path)
