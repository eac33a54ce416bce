"""A model file and a device -> a predictor with the engine that fits both. No torch."""

import importlib.util
import logging
from importlib import resources
from pathlib import Path

from ladder.errors import CapabilityError
from vqatool.errors import CheckpointError
from vqatool.inference.engine import Engine
from vqatool.inference.onnx_engine import OnnxEngine
from vqatool.inference.predictor import Predictor

EXPORTED_SUFFIX = ".onnx"

PACKAGED = "default.onnx"
"""The exported model in `vqatool.weights`; `default.safetensors` beside it is for torch."""

_NEEDS_TORCH = "needs torch: pip install 'vqatool[train]'"
_GPU_FILES = (Path("/dev/nvidiactl"), Path("/dev/kfd"))  # of NVIDIA's and AMD's drivers

_log = logging.getLogger(__name__)


def load_predictor(
    model: Path | None = None,
    device: str = "auto",
    *,
    pixels_only: bool = False,
    batch: int | None = None,
) -> Predictor:
    """A model file, ready to predict.

    Args:
        model: an exported file (.onnx), or one of torch (.safetensors); None: the packaged model.
        device: `cpu`, `auto` (a GPU where there is one and torch is installed), or another device
            of torch.
        pixels_only: hide the bitstream features from the model.
        batch: clips that the model takes at once; None: as the engine likes best.

    Raises:
        CheckpointError: the file is missing or broken, or not for this device.
        CapabilityError: torch is needed and not installed.
        ValueError: torch has no such device.
    """
    return Predictor(_engine(model, device), pixels_only=pixels_only, batch=batch)


def _engine(model: Path | None, device: str) -> Engine:
    is_exported = model is not None and model.suffix.lower() == EXPORTED_SUFFIX
    wants_torch = device not in ("auto", "cpu") or (device == "auto" and _may_have_gpu())
    if is_exported and device not in ("auto", "cpu"):
        raise CheckpointError(
            f"{model} is exported and runs on the CPU: name the .safetensors file for {device}"
        )
    if is_exported or (model is None and not wants_torch):
        return _exported(model)
    return _torch_engine(model, device)


def _exported(model: Path | None) -> OnnxEngine:
    if model is not None:
        return OnnxEngine(model)
    with resources.as_file(resources.files("vqatool") / "weights" / PACKAGED) as path:
        return OnnxEngine(path)


def _torch_engine(model: Path | None, device: str) -> Engine:
    if not has_torch():
        if model is None:
            raise CapabilityError(f"--device {device} {_NEEDS_TORCH}")
        exported = model.with_suffix(EXPORTED_SUFFIX)
        or_else = (
            f"or name {exported}"
            if exported.exists()
            else f"or export it where torch is: vqatool export {model}"
        )
        raise CapabilityError(f"{model} {_NEEDS_TORCH}, {or_else}")
    from vqatool.inference.device import device_named
    from vqatool.inference.model_file import default_checkpoint, load_checkpoint
    from vqatool.inference.torch_engine import TorchEngine

    if model is None and device_named(device).type == "cpu":
        return _exported(None)
    return TorchEngine(load_checkpoint(model) if model else default_checkpoint(), device)


def has_torch() -> bool:
    """Whether torch is installed; it is not loaded, which takes seconds."""
    return importlib.util.find_spec("torch") is not None


def _may_have_gpu() -> bool:
    """Whether torch is installed and might find a GPU: to be sure, it would have to be loaded."""
    import platform

    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return (is_apple or any(path.exists() for path in _GPU_FILES)) and has_torch()
