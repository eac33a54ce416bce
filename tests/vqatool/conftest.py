"""A small labelled work folder, made once by the real stages, and a small model."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imsave
from pebble.pool.process import TaskManager

from ladder import (
    Ffmpeg,
    LabelOptions,
    Ladder,
    make_encodes,
    make_labels,
    model_names,
    plan_labels,
    plan_ladder,
)
from ladder.encode.rungs import Rung
from ladder.media.ffmpeg import run
from tests.conftest import MadeOnce
from vqatool.cli.demo import demo_clip
from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.labels import read_labelled_encodes
from vqatool.inference.card import ModelCard
from vqatool.inference.model_file import Checkpoint, save_checkpoint
from vqatool.inputs.decode_pool import start_server
from vqatool.methods import Method, recipe_for
from vqatool.training.run import CACHE_FOLDER

SHAPE = {"size": "pico", "features": 32}
BRIEF_SHAPE = {"size": "pico", "features": 32, "grid": 2, "patch": 32}
"""Of a coarse-to-fine model that is trained in a second, on `BRIEF_FRAMES` of each encode."""
BRIEF_FRAMES = 2
RUNGS = (
    Rung(height_px=90, crf=18),
    Rung(height_px=90, crf=40),
    Rung(height_px=46, bitrate_kbps=60),
    Rung(height_px=90, codec="libvpx-vp9", crf=55),
)


@pytest.fixture(scope="session", autouse=True)
def _server_with_torch() -> None:
    """Load torch once for all workers of trainings, which else would load it each."""
    start_server(("vqatool.data.cached_inputs",))


@pytest.fixture(scope="session")
def real_clips(made_once: MadeOnce, ffmpeg: Ffmpeg) -> list[Path]:
    """Three short cuts of two real clips, 160x90: content that compresses like content."""
    bunny = demo_clip()
    bikes = bunny.with_name("bikes.mp4")
    cuts = {"bunny": (bunny, 0.0), "rabbit": (bunny, 4.0), "bikes": (bikes, 1.0)}
    size = "scale=160:90:flags=area,setsar=1,format=yuv420p"
    codec = ["-frames:v", "10", "-an", "-c:v", "libx264", "-crf", "4"]

    def cut(folder: Path) -> None:
        for name, (clip, start_s) in cuts.items():
            out = str(folder / f"{name}.mp4")
            run(ffmpeg, ["-ss", str(start_s), "-i", str(clip), "-vf", size, *codec, out])

    return sorted(made_once("clips", cut).iterdir())


@pytest.fixture(scope="session")
def labelled(made_once: MadeOnce, ffmpeg: Ffmpeg, real_clips: list[Path]) -> Path:
    """A work folder with encodes and labels of three sources at four rungs; not to be written."""

    def make(folder: Path) -> None:
        made = list(make_encodes(plan_ladder(real_clips, Ladder(RUNGS), folder), folder, ffmpeg))
        options = LabelOptions(models=model_names(["v0"]))
        labels = list(make_labels(plan_labels(folder, options), folder, ffmpeg))
        assert {row.error for row in made} | {row.error for row in labels} == {""}

    return made_once("encodes", make)


@pytest.fixture(scope="session")
def cached_inputs(made_once: MadeOnce, labelled: Path) -> Path:
    """What a training of `BRIEF_SHAPE` decodes of the labelled folder; not to be written.

    A copy of it in a copy of the folder is used, because the encodes and their paths in it are the
    same.
    """
    recipe = recipe_for(Method.COARSE_TO_FINE, BRIEF_SHAPE)

    def decode(folder: Path) -> None:
        copied = Path(shutil.copytree(labelled, folder / "encodes"))
        encodes = read_labelled_encodes(copied)
        for has_tiles in (True, False):
            inputs = CachedInputs(
                encodes, copied / CACHE_FOLDER, recipe, BRIEF_FRAMES, has_tiles=has_tiles
            )
            assert len(list(inputs.decode_missing())) == len(encodes)

    return made_once("decoded", decode) / "encodes" / CACHE_FOLDER


@pytest.fixture
def decoded_folder(work_folder: Path, cached_inputs: Path) -> Path:
    """`work_folder` after a training of `BRIEF_SHAPE` has decoded its encodes."""
    shutil.copytree(cached_inputs, work_folder / CACHE_FOLDER)
    return work_folder


@pytest.fixture(autouse=True)
def _same_chance() -> None:
    """What a test leaves to torch's chance does not hang on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def brief_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rough fit of the figure network: training/test_figures.py tests the real one."""
    monkeypatch.setattr("vqatool.training.figures._EPOCHS", 4)
    monkeypatch.setattr("vqatool.training.figures._SPREAD_STEPS", 20)


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where processes that hang leave their marks; time limits are for these alone."""
    folder, is_late = tmp_path / "marks", TaskManager.timeout
    folder.mkdir()

    def hangs_too_long(task: Any) -> bool:
        return (folder / str(task.worker_id)).exists() and is_late(task)

    monkeypatch.setattr(TaskManager, "timeout", staticmethod(hangs_too_long))
    return folder


@pytest.fixture
def drawn_plots() -> None:
    """Plots are drawn for a test that asks for this."""


@pytest.fixture(autouse=True)
def brief_plots(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Plots are made, but not drawn, which takes longer than a brief training: one pixel stands
    for each, unless a test asks for `drawn_plots`."""
    if "drawn_plots" not in request.fixturenames:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", _save_a_pixel)


def _save_a_pixel(figure: Figure, file: Any, *, metadata: dict[str, str], **_: object) -> None:
    imsave(file, np.zeros((1, 1, 3)), format="png", metadata=metadata)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As exported models do, torch computes in float32, also on CPUs that are fast at bfloat16."""
    monkeypatch.setattr("vqatool.inference.device.fast_precision", lambda device: "no")


@pytest.fixture
def work_folder(tmp_path: Path, labelled: Path) -> Path:
    """A copy of the labelled folder for one test."""
    return Path(shutil.copytree(labelled, tmp_path / "encodes"))


@pytest.fixture(scope="session")
def small_model(made_once: MadeOnce) -> Path:
    """A model file with chance weights: enough for everything but good scores.

    It takes neither probing nor deep features, which would be most of the time of a score; the
    packaged model does.
    """
    torch.manual_seed(1)
    shape = {**SHAPE, "has_probing": False, "has_deep": False}
    recipe = recipe_for(Method.COARSE_TO_FINE, shape)
    card = ModelCard(
        method="coarse-to-fine", shape=recipe.shape, clip_frames=2, label="vmaf_v0.6.1", band=7.0
    )
    name, checkpoint = "small.safetensors", Checkpoint(card, recipe.build().state_dict())
    return made_once("model", lambda folder: save_checkpoint(checkpoint, folder / name)) / name
