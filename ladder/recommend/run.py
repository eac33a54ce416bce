"""Recommend a ladder for one source: probe it, choose rungs, encode and measure what was chosen.

The probes are a grid of sizes and CRFs (or bitrates). Probes, chosen rungs and the rungs of a named
ladder that they are compared with are ordinary encodes of a work folder, so a run resumes and
`vqatool label`, `train` and `bdrate` can use them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ladder.codecs import CODECS, X264
from ladder.encode.ladders import Ladder, fitting, with_codecs
from ladder.encode.plan import (
    Source,
    plan_encodes,
)
from ladder.encode.rungs import Rung
from ladder.errors import CurveError, LadderFileError, VideoError
from ladder.label.metrics import AUTO, models_for
from ladder.label.run import LabelOptions
from ladder.media.time_ranges import TrimSpec
from ladder.recommend.adaptive import EncodeRound
from ladder.recommend.bdrate import MIN_POINTS, bd_rate
from ladder.recommend.choice import Choice, Delivery, Limits, choose_rungs
from ladder.recommend.curves import Method
from ladder.recommend.envelope import Envelope
from ladder.recommend.points import rising
from ladder.recommend.probed import HDR, Measured, Probed, measured_of

HEIGHTS = (2160, 1440, 1080, 720, 540, 432, 360, 234)
"""Sizes that are probed by default, where they fit, besides the source's own."""

X264_CRFS = (18, 23, 28, 33, 38, 43)
"""CRFs that are probed by default; those of other codecs are in proportion to their largest CRF."""

ANY_SIZE = Ladder((Rung(height_px=16, crf=20),))
"""For `read_sources`: which sizes suit a source is decided later."""

_BITS_PER_PIXEL = (0.012, 0.025, 0.05, 0.1, 0.2)  # of bitrate probes, for x264

DEFAULT_TRIM = TrimSpec(segments=(4, 5.0))
"""What is encoded of a source by default, so that a film costs no more than 20 s of it."""


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
            HDR,
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
    known = measured_of(folder, source.name)
    encodes = tuple(known[name] for name in names if name in known)
    size, labels = source.info.display_size, _label_options(source)
    return Probed(source.name, size, source, request.delivery, labels, encodes)


def _label_options(source: Source) -> LabelOptions:
    """The VMAF model that suits the source; without NEG, which would double the work."""
    return LabelOptions(models=models_for(source.info.display_size, (AUTO,))[:1])


def _measured_alike(folder: Path, probed: Probed) -> dict[str, Measured]:
    """`measured_of` without encodes of other parts of the source, and without other labels."""
    pieces, model = probed.encodes[0].encode.pieces, probed.labels.models[0]
    return {
        name: each
        if not each.label or each.label.vmaf_model in ("", model)
        else replace(each, label=None)
        for name, each in measured_of(folder, probed.name).items()
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
