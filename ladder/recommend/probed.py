"""What a recommendation rests on: labelled encodes of a source, probes or those of a folder."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ladder.codecs import CODECS
from ladder.encode.plan import (
    EncodeRow,
    Source,
    digest_of_source,
    encodes_table,
    require_same_source,
    time_of_change,
)
from ladder.encode.rungs import RateMode
from ladder.errors import CurveError, VideoError
from ladder.label.rows import LabelRow, labels_table
from ladder.label.run import LabelOptions
from ladder.media.probe import probe
from ladder.media.remote import as_path
from ladder.media.time_ranges import parse_time_ranges
from ladder.media.tonemap import TONEMAPPED
from ladder.recommend.choice import Delivery
from ladder.recommend.envelope import Envelope, Sample, SizeCurve
from ladder.recommend.points import Point
from ladder.storage import Status

HDR = "hdr"
"""The code of a warning."""

_NAME = re.compile(r"\d+p-(?:crf\d+|\d+k)-[a-z0-9]+(?:-(\w+))?")  # of a rung without other settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What became of one encode: figures where it is good, else the reason."""

    encode: EncodeRow
    label: LabelRow | None
    role: str  # probe, rung or against

    @property
    def error(self) -> str:
        """Why there are no figures; "" if there are."""
        if self.encode.status != Status.OK:
            return self.encode.error
        if self.label is None:
            return "it has no label"
        return self.label.error

    @property
    def point(self) -> Point | None:
        """Bitrate and mean VMAF."""
        rate_kbps = self.encode.bitrate_kbps
        if self.error or not rate_kbps or not self.label or self.label.vmaf is None:
            return None
        return Point(rate_kbps, self.label.vmaf)

    @property
    def sample(self) -> Sample | None:
        """The encode as a sample of its size."""
        control = self.encode.crf or self.encode.target_kbps
        if not (self.point and control and self.label) or self.label.vmaf_p5 is None:
            return None
        return Sample(
            height_px=min(self.encode.width_px or 0, self.encode.height_px or 0),
            control=control,
            rate_kbps=self.point.rate_kbps,
            vmaf=self.point.quality,
            vmaf_p5=self.label.vmaf_p5,
        )


@dataclass(frozen=True)
class Probed:
    """The labelled encodes that a recommendation rests on.

    Attributes:
        name: of the source.
        display_size: (width, height) at which all were measured, px.
        source: what they were made from; None if the file is gone.
        delivery: how they were encoded.
        labels: how they were measured.
        encodes: each with its figures.
    """

    name: str
    display_size: tuple[int, int]
    source: Source | None
    delivery: Delivery
    labels: LabelOptions
    encodes: tuple[Measured, ...]

    def curves(self, *, is_p5: bool) -> tuple[list[SizeCurve], list[str]]:
        """The curve of each size, and the reasons why other sizes have none."""
        by_height: dict[int, list[Sample]] = {}
        for each in self.encodes:
            if each.sample:
                by_height.setdefault(each.sample.height_px, []).append(each.sample)
        found, reasons = [], []
        for samples in by_height.values():
            try:
                found.append(SizeCurve(samples, is_p5=is_p5))
            except CurveError as error:
                reasons.append(str(error))
        return found, reasons

    def envelope(self, *, is_p5: bool) -> Envelope:
        """The best quality at each rate, over the sizes that have a curve.

        Raises:
            CurveError: no size has one.
        """
        curves, reasons = self.curves(is_p5=is_p5)
        if not curves:
            failed = [each.error for each in self.encodes if each.error]
            reason = next(iter([*reasons, *failed]), "nothing is encoded and labelled")
            raise CurveError(
                f"{self.name}: no size has a curve: {reason}; name more --rates, or of a labelled "
                "folder the source instead, and it is probed"
            )
        return Envelope(curves)


def read_labelled(
    folder: Path, codec: str | None = None, heights: Collection[int] = ()
) -> list["LabelledSet"]:
    """What a labelled work folder holds, for each of its sources.

    Encodes with the same codec, rate control, preset, parts of the source and VMAF model belong
    together. Of each source the largest such set is taken, and the others are logged.

    Args:
        folder: the work folder.
        codec: take only encodes of this codec.
        heights: take only encodes of these sizes, px of the short side; none: of all.

    Raises:
        CurveError: the folder has no labelled encodes of such a kind.
    """
    labels = {row.key: row for row in labels_table(folder).rows() if row.status == Status.OK}
    kinds: dict[str, dict[_Kind, list[Measured]]] = {}
    for row in encodes_table(folder).rows():
        label = labels.get(row.key)
        kind = _kind_of(row, label) if label else None
        is_wanted = not heights or min(row.width_px or 0, row.height_px or 0) in heights
        if label and kind and is_wanted and codec in (None, row.codec):
            of_source = kinds.setdefault(row.source, {})
            of_source.setdefault(kind, []).append(Measured(row, label, "probe"))
    if not kinds:
        raise CurveError(
            f"{folder} has no labelled encodes by CRF or bitrate"
            + (f" of {codec}" if codec else "")
            + ": name a source instead, and it is probed"
        )
    return [_largest_set(of_source) for of_source in kinds.values()]


class _Kind(NamedTuple):
    """What encodes of one curve share; the last two are the code of a warning, or "".

    `dynamics` is `hdr` or `tonemapped` where the label is of such pictures, and `encoded_as` is
    `tonemapped` where the encode itself is the SDR version of an HDR source.
    """

    codec: str
    rate_mode: RateMode
    preset: str
    pieces: str
    model: str
    dynamics: str
    encoded_as: str

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys(filter(None, self)))


@dataclass(frozen=True)
class LabelledSet:
    """Labelled encodes of one source and one kind."""

    kind: _Kind
    encodes: tuple[Measured, ...]

    def probed(self) -> Probed:
        """The same as a base for a recommendation.

        Raises:
            VmafError: the source has been replaced since.
            VideoError: the source cannot be read.
        """
        row = self.encodes[0].encode
        path, source = as_path(row.source_path), None
        if self.kind.dynamics == HDR:
            raise VideoError(
                HDR,
                f"the labels of {row.source} are of HDR, which VMAF was not made for: run `vqatool "
                "label --tonemap` on the folder, or `vqatool recommend --tonemap` on the source",
            )
        if path.is_file():
            for each in self.encodes:
                require_same_source(each.encode)
            source = Source(
                name=row.source,
                info=probe(path, tonemap=bool(self.kind.encoded_as)),
                time_ranges=parse_time_ranges(self.kind.pieces),
                modified=time_of_change(path),
                digest=digest_of_source(path),
            )
        is_crf = self.kind.rate_mode == RateMode.CRF
        return Probed(
            name=row.source,
            display_size=(row.display_width_px or 0, row.display_height_px or 0),
            source=source,
            delivery=Delivery(self.kind.codec, is_crf, self.kind.preset or None),
            labels=LabelOptions(models=(self.kind.model,), tonemap=bool(self.kind.dynamics)),
            encodes=self.encodes,
        )


def _largest_set(of_source: Mapping[_Kind, Sequence[Measured]]) -> LabelledSet:
    (kind, encodes), *others = sorted(of_source.items(), key=lambda item: -len(item[1]))
    for other, left_out in others:
        _log.warning(
            "%s: %d encodes (%s) are left out, the recommendation is by %d others (%s)",
            left_out[0].encode.source, len(left_out), other, len(encodes), kind,
        )  # fmt: skip
    return LabelledSet(kind, tuple(encodes))


def _kind_of(row: EncodeRow, label: LabelRow) -> _Kind | None:
    """The kind of an encode; None for one that is no plain CRF or VBR."""
    found = _NAME.fullmatch(row.rung)
    preset = (found[1] or "") if found else ""
    is_plain = row.rate_mode in (RateMode.CRF, RateMode.VBR) and row.status == Status.OK
    if not (found and is_plain and row.rate_mode) or preset not in ("", *CODECS[row.codec].presets):
        return None
    codes = label.warnings.split(";")
    dynamics = next((code for code in (HDR, TONEMAPPED) if code in codes), "")
    encoded_as = TONEMAPPED if row.tonemap else ""
    return _Kind(
        row.codec, row.rate_mode, preset, row.pieces, label.vmaf_model, dynamics, encoded_as
    )


def measured_of(folder: Path, name: str) -> dict[str, Measured]:
    """The encodes of a source in a work folder, by the name of their rung."""
    labels = {row.key: row for row in labels_table(folder).rows()}
    return {
        row.rung: Measured(row, labels.get(row.key), "probe")
        for row in encodes_table(folder).rows()
        if row.source == name
    }
