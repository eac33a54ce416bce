import argparse
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.vqatool.program import vqatool
from vqatool.errors import CheckpointError
from vqatool.inference.model_file import load_checkpoint
from vqatool.models.attention import regridded
from vqatool.models.distilling import Distilling
from vqatool.models.internvideo import InternVideo, InternVideoConfig, published
from vqatool.models.internvideo_weights import internvideo_of, published_weights, take_weights
from vqatool.models.weight_files import read_weights
from vqatool.training.initialization import Initialization
from vqatool.training.step import OptimizerConfig

WIDTH, FEATURES, HIDDEN, FRAMES = 64, 64, 256, 2
ONE = torch.zeros(1)


def made_up(depth: int = 3, width: int = WIDTH) -> dict[str, Tensor]:
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


def saved(folder: Path, weights: object, name: str = "net.pth") -> Path:
    torch.save(weights, folder / name)
    return folder / name


def take(model: InternVideo, path: Path) -> list[str]:
    return take_weights(model, published_weights(read_weights(path)), path)


def test_every_weight_of_a_file_gets_to_its_place(tmp_path: Path) -> None:
    weights, model = made_up(), small()
    assert take(model, saved(tmp_path, weights)) == []
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


def test_positions_are_stretched_to_the_model(tmp_path: Path) -> None:
    weights, model = made_up(), small()
    take(model, saved(tmp_path, weights))
    file_1ND = weights["pos_embed"]
    assert model.pos_embed.shape == (1, 1 + 4 * 4 * 4, WIDTH)
    assert torch.equal(model.pos_embed[:, 0], file_1ND[:, 0])
    wanted = regridded(file_1ND[0, 1:], (FRAMES, 16, 16), (4, 4, 4))
    assert torch.equal(model.pos_embed[0, 1:], wanted)
    same = small(patch=224, frames=FRAMES)
    take(same, saved(tmp_path, weights))
    assert torch.equal(same.pos_embed, file_1ND)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "encoder.", "backbone.", "vision_encoder.", "module.encoder."]
)
def test_an_encoder_is_found_behind_any_prefix_and_among_other_nets(
    prefix: str, tmp_path: Path
) -> None:
    plain, behind = small(), small()
    take(plain, saved(tmp_path, made_up()))
    named = {prefix + name: value for name, value in made_up().items()}
    others = {"text_encoder.embeddings.weight": torch.zeros(3, 2), "temp": torch.zeros(())}
    take(behind, saved(tmp_path, named | others))
    for name, value in behind.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


@pytest.mark.parametrize("name", ["model", "module", "state_dict"])
def test_weights_are_found_inside_the_state_of_a_training(name: str, tmp_path: Path) -> None:
    state = {name: made_up(), "epoch": 3, "args": argparse.Namespace(lr=1e-3)}
    assert take(small(), saved(tmp_path, state)) == []


def test_safetensors_and_half_precision_are_read_too(tmp_path: Path) -> None:
    weights = {name: value.half() for name, value in made_up().items()}
    save_file(weights, tmp_path / "net.safetensors")
    model = small()
    assert take(model, tmp_path / "net.safetensors") == []
    assert model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, weights["head.weight"].float())


def test_a_classifiers_head_and_its_norm_are_left_out_and_told(tmp_path: Path) -> None:
    weights = made_up() | {"head.weight": torch.zeros(710, FEATURES), "head.bias": torch.zeros(710)}
    model = small()
    fresh = model.head.weight.clone()
    new = ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]
    assert take(model, saved(tmp_path, weights)) == new
    assert torch.equal(model.head.weight, fresh)
    assert (model.fc_norm.weight == 1).all()


def test_what_belongs_to_pre_training_is_left_out(tmp_path: Path) -> None:
    weights = {name: value for name, value in made_up().items() if not name.startswith("head.")}
    with_teacher = {
        "clip_decoder.0.head.weight": torch.zeros(2),
        "final_clip_decoder.norm.bias": torch.zeros(2),
        "mae_decoder.0.head.bias": torch.zeros(2),
        "clip_pos_embed": torch.zeros(1, 3, 4),
        "img_pos_embed": torch.zeros(1, 3, 4),
    }
    assert take(small(), saved(tmp_path, weights | with_teacher)) == ["head.bias", "head.weight"]


def test_a_weight_that_is_missing_unknown_or_of_another_shape_is_named(tmp_path: Path) -> None:
    weights = made_up()
    del weights["blocks.1.ls1.gamma"]
    weights["blocks.1.ls3.gamma"] = torch.zeros(2)
    weights["cls_token"] = torch.zeros(1, 1, 5)
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as found:
        take(model, saved(tmp_path, weights))
    told = str(found.value)
    assert "net.pth" in told
    assert "missing: blocks.1.ls1.gamma" in told
    assert "unknown: blocks.1.ls3.gamma" in told
    assert "of another shape: cls_token (1, 1, 5) for (1, 1, 64)" in told
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_with_a_stem_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=re.escape("missing: patch_embed.0.bias")):
        take(small(has_conv_stem=True), saved(tmp_path, made_up()))
    with pytest.raises(CheckpointError, match=re.escape("(64, 3, 14, 14) for (64, 4, 14, 14)")):
        take(small(has_local_luma=True), saved(tmp_path, made_up()))


def test_positions_of_another_side_are_refused(tmp_path: Path) -> None:
    weights = made_up() | {"pos_embed": torch.zeros(1, 1 + 8 * 9, WIDTH)}
    with pytest.raises(CheckpointError, match=r"net\.pth has 72 positions, not 16 x 16 a frame"):
        take(small(), saved(tmp_path, weights))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code of a file ran')",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": made_up(), "hook": Harmful()})
    with pytest.raises(CheckpointError, match=r"net\.pth holds more than weights"):
        read_weights(path)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", bytes(200), None])
def test_a_file_that_is_none_is_refused_by_name(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(name)):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("weights", "output"),
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
def test_weights_of_another_net_are_refused(weights: object, output: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=output):
        published_weights(read_weights(saved(tmp_path, weights)))


def test_a_file_tells_its_size(tmp_path: Path) -> None:
    model = internvideo_of(read_weights(saved(tmp_path, made_up())))
    assert torch.equal(model.head.weight, made_up()["head.weight"])
    assert model.grid == InternVideo(published("pico")).grid == (8, 16, 16)


def test_a_size_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="5 blocks of width 32"):
        internvideo_of(read_weights(saved(tmp_path, made_up(depth=5, width=32))))


def test_a_net_of_stages_is_none_of_internvideo(tmp_path: Path) -> None:
    stages = {"patch_embed.proj.weight": torch.zeros(96, 3, 4, 4), "layers.0.blocks.0.x": ONE}
    with pytest.raises(CheckpointError, match="it has no blocks"):
        internvideo_of(read_weights(saved(tmp_path, stages)))


def test_a_published_file_becomes_a_model_file_to_start_and_to_learn_from(tmp_path: Path) -> None:
    file, out = saved(tmp_path, {"module": made_up()}), tmp_path / "pico.safetensors"
    done = vqatool("import", file, "-o", out, "--licence", "Apache-2.0")
    assert done.exit_code == 0, done.output
    found = load_checkpoint(out)
    assert found.card.licence == "Apache-2.0"
    assert found.card.shape == asdict(published("pico"))
    kept = found.model().state_dict()["blocks.1.mlp.fc1.weight"]
    assert torch.equal(kept, made_up()["blocks.1.mlp.fc1.weight"].half().float())
    config = OptimizerConfig(method="intern-vqa", tune="head")
    trainer = Initialization(init=found, teacher=found).model(config)
    assert isinstance(trainer, Distilling)
    # it would give every video a middling score
    (tmp_path / "x.mp4").touch()
    done = vqatool("score", tmp_path / "x.mp4", "-m", out, "-o", tmp_path / "report.csv")
    assert done.exit_code == 2
    assert f"vqatool train --method intern-vqa --init {out}" in done.output


def test_a_file_of_another_net_cannot_be_imported(tmp_path: Path) -> None:
    file = saved(tmp_path, {"conv.weight": torch.zeros(3)})
    done = vqatool("import", file, "-o", tmp_path / "out.safetensors")
    assert done.exit_code == 2
    output = " ".join(done.output.split())
    assert f"{file.name} has no patch_embed.proj.weight and no patch_embed.0.weight" in output
    assert not (tmp_path / "out.safetensors").exists()
