"""How far a training has come, and the file that says so while it runs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from vqatool.training.history import ELAPSED, EPOCH, LR, STEP, VALIDATED, WAIT


@dataclass
class TrainingState:
    """With the weights all there is to know of a training in progress.

    `number` batches of the epoch are done, `predictions` of the planned validations, and the best of
    them lies `validations_without_improvement` validations back. `line_*` is what the next line of the table is made of: sums
    over the steps since the last one.
    """

    step: int = 0
    epoch: int = 0
    number: int = 0
    elapsed_s: float = 0.0
    wait_s: float = 0.0
    predictions: int = 0
    validations_without_improvement: int = 0
    found: dict[str, Any] | None = None  # the newest validation
    best_selection_metric: float | None = None
    best_step: int = 0
    best_epoch: int = 0
    line_steps: int = 0
    line_sums: dict[str, float] = field(default_factory=dict)
    line_elapsed_s: float = 0.0
    line_wait_s: float = 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of the time that steps waited for their batches."""
        return self.wait_s / max(self.elapsed_s, 1e-9)

    def count(self, terms: Mapping[str, float], wait_s: float) -> None:
        """One step done, with the loss terms and how long it waited for its batch."""
        self.step += 1
        self.wait_s += wait_s
        self.line_steps += 1
        for name, value in terms.items():
            self.line_sums[name] = self.line_sums.get(name, 0.0) + value

    def line(self, lr: float, *, is_judged: bool) -> dict[str, float | None]:
        """The line of the table for the steps since the last one, which begins the next."""
        elapsed_s = self.elapsed_s - self.line_elapsed_s
        found = (self.found or {}) if is_judged else {}
        row: dict[str, float | None] = {STEP: self.step, EPOCH: self.epoch, LR: lr}
        row |= {name: value / self.line_steps for name, value in self.line_sums.items()}
        row |= {column: found.get(column.removeprefix("val_")) for column in VALIDATED}
        row |= {ELAPSED: self.elapsed_s}
        row |= {WAIT: (self.wait_s - self.line_wait_s) / max(elapsed_s, 1e-9)}
        self.line_steps, self.line_sums = 0, {}
        self.line_elapsed_s, self.line_wait_s = self.elapsed_s, self.wait_s
        return row


def write_state(
    path: Path, state: Mapping[str, Any], training_state: TrainingState, fingerprint: str
) -> None:
    """Weights and standing in one file, which appears whole or not at all."""
    part = _part(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**state, "standing": asdict(training_state), "fingerprint": fingerprint}, part)
    part.replace(path)


def read_state(path: Path, fingerprint: str) -> tuple[dict[str, Any], TrainingState] | None:
    """What `write_state` wrote; None if there is no such file or it is of another training."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, "cpu", weights_only=True)
    if state["fingerprint"] != fingerprint or "standing" not in state:
        return None
    return state, TrainingState(**state["standing"])


def drop_state(path: Path) -> None:
    """Take away what `write_state` wrote, also what a kill left half written."""
    path.unlink(missing_ok=True)
    _part(path).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
