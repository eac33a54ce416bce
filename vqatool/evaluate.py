"""Predictions of a model against the labels of a work folder: overall, inside groups, per codec."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from ladder.errors import LadderError
from ladder.probe import probe
from vqatool.groups import LabelledEncode
from vqatool.metrics import Agreement, agreement
from vqatool.predict import Predictor

OnFailed = Callable[[LabelledEncode, str], None]
"""Told an encode that has no prediction, and why."""


@dataclass(frozen=True)
class SetAgreement:
    """The agreement on one set: `kind` is `all`, `rung` or `codec`, `name` which one."""

    kind: str
    name: str
    agreement: Agreement


def predict_labelled(
    encodes: Sequence[LabelledEncode], predictor: Predictor, on_failed: OnFailed
) -> Iterator[tuple[LabelledEncode, float]]:
    """Each encode with its predicted score, judged at its source's size as in training.

    One that cannot be decoded is left out, and `on_failed` is told the reason.
    """
    for encode in encodes:
        try:
            views = predictor.look_at(probe(encode.path), encode.display)
        except LadderError as error:
            on_failed(encode, str(error))
        except (OSError, ValueError) as error:
            # what a damaged file can still make the decoder say
            on_failed(encode, f"{encode.path}: {error!r}")
        else:
            yield encode, predictor.score([views])[0]


def judge(predictions: Sequence[tuple[LabelledEncode, float]]) -> list[SetAgreement]:
    """Agreement over all encodes, inside each bitrate group, and for each codec."""
    found = [SetAgreement("all", "all", _agreement(predictions))]
    ways: dict[str, Callable[[LabelledEncode], str]] = {
        "rung": lambda encode: encode.rung,
        "codec": lambda encode: encode.codec,
    }
    for kind, name_of in ways.items():
        for name in sorted({name_of(encode) for encode, _ in predictions}):
            members = [pair for pair in predictions if name_of(pair[0]) == name]
            found.append(SetAgreement(kind, name, _agreement(members)))
    return found


def mean_in_group_srcc(found: Sequence[SetAgreement]) -> float:
    """Mean SRCC inside the bitrate groups that have one; NaN if none has."""
    values = [
        one.agreement.srcc
        for one in found
        if one.kind == "rung" and math.isfinite(one.agreement.srcc)
    ]
    return sum(values) / len(values) if values else math.nan


def write_evaluation(
    predictions: Sequence[tuple[LabelledEncode, float]], found: Sequence[SetAgreement], stem: Path
) -> list[Path]:
    """`STEM.csv` (agreement), `STEM-predictions.csv` (every encode) and `STEM.png` (a scatter)."""
    paths = [stem.with_name(stem.name + end) for end in (".csv", "-predictions.csv", ".png")]
    stem.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(
        {"set": one.kind, "name": one.name, **asdict(one.agreement)} for one in found
    )
    table.round(4).to_csv(paths[0], index=False)
    rows = pd.DataFrame(
        {
            "encode_path": str(encode.path),
            "source": encode.source,
            "rung": encode.rung,
            "codec": encode.codec,
            "bitrate_kbps": encode.bitrate_kbps,
            "vmaf": encode.vmaf,
            "score": score,
        }
        for encode, score in predictions
    )
    # paths and sources need not be valid UTF-8
    rows.round(4).to_csv(paths[1], index=False, errors="surrogateescape")
    _draw(rows, found[0].agreement, paths[2])
    return paths


def _agreement(predictions: Sequence[tuple[LabelledEncode, float]]) -> Agreement:
    return agreement([score for _, score in predictions], [e.vmaf for e, _ in predictions])


def _draw(rows: pd.DataFrame, overall: Agreement, path: Path) -> None:
    # drawing takes a second to import, which only this needs
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color="0.8", zorder=0)
    for codec, members in rows.groupby("codec"):
        axes.scatter(members["score"], members["vmaf"], s=14, alpha=0.7, label=str(codec))
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="predicted score", ylabel="VMAF", aspect="equal")
    axes.set_title(f"SRCC {overall.srcc:.3f}, PLCC {overall.plcc:.3f}, {overall.count} encodes")
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=120)
