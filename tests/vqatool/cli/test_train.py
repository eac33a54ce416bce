"""`vqatool train`: its options."""

from dataclasses import asdict

from vqatool.cli import cli
from vqatool.methods.recipe import LossWeights
from vqatool.training.trainer import TrainConfig


def test_defaults_in_the_help_are_those_of_the_stage() -> None:
    settings = asdict(TrainConfig()) | asdict(LossWeights())
    settings |= {f"{name}_weight": settings[name] for name in ("plcc", "group", "rank", "frame")}
    given = {param.name: param.default for param in cli.commands["train"].params}
    same = set(given) & set(settings) - {"lr"}  # None: the stage chooses it
    assert same >= {"epochs", "rungs", "contrast", "temperature", "margin", "frame_weight"}
    unsaid = {name for name, value in settings.items() if value is None or value is False}
    for name in same - unsaid - {"shape"}:
        assert given[name] == settings[name], name
