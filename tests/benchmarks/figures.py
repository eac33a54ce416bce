"""How far figures alone go: tree ensembles and an SVR, judged on held-out origins.

    python -m tests.benchmarks.figures encodes [--folds 6] [--repeats 2] [--curve]

The comparison that a network has to beat. Every labelled encode of the work folder becomes the
figures that `coarse-to-fine` reads beside its pixels: features of the bitstream, motion, probing,
and the band contrast of its fragments (mean and deviation over the frames). The mean of an SVR,
extra trees and gradient boosting predicts VMAF from them. Each encode is predicted by models that
never saw its origin (`origins.csv`), in repeated group cross-validation; the settings are fixed, so
nothing is chosen on what is judged. The first table leaves parts out, with intervals over origins;
`--curve` adds a second one with fewer origins to learn from.

Shapes: N encodes, F figures, R resamples.
"""

import argparse
import functools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from ladder.storage import work_lock
from vqatool.bootstrap import (
    interval,
    origin_weights,
    resampled_rmse,
    resampled_srcc,
)
from vqatool.data.labels import LabelledEncode, origins_of, read_labelled_encodes
from vqatool.inputs.bitstream import STEP_ORIGIN, bitstream_vector
from vqatool.inputs.clip import DEFAULT_FRAME_GROUPS, Array, Clip, View
from vqatool.inputs.fragments import fragments
from vqatool.inputs.motion import motion_vector
from vqatool.inputs.probing import probing_vector
from vqatool.methods import Method, recipe_for
from vqatool.methods.recipe import Input
from vqatool.metrics import Values, raw_errors, srcc
from vqatool.models.bands import BandContrast
from vqatool.training.run import cached_inputs

PARTS = ("bitstream", "motion", "probing", "detail")
ABLATIONS: Mapping[str, Sequence[str]] = {
    "bitstream": ("bitstream",),
    "bitstream, motion": ("bitstream", "motion"),
    "bitstream, motion, probing": ("bitstream", "motion", "probing"),
    "bitstream, motion, detail": ("bitstream", "motion", "detail"),
    "all": PARTS,
    "without bitstream": ("motion", "probing", "detail"),
}
_CURVE = (25, 50, 100)  # origins to learn from, before all of them


def detail_vector(clip: Clip, *, generator: np.random.Generator | None = None) -> Array:
    """Mean and deviation over the frames of the band contrast of fragments, (F,) float32."""
    mosaic = torch.from_numpy(fragments(clip, grid=4, patch=64)).float() / 255
    features = clip.bitstream
    step_T = torch.full((len(mosaic),), features.step_inter + STEP_ORIGIN)
    statistics_TS = BandContrast()(mosaic, step_T, torch.full_like(step_T, features.has_step))
    return torch.cat([statistics_TS.mean(0), statistics_TS.std(0)]).numpy()


def pooled_motion(clip: Clip, *, generator: np.random.Generator | None = None) -> Array:
    """Mean and deviation over the frame groups of the motion features, (F,) float32."""
    motion_TK = motion_vector(clip)
    return np.concatenate([motion_TK.mean(0), motion_TK.std(0, ddof=1)])


VIEWS: Mapping[str, View] = {
    "bitstream": bitstream_vector,
    "motion": pooled_motion,
    "probing": probing_vector,
    "detail": detail_vector,
}


def figures_of(folder: Path, encodes: Sequence[LabelledEncode]) -> dict[str, Values]:
    """(N, F) of each of `PARTS`; decoded once, in the folder's cache."""
    recipe = replace(
        recipe_for(Method.COARSE_TO_FINE),
        inputs=tuple(Input(view, is_random=False) for view in VIEWS.values()),
    )
    inputs = cached_inputs(folder, encodes, recipe, DEFAULT_FRAME_GROUPS)
    missing = len(inputs.missing())
    for number, _ in enumerate(inputs.decode_missing(), 1):
        if number % 100 == 0:
            sys.stderr.write(f"{number} of {missing} encodes decoded\n")
    columns = zip(*(inputs.evaluation_views(i) for i in range(len(encodes))), strict=True)
    return {
        part: np.stack(column).astype(np.float64)
        for part, column in zip(VIEWS, columns, strict=True)
    }


def predicted(train_NF: Values, label_N: Values, test_NF: Values) -> Values:
    """The mean of three kinds of regression, 0 to 100."""
    width = train_NF.shape[1]
    models: list[Any] = [
        make_pipeline(StandardScaler(), SVR(C=30, epsilon=1, gamma=0.3 / width)),
        ExtraTreesRegressor(200, min_samples_leaf=2, max_features=0.4, random_state=0, n_jobs=-1),
        HistGradientBoostingRegressor(
            max_iter=200, learning_rate=0.07, max_leaf_nodes=12, l2_regularization=1, random_state=0
        ),
    ]
    each = [model.fit(train_NF, label_N).predict(test_NF) for model in models]
    return np.asarray(np.clip(np.mean(each, axis=0), 0, 100))


def cross_validated(
    figure_NF: Values,
    label_N: Values,
    origins: Sequence[str],
    *,
    folds: int,
    repeats: int,
    num_origins: int | None = None,
) -> Values:
    """(repeats, N): each encode by models that never saw its origin.

    Args:
        figure_NF: figures.
        label_N: VMAF.
        origins: of each encode.
        folds: of each repeat.
        repeats: with other folds.
        num_origins: origins to learn from, drawn from those outside the fold; None: all of them.
    """
    names = np.asarray(origins)
    found = np.empty((repeats, len(label_N)))
    for repeat in range(repeats):
        chance = np.random.default_rng(repeat)
        split = GroupKFold(folds, shuffle=True, random_state=repeat)
        for train, test in split.split(figure_NF, label_N, names):
            known = np.unique(names[train])
            drawn = chance.permutation(known)[: num_origins or len(known)]
            learn = train[np.isin(names[train], drawn)]
            found[repeat, test] = predicted(figure_NF[learn], label_N[learn], figure_NF[test])
    return found


def row_of(
    name: str, predicted_RN: Values, encodes: Sequence[LabelledEncode], *, once: bool = False
) -> list[str]:
    """The cells of a table: means over repeats, intervals over origins of the first."""
    kept = [i for i, each in enumerate(encodes) if not once or each.kind != "coded twice"]
    chosen = [encodes[i] for i in kept]
    label_N = np.array([each.vmaf for each in chosen])
    weight_RN = origin_weights(origins_of(chosen))
    scores = predicted_RN[:, kept]
    errors = [raw_errors(each, label_N, [e.source for e in chosen]) for each in scores]

    def mean(values: Sequence[float], digits: int) -> str:
        return f"{np.mean(values):.{digits}f}" if all(map(math.isfinite, values)) else "-"

    rank = interval(resampled_srcc(scores[0], label_N, weight_RN))
    rmse = interval(resampled_rmse(scores[0], label_N, weight_RN))
    return [
        name,
        str(len(kept)),
        mean([srcc(each, label_N) for each in scores], 3),
        f"{rank.low:.3f} to {rank.high:.3f}",
        mean([each.rmse for each in errors], 2),
        f"{rmse.low:.2f} to {rmse.high:.2f}",
        mean([100 * each.order for each in errors], 1),
        mean([each.good_p5 for each in errors], 1),
    ]


HEADINGS = ("figures", "encodes", "SRCC", "95 %", "RMSE", "95 %", "order %", "5 % lowest of 97+")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.figures")
    parser.add_argument("folder", type=Path, help="labelled work folder")
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--curve", action="store_true", help="also with fewer origins")
    options = parser.parse_args(arguments)
    encodes = read_labelled_encodes(options.folder)
    with work_lock(options.folder):
        figures = figures_of(options.folder, encodes)
    label_N, origins = np.array([each.vmaf for each in encodes]), origins_of(encodes)
    validate = functools.partial(
        cross_validated,
        label_N=label_N,
        origins=origins,
        folds=options.folds,
        repeats=options.repeats,
    )
    count = len(set(origins))
    table = Table(*HEADINGS, title=f"{len(encodes)} encodes of {count} origins")
    for name, parts in ABLATIONS.items():
        found = validate(np.concatenate([figures[part] for part in parts], axis=1))
        table.add_row(*row_of(name, found, encodes))
        if any(each.kind == "coded twice" for each in encodes):
            table.add_row(*row_of("  coded once", found, encodes, once=True))
    console = Console(width=120)
    console.print(table)
    if options.curve:
        every = np.concatenate([figures[part] for part in PARTS], axis=1)
        curve = Table("origins", *HEADINGS[1:], title="all figures, fewer origins to learn from")
        for number in (*(each for each in _CURVE if each < count), None):
            found = validate(every, num_origins=number)
            curve.add_row(*row_of(str(number or "all"), found, encodes))
        console.print(curve)


if __name__ == "__main__":
    main()
