"""Recommend a ladder for one source: probe it, choose rungs, encode and measure what was chosen.

The probes are a grid of sizes and CRFs (or bitrates). Probes, chosen rungs and the rungs of a named
ladder that they are compared with are ordinary encodes of a work folder, so a run resumes and
`vqatool label`, `train` and `bdrate` can use them.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ladder.codecs import CODECS, X264
from ladder.encode.ladders import Ladder, fitting, with_codecs
from ladder.encode.plan import (
    EncodeRow,
    Source,
    encodes_table,
    plan_encodes,
    require_same_source,
    time_of_change,
)
from ladder.encode.rungs import RateMode, Rung
from ladder.errors import CurveError, LadderFileError, VideoError
from ladder.label.metrics import AUTO, models_for
from ladder.label.rows import LabelRow, labels_table
from ladder.label.run import LabelOptions
from ladder.media.probe import probe
from ladder.media.time_ranges import TrimSpec, parse_time_ranges
from ladder.media.tonemap import TONEMAPPED
from ladder.recommend.adaptive import EncodeRound
from ladder.recommend.bdrate import MIN_POINTS, bd_rate
from ladder.recommend.choice import Choice, Delivery, Limits, choose_rungs
from ladder.recommend.curves import Method
from ladder.recommend.envelope import Envelope, Sample, SizeCurve
from ladder.recommend.points import Point, rising
from ladder.storage import Status, file_digest

logger = logging.getLogger(__name__)

HEIGHTS = (2160, 1440, 1080, 720, 540, 432, 360, 234)
"""Sizes that are probed by default, where they fit, besides the source's own."""

X264_CRFS = (18, 23, 28, 33, 38, 43)
"""CRFs that are probed by default; those of other codecs are in proportion to their largest CRF."""

ANY_SIZE = Ladder((Rung(height_px=16, crf=20),))
"""For `read_sources`: which sizes suit a source is decided later."""

_BITS_PER_PIXEL = (0.012, 0.025, 0.05, 0.1, 0.2)  # of bitrate probes, for x264

DEFAULT_TRIM = TrimSpec(segments=(4, 5.0))
"""What is encoded of a source by default, so that a film costs no more than 20 s of it."""

_HDR = "hdr"  # the code of a warning

_NAME = re.compile(r"\d+p-(?:crf\d+|\d+k)-[a-z0-9]+(?:-(\w+))?")  # of a rung without other settings


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be recommended.

    Attributes:
        delivery: codec, rate control and preset, of probes and rungs.
        heights: sizes to probe, px of the short side; none: `HEIGHTS` and the source's own.
        controls: CRFs or kbit/s to probe at every size; none: the default ones.
        limits: of the rungs.
        is_p5: choose by the 5th percentile of frames; else by the mean.
        against: a ladder to compare with.
        against_name: its name.
    """

    delivery: Delivery = field(default_factory=Delivery)
    heights: tuple[int, ...] = ()
    controls: tuple[int, ...] = ()
    limits: Limits = field(default_factory=Limits)
    is_p5: bool = False
    against: Ladder | None = None
    against_name: str = ""


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


@dataclass(frozen=True)
class ChosenRung:
    """One rung of the recommendation: predicted, and measured if it was encoded.

    `vmaf` and `vmaf_p5` are the predictions, None where its size has no such curve.
    """

    choice: Choice
    vmaf: float | None
    vmaf_p5: float | None
    measured: Measured | None

    @property
    def error(self) -> float | None:
        """Measured minus predicted VMAF (mean over frames)."""
        point = self.measured.point if self.measured else None
        return point.quality - self.vmaf if point and self.vmaf is not None else None


@dataclass(frozen=True)
class AgainstRung:
    """One rung of the named ladder; `rate_kbps` is what its VMAF costs on the envelope.

    `rate_kbps` is None where the probes do not reach this VMAF.
    """

    measured: Measured
    rate_kbps: float | None

    @property
    def saving(self) -> float | None:
        """The share of the bitrate that is saved at the same VMAF, up to 1."""
        point = self.measured.point
        return 1 - self.rate_kbps / point.rate_kbps if point and self.rate_kbps else None


@dataclass(frozen=True)
class Recommendation:
    """A ladder for one source, with all that it rests on.

    `bd_rate` is that of the measured rungs against those of the named ladder, percent by PCHIP;
    None where there is none, with the reason in `no_bd_rate`.
    """

    probed: Probed
    request: Request
    envelope: Envelope
    rungs: tuple[ChosenRung, ...]
    against: tuple[AgainstRung, ...]
    bd_rate: float | None
    no_bd_rate: str

    @property
    def mean_error(self) -> float | None:
        """Mean of `prediction_errors`; None if there are none."""
        errors = self.prediction_errors
        return sum(errors) / len(errors) if errors else None

    @property
    def prediction_errors(self) -> list[float]:
        """How far measured VMAF is off the prediction, without rungs that were probed themselves.

        What is predicted for these is what was measured.
        """
        probes = {each.encode.rung for each in self.probed.encodes}
        return [
            abs(rung.error)
            for rung in self.rungs
            if rung.error is not None and rung.choice.rung.name not in probes
        ]

    @property
    def sizes_left_out(self) -> list[str]:
        """The reasons why sizes that were encoded have no curve."""
        return self.probed.curves(is_p5=self.request.is_p5)[1]

    @property
    def label_warnings(self) -> list[str]:
        """The codes that warn of its labels, each once; see `labels.csv`."""
        texts = [each.label.warnings for each in self.encodes if each.label]
        return sorted({code for text in texts for code in text.split(";") if code})

    @property
    def encodes(self) -> list[Measured]:
        """All encodes, each once: probes, rungs, and those of the named ladder."""
        rungs = [rung.measured for rung in self.rungs if rung.measured]
        every = [*self.probed.encodes, *rungs, *(rung.measured for rung in self.against)]
        return list({each.encode.key: each for each in reversed(every)}.values())[::-1]


def probe_rungs(source: Source, request: Request) -> tuple[Rung, ...]:
    """The grid of sizes and CRFs or bitrates that is encoded first."""
    size = source.info.display_size
    own_px = min(size)
    heights = request.heights or tuple(sorted({own_px, *HEIGHTS}, reverse=True))
    delivery = request.delivery
    rungs = []
    for height_px in (height_px for height_px in heights if height_px <= own_px):
        width, height = Rung(height_px=height_px, crf=20).size_for(size)
        pixels_per_s = width * height * float(source.info.fps)
        controls = request.controls or _default_controls(delivery, pixels_per_s)
        rungs += [delivery.rung(height_px, control) for control in controls]
    if not rungs:
        raise LadderFileError(
            f"{source.info.path} is {size[0]}x{size[1]}, smaller than every size of "
            f"{', '.join(map(str, heights))}: choose others with --sizes"
        )
    return tuple(dict.fromkeys(rungs))


def _default_controls(delivery: Delivery, pixels_per_s: float) -> tuple[int, ...]:
    codec = CODECS[delivery.codec]
    if delivery.is_crf:
        return tuple(round(crf * codec.max_crf / X264.max_crf) for crf in X264_CRFS)
    kbps = pixels_per_s / 1000 * codec.bitrate_factor
    return tuple(dict.fromkeys(delivery.rounded(kbps * bits) for bits in _BITS_PER_PIXEL))


def recommend_rounds(source: Source, request: Request, folder: Path) -> Iterator[EncodeRound]:
    """What to encode and label in `folder`: first the probes, then the chosen rungs.

    The caller does the work of a round before it takes the next.

    Raises:
        CurveError: too few probes could be encoded and labelled, or none is within the limits.
        LadderFileError: no probe is possible.
        VideoError: the source is HDR, and was not read as SDR.
    """
    _refuse_hdr(source)
    rungs = probe_rungs(source, request)
    yield EncodeRound(plan_encodes([(source, rungs)], folder), _label_options(source))
    yield chosen_round(read_probes(source, request, folder), request, folder)


def _refuse_hdr(source: Source) -> None:
    if source.info.hdr_of_frames:
        raise VideoError(
            _HDR,
            f"{source.info.path} is HDR ({source.info.hdr}), and VMAF was made for SDR: --tonemap "
            "recommends a ladder for its SDR version",
        )


def chosen_round(probed: Probed, request: Request, folder: Path) -> EncodeRound:
    """The chosen rungs and those of the named ladder, to encode and label.

    Raises:
        CurveError: there are too few labels, or none is within the limits.
        VideoError: the source is gone.
    """
    if probed.source is None:
        raise VideoError(
            "missing",
            f"{probed.encodes[0].encode.source_path} is not a file, and the chosen rungs have to "
            "be encoded from it: recommend with --no-encode by predictions alone",
        )
    wanted = [choice.rung for choice in _choices(probed, request)]
    wanted += _against_rungs(probed, request)
    plan = plan_encodes([(probed.source, tuple(dict.fromkeys(wanted)))], folder)
    return EncodeRound(plan, probed.labels)


def recommend(probed: Probed, request: Request, folder: Path) -> Recommendation:
    """The recommendation, with what `folder` holds of its rungs and of the named ladder.

    Raises:
        CurveError: there are too few labels, or none is within the limits.
    """
    envelope = probed.envelope(is_p5=request.is_p5)
    other = {curve.height_px: curve for curve in probed.curves(is_p5=not request.is_p5)[0]}
    known = _measured_alike(folder, probed)
    rungs = []
    for choice in _choices(probed, request):
        curve = other.get(choice.rung.height_px)
        second = curve.quality_at(choice.rate_kbps) if curve else None
        mean, p5 = (second, choice.quality) if request.is_p5 else (choice.quality, second)
        measured = known.get(choice.rung.name)
        role = replace(measured, role="rung") if measured else None
        rungs.append(ChosenRung(choice, mean, p5, role))
    against = []
    for rung in _against_rungs(probed, request):
        if each := known.get(rung.name):
            cost = _rate_on(envelope, each, is_p5=request.is_p5)
            against.append(AgainstRung(replace(each, role="against"), cost))
    value, reason = _bd_rate([r.measured for r in rungs if r.measured], against)
    return Recommendation(probed, request, envelope, tuple(rungs), tuple(against), value, reason)


def read_probes(source: Source, request: Request, folder: Path) -> Probed:
    """The probes of `recommend_rounds` with their labels."""
    names = [rung.name for rung in probe_rungs(source, request)]
    known = _measured_of(folder, source.name)
    encodes = tuple(known[name] for name in names if name in known)
    size, labels = source.info.display_size, _label_options(source)
    return Probed(source.name, size, source, request.delivery, labels, encodes)


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
        path, source = Path(row.source_path), None
        if self.kind.dynamics == _HDR:
            raise VideoError(
                _HDR,
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
                digest=file_digest(path),
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
        logger.warning(
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
    dynamics = next((code for code in (_HDR, TONEMAPPED) if code in codes), "")
    encoded_as = TONEMAPPED if row.tonemap else ""
    return _Kind(
        row.codec, row.rate_mode, preset, row.pieces, label.vmaf_model, dynamics, encoded_as
    )


def _label_options(source: Source) -> LabelOptions:
    """The VMAF model that suits the source; without NEG, which would double the work."""
    return LabelOptions(models=models_for(source.info.display_size, (AUTO,))[:1])


def _measured_of(folder: Path, name: str) -> dict[str, Measured]:
    """The encodes of a source in a work folder, by the name of their rung."""
    labels = {row.key: row for row in labels_table(folder).rows()}
    return {
        row.rung: Measured(row, labels.get(row.key), "probe")
        for row in encodes_table(folder).rows()
        if row.source == name
    }


def _measured_alike(folder: Path, probed: Probed) -> dict[str, Measured]:
    """`_measured_of` without encodes of other parts of the source, and without other labels."""
    pieces, model = probed.encodes[0].encode.pieces, probed.labels.models[0]
    return {
        name: each
        if not each.label or each.label.vmaf_model in ("", model)
        else replace(each, label=None)
        for name, each in _measured_of(folder, probed.name).items()
        if each.encode.pieces == pieces
    }


def _choices(probed: Probed, request: Request) -> list[Choice]:
    envelope = probed.envelope(is_p5=request.is_p5)
    try:
        return choose_rungs(envelope, probed.delivery, request.limits)
    except CurveError as error:
        raise CurveError(f"{probed.name}: {error}") from error


def _against_rungs(probed: Probed, request: Request) -> list[Rung]:
    """The rungs of the named ladder that fit, with the codec and the preset of the others."""
    if request.against is None:
        return []
    delivery = probed.delivery
    rungs = fitting(with_codecs(request.against, [delivery.codec]), probed.display_size)
    return [replace(rung, preset=rung.preset or delivery.preset) for rung in rungs]


def _rate_on(envelope: Envelope, each: Measured, *, is_p5: bool) -> float | None:
    """The lowest predicted rate with the quality of an encode; None where it was not probed."""
    if not (each.point and each.label):
        return None
    quality = each.label.vmaf_p5 if is_p5 else each.label.vmaf
    lowest = min(curve.qualities[0] for curve in envelope.curves)
    if quality is None or quality < lowest:
        return None
    try:
        return envelope.cheapest_for(quality)[1]
    except CurveError:
        return None


def _bd_rate(rungs: Sequence[Measured], against: Sequence[AgainstRung]) -> tuple[float | None, str]:
    """BD-rate of the measured rungs against the named ladder, or the reason why there is none."""
    if not against:
        return None, ""
    ours = rising(each.point for each in rungs if each.point)
    theirs = rising(each.measured.point for each in against if each.measured.point)
    if min(len(ours), len(theirs)) < MIN_POINTS:
        return None, f"fewer than {MIN_POINTS} rungs of one ladder rise in rate and VMAF"
    try:
        return bd_rate(theirs, ours, Method.PCHIP), ""
    except CurveError as error:
        return None, str(error)
