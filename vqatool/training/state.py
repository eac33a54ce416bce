"""How far a training is: the state file to resume from, the metrics log and its plot for people."""

import csv
import logging
import math
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ladder.storage import atomic_write, part_of
from vqatool.files import PNG_METADATA

STEP, EPOCH, LR = "step", "epoch", "lr"
ELAPSED, WAIT = "elapsed_s", "data_wait_share"
VALIDATION_COLUMNS = (
    "val_srcc", "val_plcc", "val_rmse", "val_in_group_srcc", "val_raw_rmse", "val_bias",
)  # fmt: skip
FIRST_COLUMNS = (STEP, EPOCH, LR)
"""The columns in front of the loss terms, whose names depend on the method."""


_log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """All that a training needs to resume, beside its weights.

    `step` steps are done, and `batch` batches of the present epoch. `num_validations` counts the
    planned validations that are done, `validation` is the newest one. `log_*` collects the next
    line of the metrics log: sums over the steps since the last line, and the clock at that line.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    elapsed_s: float = 0.0
    wait_s: float = 0.0
    num_validations: int = 0
    validations_without_improvement: int = 0
    validation: dict[str, Any] | None = None
    best_selection_metric: float | None = None
    best_step: int = 0
    best_epoch: int = 0
    log_steps: int = 0
    log_sums: dict[str, float] = field(default_factory=dict)
    log_elapsed_s: float = 0.0
    log_wait_s: float = 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of the time that steps waited for their batches, 0 to 1."""
        return self.wait_s / max(self.elapsed_s, 1e-9)

    def add_step(self, terms: Mapping[str, float], wait_s: float) -> None:
        """Count one step, with its loss terms and how long it waited for its batch."""
        self.step += 1
        self.wait_s += wait_s
        self.log_steps += 1
        for name, value in terms.items():
            self.log_sums[name] = self.log_sums.get(name, 0.0) + value

    def next_row(self, lr: float, *, is_validated: bool) -> dict[str, float | None]:
        """The row of the metrics log for the steps since the last row; resets the sums."""
        elapsed_s = self.elapsed_s - self.log_elapsed_s
        validation = (self.validation or {}) if is_validated else {}
        row: dict[str, float | None] = {STEP: self.step, EPOCH: self.epoch, LR: lr}
        row |= {name: value / self.log_steps for name, value in self.log_sums.items()}
        row |= {
            column: validation.get(column.removeprefix("val_")) for column in VALIDATION_COLUMNS
        }
        row |= {ELAPSED: self.elapsed_s}
        row |= {WAIT: (self.wait_s - self.log_wait_s) / max(elapsed_s, 1e-9)}
        self.log_steps, self.log_sums = 0, {}
        self.log_elapsed_s, self.log_wait_s = self.elapsed_s, self.wait_s
        return row


def write_state(
    path: Path, weights: Mapping[str, Any], state: TrainingState, fingerprint: str
) -> None:
    """Write weights and state to one file, which appears whole or not at all."""
    with atomic_write(path) as file:
        torch.save({**weights, "training_state": asdict(state), "fingerprint": fingerprint}, file)


def read_state(path: Path, fingerprint: str) -> tuple[dict[str, Any], TrainingState] | None:
    """What `write_state` wrote.

    Returns:
        The weights and the state; None if there is no such file, or it is of other data, other
        settings or another version: the training then starts anew, and the log says why.
    """
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, "cpu", weights_only=True)
        is_same, state = saved["fingerprint"] == fingerprint, saved["training_state"]
        if is_same:
            return saved, TrainingState(**state)
        reason = "is of other data or settings"
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError):
        reason = "is damaged or of another version"
    _log.warning("%s %s: the training starts anew", path, reason)
    return None


def delete_state(path: Path) -> None:
    """Delete what `write_state` wrote, and what a kill left half written."""
    path.unlink(missing_ok=True)
    part_of(path).unlink(missing_ok=True)


class MetricsLog:
    """A CSV with one row every few steps, on the disk at once; the first row sets the columns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def truncate_after(self, step: int) -> None:
        """Drop torn rows, and rows after `step`, which a resumed training writes again."""
        has_rows = step and self.path.exists()
        lines = self.path.read_text(encoding="utf-8").splitlines(True) if has_rows else []
        whole = [line for line in lines if line.endswith("\n")]
        kept = whole[:1] + [line for line in whole[1:] if int(line.partition(",")[0]) <= step]
        with atomic_write(self.path) as file:
            file.write("".join(kept).encode())

    def append(self, row: Mapping[str, float | None]) -> None:
        """Append a row; None and NaN are empty cells."""
        with self.path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            # the log of a training that an earlier version began keeps its columns
            columns = next(csv.reader(file), None)
            file.seek(0, os.SEEK_END)
            writer = csv.DictWriter(file, columns or list(row), "", "ignore", lineterminator="\n")
            if columns is None:
                writer.writeheader()
            writer.writerow({name: _cell(value) for name, value in row.items()})


def plot_history(table: Path, picture: Path) -> None:
    """Draw loss terms, and what held-out sources show, over the steps; needs at least one row.

    Args:
        table: file of a `MetricsLog`; nothing is drawn while it has no row.
        picture: PNG to write.
    """
    if not (table.exists() and table.stat().st_size):
        return
    # importing matplotlib takes a second, and only this function needs it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = pd.read_csv(table)
    figure = Figure(figsize=(8, 9), layout="constrained")
    FigureCanvasAgg(figure)
    above, errors, ranks = figure.subplots(3, 1, sharex=True)
    names = list(rows.columns)
    terms = names[len(FIRST_COLUMNS) : names.index(VALIDATION_COLUMNS[0])]
    terms = [name for name in terms if (rows[name] > 0).any()]  # not those without weight
    smooth = rows[terms].ewm(span=max(1, len(rows) // 20)).mean()
    for name in terms:
        # a line of one point is not seen
        (line,) = above.plot(rows[STEP], smooth[name], "." if len(rows) == 1 else "-", label=name)
        above.plot(rows[STEP], rows[name], color=line.get_color(), alpha=0.25, linewidth=0.8)
    above.set(ylabel="weighted loss term", yscale="log")
    validated = rows.dropna(subset=[VALIDATION_COLUMNS[0]])
    for axes, column, label in (
        (errors, "val_raw_rmse", "RMSE of scores as they are"),
        (errors, "val_bias", "bias of scores as they are"),
        (ranks, "val_srcc", "SRCC"),
        (ranks, "val_in_group_srcc", "SRCC inside groups"),
    ):
        if column in validated:
            axes.plot(validated[STEP], validated[column], marker="o", markersize=3, label=label)
    errors.set(ylabel="held-out sources, VMAF points")
    ranks.set(xlabel="step", ylabel="held-out sources")
    for axes in (above, errors, ranks):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    with atomic_write(picture) as file:
        figure.savefig(file, dpi=120, format="png", metadata=PNG_METADATA)


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
