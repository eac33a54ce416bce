"""The device to compute on, and the fastest number format there."""

import contextlib
from typing import Literal

import torch

Precision = Literal["no", "bf16"]


def device_named(name: str) -> torch.device:
    """The torch device of that name; `auto` takes a GPU where there is one.

    Raises:
        ValueError: torch does not know the name, or has no such device here.
    """
    if name != "auto":
        try:
            return torch.zeros(1, device=name).device
        except (RuntimeError, AssertionError) as error:
            # torch asserts, rather than raises, that it was built with CUDA
            raise ValueError(f"torch cannot compute on {name!r}: {error}") from error
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")


def fast_precision(device: torch.device) -> Precision:
    """bfloat16 where the hardware multiplies it; elsewhere it is emulated and far slower."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "no"
    return "no"


def autocast(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The context a model runs in to be fast on `device`."""
    is_on = fast_precision(device) == "bf16"
    context: contextlib.AbstractContextManager[None] = torch.autocast(
        device.type, torch.bfloat16, enabled=is_on
    )
    return context
