"""Exported models: the same output as in torch, and files that are broken or of others."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from torch import nn

from ladder.media.probe import probe
from tests.conftest import MadeOnce
from tests.vqatool.program import read_rows, vqatool
from vqatool.errors import CheckpointError
from vqatool.inference.card import CARD_KEY, ModelCard
from vqatool.inference.contents import CONTENTS_KEY, Contents
from vqatool.inference.export import example_views, export, export_once
from vqatool.inference.loading import load_predictor
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.inference.onnx_engine import ENGINE_KEY, OnnxEngine
from vqatool.inference.ood import expose_to_outliers, fit_ood_detector
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine
from vqatool.methods import Method, recipe_for
from vqatool.models.shapes import CONVNEXT_SIZES, SWIN_SIZES, ConvNeXtSize, SwinSize

pytestmark = pytest.mark.usefixtures("float32")

GROUPS = 3
# few operators: torch takes a second for each hundred
SHAPE = {
    "size": "one block",
    "features": 16,
    "has_bands": False,
    "has_tiles": False,
    "has_probing": False,
    "has_deep": False,
    "fusion_layers": 0,
}

CONTENTS = Contents(
    ("café", "city"), np.eye(2, dtype=np.float16), np.ones((10, 2), np.float16), own=0.5
)


@pytest.fixture(scope="module", autouse=True)
def _one_block() -> Iterator[None]:
    """A size with a block in its first stage alone: the others do the same to smaller maps."""
    with pytest.MonkeyPatch.context() as patch:
        one: dict[str, Any] = {"embed_dim": 16, "depths": (1, 0, 0, 0)}
        patch.setitem(SWIN_SIZES, "one block", SwinSize(**one, heads=(1, 2, 4, 8)))
        patch.setitem(CONVNEXT_SIZES, "one block", ConvNeXtSize(**one))
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of torch with a detector that knows outliers."""
    torch.manual_seed(3)
    recipe = recipe_for(Method.COARSE_TO_FINE, SHAPE)
    model = recipe.build()
    card = ModelCard(
        method="coarse-to-fine", shape=recipe.shape, clip_frames=GROUPS, label="vmaf_v0.6.1"
    )
    features = torch.randn(40, model.feature_width)
    ood = expose_to_outliers(fit_ood_detector(features, features), features, features, features + 9)
    path = tmp_path_factory.mktemp("exported") / "model.safetensors"
    save_checkpoint(Checkpoint(card, model.state_dict(), ood, contents=CONTENTS), path)
    return path


@pytest.fixture(scope="module")
def exported(original: Path, made_once: MadeOnce) -> Path:
    """The same exported; one file for all workers, which may begin this module several times."""

    def make(folder: Path) -> None:
        done = vqatool("export", original, "-o", folder / "model.onnx")
        assert done.exit_code == 0, done.output

    return made_once("exported", make) / "model.onnx"


def with_clips_and_frames(view: np.ndarray, clips: int, groups: int) -> np.ndarray:
    """Noise like a view of other numbers of clips and frame groups."""
    rng = np.random.default_rng(clips + 10 * groups)
    frames = (groups * view.shape[1] // GROUPS,) if view.ndim > 2 else ()
    shape = (clips, *frames, *view.shape[1 + len(frames) :])
    return rng.random(shape, dtype=np.float32)


@pytest.mark.parametrize(("clips", "groups"), [(1, GROUPS), (4, GROUPS), (1, 8), (3, 2)])
def test_an_exported_model_gives_what_the_original_gives(
    clips: int, groups: int, original: Path, exported: Path
) -> None:
    trained, engine = TorchEngine(load_checkpoint(original), "cpu"), OnnxEngine(exported)
    examples = [view.numpy() for view in example_views(engine.model.card.recipe, GROUPS)]
    views = [with_clips_and_frames(view, clips, groups) for view in examples]
    expected, found = trained.run(views), engine.run(views)
    assert found.keys() == expected.keys() >= {"score", "spread", "distance", "outlier"}
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_an_exported_file_knows_card_name_and_limits(original: Path, exported: Path) -> None:
    first, engine = TorchEngine(load_checkpoint(original), "cpu"), OnnxEngine(exported)
    assert engine.model.card == first.model.card
    assert engine.model.name == first.model.name
    assert engine.model.limits == pytest.approx(first.model.limits)
    for contents in (Predictor(first).contents, Predictor(engine).contents):
        assert contents is not None
        assert contents.text() == CONTENTS.text()
    content = exported.read_bytes()
    # no file of the machine it was made on
    assert b".py" not in content
    assert str(Path.home()).encode() not in content


def test_a_report_by_an_exported_model_is_the_same(
    original: Path, exported: Path, real_clips: list[Path], tmp_path: Path
) -> None:
    rows = []
    for model in (original, exported):
        out = tmp_path / f"{model.suffix}.csv"
        assert vqatool("score", *real_clips, "-m", model, "-o", out).exit_code == 0
        rows.append(read_rows(out))
    for first, second in zip(*rows, strict=True):
        assert float(second["score"]) == pytest.approx(float(first["score"]), abs=0.01)
        same = ("path", "model", "warnings", "display", "frames_scored")
        assert [second[name] for name in same] == [first[name] for name in same]


def test_a_model_is_exported_once(
    exported: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(exported.read_bytes())
    graph = onnx_ir.load(exported)
    graph.metadata_props.clear()
    traced: list[nn.Module] = []

    def trace(network: nn.Module, *_: object) -> torch.onnx.ONNXProgram:
        """The graph that is known already: to trace it again takes 15 s."""
        traced.append(network)
        return torch.onnx.ONNXProgram(graph, None)

    monkeypatch.setattr("vqatool.inference.export.traced", trace)
    checkpoint = load_checkpoint(original)
    export_once(checkpoint, copy)
    assert not traced
    assert copy.read_bytes() == exported.read_bytes()
    export_once(replace(checkpoint, contents=None), copy)  # the same weights
    assert len(traced) == 1
    held = OnnxEngine(copy).model
    assert (held.name, held.contents) == (checkpoint.name, None)


def test_broken_weights_are_not_exported(original: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(original)
    name = next(iter(checkpoint.weights))
    broken = {**checkpoint.weights, name: checkpoint.weights[name] * torch.nan}
    with pytest.raises(CheckpointError, match="not finite"):
        export(replace(checkpoint, weights=broken), tmp_path / "broken.onnx")
    assert not list(tmp_path.iterdir())


def test_export_overwrites_no_file_of_others_and_asks_for_its_ending(
    original: Path, tmp_path: Path
) -> None:
    other = tmp_path / "thesis.onnx"
    other.write_bytes(b"three years of work")
    done = vqatool("export", original, "-o", other)
    assert done.exit_code == 2
    assert "thesis.onnx exists and vqatool did not write it" in done.output
    assert other.read_bytes() == b"three years of work"
    assert vqatool("export", original, "-o", tmp_path / "x.bin").exit_code == 2


def test_broken_and_foreign_files_are_refused_by_name(
    exported: Path, original: Path, tmp_path: Path
) -> None:
    content, path = exported.read_bytes(), tmp_path / "bad.onnx"
    for data in (b"", b"not a model", bytes(300), content[: len(content) // 2],
                 original.read_bytes()):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"bad\.onnx"):
            OnnxEngine(path)
    with pytest.raises(CheckpointError, match=r"gone\.onnx"):
        OnnxEngine(tmp_path / "gone.onnx")
    done = vqatool("score", tmp_path, "-m", path)
    assert done.exit_code in (2, 5)


def changed(exported: Path, path: Path, **facts: str | None) -> Path:
    """The exported file with other facts in its metadata; None: without the fact."""
    model = onnx.load_from_string(exported.read_bytes())
    found = {each.key: each.value for each in model.metadata_props} | facts
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: v for k, v in found.items() if v is not None})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({CARD_KEY: None}, "no card"),
        ({ENGINE_KEY: None}, "no card"),
        ({CARD_KEY: "{}"}, "another version"),
        ({CARD_KEY: "nonsense"}, "another version"),
        ({ENGINE_KEY: "[]"}, "another version"),
        ({CONTENTS_KEY: "{}"}, "another version"),
        ({ENGINE_KEY: '{"name": "x", "limits": ["a", "b"]}'}, "another version"),
    ],
)
def test_facts_of_another_version_are_refused(
    facts: dict[str, str | None], words: str, exported: Path, tmp_path: Path
) -> None:
    path = changed(exported, tmp_path / "other.onnx", **facts)
    with pytest.raises(CheckpointError, match=rf"other\.onnx.*{words}"):
        OnnxEngine(path)


def test_a_card_that_does_not_fit_the_graph_is_refused(exported: Path, tmp_path: Path) -> None:
    metadata = OnnxEngine(exported).model.card
    card = replace(metadata, shape={**metadata.shape, "has_motion": False})
    path = changed(exported, tmp_path / "other.onnx", **{CARD_KEY: card.text()})
    with pytest.raises(CheckpointError, match="takes 3 inputs, and its method has 2"):
        OnnxEngine(path)


def test_a_file_cannot_read_other_files(exported: Path, tmp_path: Path) -> None:
    """Weights may lie in a file beside a model: such a model could read any file."""
    model = onnx.load_from_string(exported.read_bytes())
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(100_000_000 // 100))
    tensor: Any = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "secret.bin", "offset": "0"}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path = tmp_path / "reads.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"reads\.onnx"):
        OnnxEngine(path)


def test_models_and_devices_that_do_not_fit_are_named(
    exported: Path, original: Path, monkeypatch: pytest.MonkeyPatch, real_clips: list[Path]
) -> None:
    with pytest.raises(CheckpointError, match=r"model\.onnx is exported.*for cuda"):
        load_predictor(exported, "cuda")
    monkeypatch.setattr("vqatool.inference.loading.has_torch", lambda: False)
    done = vqatool("score", real_clips[0], "-m", original)
    assert done.exit_code == 6
    assert "pip install 'vqatool[train]'" in done.output.replace("\n", " ")
    assert isinstance(load_predictor(exported), Predictor)


def test_infinite_limits_survive_the_file(exported: Path, tmp_path: Path) -> None:
    facts = json.dumps({"name": "x", "limits": [1.5, None]})
    engine = OnnxEngine(changed(exported, tmp_path / "x.onnx", **{ENGINE_KEY: facts}))
    assert engine.model.limits == (1.5, float("inf"))


def test_a_model_of_branches_keeps_them_and_takes_one_clip_at_a_time(
    tmp_path: Path, labelled: Path
) -> None:
    torch.manual_seed(1)
    shape = {
        "size": "one block",
        "grid": 2,
        "crop_px": 96,
        "still_short_px": 96,
        "run_short_px": 96,
    }
    recipe = recipe_for(Method.ZOOM_VQA, shape)
    card = ModelCard(method="zoom-vqa", shape=recipe.shape, clip_frames=GROUPS, label="vmaf_v0.6.1")
    checkpoint, path = Checkpoint(card, recipe.build().state_dict()), tmp_path / "zoom.onnx"
    export_once(checkpoint, path)
    exported = Predictor(OnnxEngine(path), batch=4)
    assert exported.batch == 1
    videos = sorted(labelled.rglob("*.mp4"))[:2]
    clips = [exported.preprocessor.load_views(probe(video), None) for video in videos]
    found, expected = (
        predictor.predict(clips) for predictor in (exported, Predictor(TorchEngine(checkpoint)))
    )
    assert found.score_B == pytest.approx(expected.score_B, abs=1e-3)
    assert [branch.name for branch in found.branches] == ["stills", "runs"]
    for ours, theirs in zip(found.branches, expected.branches, strict=True):
        assert ours.score_map_BTHW == pytest.approx(theirs.score_map_BTHW, abs=1e-2)
        assert (ours.weight_map_BTHW is None) == (theirs.weight_map_BTHW is None)
