import argparse
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.vqatool.program import vqatool
from vqatool.errors import CheckpointError
from vqatool.inference.model_file import load_checkpoint
from vqatool.methods.distillation import StudentWithTeacher
from vqatool.models.internvideo import (
    InternVideo,
    interpolate_grid,
    published_config,
)
from vqatool.models.q_mamba import QMamba
from vqatool.models.shapes import InternVideoConfig
from vqatool.pretraining.published_weights import (
    internvideo_from_file,
    internvideo_weights,
    load_internvideo_weights,
    published_q_mamba_config,
    q_mamba_from_file,
    read_weights,
)
from vqatool.training.initialization import Initialization
from vqatool.training.step import OptimizerConfig

WIDTH, FEATURES, HIDDEN, FRAMES = 64, 64, 256, 2
ONE = torch.zeros(1)


def internvideo_file(depth: int = 3, width: int = WIDTH) -> dict[str, Tensor]:
    """Names and shapes as the project's files have them, in the widths of our smallest size."""
    block = {
        "norm1.weight": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.q_norm.weight": (width,),
        "attn.k_norm.weight": (width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "ls1.gamma": (width,),
        "norm2.weight": (width,),
        "mlp.fc1.weight": (HIDDEN, width),
        "mlp.fc1.bias": (HIDDEN,),
        "mlp.fc2.weight": (width, HIDDEN),
        "mlp.fc2.bias": (width,),
        "ls2.gamma": (width,),
    }
    pool = {f"norm1_{part}.{kind}": (width,) for part in "qkv" for kind in ("weight", "bias")}
    cross = {
        **{f"{part}.weight": (width, width) for part in "qkv"},
        **{f"{part}_bias": (width,) for part in "qkv"},
        "proj.weight": (FEATURES, width),
        "proj.bias": (FEATURES,),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + FRAMES * 16 * 16, width),
        "patch_embed.proj.weight": (width, 3, 1, 14, 14),
        "patch_embed.proj.bias": (width,),
        **{f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()},
        **{f"clip_projector.{name}": shape for name, shape in pool.items()},
        **{f"clip_projector.cross_attn.{name}": shape for name, shape in cross.items()},
        "fc_norm.weight": (FEATURES,),
        "fc_norm.bias": (FEATURES,),
        "head.weight": (1, FEATURES),
        "head.bias": (1,),
    }
    chance = torch.Generator().manual_seed(3)
    return {name: 0.1 * torch.randn(shape, generator=chance) for name, shape in shapes.items()}


def small(**changes: Any) -> InternVideo:
    """Of the made-up file's size, but for fewer and smaller frames."""
    torch.manual_seed(0)
    config = InternVideoConfig(
        size="pico", grid=1, patch=56, frames=4, has_conv_stem=False, has_local_luma=False
    )
    return InternVideo(replace(config, **changes)).eval()


def save(folder: Path, weights: object, name: str = "net.pth") -> Path:
    torch.save(weights, folder / name)
    return folder / name


def load(model: InternVideo, path: Path) -> list[str]:
    return load_internvideo_weights(model, internvideo_weights(read_weights(path)), path)


def test_every_internvideo_weight_is_loaded(tmp_path: Path) -> None:
    weights, model = internvideo_file(), small()
    assert load(model, save(tmp_path, weights)) == []
    own = model.state_dict()
    assert len(own) == len(weights)
    same = {"blocks.2.attn.qkv.weight", "blocks.0.ls2.gamma", "fc_norm.bias", "head.weight"}
    renamed = {
        "clip_projector.cross_attn.q_bias": "clip_projector.q.bias",
        "clip_projector.cross_attn.v.weight": "clip_projector.v.weight",
        "clip_projector.cross_attn.proj.bias": "clip_projector.proj.bias",
        "clip_projector.norm1_k.weight": "clip_projector.norm1_k.weight",
        "patch_embed.proj.bias": "patch_embed.bias",
    }
    for theirs, ours in {**{name: name for name in same}, **renamed}.items():
        assert torch.equal(own[ours], weights[theirs]), theirs
    assert torch.equal(own["patch_embed.weight"], weights["patch_embed.proj.weight"][:, :, 0])


def test_positions_are_interpolated_to_the_models_grid(tmp_path: Path) -> None:
    weights, model = internvideo_file(), small()
    load(model, save(tmp_path, weights))
    file_1ND = weights["pos_embed"]
    assert model.pos_embed.shape == (1, 1 + 4 * 4 * 4, WIDTH)
    assert torch.equal(model.pos_embed[:, 0], file_1ND[:, 0])
    wanted = interpolate_grid(file_1ND[0, 1:], (FRAMES, 16, 16), (4, 4, 4))
    assert torch.equal(model.pos_embed[0, 1:], wanted)
    same = small(patch=224, frames=FRAMES)
    load(same, save(tmp_path, weights))
    assert torch.equal(same.pos_embed, file_1ND)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "encoder.", "backbone.", "vision_encoder.", "module.encoder."]
)
def test_an_encoder_is_found_under_any_prefix_and_among_other_networks(
    prefix: str, tmp_path: Path
) -> None:
    plain, behind = small(), small()
    load(plain, save(tmp_path, internvideo_file()))
    named = {prefix + name: value for name, value in internvideo_file().items()}
    others = {"text_encoder.embeddings.weight": torch.zeros(3, 2), "temp": torch.zeros(())}
    load(behind, save(tmp_path, named | others))
    for name, value in behind.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


@pytest.mark.parametrize("name", ["model", "module", "state_dict"])
def test_weights_are_found_inside_a_training_state(name: str, tmp_path: Path) -> None:
    state = {name: internvideo_file(), "epoch": 3, "args": argparse.Namespace(lr=1e-3)}
    assert load(small(), save(tmp_path, state)) == []


def test_safetensors_and_half_precision_are_read(tmp_path: Path) -> None:
    weights = {name: value.half() for name, value in internvideo_file().items()}
    save_file(weights, tmp_path / "net.safetensors")
    model = small()
    assert load(model, tmp_path / "net.safetensors") == []
    assert model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, weights["head.weight"].float())


def test_a_classifiers_head_and_its_norm_are_skipped_and_reported(tmp_path: Path) -> None:
    weights = internvideo_file() | {
        "head.weight": torch.zeros(710, FEATURES),
        "head.bias": torch.zeros(710),
    }
    model = small()
    fresh = model.head.weight.clone()
    new = ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]
    assert load(model, save(tmp_path, weights)) == new
    assert torch.equal(model.head.weight, fresh)
    assert (model.fc_norm.weight == 1).all()


def test_weights_of_pre_training_are_skipped(tmp_path: Path) -> None:
    weights = {
        name: value for name, value in internvideo_file().items() if not name.startswith("head.")
    }
    with_teacher = {
        "clip_decoder.0.head.weight": torch.zeros(2),
        "final_clip_decoder.norm.bias": torch.zeros(2),
        "mae_decoder.0.head.bias": torch.zeros(2),
        "clip_pos_embed": torch.zeros(1, 3, 4),
        "img_pos_embed": torch.zeros(1, 3, 4),
    }
    assert load(small(), save(tmp_path, weights | with_teacher)) == ["head.bias", "head.weight"]


def test_a_weight_that_is_missing_unknown_or_of_another_shape_is_named(tmp_path: Path) -> None:
    weights = internvideo_file()
    del weights["blocks.1.ls1.gamma"]
    weights["blocks.1.ls3.gamma"] = torch.zeros(2)
    weights["cls_token"] = torch.zeros(1, 1, 5)
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load(model, save(tmp_path, weights))
    message = str(caught.value)
    assert "net.pth" in message
    assert "missing: blocks.1.ls1.gamma" in message
    assert "unknown: blocks.1.ls3.gamma" in message
    assert "of another shape: cls_token (1, 1, 5) for (1, 1, 64)" in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_with_our_stem_or_luma_channel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=re.escape("missing: patch_embed.0.bias")):
        load(small(has_conv_stem=True), save(tmp_path, internvideo_file()))
    with pytest.raises(CheckpointError, match=re.escape("(64, 3, 14, 14) for (64, 4, 14, 14)")):
        load(small(has_local_luma=True), save(tmp_path, internvideo_file()))


def test_positions_of_another_side_are_refused(tmp_path: Path) -> None:
    weights = internvideo_file() | {"pos_embed": torch.zeros(1, 1 + 8 * 9, WIDTH)}
    with pytest.raises(CheckpointError, match=r"net\.pth has 72 positions, not 16 x 16 a frame"):
        load(small(), save(tmp_path, weights))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code of a file ran')",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, {"model": internvideo_file(), "hook": Harmful()})
    with pytest.raises(CheckpointError, match=r"net\.pth holds more than weights"):
        read_weights(path)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", bytes(200), None])
def test_an_unreadable_file_is_refused_by_name(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(name)):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 2], "no weights but a list"),
        ({"model": torch.zeros(2)}, "no weights but a Tensor"),
        ({"conv1.weight": torch.zeros(2)}, r"no patch_embed\.proj\.weight"),
        (
            {f"{net}.patch_embed.proj.weight": torch.zeros(2) for net in ("student", "teacher")},
            r"several of them: student\., teacher\.",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    weights: object, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=expected):
        internvideo_weights(read_weights(save(tmp_path, weights)))


def test_the_size_is_read_from_the_file(tmp_path: Path) -> None:
    model = internvideo_from_file(read_weights(save(tmp_path, internvideo_file())))
    assert torch.equal(model.head.weight, internvideo_file()["head.weight"])
    assert model.grid == InternVideo(published_config("pico")).grid == (8, 16, 16)


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="5 blocks of width 32"):
        internvideo_from_file(read_weights(save(tmp_path, internvideo_file(depth=5, width=32))))


def test_a_network_without_blocks_is_refused(tmp_path: Path) -> None:
    stages = {"patch_embed.proj.weight": torch.zeros(96, 3, 4, 4), "layers.0.blocks.0.x": ONE}
    with pytest.raises(CheckpointError, match="it has no blocks"):
        internvideo_from_file(read_weights(save(tmp_path, stages)))


def test_import_makes_an_intern_vqa_model_file_to_start_from_and_to_distill(tmp_path: Path) -> None:
    file, out = save(tmp_path, {"module": internvideo_file()}), tmp_path / "pico.safetensors"
    done = vqatool("import", file, "-o", out, "--licence", "Apache-2.0")
    assert done.exit_code == 0, done.output
    checkpoint = load_checkpoint(out)
    assert checkpoint.card.licence == "Apache-2.0"
    assert checkpoint.card.shape == asdict(published_config("pico"))
    kept = checkpoint.model().state_dict()["blocks.1.mlp.fc1.weight"]
    assert torch.equal(kept, internvideo_file()["blocks.1.mlp.fc1.weight"].half().float())
    config = OptimizerConfig(method="intern-vqa", tune="head")
    trainer = Initialization(init=checkpoint, teacher=checkpoint).model(config)
    assert isinstance(trainer, StudentWithTeacher)
    # an untrained model would give every video the same middling score
    (tmp_path / "x.mp4").touch()
    done = vqatool("score", tmp_path / "x.mp4", "-m", out, "-o", tmp_path / "report.csv")
    assert done.exit_code == 2
    assert f"vqatool train --method intern-vqa --init {out}" in done.output


def test_a_file_of_another_network_cannot_be_imported(tmp_path: Path) -> None:
    file = save(tmp_path, {"conv.weight": torch.zeros(3)})
    done = vqatool("import", file, "-o", tmp_path / "out.safetensors")
    assert done.exit_code == 2
    output = " ".join(done.output.split())
    assert f"{file.name} has no patch_embed.proj.weight and no patch_embed.0.weight" in output
    assert not (tmp_path / "out.safetensors").exists()


VMAMBA_WIDTH, VMAMBA_DEPTHS = 16, (1, 1, 1, 1)  # of our smallest size
KINDS = ("weight", "bias")


def vmamba_file(
    width: int = VMAMBA_WIDTH, depths: tuple[int, ...] = VMAMBA_DEPTHS
) -> dict[str, Tensor]:
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
            downsample = f"layers.{stage}.downsample."
            shapes[downsample + "1.weight"] = (2 * channels, channels, 3, 3)
            shapes[downsample + "1.bias"] = (2 * channels,)
            shapes |= {f"{downsample}3.{kind}": (2 * channels,) for kind in KINDS}
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


def save_vmamba(folder: Path, weights: object) -> Path:
    torch.save(weights, folder / "vssm.pth")
    return folder / "vssm.pth"


def load_vmamba(folder: Path, weights: dict[str, Tensor]) -> QMamba:
    return q_mamba_from_file(read_weights(save_vmamba(folder, weights)))


def test_every_vmamba_weight_is_loaded(tmp_path: Path) -> None:
    weights = vmamba_file()
    own = load_vmamba(tmp_path, weights).state_dict()
    backbone = {name: value for name, value in own.items() if name.startswith("_backbone.")}
    names = [name for name in weights if not name.startswith("classifier.")]
    assert len(backbone) == len(names)
    # every weight of the file is in the model once: none is missing or loaded twice
    loaded = {tuple(value.flatten().tolist()) for value in backbone.values()}
    assert loaded == {tuple(weights[name].flatten().tolist()) for name in names}
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
def test_a_loaded_block_computes_what_the_paper_does(tmp_path: Path) -> None:
    """One block of the file, computed from its own names, is the model's first."""
    weights = vmamba_file()
    model = load_vmamba(tmp_path, weights).eval()
    block = {n.removeprefix("layers.0.blocks.0."): v for n, v in weights.items()}
    map_BHWC = torch.randn(2, 3, 5, VMAMBA_WIDTH, generator=torch.Generator().manual_seed(1))
    output = model.get_submodule("_backbone._stages.0.1")(map_BHWC)
    torch.testing.assert_close(output, by_the_paper(map_BHWC, block), atol=1e-5, rtol=1e-5)


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
    state, outputs = torch.zeros_like(tokens_BDL[..., 0]), []
    for index in range(tokens_BDL.shape[-1]):
        now, token = step[..., index], tokens_BDL[..., index]
        state = state * (now * rate).exp() + now * read[:, rank, index, None] * token
        outputs.append(state * read[:, rank + 1, index, None] + skip * token)
    return torch.stack(outputs, dim=-1)


def norm(values: Tensor, block: dict[str, Tensor], name: str) -> Tensor:
    weight, bias = block[f"{name}.weight"], block[f"{name}.bias"]
    return torch.nn.functional.layer_norm(values, weight.shape, weight, bias)


def test_linear_layers_may_be_stored_as_1x1_convolutions(tmp_path: Path) -> None:
    weights = vmamba_file()
    as_conv = {
        name: value[:, :, None, None] if name.endswith(("proj.weight", "fc1.weight")) else value
        for name, value in weights.items()
        if "classifier" not in name
    }
    plain, other = load_vmamba(tmp_path, weights), load_vmamba(tmp_path, as_conv)
    assert other.state_dict()["_backbone._stages.3.1._scan.1._in.weight"].ndim == 2
    for name, value in plain.state_dict().items():
        if name.startswith("_backbone."):
            assert torch.equal(value, other.state_dict()[name]), name


def test_the_norms_of_a_detector_are_skipped(tmp_path: Path) -> None:
    named = {f"backbone.{name}": value for name, value in vmamba_file().items()}
    named |= {"backbone.outnorm2.weight": torch.ones(64), "neck.blocks.w": torch.ones(2)}
    model = load_vmamba(tmp_path, named)
    kept = model.state_dict()["_backbone._stem.0._norm.bias"]
    assert torch.equal(kept, vmamba_file()["patch_embed.2.bias"])


@pytest.mark.parametrize("depths", [(2, 2, 5, 2), (2, 2, 8, 2)])
def test_sizes_that_q_mamba_does_not_have_are_refused(
    depths: tuple[int, ...], tmp_path: Path
) -> None:
    output = f"vssm.pth holds {depths} blocks, the first of width 96"
    with pytest.raises(CheckpointError, match=re.escape(output)):
        load_vmamba(tmp_path, vmamba_file(width=96, depths=depths))


def test_a_vmamba_block_of_another_kind_is_refused(tmp_path: Path) -> None:
    weights = vmamba_file()
    del weights["layers.0.blocks.0.op.Ds"]
    weights["layers.0.blocks.0.op.conv2d.bias"] = torch.zeros(2 * VMAMBA_WIDTH)
    weights["layers.1.blocks.0.op.A_logs"] = torch.zeros(4 * 64, 16)
    with pytest.raises(CheckpointError) as caught:
        load_vmamba(tmp_path, weights)
    message = str(caught.value)
    assert "missing: _backbone._stages.0.1._scan.1._skip" in message
    assert "unknown: _backbone._stages.0.1._scan.1._conv.bias" in message
    assert "_backbone._stages.1.1._scan.1._log_rate (4096,) for (256,)" in message


def test_a_running_average_is_preferred_to_the_last_weights(tmp_path: Path) -> None:
    last = {name: torch.zeros_like(value) for name, value in vmamba_file().items()}
    path = save_vmamba(tmp_path, {"model": last, "model_ema": vmamba_file()})
    kept = q_mamba_from_file(read_weights(path)).state_dict()["_backbone._stem.0._norm.bias"]
    assert torch.equal(kept, vmamba_file()["patch_embed.2.bias"])
    without = read_weights(save_vmamba(tmp_path, {"model": vmamba_file(), "model_ema": None}))
    assert len(without.weights) == len(vmamba_file())


def test_training_settings_beside_the_weights_are_accepted(
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
        path = save_vmamba(tmp_path, {"model": vmamba_file(), "config": kept, "epoch": 3})
    model = q_mamba_from_file(read_weights(path))
    kept_bias = model.state_dict()["_backbone._stem.0._norm.bias"]
    assert torch.equal(kept_bias, vmamba_file()["patch_embed.2.bias"])


def test_import_makes_a_q_mamba_model_file_to_start_from(tmp_path: Path) -> None:
    file, out = (
        save_vmamba(tmp_path, {"model": vmamba_file(), "epoch": 3}),
        tmp_path / "pico.safetensors",
    )
    done = vqatool("import", file, "-o", out, "--licence", "MIT")
    assert done.exit_code == 0, done.output
    assert "vqatool train --method q-mamba --init" in done.output
    checkpoint = load_checkpoint(out)
    assert checkpoint.card.licence == "MIT"
    assert checkpoint.card.shape == asdict(published_q_mamba_config("pico"))
    trainer = Initialization(init=checkpoint).model(OptimizerConfig(method="q-mamba", tune="head"))
    tuned = {name for name, value in trainer.named_parameters() if value.requires_grad}
    assert tuned
    assert all("_head" in name for name in tuned)
