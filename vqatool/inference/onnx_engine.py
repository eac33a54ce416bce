"""The default engine: exported model files on the CPU, by ONNX Runtime. No torch.

An exported file is data: a graph of known operators, its weights, and the card in its metadata.
ONNX Runtime gets the bytes, not the path, so a file cannot name others to be read.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vqatool.errors import CheckpointError
from vqatool.inference.card import CARD_KEY, ModelCard
from vqatool.inference.contents import CONTENTS_KEY, Contents
from vqatool.inference.engine import FIELDS, Floats, Limits, Loaded, TypicalInput
from vqatool.onnx_session import open_session

ENGINE_KEY = "vqatool.engine"
"""The name that an exported file's metadata has `engine_facts` under."""

TYPICAL_KEY = "vqatool.typical"
"""The name of `typical_facts` in it; files of earlier versions have none."""

MAX_BYTES = 2**31 - 1
"""A larger file is no exported model: the format ends there."""

_log = logging.getLogger(__name__)


def engine_facts(name: str, limits: Limits | None) -> str:
    """What an exported file knows beside the card, as JSON."""
    return json.dumps({"name": name, "limits": limits and [_finite(value) for value in limits]})


def typical_facts(typical: Sequence[TypicalInput | None]) -> str:
    """What an exported file knows of typical clips, as JSON."""
    return json.dumps(
        [
            each and {name: _rounded(value) for name, value in each._asdict().items()}
            for each in typical
        ]
    )


def _rounded(values: Floats | None) -> list[float] | None:
    # weights have half precision, of which these are a part
    return None if values is None else [float(f"{value:.5g}") for value in values]


def _typical_input(named: Mapping[str, Sequence[float] | None] | None) -> TypicalInput | None:
    if named is None:
        return None
    arrays = {k: None if v is None else np.array(v, np.float32) for k, v in named.items()}
    return TypicalInput(**arrays)  # type: ignore[arg-type]  # the first is an array


class OnnxEngine:
    """An exported model file.

    Args:
        path: of the file.

    Raises:
        CheckpointError: the file is missing, broken, or not one of this program's.
    """

    batch = 1
    """As fast as more, and the last digits of a score then do not depend on other clips."""

    def __init__(self, path: Path) -> None:
        self._path, self._session = path, _open(path)
        session = self._session
        metadata = session.get_modelmeta().custom_metadata_map
        if CARD_KEY not in metadata or ENGINE_KEY not in metadata:
            raise CheckpointError(
                f"{path} has no card of vqatool: make the file with `vqatool export`"
            )
        try:
            card, facts = ModelCard.parse(metadata[CARD_KEY]), json.loads(metadata[ENGINE_KEY])
            limits = None if facts["limits"] is None else Limits(*map(_number, facts["limits"]))
            contents = Contents.parse(metadata.get(CONTENTS_KEY))
            self.model = Loaded(card, str(facts["name"]), limits, contents)
            typical = json.loads(metadata.get(TYPICAL_KEY, "[]"))
            self.typical = tuple(map(_typical_input, typical))
            _require_interface(session, len(card.recipe.inputs))
            if typical and len(typical) != len(card.recipe.inputs):
                raise ValueError(f"it knows {len(typical)} inputs of a typical clip")
            clips = session.get_inputs()[0].shape[0]
            self.max_batch = clips if isinstance(clips, int) else None
        except (TypeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path} was made by another version of vqatool: {error!r}"
            ) from error

    def load(self) -> None:
        """Nothing is left to do: the session is ready."""

    def run(self, views: Sequence[Floats]) -> Mapping[str, Floats]:
        """The model's arrays for B clips, by name."""
        session = self._session
        fed = {each.name: view for each, view in zip(session.get_inputs(), views, strict=True)}
        names = [each.name for each in session.get_outputs()]
        try:
            values = session.run(names, fed)
        except Exception as error:  # its errors have no other base class
            if type(error).__module__.partition(".")[0] != "onnxruntime":
                raise
            raise CheckpointError(f"{self._path} cannot score: {_first_line(error)}") from error
        return dict(zip(names, values, strict=True))


def _open(path: Path) -> Any:
    """ONNX Runtime's session of a file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path} is too large for an exported model file")
        session = open_session(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # its errors have no other base class
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise CheckpointError(
            f"{path} cannot be read as an exported model file: {_first_line(error)}"
        ) from error
    _log.info("model %s by ONNX Runtime %s", path, version("onnxruntime"))
    return session


def _require_interface(session: Any, num_inputs: int) -> None:
    """ValueError unless the graph takes that many views and gives what an output needs."""
    found = len(session.get_inputs())
    if found != num_inputs:
        raise ValueError(f"it takes {found} inputs, and its method has {num_inputs}")
    missing = set(FIELDS[:3]) - {each.name for each in session.get_outputs()}
    if missing:
        raise ValueError(f"it does not give {', '.join(sorted(missing))}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no infinity


def _number(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
