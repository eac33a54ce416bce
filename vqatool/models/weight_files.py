"""Files of published weights: safe reading, the net that is looked for, what does not fit.

Files come as safetensors or as PyTorch's own; they hold weights alone or the state of a training,
a net alone or among others under a prefix.
"""

import argparse
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vqatool.errors import CheckpointError

# where training programs keep weights, running averages of them first, as those are what is judged
_INSIDE = ("model_ema", "model", "module", "state_dict", "model_state_dict")
_SETTINGS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    (OrderedDict, "yacs.config.CfgNode"),
]
"""What training programs leave of their settings beside the weights; neither does anything."""

_MOST_NAMED = 5


@dataclass(frozen=True)
class WeightFile:
    """A file's tensors by their names in it, and where it is, for errors."""

    path: Path
    weights: Mapping[str, Tensor]

    def prefixes(self, stem: str) -> list[str]:
        """What is in front of `stem`, the name of a net's first weight, wherever it occurs."""
        names = [name for name in self.weights if f".{name}".endswith(f".{stem}")]
        return [name.removesuffix(stem) for name in names]

    def net(self, stem: str, called: str) -> dict[str, Tensor]:
        """The weights of the one net whose first is `stem`, without its prefix.

        Raises:
            CheckpointError: there is no such net, which is `called` so, or there are several.
        """
        prefixes = self.prefixes(stem)
        if len(prefixes) != 1:
            what = f"several of them: {_some(prefixes)}" if prefixes else f"no {stem}"
            raise CheckpointError(f"{self.path} is no file of {called}: it has {what}")
        (prefix,) = prefixes
        return {
            name.removeprefix(prefix): value
            for name, value in self.weights.items()
            if name.startswith(prefix)
        }


def read_weights(path: Path) -> WeightFile:
    """Every tensor of a file, out of the state of a training, too.

    Raises:
        CheckpointError: no such file, one that would run code, or without weights.
    """
    return WeightFile(path, {str(n): v for n, v in _read(path).items() if isinstance(v, Tensor)})


def _read(path: Path) -> Mapping[Any, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_SETTINGS):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights, which could run code, or is broken: "
            "have its state_dict saved as safetensors by someone who trusts it"
        ) from error
    while isinstance(found, Mapping) and (inside := _inside(found)):
        found = found[inside[0]]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds no weights but a {type(found).__name__}")
    return found


def _inside(found: Mapping[Any, Any]) -> list[str]:
    """Where in there weights may be: averages that a training did not keep are None."""
    return [key for key in _INSIDE if found.get(key) is not None]


def fill(
    model: nn.Module, weights: Mapping[str, Tensor], path: Path, *, may_be_new: Sequence[str]
) -> list[str]:
    """Put weights into a model; what they did not have.

    Args:
        model: keeps its own weights where there are none.
        weights: by the names that the model has.
        path: file they are from, for errors.
        may_be_new: how the names of those begin that may be missing.

    Raises:
        CheckpointError: others are missing, unknown or of other shapes; all is as it was.
    """
    own = model.state_dict()
    missing = own.keys() - weights.keys()
    faults = {
        "missing": (name for name in missing if not name.startswith(tuple(may_be_new))),
        "unknown": weights.keys() - own.keys(),
        "of another shape": (
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in weights.keys() & own.keys()
            if weights[name].shape != own[name].shape
        ),
    }
    output = [f"{fault}: {_some(names)}" for fault, found in faults.items() if (names := [*found])]
    if output:
        raise CheckpointError(f"{path} does not fit the model; " + "; ".join(output))
    model.load_state_dict(weights, strict=False)
    return sorted(missing)


def _some(names: Iterable[str]) -> str:
    """The first few of them, in order."""
    ordered = sorted(names)
    return ", ".join(ordered[:_MOST_NAMED]) + (", ..." if len(ordered) > _MOST_NAMED else "")
