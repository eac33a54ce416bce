"""The course of a training, for people: a CSV that survives kills, and a picture of it."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

STEP, EPOCH, LR = "step", "epoch", "lr"


ELAPSED, WAIT = "elapsed_s", "data_wait_share"


VALIDATED = ("val_srcc", "val_plcc", "val_rmse", "val_in_group_srcc")


class MetricsLog:
    """One line every few steps, on the disk at once; the columns are those of the first line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def truncate_after(self, step: int) -> None:
        """Drop the lines after `step`, which a resumed training writes again, and torn ones."""
        has_lines = step and self.path.exists()
        lines = self.path.read_text(encoding="utf-8").splitlines(True) if has_lines else []
        whole = [line for line in lines if line.endswith("\n")]
        kept = whole[:1] + [line for line in whole[1:] if int(line.partition(",")[0]) <= step]
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(kept), encoding="utf-8")
        part.replace(self.path)

    def add(self, row: Mapping[str, float | None]) -> None:
        """Append a line; None and NaN are empty cells."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(row)
            writer.writerow(map(_cell, row.values()))


def plot_history(table: Path, picture: Path) -> None:
    """Losses above, held-out rank correlations below, over the steps; nothing without a line."""
    if not (table.exists() and table.stat().st_size):
        return
    # drawing takes a second to import, which only this needs
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = pd.read_csv(table)
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    names = list(rows.columns)
    terms = names[names.index(LR) + 1 : names.index(VALIDATED[0])]
    terms = [name for name in terms if (rows[name] > 0).any()]  # not those without weight
    smooth = rows[terms].ewm(span=max(1, len(rows) // 20)).mean()
    for name in terms:
        (line,) = above.plot(rows[STEP], smooth[name], label=name)
        above.plot(rows[STEP], rows[name], color=line.get_color(), alpha=0.25, linewidth=0.8)
    above.set(ylabel="weighted loss term", yscale="log")
    predictions = rows.dropna(subset=[VALIDATED[0]])
    for column, label in ((VALIDATED[0], "SRCC"), (VALIDATED[3], "SRCC inside groups")):
        below.plot(predictions[STEP], predictions[column], marker="o", markersize=3, label=label)
    below.set(xlabel="step", ylabel="on held-out sources")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    part = picture.with_name(picture.name + ".part")
    figure.savefig(part, dpi=120, format="png")
    part.replace(picture)


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
