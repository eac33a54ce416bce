"""`vqatool train`: its options."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.vqatool.data.test_groups import encodes
from tests.vqatool.program import vqatool
from vqatool.cli import cli
from vqatool.cli.train import _headline
from vqatool.methods.recipe import LossWeights
from vqatool.training.trainer import TrainConfig
from vqatool.training.validation import validate


def test_defaults_in_the_help_are_those_of_the_stage() -> None:
    settings = asdict(TrainConfig()) | asdict(LossWeights())
    settings |= {f"{name}_weight": settings[name] for name in ("plcc", "group", "rank", "frame")}
    given = {param.name: param.default for param in cli.commands["train"].params}
    same = set(given) & set(settings) - {"lr"}  # None: the stage chooses it
    assert same >= {"epochs", "rungs", "contrast", "temperature", "margin", "frame_weight"}
    unsaid = {name for name, value in settings.items() if value is None or value is False}
    for name in same - unsaid - {"shape"}:
        assert given[name] == settings[name], name


@pytest.mark.parametrize(("sources", "is_told"), [(4, False), (5, True)])
def test_the_last_line_has_figures_of_five_sources_or_more(sources: int, is_told: bool) -> None:
    members = encodes(sources, 3)
    labels = [e.vmaf for e in members]
    line = _headline(asdict(validate([label + 2 for label in labels], labels, members)))
    told = "RMSE 2.0 (2.0 to 2.0), bias +2.0 (+2.0 to +2.0), SRCC 1.000 (1.00 to 1.00)"
    assert line.startswith(told) == is_told
    assert ("too few to tell" in line) != is_told
    assert ("RMSE" in line) == is_told


def test_a_model_of_an_earlier_version_has_no_such_figures() -> None:
    assert _headline({"count": 3, "srcc": math.nan}) == "finished by an earlier version"


def test_a_model_file_ends_in_safetensors(tmp_path: Path) -> None:
    done = vqatool("train", tmp_path / "none", "-o", tmp_path / "m.txt")
    assert done.exit_code == 2
    assert "is no name of a model file: it ends in .safetensors" in done.stderr


def test_a_folder_without_labels_is_not_made(tmp_path: Path) -> None:
    for command in ("train", "study"):
        done = vqatool(command, tmp_path / "none")
        assert (done.exit_code, "no labelled encodes" in done.stderr) == (2, True)
    assert not (tmp_path / "none").exists()
