"""Plots of an evaluation: predictions against labels, and features on their principal axes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqatool.bootstrap import MIN_ORIGINS
from vqatool.evaluation.evaluator import MetricRow
from vqatool.evaluation.features import Similarity, plane
from vqatool.files import PNG_METADATA
from vqatool.metrics import Values, logistic_fit
from vqatool.terminal import shown

if TYPE_CHECKING:  # matplotlib takes a second to load, and only plots need it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "0.45"
_DOTS: dict[str, Any] = {"s": 22, "alpha": 0.8, "edgecolors": "white", "linewidths": 0.4}
_MAX_IN_LEGEND = 20
# of Okabe and Ito, "Color Universal Design" (2008): colour-blind people can distinguish them
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")


def draw_scatter(
    score_N: Values,
    label_N: Values,
    codecs: Sequence[str],
    overall: MetricRow,
    path: Path,
    *,
    model: str,
) -> None:
    """Scores against VMAF, a colour for each codec, with the identity and the fitted logistic."""
    figure, axes = _make_axes((6.4, 6.6))
    axes.plot([0, 100], [0, 100], color="0.8", linewidth=1, zorder=0, label="score = VMAF")
    for colour, codec in zip(_cycle_colours(set(codecs)), sorted(set(codecs)), strict=True):
        is_codec = np.array([name == codec for name in codecs])
        label = f"{shown(codec)} ({is_codec.sum()})"
        axes.scatter(score_N[is_codec], label_N[is_codec], color=colour, label=label, **_DOTS)
    if np.isfinite(overall.rmse) and overall.is_enough:
        order = np.argsort(score_N)
        fitted = logistic_fit(score_N, label_N)
        label = "fitted logistic"
        axes.plot(score_N[order], fitted[order], color="0.2", linewidth=1.6, label=label)
    axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="predicted score", ylabel="VMAF", aspect="equal")
    axes.set_axisbelow(True)
    axes.grid(color="0.93")
    title = f"{shown(model)}\n{_headline(overall)}"
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    figure.savefig(path, dpi=140, metadata=PNG_METADATA)


def draw_features(
    feature_ND: Values,
    groups: Sequence[str],
    label_N: Values,
    similarity: Similarity | None,
    path: Path,
) -> None:
    """The features on their two principal axes; bitrate groups are coloured by their mean VMAF.

    `similarity` is None where there are too few origins to tell it.
    """
    from matplotlib import colormaps

    figure, axes = _make_axes((8.2, 5.6))
    position_N2, share_2 = plane(feature_ND)
    is_in_group = {name: np.array([group == name for group in groups]) for name in set(groups)}
    order = sorted(is_in_group, key=lambda name: (float(label_N[is_in_group[name]].mean()), name))
    colours = colormaps["turbo"](np.linspace(0.04, 0.96, len(order)))
    for name, colour in zip(order, colours, strict=True):
        x, y = position_N2[is_in_group[name]].T
        label = f"{shown(name)} (VMAF {label_N[is_in_group[name]].mean():.0f})"
        axes.scatter(x, y, color=[colour], label=label, **_DOTS)
    axes.set_xlabel(f"first axis ({100 * share_2[0]:.0f} % of variance)")
    axes.set_ylabel(f"second axis ({100 * share_2[1]:.0f} % of variance)")
    title = "features by bitrate group"
    if similarity:
        title += (
            f"; mean cosine of two sources: {similarity.inside:.3f} inside a group, "
            f"{similarity.between:.3f} between groups"
        )
    axes.set_title(title, loc="left", fontsize=9.5)
    if len(order) <= _MAX_IN_LEGEND:
        figure.legend(loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=140, metadata=PNG_METADATA)


def _make_axes(size: tuple[float, float]) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_GREY)
    return figure, axes


def _cycle_colours(names: set[str]) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(len(names))]


def _headline(overall: MetricRow) -> str:
    size = f"{overall.count} encodes of {overall.sources} source{'s' * (overall.sources != 1)}"
    if not overall.is_enough:
        return f"{size}: too few for a figure, {MIN_ORIGINS} are needed"
    row = overall
    return (
        f"RMSE {row.raw_rmse:.1f} ({row.raw_rmse_low:.1f} to {row.raw_rmse_high:.1f}), bias "
        f"{row.bias:+.1f} ({row.bias_low:+.1f} to {row.bias_high:+.1f}), "
        f"SRCC {row.srcc:.3f} ({row.srcc_low:.2f} to {row.srcc_high:.2f})\n"
        f"after the logistic: RMSE {row.rmse:.1f} ({row.rmse_low:.1f} to {row.rmse_high:.1f}), "
        f"PLCC {row.plcc:.3f} ({row.plcc_low:.2f} to {row.plcc_high:.2f})\n"
        f"{size}, 95 % intervals"
    )
