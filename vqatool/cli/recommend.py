"""`vqatool recommend`: a source, or the labels of its encodes -> the ladder that suits it."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ladder.codecs import CODECS
from vqatool.cli.ladder import find_sources_or_fail, run_rounds
from vqatool.cli.options import (
    HereType,
    ParsedType,
    SourceType,
    exit_on_failures,
    ffmpeg_option,
    jobs_option,
    tonemap_option,
)
from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone: these modules load PyAV
    from ladder.encode.ladders import Ladder
    from ladder.encode.plan import EncodeRow
    from ladder.media.ffmpeg import Ffmpeg
    from ladder.media.time_ranges import TimeRange, TrimSpec
    from ladder.recommend.adaptive import EncodeRound
    from ladder.recommend.choice import Spacing
    from ladder.recommend.probed import Probed
    from ladder.recommend.run import Recommendation, Request

_FOLDER = Path("recommended")

_CHOICE = "ladder.recommend.choice"

_ROLES = {"probe": "probes", "rung": "rungs besides", "against": "of the ladder to compare with"}


class NumbersType(click.ParamType[tuple[int, ...]]):
    """Whole numbers above 0, joined by commas."""

    name = "N[,N]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        several = value if isinstance(value, tuple | list) else str(value).split(",")
        words = [str(word).strip() for word in several]
        if not all(word.isdecimal() and int(word) for word in words):
            self.fail(f"{value!r} is not a list of whole numbers, such as 20,28,36", param, ctx)
        return tuple(dict.fromkeys(map(int, words)))


@click.command()
@click.argument("sources", nargs=-1, required=True, type=SourceType())
@click.option("-o", "--out", "folder", type=HereType(file_okay=False, path_type=Path),
              help="Work folder for the encodes.  [default: recommended, or the labelled folder "
              "itself]")  # fmt: skip
@click.option("--sizes", type=NumbersType(), default=(),
              help="Sizes to probe, px of the short side.  [default: 2160, 1440, 1080, 720, 540, "
              "432, 360, 234 and the source's own, up to its own]")  # fmt: skip
@click.option("--by", type=click.Choice(["crf", "bitrate"]), default="crf", show_default=True,
              help="How probes and rungs are encoded.")  # fmt: skip
@click.option("--rates", type=NumbersType(), default=(),
              help="CRFs or kbit/s to probe at each size.  [default: six CRFs from 18 to 43 for "
              "x264, or five bitrates for each size]")  # fmt: skip
@click.option("--codec", type=click.Choice(list(CODECS)),
              help="Encoder.  [default: libx264; of labels, the one with the most]")  # fmt: skip
@click.option("--preset", metavar="NAME", help="Effort of the encoder, in its own word.")
@click.option("--clip", type=ParsedType("START+LENGTH", "parse_time_range"),
              help="Part of every source to encode, in seconds, such as 30+10.")  # fmt: skip
@click.option("--segments", type=ParsedType("NxSECONDS", "parse_segments"),
              help="N parts of every source, evenly spread and joined.  [default: 4x5; a shorter "
              "source is taken whole]")  # fmt: skip
@click.option("--spacing", type=ParsedType("vmaf:N|log:N", "parse_spacing", _CHOICE),
              default="vmaf:6", show_default=True, metavar="vmaf:N|log:N",
              help="From rung to rung: points of VMAF, or the ratio of bitrates.")  # fmt: skip
@click.option("--top-vmaf", type=click.FloatRange(0, 100, min_open=True), default=95.0,
              show_default=True, help="VMAF of the top rung, where it is reached.")  # fmt: skip
@click.option("--bottom-vmaf", type=click.FloatRange(0, 100), default=40.0, show_default=True,
              help="No rung is below this VMAF.")  # fmt: skip
@click.option("--min-kbps", type=click.FloatRange(0, min_open=True),
              help="Lowest bitrate of a rung.")  # fmt: skip
@click.option("--max-kbps", type=click.FloatRange(0, min_open=True),
              help="Highest bitrate of a rung.")  # fmt: skip
@click.option("--max-rungs", type=click.IntRange(1, 100), default=10, show_default=True,
              help="Most rungs; the steps are widened to reach the bottom.")  # fmt: skip
@click.option("--pool", type=click.Choice(["mean", "p5"]), default="mean", show_default=True,
              help="Choose by the mean VMAF of frames or by their 5th percentile.")  # fmt: skip
@click.option("--against", "against_name", metavar="NAME|FILE",
              help="Encode this ladder too, and tell what is saved against it.")  # fmt: skip
@tonemap_option("Probe and encode HDR sources (PQ, HLG) as SDR; else they get no ladder.")
@click.option("--no-encode", is_flag=True,
              help="Of labels: predict the rungs, and encode nothing.")  # fmt: skip
@jobs_option
@ffmpeg_option
def recommend(
    sources: tuple[Path, ...],
    folder: Path | None,
    sizes: tuple[int, ...],
    by: str,
    rates: tuple[int, ...],
    codec: str | None,
    preset: str | None,
    clip: "TimeRange | None",
    segments: tuple[int, float] | None,
    spacing: "Spacing",
    top_vmaf: float,
    bottom_vmaf: float,
    min_kbps: float | None,
    max_kbps: float | None,
    max_rungs: int,
    pool: str,
    against_name: str | None,
    tonemap: bool,
    no_encode: bool,
    jobs: int | None,
    ffmpeg_path: Path | None,
) -> None:
    """Recommend a bitrate ladder for each source.

    SOURCES are files or folders. Each is encoded at a grid of sizes and rates and measured; the
    rungs are chosen from the best size at each bitrate, encoded, and measured too. A work folder
    with labels is taken as it is, without probes. Run again, the command makes only what is
    missing. The table, a chart, a ladder file for `vqatool ladder --rungs`, stubs of HLS and DASH
    manifests and all samples are written to the folder `ladders` in the work folder.

    \b
    Example:
        vqatool recommend film.mkv --segments 4x5 --against apple-hls
        vqatool recommend encodes --spacing log:1.7 --max-kbps 6000
    """
    from ladder.media.ffmpeg import find_ffmpeg
    from ladder.media.time_ranges import TrimSpec
    from ladder.recommend.choice import Delivery, Limits
    from ladder.recommend.run import DEFAULT_TRIM, Request

    if clip and segments:
        raise click.UsageError("--clip and --segments both choose a part of the source: use one")
    request = Request(
        delivery=Delivery(codec or "libx264", by == "crf", preset),
        heights=sizes,
        controls=rates,
        limits=Limits(
            spacing=spacing,
            top_quality=top_vmaf,
            bottom_quality=bottom_vmaf,
            min_kbps=min_kbps,
            max_kbps=max_kbps,
            max_rungs=max_rungs,
        ),
        is_p5=pool == "p5",
        against=_ladder_to_compare(against_name) if against_name else None,
        against_name=against_name or "",
    )
    for height_px, rate in itertools.product(sizes or (1080,), rates or (20,)):
        request.delivery.rung(height_px, rate)  # refuses what no encoder takes
    ffmpeg = find_ffmpeg(ffmpeg_path)
    labelled = [path for path in sources if path.is_dir() and (path / "encodes.csv").is_file()]
    if labelled and len(sources) > 1:
        raise click.UsageError(f"{labelled[0]} is a work folder: name it alone")
    if labelled:
        _refuse_options_of_probes()
        run = _Run(sources[0], request, ffmpeg, jobs)
        run.recommend_labelled(codec, is_encoded=not no_encode)
    elif no_encode:
        raise click.UsageError("--no-encode needs a work folder with labels instead of SOURCES")
    else:
        trim = TrimSpec(clip, segments) if clip or segments else DEFAULT_TRIM
        found = find_sources_or_fail(sources, folder or _FOLDER)
        run = _Run(folder or _FOLDER, request, ffmpeg, jobs)
        run.unreadable = found.unreadable
        run.recommend_sources(found.videos, trim, tonemap=tonemap)
    run.exit()


def _ladder_to_compare(name: str) -> "Ladder":
    from ladder.encode.ladders import ladder_named

    found = ladder_named(name)
    if found.num_rungs is not None:
        raise click.UsageError(
            f"--against {name}: its rungs are chosen while they are encoded; name a fixed ladder"
        )
    return found


def _refuse_options_of_probes() -> None:
    """A usage error for options that say how to probe: labels are there already."""
    context = click.get_current_context()
    given = [
        name
        for name in ("folder", "by", "rates", "preset", "clip", "segments", "tonemap")
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        option = "--out" if given[0] == "folder" else f"--{given[0]}"
        raise click.UsageError(
            f"{option} is of probes, and a work folder with labels is not probed: leave it out, or "
            "name a source"
        )


@dataclass
class _Run:
    """One run of the command: what it shares, and what has failed so far."""

    folder: Path
    request: "Request"
    ffmpeg: "Ffmpeg"
    jobs: int | None
    rows: "list[EncodeRow]" = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unreadable: Sequence[Path] = ()

    def recommend_sources(self, videos: Sequence[Path], trim: "TrimSpec", *, tonemap: bool) -> None:
        """Probe each source, and encode the rungs that were chosen for it."""
        from ladder.encode.plan import read_sources
        from ladder.errors import CurveError, LadderFileError, VideoError
        from ladder.recommend.run import ANY_SIZE, read_probes, recommend_rounds

        sources, failed = read_sources(videos, ANY_SIZE, self.folder, trim, tonemap=tonemap)
        self.rows += failed
        for source in sources:
            self._require_own_files(source.name)
            try:
                self._encode(recommend_rounds(source, self.request, self.folder))
                self._finish(read_probes(source, self.request, self.folder))
            except (CurveError, LadderFileError, VideoError) as error:
                self.reasons.append(str(error))

    def recommend_labelled(self, codec: str | None, *, is_encoded: bool) -> None:
        """Choose rungs by the labels that the folder holds, and encode them if `is_encoded`."""
        from ladder.errors import CurveError, VideoError
        from ladder.media.probe import FILE_FAULTS, fault_message
        from ladder.recommend.probed import read_labelled
        from ladder.recommend.run import chosen_round

        for labelled in read_labelled(self.folder, codec, self.request.heights):
            try:
                probed = labelled.probed()
            except FILE_FAULTS as error:
                path = Path(labelled.encodes[0].encode.source_path)
                self.reasons.append(fault_message(path, error))
                continue
            self._require_own_files(probed.name)
            try:
                if is_encoded:
                    self._encode([chosen_round(probed, self.request, self.folder)])
                self._finish(probed)
            except (CurveError, VideoError) as error:
                self.reasons.append(str(error))

    def exit(self) -> None:
        """Name what failed; exit with `SOME_FAILED` if there is anything."""
        from vqatool.terminal import print_message

        for reason in self.reasons:
            print_message(f"failed: {reason}")
        exit_on_failures(self.rows, self.unreadable)
        if self.reasons:
            raise click.exceptions.Exit(ExitCode.SOME_FAILED)

    def _require_own_files(self, name: str) -> None:
        from ladder.recommend.files import output_paths
        from vqatool.files import require_own_texts

        require_own_texts(output_paths(name, self.folder).values())

    def _encode(self, rounds: "Iterable[EncodeRound]") -> None:
        from ladder.runner import LocalRunner

        self.rows += run_rounds(rounds, self.folder, self.ffmpeg, runner=LocalRunner(self.jobs))

    def _finish(self, probed: "Probed") -> None:
        """Write the files of one recommendation and show it."""
        from ladder.recommend.files import write_files
        from ladder.recommend.run import recommend as recommend_ladder
        from vqatool.cli.tables import recommendation_table
        from vqatool.terminal import console, print_note

        found = recommend_ladder(probed, self.request, self.folder)
        console(is_result=True).print(recommendation_table(found))
        for sentence in _sentences(found):
            print_note(sentence)
        paths = write_files(found, self.folder)
        suffixes = ",".join(path.name.removeprefix(f"{probed.name}.") for path in paths)
        print_note(f"wrote {paths[0].with_name(probed.name)}.{{{suffixes}}}")


def _sentences(found: "Recommendation") -> Iterator[str]:
    """What the table does not say: crossovers, how far predictions are off, savings, cost."""
    for reason in found.sizes_left_out:
        yield f"left out: {reason}"
    for crossover in found.envelope.crossovers():
        yield (
            f"{crossover.to_height_px}p is better than {crossover.from_height_px}p from "
            f"{crossover.rate_kbps:.0f} kbit/s on (VMAF {crossover.quality:.1f})"
            + (", or less: not probed below (--rates)" if crossover.is_bound else "")
        )
    if found.mean_error is not None:
        largest = max(found.prediction_errors)
        yield (
            f"measured VMAF: {found.mean_error:.2f} off the prediction in the mean, "
            f"{largest:.2f} at most"
        )
    yield from _savings(found)
    if found.label_warnings:
        yield f"the labels have warnings: {', '.join(found.label_warnings)}"
    counts = Counter(each.role for each in found.encodes)
    told = (f"{counts[role]} {text}" for role, text in _ROLES.items() if counts[role])
    yield f"encodes: {', '.join(told)}"


def _savings(found: "Recommendation") -> Iterator[str]:
    """What the named ladder costs beside the recommended one."""
    name = found.request.against_name
    for each in found.against:
        point, row = each.measured.point, each.measured.encode
        if point is None:
            continue
        cost = (
            "is beyond what was probed"
            if each.rate_kbps is None or each.saving is None
            else f"costs {each.rate_kbps:.0f} on the best sizes ({-100 * each.saving:+.0f} %)"
        )
        yield (
            f"{name} {row.rung}: {point.rate_kbps:.0f} kbit/s, VMAF {point.quality:.1f}, which "
            f"{cost}"
        )
    if found.bd_rate is not None:
        is_mixed = found.probed.delivery.is_crf and any(
            each.measured.encode.crf is None for each in found.against
        )
        yield f"BD-rate of the measured rungs against {name}: {found.bd_rate:+.1f} %" + (
            " (CRF against bitrates: --by bitrate tells what the sizes alone save)"
            if is_mixed
            else ""
        )
    elif found.no_bd_rate:
        yield f"no BD-rate against {name}: {found.no_bd_rate}"
