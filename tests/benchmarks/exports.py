"""Export every method and compare with torch: `python -m tests.benchmarks.exports [METHOD...]`.

Models have fresh weights and the smallest size. Prints for each method which numbers are free in
the exported model, the seconds that the export took, its size, and the largest difference of any
output from torch, over several numbers of clips and frame groups where they are free.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vqatool.inference.card import ModelCard
from vqatool.inference.export import example_views, export
from vqatool.inference.model_file import Checkpoint
from vqatool.inference.onnx_engine import OnnxEngine
from vqatool.inference.torch_engine import TorchEngine
from vqatool.methods import Method, recipe_for

GROUPS = 8
NUMBERS = {
    "clips and groups": [(1, 8), (3, 8), (2, 5), (1, 16)],
    "clips": [(1, 8), (3, 8)],
    "none": [(1, 8)],
}


def main() -> None:
    chosen = [Method(name) for name in sys.argv[1:]] or list(Method)
    for method in chosen:
        torch.manual_seed(0)
        recipe = recipe_for(method, {"size": "pico"})
        card = ModelCard(
            method=method.value, shape=recipe.shape, clip_frames=GROUPS, label="vmaf_v0.6.1"
        )
        checkpoint = Checkpoint(card, recipe.build().state_dict())
        with tempfile.TemporaryDirectory() as folder:
            path, started = Path(folder) / "model.onnx", time.monotonic()
            export(checkpoint, path)
            spent_s, size = time.monotonic() - started, path.stat().st_size
            exported = OnnxEngine(path)
        original = TorchEngine(checkpoint, "cpu")
        largest = 0.0
        for clips, groups in NUMBERS[recipe.free_in_export]:
            views = [_noise(view.numpy(), clips, groups) for view in example_views(recipe, GROUPS)]
            expected, found = original.run(views), exported.run(views)
            assert expected.keys() == found.keys()
            largest = max(
                largest, *(float(np.abs(found[name] - value).max()) for name, value in
                           expected.items())
            )  # fmt: skip
        sys.stdout.write(
            f"{method.value}: free {recipe.free_in_export}, {spent_s:.0f} s, {size / 1e6:.1f} MB, "
            f"largest difference {largest:.1e}\n"
        )
        sys.stdout.flush()


def _noise(view: np.ndarray, clips: int, groups: int) -> np.ndarray:
    frames = (groups * view.shape[1] // GROUPS,) if view.ndim > 2 else ()
    rng = np.random.default_rng(0)
    return rng.random((clips, *frames, *view.shape[1 + len(frames) :]), dtype=np.float32)


if __name__ == "__main__":
    main()
