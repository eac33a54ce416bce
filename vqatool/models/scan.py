"""The selective scan of Mamba in plain torch, or by mamba-ssm's kernel where that works.

"Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (arXiv 2312.00752, section 3).
As published: the recurrence and its discretisation. The computation is ours: time is the first
axis, so that a step adds contiguous numbers; the gradient is the same recurrence backwards, which
stores only the factors and the states.

Shapes: L steps, M independent sequences, B pictures, K scan paths, D channels, N states,
P parts of C steps.
"""

import functools
import importlib
import logging
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Kernel = Callable[..., Tensor]
"""A function with the arguments and the result of mamba-ssm's `selective_scan_fn`."""

_log = logging.getLogger(__name__)

_TOLERANCE = 1e-3  # float32 sums in another order


class ScanInputs(NamedTuple):
    """The inputs of a selective scan; each path has its own `a`, `b`, `c` and `d`.

    The state is h_t = exp(delta a) h_(t-1) + delta b u and the output c h + d u, with
    delta = softplus(`step`) (arXiv 2312.00752, eq. 2 and 4).
    """

    u_LBKD: Tensor
    step_LBKD: Tensor
    b_LBKN: Tensor
    c_LBKN: Tensor
    a_KDN: Tensor  # negative
    d_KD: Tensor


def selective_scan(inputs: ScanInputs, *, kernel: Kernel | None = None) -> Tensor:
    """The scan's output (L, B, K, D), float32, also under autocast; float64 for float64 inputs.

    Args:
        inputs: of any number of steps.
        kernel: computes the scan; None: plain torch does.
    """
    # half precision rounds small steps to nothing and overflows in long products
    with torch.autocast(inputs.u_LBKD.device.type, enabled=False):
        exact = ScanInputs(*(_at_least_float32(tensor) for tensor in inputs))
        return _by_kernel(exact, kernel) if kernel else _by_recurrence(exact)


def linear_recurrence(a_LM: Tensor, b_LM: Tensor, *, chunk: int | None = None) -> Tensor:
    """The states h_t = a_t h_(t-1) + b_t with h_0 = 0.

    There is no division and no logarithm, so it is stable for |a| <= 1.

    Args:
        a_LM: factors; (L, ...), any number of axes.
        b_LM: terms, of the same shape.
        chunk: length of the parts that are computed at the same time and then joined one after
            another. None: L on a CPU, where starting a step is cheap, and the square root of L
            elsewhere.

    Returns:
        Shape and device of the inputs; float32, or float64 for float64 inputs.
    """
    if a_LM.shape != b_LM.shape:
        raise ValueError(f"factors {tuple(a_LM.shape)} do not fit terms {tuple(b_LM.shape)}")
    a_LM, b_LM = _at_least_float32(a_LM), _at_least_float32(b_LM)
    if torch.compiler.is_exporting():
        return recurrence_by_doubling(a_LM, b_LM)
    if chunk is None:
        steps = len(a_LM)
        chunk = steps if a_LM.device.type == "cpu" else math.isqrt(max(0, steps - 1)) + 1
    return cast(Tensor, _Recurrence.apply(a_LM, b_LM, max(1, chunk)))


def recurrence_by_doubling(a_LM: Tensor, b_LM: Tensor) -> Tensor:
    """`linear_recurrence` in a few operations on all steps, of which a graph can be exported.

    After k rounds a state has the terms of the last 2^k steps ("Data Parallel Algorithms", Hillis
    and Steele, CACM 1986). It computes more than one step after another.
    """
    steps, reach = a_LM.shape[0], 1
    while reach < steps:
        none_yet = torch.zeros_like(a_LM[:reach])
        b_LM = b_LM + a_LM * torch.cat([none_yet, b_LM[:-reach]])
        a_LM = a_LM * torch.cat([none_yet, a_LM[:-reach]])
        reach *= 2
    return b_LM


class _Recurrence(torch.autograd.Function):
    """`linear_recurrence`, whose gradient is another one from the last step to the first."""

    @staticmethod
    def forward(ctx: Any, a_LM: Tensor, b_LM: Tensor, chunk: int) -> Tensor:
        h_LM = _recur(a_LM.contiguous(), b_LM, chunk)
        ctx.save_for_backward(a_LM, h_LM)
        ctx.chunk = chunk
        return h_LM

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_LM: Tensor) -> tuple[Tensor, Tensor, None]:
        a_LM, h_LM = ctx.saved_tensors
        # a state acts on the next state by that state's factor; the last one acts on none
        later_LM = torch.cat([a_LM[1:], torch.zeros_like(a_LM[:1])]).flip(0)
        b_grad_LM = _recur(later_LM, grad_LM.flip(0), ctx.chunk).flip(0)
        a_grad_LM = torch.cat([torch.zeros_like(h_LM[:1]), b_grad_LM[1:] * h_LM[:-1]])
        return a_grad_LM, b_grad_LM, None


def _recur(a_LM: Tensor, b_LM: Tensor, chunk: int) -> Tensor:
    steps = len(a_LM)
    if steps <= chunk:
        return _step_through(a_LM, b_LM.clone(memory_format=torch.contiguous_format))
    parts = -(-steps // chunk)
    shape = (parts, chunk, *a_LM.shape[1:])
    a_PCM, h_PCM = a_LM.new_ones(shape), b_LM.new_zeros(shape)  # padded steps change nothing
    a_PCM.flatten(0, 1)[:steps], h_PCM.flatten(0, 1)[:steps] = a_LM, b_LM
    _step_through(a_PCM.transpose(0, 1), h_PCM.transpose(0, 1))
    product_PCM, last_PM = a_PCM.cumprod(1), h_PCM[:, -1]
    for before_M, product_CM, here_CM in zip(last_PM, product_PCM[1:], h_PCM[1:], strict=False):
        here_CM.addcmul_(product_CM, before_M)
    return h_PCM.flatten(0, 1)[:steps]


def _step_through(a_LM: Tensor, h_LM: Tensor) -> Tensor:
    """Overwrite the terms in `h_LM` with the states."""
    factors, states = a_LM.unbind(), h_LM.unbind()
    for (before, here), factor in zip(pairwise(states), factors[1:], strict=True):
        here.addcmul_(factor, before)
    return h_LM


def _by_recurrence(inputs: ScanInputs) -> Tensor:
    delta_LBKD1 = F.softplus(inputs.step_LBKD).unsqueeze(-1)
    u_LBKD1 = inputs.u_LBKD.unsqueeze(-1)
    factor_LBKDN = (delta_LBKD1 * inputs.a_KDN).exp()
    term_LBKDN = delta_LBKD1 * u_LBKD1 * inputs.b_LBKN.unsqueeze(-2)
    h_LBKDN = linear_recurrence(factor_LBKDN, term_LBKDN)
    return (h_LBKDN * inputs.c_LBKN.unsqueeze(-2)).sum(-1) + inputs.d_KD * inputs.u_LBKD


def _by_kernel(inputs: ScanInputs, kernel: Kernel) -> Tensor:
    """The kernel takes (B, K * D, L) and (B, K, N, L)."""
    u_LBKD, step_LBKD, b_LBKN, c_LBKN, a_KDN, d_KD = inputs
    y_BEL = kernel(
        u_LBKD.permute(1, 2, 3, 0).flatten(1, 2).contiguous(),
        step_LBKD.permute(1, 2, 3, 0).flatten(1, 2).contiguous(),
        a_KDN.flatten(0, 1).contiguous(),
        b_LBKN.permute(1, 2, 3, 0).contiguous(),
        c_LBKN.permute(1, 2, 3, 0).contiguous(),
        D=d_KD.flatten().contiguous(),
        delta_softplus=True,
    )
    return y_BEL.view(len(y_BEL), *d_KD.shape, -1).permute(3, 0, 1, 2)


@functools.cache
def fast_kernel(device: torch.device) -> Kernel | None:
    """mamba-ssm's kernel, or None where it is missing or wrong; checked once for each device."""
    kernel = installed_kernel() if device.type == "cuda" else None
    if kernel and agrees(kernel, device):
        _log.info("scans run by mamba-ssm's kernel")
        return kernel
    if device.type != "cuda":
        reason = f"mamba-ssm has no kernel for {device.type}"
    else:
        reason = "mamba-ssm's kernel is wrong here" if kernel else "mamba-ssm does not import"
    _log.info("scans run in plain torch: %s", reason)
    return None


def installed_kernel() -> Kernel | None:
    """mamba-ssm's kernel, or None: without its compiled part it does not import."""
    try:
        importlib.import_module("selective_scan_cuda")
        module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
        return cast(Kernel, module.selective_scan_fn)
    except (ImportError, AttributeError, OSError, RuntimeError):
        return None  # built for another version of torch or CUDA, it fails in many ways


def agrees(kernel: Kernel, device: torch.device) -> bool:
    """Whether a kernel has the output and gradients of plain torch, on 64 steps of noise."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            expected, found = _probe(device, None), _probe(device, kernel)
    except (RuntimeError, TypeError, ValueError):
        return False
    return all(
        torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE)
        for one, other in zip(expected, found, strict=True)
    )


def _probe(device: torch.device, kernel: Kernel | None) -> list[Tensor]:
    """The output of a scan of fixed noise, and the gradient of each input."""
    generator = torch.Generator().manual_seed(0)
    steps, pictures, paths, channels, states = 64, 2, 4, 8, 1
    wide, narrow = (steps, pictures, paths, channels), (steps, pictures, paths, states)
    shapes = (wide, wide, narrow, narrow, (paths, channels, states), (paths, channels))
    noise = [torch.randn(shape, generator=generator) for shape in shapes]
    noise[4] = -noise[4].exp()
    inputs = ScanInputs(*(tensor.to(device).requires_grad_() for tensor in noise))
    output = selective_scan(inputs, kernel=kernel)
    return [output.detach(), *torch.autograd.grad(output.square().sum(), tuple(inputs))]


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
