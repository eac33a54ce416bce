"""The backbone of Q-Mamba."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.models.shapes import VMAMBA_SIZES
from vqatool.models.vmamba import (
    LOCAL_WINDOWS,
    PATHS,
    WHOLE_MAPS,
    ChannelGate,
    ScanBlock,
    SelectiveScan2d,
    VMamba,
    merge_paths,
    scan_paths,
)
from vqatool.training.step import parameter_groups


def parameters(size: str, *, is_local: bool = False) -> int:
    with torch.device("meta"):
        backbone = VMamba(
            VMAMBA_SIZES[size],
            in_channels=3,
            windows=LOCAL_WINDOWS if is_local else WHOLE_MAPS,
            has_gate=is_local,
        )
    # the published counts have the norm behind the last map, which is the head's here
    norm = 2 * int(backbone.channels[-1])
    return norm + sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize(
    ("size", "count"), [("tiny", 27_992_640), ("small", 49_378_752), ("base", 87_532_800)]
)
def test_published_sizes_have_the_published_parameters(size: str, count: int) -> None:
    assert parameters(size) == count


@pytest.mark.parametrize(("size", "millions"), [("small", 52.91), ("base", 93.79)])
def test_the_local_kind_has_the_published_parameters(size: str, millions: float) -> None:
    assert parameters(size, is_local=True) / 1e6 == pytest.approx(millions, abs=0.005)


def test_nano_and_pico_are_small() -> None:
    assert 2e6 <= parameters("nano", is_local=True) <= 7e6
    assert parameters("pico", is_local=True) < 0.5e6


@torch.no_grad()
@pytest.mark.parametrize("windows", [WHOLE_MAPS, LOCAL_WINDOWS])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 70), (1, 100), (96, 32)])
def test_a_picture_may_have_any_size(height: int, width: int, windows: tuple[int, ...]) -> None:
    backbone = VMamba(VMAMBA_SIZES["pico"], in_channels=3, windows=windows).eval()
    found = backbone(torch.rand(2, 3, height, width))
    assert found.shape == (2, math.ceil(height / 32), math.ceil(width / 32), 128)
    assert found.isfinite().all()


@torch.no_grad()
def test_prompts_act_on_the_map_of_every_stage() -> None:
    seen = []

    class DecodedSegments(nn.Module):
        def forward(self, map_BHWC: Tensor) -> Tensor:
            seen.append(tuple(map_BHWC.shape))
            return map_BHWC

    backbone = VMamba(VMAMBA_SIZES["pico"], in_channels=3).eval()
    pixels = torch.rand(1, 3, 64, 96)
    found = backbone(pixels, [DecodedSegments() for _ in range(4)])
    assert seen == [(1, 16, 24, 16), (1, 8, 12, 32), (1, 4, 6, 64), (1, 2, 3, 128)]
    assert torch.equal(found, backbone(pixels))
    erased = backbone(pixels, [*(nn.Identity() for _ in range(3)), nn.Hardtanh(0, 1e-9)])
    assert erased.abs().max() < 1e-8


def orders(height: int, width: int) -> list[list[tuple[int, int]]]:
    rows = [(y, x) for y in range(height) for x in range(width)]
    columns = [(y, x) for x in range(width) for y in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]]


def by_hand(layer: SelectiveScan2d, map_HWC: Tensor) -> Tensor:
    """The layer from its weights alone, token by token."""
    weights = {name.removeprefix("_"): value for name, value in layer.state_dict().items()}
    height, width, channels = map_HWC.shape
    inner, rank = 2 * channels, math.ceil(channels / 16)
    token_HWD = map_HWC @ weights["in.weight"].T
    spread = F.conv2d(token_HWD.permute(2, 0, 1), weights["conv.weight"], padding=1, groups=inner)
    u_HWD = F.silu(spread).permute(1, 2, 0)
    summed_HWD = torch.zeros_like(u_HWD)
    for path, order in enumerate(orders(height, width)):
        of_path = slice(path * inner, (path + 1) * inner)
        rate, skip, bias = (weights[name][of_path] for name in ("log_rate", "skip", "step_bias"))
        h = torch.zeros_like(rate)
        for place in order:
            u = u_HWD[place]
            read = weights["read"][path] @ u
            delta = F.softplus(weights["step"][path] @ read[:rank] + bias)
            h = (-delta * rate.exp()).exp() * h + delta * read[rank] * u
            summed_HWD[place] += read[rank + 1] * h + skip * u
    normed = F.layer_norm(summed_HWD, (inner,), weights["norm.weight"], weights["norm.bias"])
    found: Tensor = normed @ weights["out.weight"].T
    return found


@torch.no_grad()
def test_the_scan_of_a_map_equals_the_papers_formula_token_by_token() -> None:
    torch.manual_seed(0)
    layer = SelectiveScan2d(18).double()
    for parameter in layer.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    map_BHWC = torch.randn(2, 3, 5, 18, dtype=torch.float64)
    expected = torch.stack([by_hand(layer, map_HWC) for map_HWC in map_BHWC])
    assert torch.allclose(layer(map_BHWC), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("window", [0, 2, 3])
def test_each_token_depends_on_each_other(window: int) -> None:
    torch.manual_seed(0)
    layer = SelectiveScan2d(16, window=window).double()
    map_BHWC = torch.randn(1, 4, 5, 16, dtype=torch.float64, requires_grad=True)
    for y, x in [(0, 0), (3, 4), (1, 2)]:
        (slope,) = torch.autograd.grad(layer(map_BHWC)[0, y, x].square().sum(), map_BHWC)
        assert slope.abs().amax(-1).min() > 0


@torch.no_grad()
def test_scales_start_as_published() -> None:
    torch.manual_seed(0)
    start = {name.removeprefix("_"): p for name, p in SelectiveScan2d(64).named_parameters()}
    steps = F.softplus(start["step_bias"])
    assert steps.min().item() == pytest.approx(1e-3, rel=0.03)
    assert steps.max().item() == pytest.approx(0.1, rel=0.03)
    assert steps.log().mean().item() == pytest.approx(math.log(0.01), abs=0.2)
    assert (-start["log_rate"].exp() == -1).all()
    assert (start["skip"] == 1).all()
    assert start["step"].abs().max().item() == pytest.approx(4**-0.5, rel=0.01)  # 64 / 16 wide


def test_weight_decay_leaves_rates_and_skips_alone() -> None:
    backbone = VMamba(VMAMBA_SIZES["pico"], in_channels=3)
    spared = {id(p) for p in parameter_groups(backbone, 0.1)[1]["params"]}
    for name, parameter in backbone.named_parameters():
        if name.endswith(("_log_rate", "_skip", "_step_bias", "bias")):
            assert id(parameter) in spared, name


def test_a_gate_weights_each_channel_by_the_whole_map() -> None:
    torch.manual_seed(0)
    gate = ChannelGate(16)
    maps = torch.randn(3, 2, 4, 5, 16)
    weights = gate(maps) / maps
    assert weights.shape == maps.shape
    assert torch.allclose(weights, weights[:, :, :1, :1].expand_as(weights), atol=1e-4)
    assert ((weights > 0) & (weights < 1)).all()
    far = maps.clone()
    far[..., 0, 0, :] = 0
    assert not torch.allclose(gate(far)[..., 3, 4, :], gate(maps)[..., 3, 4, :])


@torch.no_grad()
def test_branches_are_dropped_in_training_only_and_by_picture() -> None:
    torch.manual_seed(0)
    block = ScanBlock(16, window=0, has_gate=False, drop_path_rate=0.5)
    for parameter in block.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    same = torch.randn(1, 2, 2, 16).expand(64, -1, -1, -1)
    kinds = {tuple(picture.flatten().round(decimals=3).tolist()) for picture in block(same)}
    assert len(kinds) == 4  # with the scan or not, with the layers or not
    assert tuple(same[0].flatten().round(decimals=3).tolist()) in kinds
    assert torch.equal(block.eval()(same)[0], block(same)[1])


SIZES = [(1, 1), (4, 4), (5, 7), (8, 3), (1, 9)]
WINDOWS = [0, 1, 2, 3, 8]


def numbered(height: int, width: int) -> Tensor:
    """A map (1, H, W, 1) of 1, 2, 3 ... in the order of reading."""
    return torch.arange(1.0, height * width + 1).view(1, height, width, 1)


def test_a_whole_map_is_scanned_along_rows_columns_and_both_reversed() -> None:
    paths = scan_paths(numbered(2, 3))[:, 0, :, 0].T.int().tolist()
    assert paths == [
        [1, 2, 3, 4, 5, 6],
        [1, 4, 2, 5, 3, 6],
        [6, 5, 4, 3, 2, 1],
        [6, 3, 5, 2, 4, 1],
    ]


def test_windows_are_scanned_one_after_the_other() -> None:
    places = torch.arange(16.0).view(16, 1, 1, 1).expand(-1, -1, PATHS, -1)
    rows, columns, rows_back, columns_back = merge_paths(places, 4, 4, window=2)[:, 0, ..., 0].int()
    assert rows.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert torch.equal(columns, rows.T)
    assert torch.equal(rows_back, 15 - rows)
    assert torch.equal(columns_back, 15 - columns)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_merge_paths_inverts_scan_paths(height: int, width: int, window: int) -> None:
    map_BHWC = torch.rand(2, height, width, 3)
    tokens = scan_paths(map_BHWC, window=window)
    maps = merge_paths(tokens, height, width, window=window)
    assert maps.shape == (PATHS, 2, height, width, 3)
    assert all(torch.equal(found, map_BHWC) for found in maps)
    assert torch.allclose(maps.sum(0), 4 * map_BHWC)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_path_has_each_token_once_and_zeros_otherwise(
    height: int, width: int, window: int
) -> None:
    side = window or 1
    filled = -(-height // side) * side * -(-width // side) * side
    paths = scan_paths(numbered(height, width), window=window)[:, 0, :, 0].T
    tokens = list(range(1, height * width + 1))
    for path in paths.int().tolist():
        assert sorted(path) == [0] * (filled - len(tokens)) + tokens


def test_the_second_pair_of_paths_is_the_first_reversed() -> None:
    tokens = scan_paths(torch.rand(2, 5, 6, 3), window=2)
    assert torch.equal(tokens[:, :, 2:], tokens[:, :, :2].flip(0))
