"""The recurrence and the selective scan, against loops that are slow and plain."""

import math
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from vqatool.models.scan import (
    ScanInputs,
    agrees,
    fast_kernel,
    installed_kernel,
    linear_recurrence,
    recurrence_by_doubling,
    selective_scan,
)

CPU = torch.device("cpu")
CHUNKS = [None, 1, 2, 3, 7, 20, 50]


class Work(TorchDispatchMode):
    """Counts operations, and the numbers they make."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        each = made if isinstance(made, (tuple, list)) else [made]
        self.operations += 1
        self.numbers += sum(tensor.numel() for tensor in each if isinstance(tensor, Tensor))
        return made


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def decay(*shape: int) -> Tensor:
    return torch.sigmoid(noise(*shape, seed=1))


def naive_recurrence(a: Tensor, b: Tensor) -> Tensor:
    states, h = [], torch.zeros_like(b[0])
    for factor, term in zip(a, b, strict=True):
        h = factor * h + term
        states.append(h)
    return torch.stack(states)


def naive_scan(inputs: ScanInputs) -> Tensor:
    u, step, b, c, a, d = inputs
    y = torch.zeros_like(u)
    for where in torch.cartesian_prod(*(torch.arange(n) for n in u.shape[1:])).tolist():
        picture, path, channel = where
        for state in range(a.shape[-1]):
            h = 0.0
            for t in range(len(u)):
                delta = math.log1p(math.exp(step[t, picture, path, channel]))
                h *= math.exp(delta * a[path, channel, state])
                h += delta * float(b[t, picture, path, state] * u[t, picture, path, channel])
                y[t, picture, path, channel] += c[t, picture, path, state] * h
    return y + d * u


def scan_inputs(steps: int, states: int = 1, dtype: torch.dtype = torch.float64) -> ScanInputs:
    wide, narrow = (steps, 2, 4, 3), (steps, 2, 4, states)
    shapes = (wide, wide, narrow, narrow, (4, 3, states), (4, 3))
    tensors = [noise(*shape, seed=seed).to(dtype) for seed, shape in enumerate(shapes)]
    tensors[4] = -tensors[4].exp()
    return ScanInputs(*tensors)


def kernel_of_the_documentation(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor, delta_softplus: bool
) -> Tensor:
    """mamba-ssm's `selective_scan_fn` by its documentation: time last, groups of B and C."""
    assert delta_softplus
    assert all(tensor.is_contiguous() for tensor in (u, delta, A, B, C, D))
    delta = F.softplus(delta)
    repeat = u.shape[1] // B.shape[1]
    h = u.new_zeros(*u.shape[:2], A.shape[1])
    outputs = []
    for t in range(u.shape[2]):
        b, c = (x[..., t].repeat_interleave(repeat, dim=1) for x in (B, C))
        here = delta[..., t, None]
        h = (here * A).exp() * h + here * b * u[..., t, None]
        outputs.append((h * c).sum(-1) + D * u[..., t])
    return torch.stack(outputs, dim=-1)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_recurrence_is_the_worked_value(chunk: int | None) -> None:
    states = linear_recurrence(torch.tensor([0.5, 0.5, 0.9, 0.1]), torch.ones(4), chunk=chunk)
    assert torch.allclose(states, torch.tensor([1.0, 1.5, 2.35, 1.235]))


@pytest.mark.parametrize("steps", [0, 1, 2, 19, 20, 21])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_recurrence_is_that_of_a_plain_loop(steps: int, chunk: int | None) -> None:
    a, b = decay(steps, 3, 2), noise(steps, 3, 2)
    expected = naive_recurrence(a, b) if steps else b
    assert torch.allclose(linear_recurrence(a, b, chunk=chunk), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 64])
def test_the_recurrence_is_exact_in_float32_over_a_whole_picture(chunk: int | None) -> None:
    a, b = decay(3136, 4), noise(3136, 4)
    a[:, 0], a[:, 1] = 1 - 1e-4, 1e-30  # keeps nearly all, and nothing
    found = linear_recurrence(a.float(), b.float(), chunk=chunk).double()
    expected = naive_recurrence(a.float().double(), b.float().double())
    assert ((found - expected).abs().amax(0) / expected.abs().amax(0)).max() < 1e-5


@pytest.mark.parametrize("chunk", [None, 3, 4])
def test_the_recurrence_has_the_gradient_of_its_value(chunk: int | None) -> None:
    a, b = decay(8, 2).requires_grad_(), noise(8, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: linear_recurrence(a, b, chunk=chunk), (a, b))


@pytest.mark.parametrize("order", [(4, 0, 1, 2, 3), (0, 2, 3, 4, 1), (0, 1, 2, 3, 4)])
def test_inputs_of_the_recurrence_are_left_alone_in_any_layout(order: tuple[int, ...]) -> None:
    a, b = decay(8, 2, 1, 8, 3).permute(order), noise(8, 2, 1, 8, 3).permute(order)
    before = a.clone(), b.clone()
    for chunk in CHUNKS:
        found = linear_recurrence(a, b, chunk=chunk)
        assert torch.allclose(found, naive_recurrence(a, b))
        assert torch.equal(a, before[0])
        assert torch.equal(b, before[1])


def test_factors_and_terms_have_one_shape() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) do not fit terms \(3, 1\)"):
        linear_recurrence(torch.ones(3, 2), torch.ones(3, 1))


@pytest.mark.slow  # to watch operations loads all of torch's compiler
@pytest.mark.parametrize("parts", [1, 8])
def test_work_grows_as_the_length(parts: int) -> None:
    numbers = []
    for steps in (64, 128, 256):
        a, b = decay(steps, 5).requires_grad_(), noise(steps, 5).requires_grad_()
        with Work() as work:
            linear_recurrence(a, b, chunk=steps // parts).sum().backward()
        numbers.append(work.numbers)
    assert numbers[2] - numbers[1] == pytest.approx(2 * (numbers[1] - numbers[0]), rel=0.01)


@pytest.mark.slow
def test_parts_need_few_operations_where_each_has_to_be_launched() -> None:
    operations = []
    for device in ("cpu", "meta"):
        a = torch.empty(1024, 2, device=device)
        with Work() as work:
            linear_recurrence(a, a)
        operations.append(work.operations)
    one_by_one, in_parts = operations
    assert one_by_one >= 1023
    assert in_parts < 100  # 31 steps, 31 joints and what prepares them


def test_only_factors_and_states_are_kept_for_the_gradient() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    a, b = decay(50, 6).requires_grad_(), noise(50, 6).requires_grad_()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        linear_recurrence(a, b)
    assert kept == [300, 300]


@pytest.mark.parametrize("states", [1, 3])
def test_the_selective_scan_is_that_of_a_plain_loop(states: int) -> None:
    inputs = scan_inputs(11, states)
    assert torch.allclose(selective_scan(inputs), naive_scan(inputs), rtol=0, atol=1e-10)


def test_the_selective_scan_is_exact_in_float32() -> None:
    exact = scan_inputs(60)
    found = selective_scan(ScanInputs(*(tensor.float() for tensor in exact)))
    assert found.dtype == torch.float32
    expected = naive_scan(exact)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_selective_scan_has_the_gradient_of_its_value() -> None:
    leaves = tuple(tensor.requires_grad_() for tensor in scan_inputs(3))
    assert torch.autograd.gradcheck(lambda *each: selective_scan(ScanInputs(*each)), leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_selective_scan_is_in_float32_whatever_comes(dtype: torch.dtype) -> None:
    rounded = ScanInputs(*(tensor.to(dtype) for tensor in scan_inputs(40)))
    rounded = rounded._replace(u_LBKD=300 * rounded.u_LBKD, c_LBKN=300 * rounded.c_LBKN)
    expected = selective_scan(ScanInputs(*(tensor.float() for tensor in rounded)))
    assert expected.abs().max() > 65504  # more than float16 holds
    with torch.autocast("cpu", torch.bfloat16):
        found = selective_scan(rounded)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_a_kernel_gives_what_plain_torch_gives() -> None:
    for inputs in (scan_inputs(70, dtype=torch.float32), scan_inputs(9, 2, torch.float32)):
        found = selective_scan(inputs, kernel=kernel_of_the_documentation)
        assert (found - selective_scan(inputs)).abs().max() < 1e-3


def test_a_right_kernel_passes_its_test() -> None:
    assert agrees(kernel_of_the_documentation, CPU)
    with torch.no_grad():
        assert agrees(kernel_of_the_documentation, CPU)
    with torch.inference_mode():
        assert agrees(kernel_of_the_documentation, CPU)


def shifted(u: Tensor, *others: Tensor, **named: Any) -> Tensor:
    return kernel_of_the_documentation(u, *others, **named).roll(1, -1)


def without_gradient(u: Tensor, delta: Tensor, *others: Tensor, **named: Any) -> Tensor:
    return kernel_of_the_documentation(u, delta.detach(), *others, **named)


def with_another_gradient(u: Tensor, delta: Tensor, *others: Tensor, **named: Any) -> Tensor:
    half = delta / 2 + delta.detach() / 2
    return kernel_of_the_documentation(u, half, *others, **named)


def of_nothing(*tensors: Tensor, **named: Any) -> Tensor:
    return tensors[0] * torch.nan


def broken(*tensors: Tensor, **named: Any) -> Tensor:
    raise RuntimeError("no kernel image is available for execution on the device")


def of_other_arguments(u: Tensor) -> Tensor:
    return u


@pytest.mark.parametrize(
    "kernel",
    [shifted, without_gradient, with_another_gradient, of_nothing, broken, of_other_arguments],
)
def test_a_wrong_kernel_is_found_out(kernel: Any) -> None:
    assert not agrees(kernel, CPU)


def install(monkeypatch: pytest.MonkeyPatch, *, compiled: bool) -> None:
    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = kernel_of_the_documentation  # type: ignore[attr-defined]
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    there = ModuleType("selective_scan_cuda") if compiled else None
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", there)


def test_a_kernel_is_found_where_its_compiled_part_is(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, compiled=True)
    assert installed_kernel() is kernel_of_the_documentation
    install(monkeypatch, compiled=False)
    assert installed_kernel() is None


def test_a_cpu_needs_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, compiled=True)
    fast_kernel.cache_clear()
    assert fast_kernel(CPU) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_a_cpu_gives() -> None:
    inputs = scan_inputs(300, dtype=torch.float32)
    there = ScanInputs(*(tensor.cuda() for tensor in inputs))
    expected = selective_scan(inputs)
    assert (selective_scan(there).cpu() - expected).abs().max() < 1e-3
    if kernel := fast_kernel(there.u_LBKD.device):
        assert (selective_scan(there, kernel=kernel).cpu() - expected).abs().max() < 1e-3


@pytest.mark.parametrize("steps", [1, 2, 7, 64, 100])
def test_doubling_gives_the_states_of_one_step_after_another(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    factors = torch.rand(steps, 3, 5, generator=generator)
    terms = torch.randn(steps, 3, 5, generator=generator)
    found = recurrence_by_doubling(factors, terms)
    assert torch.allclose(found, linear_recurrence(factors, terms), atol=1e-5)
