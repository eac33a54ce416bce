"""VMamba's published files, made up in their names and shapes."""

import re
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.vqatool.program import vqatool
from vqatool.errors import CheckpointError
from vqatool.inference.model_file import load_checkpoint
from vqatool.models.q_mamba import QMamba
from vqatool.models.vmamba_weights import published, q_mamba_of
from vqatool.models.weight_files import read_weights
from vqatool.training.initialization import Initialization
from vqatool.training.step import OptimizerConfig

WIDTH, DEPTHS = 16, (1, 1, 1, 1)  # of our smallest size
KINDS = ("weight", "bias")


def made_up(width: int = WIDTH, depths: tuple[int, ...] = DEPTHS) -> dict[str, Tensor]:
    """Names and shapes as the project's files have them."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.0.weight": (width // 2, 3, 3, 3),
        "patch_embed.0.bias": (width // 2,),
        **{f"patch_embed.2.{kind}": (width // 2,) for kind in KINDS},
        "patch_embed.5.weight": (width, width // 2, 3, 3),
        "patch_embed.5.bias": (width,),
        **{f"patch_embed.7.{kind}": (width,) for kind in KINDS},
        **{f"classifier.norm.{kind}": (width * 8,) for kind in KINDS},
        "classifier.head.weight": (10, width * 8),
        "classifier.head.bias": (10,),
    }
    for stage, depth in enumerate(depths):
        channels = width * 2**stage
        for block in range(depth):
            inside = f"layers.{stage}.blocks.{block}."
            shapes |= {inside + name: shape for name, shape in block_of(channels).items()}
        if stage < 3:
            halving = f"layers.{stage}.downsample."
            shapes[halving + "1.weight"] = (2 * channels, channels, 3, 3)
            shapes[halving + "1.bias"] = (2 * channels,)
            shapes |= {f"{halving}3.{kind}": (2 * channels,) for kind in KINDS}
    chance = torch.Generator().manual_seed(3)
    return {name: 0.1 * torch.randn(shape, generator=chance) for name, shape in shapes.items()}


def block_of(channels: int) -> dict[str, tuple[int, ...]]:
    inner, rank = 2 * channels, -(-channels // 16)
    return {
        **{f"{norm}.{kind}": (channels,) for norm in ("norm", "norm2") for kind in KINDS},
        "op.in_proj.weight": (inner, channels),
        "op.conv2d.weight": (inner, 1, 3, 3),
        "op.x_proj_weight": (4, rank + 2, inner),
        "op.dt_projs_weight": (4, inner, rank),
        "op.dt_projs_bias": (4, inner),
        "op.A_logs": (4 * inner, 1),
        "op.Ds": (4 * inner,),
        **{f"op.out_norm.{kind}": (inner,) for kind in KINDS},
        "op.out_proj.weight": (channels, inner),
        "mlp.fc1.weight": (4 * channels, channels),
        "mlp.fc1.bias": (4 * channels,),
        "mlp.fc2.weight": (channels, 4 * channels),
        "mlp.fc2.bias": (channels,),
    }


def saved(folder: Path, weights: object) -> Path:
    torch.save(weights, folder / "vssm.pth")
    return folder / "vssm.pth"


def taken(folder: Path, weights: dict[str, Tensor]) -> QMamba:
    return q_mamba_of(read_weights(saved(folder, weights)))


def test_every_weight_of_a_file_gets_to_its_place(tmp_path: Path) -> None:
    weights = made_up()
    own = taken(tmp_path, weights).state_dict()
    backbone = {name: value for name, value in own.items() if name.startswith("_backbone.")}
    names = [name for name in weights if not name.startswith("classifier.")]
    assert len(backbone) == len(names)
    # every one once, whatever its name: none is left as it was or taken for another
    there = {tuple(value.flatten().tolist()) for value in backbone.values()}
    assert there == {tuple(weights[name].flatten().tolist()) for name in names}
    places = {
        "patch_embed.5.weight": "_stem.2._conv.weight",
        "layers.1.downsample.1.weight": "_stages.2.0._conv.weight",
        "layers.2.downsample.3.bias": "_stages.3.0._norm.bias",
        "layers.3.blocks.0.norm2.weight": "_stages.3.1._mlp.0.weight",
        "layers.0.blocks.0.op.x_proj_weight": "_stages.0.1._scan.1._read",
        "layers.0.blocks.0.op.Ds": "_stages.0.1._scan.1._skip",
        "layers.0.blocks.0.op.out_norm.bias": "_stages.0.1._scan.1._norm.bias",
        "layers.0.blocks.0.mlp.fc2.weight": "_stages.0.1._mlp.3.weight",
    }
    for theirs, ours in places.items():
        assert torch.equal(backbone["_backbone." + ours], weights[theirs]), theirs


@torch.no_grad()
def test_a_block_is_that_of_the_paper(tmp_path: Path) -> None:
    """One block of the file, computed from its own names, is the model's first."""
    weights = made_up()
    model = taken(tmp_path, weights).eval()
    block = {n.removeprefix("layers.0.blocks.0."): v for n, v in weights.items()}
    map_BHWC = torch.randn(2, 3, 5, WIDTH, generator=torch.Generator().manual_seed(1))
    found = model.get_submodule("_backbone._stages.0.1")(map_BHWC)
    torch.testing.assert_close(found, by_the_paper(map_BHWC, block), atol=1e-5, rtol=1e-5)


def by_the_paper(map_BHWC: Tensor, block: dict[str, Tensor]) -> Tensor:
    """VMamba's block, channels first, token by token."""
    mixed = norm(map_BHWC, block, "norm") @ block["op.in_proj.weight"].T
    inner = mixed.shape[-1]
    conv = torch.nn.functional.conv2d(
        mixed.permute(0, 3, 1, 2), block["op.conv2d.weight"], padding=1, groups=inner
    )
    maps = torch.nn.functional.silu(conv)
    rows, columns = maps.flatten(2), maps.transpose(2, 3).flatten(2)
    paths = [rows, columns, rows.flip(2), columns.flip(2)]
    scanned = [scan(path, block, index) for index, path in enumerate(paths)]
    scanned = [*scanned[:2], scanned[2].flip(2), scanned[3].flip(2)]
    height, width = map_BHWC.shape[1:3]
    by_columns = (scanned[1] + scanned[3]).unflatten(2, (width, height)).transpose(2, 3).flatten(2)
    merged = (scanned[0] + scanned[2] + by_columns).unflatten(2, (height, width))
    out = norm(merged.permute(0, 2, 3, 1), block, "op.out_norm") @ block["op.out_proj.weight"].T
    map_BHWC = map_BHWC + out
    hidden = norm(map_BHWC, block, "norm2") @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"]
    hidden = torch.nn.functional.gelu(hidden)
    return map_BHWC + hidden @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]


def scan(tokens_BDL: Tensor, block: dict[str, Tensor], path: int) -> Tensor:
    read = torch.einsum("bdl,qd->bql", tokens_BDL, block["op.x_proj_weight"][path])
    inner, rank = block["op.dt_projs_weight"].shape[1:]
    step = torch.einsum("brl,dr->bdl", read[:, :rank], block["op.dt_projs_weight"][path])
    step = torch.nn.functional.softplus(step + block["op.dt_projs_bias"][path][:, None])
    rate = -block["op.A_logs"].exp().view(4, inner)[path]
    skip = block["op.Ds"].view(4, inner)[path]
    state, told = torch.zeros_like(tokens_BDL[..., 0]), []
    for index in range(tokens_BDL.shape[-1]):
        now, token = step[..., index], tokens_BDL[..., index]
        state = state * (now * rate).exp() + now * read[:, rank, index, None] * token
        told.append(state * read[:, rank + 1, index, None] + skip * token)
    return torch.stack(told, dim=-1)


def norm(values: Tensor, block: dict[str, Tensor], name: str) -> Tensor:
    weight, bias = block[f"{name}.weight"], block[f"{name}.bias"]
    return torch.nn.functional.layer_norm(values, weight.shape, weight, bias)


def test_linear_layers_may_be_stored_as_convolutions_over_one_pixel(tmp_path: Path) -> None:
    weights = made_up()
    as_conv = {
        name: value[:, :, None, None] if name.endswith(("proj.weight", "fc1.weight")) else value
        for name, value in weights.items()
        if "classifier" not in name
    }
    plain, other = taken(tmp_path, weights), taken(tmp_path, as_conv)
    assert other.state_dict()["_backbone._stages.3.1._scan.1._in.weight"].ndim == 2
    for name, value in plain.state_dict().items():
        if name.startswith("_backbone."):
            assert torch.equal(value, other.state_dict()[name]), name


def test_a_detectors_backbone_is_taken_without_its_norms(tmp_path: Path) -> None:
    named = {f"backbone.{name}": value for name, value in made_up().items()}
    named |= {"backbone.outnorm2.weight": torch.ones(64), "neck.blocks.w": torch.ones(2)}
    model = taken(tmp_path, named)
    kept = model.state_dict()["_backbone._stem.0._norm.bias"]
    assert torch.equal(kept, made_up()["patch_embed.2.bias"])


@pytest.mark.parametrize("depths", [(2, 2, 5, 2), (2, 2, 8, 2)])
def test_sizes_that_q_mamba_has_not_are_refused(depths: tuple[int, ...], tmp_path: Path) -> None:
    output = f"vssm.pth holds {depths} blocks, the first of width 96"
    with pytest.raises(CheckpointError, match=re.escape(output)):
        taken(tmp_path, made_up(width=96, depths=depths))


def test_another_kind_of_block_is_refused_by_its_names(tmp_path: Path) -> None:
    weights = made_up()
    del weights["layers.0.blocks.0.op.Ds"]
    weights["layers.0.blocks.0.op.conv2d.bias"] = torch.zeros(2 * WIDTH)
    weights["layers.1.blocks.0.op.A_logs"] = torch.zeros(4 * 64, 16)
    with pytest.raises(CheckpointError) as found:
        taken(tmp_path, weights)
    told = str(found.value)
    assert "missing: _backbone._stages.0.1._scan.1._skip" in told
    assert "unknown: _backbone._stages.0.1._scan.1._conv.bias" in told
    assert "_backbone._stages.1.1._scan.1._log_rate (4096,) for (256,)" in told


def test_averages_of_a_training_are_taken_before_its_last_weights(tmp_path: Path) -> None:
    last = {name: torch.zeros_like(value) for name, value in made_up().items()}
    path = saved(tmp_path, {"model": last, "model_ema": made_up()})
    kept = q_mamba_of(read_weights(path)).state_dict()["_backbone._stem.0._norm.bias"]
    assert torch.equal(kept, made_up()["patch_embed.2.bias"])
    without = read_weights(saved(tmp_path, {"model": made_up(), "model_ema": None}))
    assert len(without.weights) == len(made_up())


def test_a_trainings_settings_beside_the_weights_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    module = ModuleType("yacs.config")
    monkeypatch.setattr(module, "CfgNode", settings, raising=False)
    with monkeypatch.context() as there:  # as where the file was written, not where it is read
        there.setitem(sys.modules, "yacs", ModuleType("yacs"))
        there.setitem(sys.modules, "yacs.config", module)
        kept = settings(LR=0.1)
        kept.is_frozen = True
        path = saved(tmp_path, {"model": made_up(), "config": kept, "epoch": 3})
    model = q_mamba_of(read_weights(path))
    kept_bias = model.state_dict()["_backbone._stem.0._norm.bias"]
    assert torch.equal(kept_bias, made_up()["patch_embed.2.bias"])


def test_a_published_file_becomes_a_model_file_to_start_from(tmp_path: Path) -> None:
    file, out = saved(tmp_path, {"model": made_up(), "epoch": 3}), tmp_path / "pico.safetensors"
    done = vqatool("import", file, "-o", out, "--licence", "MIT")
    assert done.exit_code == 0, done.output
    assert "vqatool train --method q-mamba --init" in done.output
    found = load_checkpoint(out)
    assert found.card.licence == "MIT"
    assert found.card.shape == asdict(published("pico"))
    trainer = Initialization(init=found).model(OptimizerConfig(method="q-mamba", tune="head"))
    tuned = {name for name, value in trainer.named_parameters() if value.requires_grad}
    assert tuned
    assert all("_head" in name for name in tuned)
