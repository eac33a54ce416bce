import pytest
import torch

from vqatool.inference.device import autocast, device_named, fast_precision

CPU = torch.device("cpu")


def test_a_device_is_taken_by_name_or_found() -> None:
    assert device_named("cpu") == CPU
    assert device_named("auto").type in {"cpu", "cuda", "mps", "xpu"}


@pytest.mark.parametrize("name", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        device_named(name)


@pytest.mark.parametrize("ability", ["amx_bf16", "avx512_bf16", None])
def test_bfloat16_is_used_only_where_the_cpu_multiplies_it(
    ability: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {ability: True} if ability else {})
    assert fast_precision(CPU) == ("bf16" if ability else "no")
    with autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if ability else torch.float32)
