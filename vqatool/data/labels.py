"""Labelled encodes: the rows of `encodes.csv` and `labels.csv` joined. No torch.

Encodes made elsewhere have no row in `encodes.csv`: `labels.csv` says what they are.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ladder.encode.plan import EncodeRow, encodes_table
from ladder.label.files import LABELS_FILE, LabelFiles
from ladder.label.metrics import METRICS, log_metric_name
from ladder.label.rows import LabelRow, labels_table
from ladder.media.probe import Size
from ladder.media.tonemap import TONEMAPPED
from ladder.treatments import Treatment, read_treatments
from vqatool.data.source_columns import read_source_column
from vqatool.errors import TrainingDataError

_log = logging.getLogger(__name__)

ORIGINS_FILE = "origins.csv"

_TOP_LABEL = 100.0

_BEYOND_100 = {metric.log_name for name, metric in METRICS.items() if name.startswith("v1-4k-3h")}
"""Models whose values go to 110: what 4K adds to 1080 lines."""

_OF_OTHER_FRAMES = ("shifted", "unaligned", "other_content")
"""Warnings of labels that compare frames which do not belong together."""

_CODED_ONCE, _FILTERED, _CODED_TWICE = "coded once", "filtered, coded once", "coded twice"


@dataclass(frozen=True, kw_only=True)
class LabelledEncode:
    """One encode with its label (VMAF, 0 to 100) and its source's size, which it is judged at.

    `height_px` is the coded picture's short side, as a rung has it; `rate_mode` is the rung's.
    `preset` (codec and preset) and `kind` are "" where the folder does not hold them: they are
    known of the encodes of `ladder.treatments` alone. The kind is `coded once`, `filtered, coded
    once` if it was sharpened, smoothed or got noise before, or `coded twice`. Sources of one
    `origin` (one film, one photographer) look alike, so they are never on two sides of a split.
    """

    path: Path
    source: str
    rung: str
    codec: str
    vmaf: float
    display: Size
    bitrate_kbps: float
    height_px: int
    rate_mode: str
    fps: float
    log: Path = Path()  # libvmaf's figures of every frame
    metric: str = ""  # the name of the label among them
    source_path: Path = Path()  # the file of the source
    preset: str = ""
    kind: str = ""
    origin: str = ""  # "": the source is an origin of its own
    is_tonemapped: bool = False  # the label is that of its pictures as SDR

    @property
    def is_coded_twice(self) -> bool:
        """Whether it is known to be an encode of an encode."""
        return self.kind == _CODED_TWICE


def origins_of(encodes: Iterable[LabelledEncode]) -> list[str]:
    """The origin of each encode: what is drawn, split and left out as one."""
    return [encode.origin or encode.source for encode in encodes]


def read_origins(folder: Path) -> dict[str, str]:
    """Source -> origin, from the folder's `origins.csv`; empty if there is none.

    Raises:
        TrainingDataError: a row lacks a name, or gives a source a second origin.
    """
    return read_source_column(
        folder / ORIGINS_FILE,
        "origin",
        expected="a name in each",
        conflict="gives the source {} two origins",
    )


def read_labelled_encodes(folder: Path) -> list[LabelledEncode]:
    """Every encode of a work folder that has a good label, in the order of their paths.

    A label of frames that do not belong together is left out, with a warning in the log.

    Raises:
        TrainingDataError: there are no labels, or not on the scale of scores; the message names the
            command that makes them.
    """
    encodes = {row.key: row for row in encodes_table(folder).rows() if row.status == "ok"}
    labels = [row for row in labels_table(folder).rows() if row.status == "ok"]
    misled = [row for row in labels if not _codes(row).isdisjoint(_OF_OTHER_FRAMES)]
    labels = [row for row in labels if _codes(row).isdisjoint(_OF_OTHER_FRAMES)]
    if misled:
        codes = sorted({code for row in misled for code in _codes(row) & {*_OF_OTHER_FRAMES}})
        _log.warning(
            "%d labels of %s are left out, of frames that do not belong together (%s): %s first; "
            "label with --sync, or repair the pair",
            len(misled),
            labels_table(folder).path,
            ", ".join(codes),
            misled[0].encode_path,
        )
    treatments, origins = read_treatments(folder), read_origins(folder)
    labelled = [
        replace(
            _labelled(folder, encodes.get(row.key) or row, row, row.vmaf, treatments.get(row.key)),
            origin=origins.get(row.source, ""),
        )
        for row in labels
        if (row.key in encodes or row.source_path) and row.vmaf is not None
    ]
    if not labelled:
        raise TrainingDataError(
            f"{folder} holds no labelled encodes: run `vqatool ladder SRC... -o {folder}`, "
            f"then `vqatool label {folder}`; or, with encodes of your own, "
            f"`vqatool label --source SRC ENC... -o {folder / LABELS_FILE}`"
        )
    _refuse_other_scales(labelled, folder)
    return sorted(labelled, key=lambda encode: encode.path)


def _codes(label: LabelRow) -> set[str]:
    return {code.partition(":")[0] for code in label.warnings.split(";")}


def _refuse_other_scales(encodes: Iterable[LabelledEncode], folder: Path) -> None:
    for encode in encodes:
        model = encode.metric
        if model in _BEYOND_100 or encode.vmaf > _TOP_LABEL:
            raise TrainingDataError(
                f"{labels_table(folder).path}: {encode.path} has a VMAF of "
                f"{encode.vmaf:.1f} by {model}, whose scale does not end at 100, and scores are 0 "
                f"to 100: label again with another model, such as `vqatool label {folder} "
                "--vmaf-model v0` or `v1-4k`"
            )


def _kind(treatment: Treatment) -> str:
    if len(treatment.generations) > 1:
        return _CODED_TWICE
    # such a filter is no encoder's fault, and nothing in the encode tells it from its source
    return _FILTERED if treatment.generations[0].filter else _CODED_ONCE


def _labelled(
    folder: Path,
    row: EncodeRow | LabelRow,
    label: LabelRow,
    vmaf: float,
    treatment: Treatment | None,
) -> LabelledEncode:
    """The encode that `row` describes: of `encodes.csv`, or the label itself."""
    last = treatment.generations[-1] if treatment else None
    return LabelledEncode(
        path=folder / row.encode_path,
        source=row.source,
        rung=row.rung,
        codec=row.codec,
        vmaf=vmaf,
        display=Size(row.display_width_px or 0, row.display_height_px or 0),
        bitrate_kbps=row.bitrate_kbps or 0.0,
        height_px=min(row.width_px or 0, row.height_px or 0),
        rate_mode=(row.rate_mode if isinstance(row, EncodeRow) else None) or "",
        fps=float(row.fps or 0),
        log=LabelFiles.of_folder(folder).log(row.encode_path),
        metric=log_metric_name(label.vmaf_model),
        # its frames are not those at the same times
        source_path=Path() if label.offset_frames else folder / row.source_path,
        preset=f"{last.codec} {last.preset}" if last and last.preset else "",
        kind=_kind(treatment) if treatment else "",
        is_tonemapped=TONEMAPPED in label.warnings.split(";"),
    )
