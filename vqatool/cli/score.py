"""`vqatool score`: stage 5, any videos -> a report."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import click

from vqatool.cli.cluster import cluster_options, connected_to
from vqatool.cli.gates import gate_of, gate_options
from vqatool.cli.observe import Watch, metrics_option
from vqatool.cli.options import (
    STDOUT,
    FileType,
    HereType,
    count_rows,
    device_option,
    display_option,
    fail,
    jobs_option,
    model_option,
    name_failures,
    name_filter_options,
    name_unreadable,
    or_told,
    predictor_for,
    sample_option,
    segment_option,
    skim_option,
    stdout_writer,
    timeout_option,
    tonemap_option,
)
from vqatool.cli.report import write_page_of
from vqatool.errors import ExitCode, ReportError

if TYPE_CHECKING:  # for annotations alone
    from vqatool.cluster import ClusterRequest, RayRunner
    from vqatool.inference.predictor import Predictor
    from vqatool.scoring.gates import Gate
    from vqatool.scoring.report_file import Resumed
    from vqatool.scoring.rows import ReportRow, ScoreResult
    from vqatool.scoring.run import Scoring
    from vqatool.scoring.segments import Display, ScoreConfig
    from vqatool.scoring.shards import Shard

DEFAULT_REPORT = Path("report.csv")


class ShardType(click.ParamType["Shard"]):
    """A share of the work such as 2/8; `auto`: the one that a batch system names."""

    name = "N/COUNT|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Shard":
        from vqatool.scoring.shards import AUTO, Shard

        if isinstance(value, Shard):
            return value
        try:
            return Shard.of_environment(os.environ) if value == AUTO else Shard.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--out", type=FileType(allow_dash=True),
              help="Report to write: .csv, .json, .jsonl or .parquet; .html: a page, with the rows "
              "in CSV files beside it; -: CSV on stdout.  [default: report.csv]")  # fmt: skip
@click.option("--json", "is_json", is_flag=True,
              help="Print each row on stdout as a line of JSON; without -o, no report is "
              "written.")  # fmt: skip
@click.option("--append", is_flag=True,
              help="Keep the report's rows of files that are not given.")  # fmt: skip
@click.option("--per-segment", type=FileType(),
              help="File for the scores of segments, one row each.")  # fmt: skip
@name_filter_options
@model_option
@display_option
@tonemap_option("Score HDR videos (PQ, HLG) as SDR; else they get no score.")
@segment_option
@sample_option
@skim_option
@gate_options
@click.option("--junit", type=HereType(dir_okay=False, path_type=Path),
              help="File for the outcome as JUnit XML.")  # fmt: skip
@click.option("--ci", type=click.Choice(["github"]),
              help="Also tell this service what failed or does not pass.")  # fmt: skip
@click.option("--shard", type=ShardType(),
              help="Score one part of the files, such as 2/8; auto: that of this task of an array "
              "of Slurm, AWS Batch or Kubernetes (which needs $VQATOOL_SHARDS).")  # fmt: skip
@click.option("--force", is_flag=True, help="Score again the files that the report already holds.")
@timeout_option
@click.option("--batch", type=click.IntRange(1),
              help="Segments in one batch of the model.  [default: 1, or 16 on a GPU]")  # fmt: skip
@click.option("--hwaccel", metavar="auto|NAME",
              help="Decode in hardware where PyAV can: auto, or a name such as cuda.  [default: "
              "in software]")  # fmt: skip
@jobs_option
@device_option
@cluster_options
@metrics_option
def score(
    paths: tuple[str, ...],
    out: Path | None,
    is_json: bool,
    append: bool,
    per_segment: Path | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    model: Path | None,
    display: "Display",
    tonemap: bool,
    segment_s: float,
    sample: int | None,
    skims: bool | None,
    fail_under: float | None,
    thresholds: Path | None,
    fail_on: tuple[str, ...],
    trust: bool,
    gate_on: str,
    junit: Path | None,
    ci: str | None,
    shard: "Shard | None",
    force: bool,
    timeout_s: float,
    batch: int | None,
    hwaccel: str | None,
    jobs: int | None,
    device: str,
    cluster: "ClusterRequest | None",
) -> None:
    """Score videos without a reference.

    Each video becomes one row of the report; a file that cannot be read becomes a row with the
    reason. PATHS are files, folders (with their subfolders), globs, @FILE for a list of paths, or -
    for such a list on stdin; or URLs of files, buckets and prefixes. Run again, the command scores
    only what is missing.

    \b
    Example:
        vqatool score encodes/ -o r.csv --fail-under 70 --fail-on error,damaged
        vqatool score encodes/ --exclude '*_source.*' --per-segment timeline.csv
        vqatool score encodes/ -o report.html
        vqatool score encodes/ --json --fail-on bad,poor,unsure > scores.jsonl
        vqatool score @list.txt --shard 2/8 -o part-2.csv
        vqatool score /mnt/videos --on ray://head:10001 -o report.csv
        vqatool score s3://bucket/encodes/ -o s3://bucket/report.csv
    """
    from vqatool.inputs.decode_pool import start_server
    from vqatool.memory import return_freed_memory
    from vqatool.terminal import print_note

    return_freed_memory()
    if not cluster:
        start_server()  # the server loads what workers need while this process loads the model
    output = ScoreOutput.chosen(out, per_segment, is_json, junit)
    output.require_writable()
    service = _Service.chosen(ci)
    gate = gate_of(fail_under, thresholds, gate_on, fail_on, trust)
    videos, unreadable, note = _videos(paths, include, exclude, shard)
    if videos:  # before what takes longer than a blink
        print_note(f"scoring {videos[0]}" + f" and {len(videos) - 1} more" * (len(videos) > 1))
    # workers of a cluster have devices of their own
    predictor = predictor_for(model, "cpu" if cluster else device, batch=batch)

    from vqatool.scoring.segments import ScoreConfig

    hardware = (hwaccel or "") if cluster else _hardware(hwaccel)
    config = ScoreConfig(
        display, segment_s, jobs, timeout_s, hardware, tonemap, sample, skims=skims
    )
    unwritten: list[str] = []
    with connected_to(cluster) as runner:
        rows = run_score(
            videos,
            predictor,
            config,
            output,
            shard=shard,
            is_forced=force,
            keeps_others=append,
            scoring=_scoring(runner, model, device, batch),
            unwritten=unwritten,
        )
    count = count_rows(rows, "scored")
    if junit:
        with or_told(junit, unwritten):
            _write_junit(rows, gate, junit)
    if service:
        with or_told(service.page, unwritten):
            service.tell(rows, gate, count)
    name = f"{output.report}: " if output.report else ""
    summary = f"{count}{note}; model {predictor.name}; display {config.screen}"
    if output.page:
        with or_told(output.page, unwritten):
            name = f"{write_page(output, gate, jobs)}; {name}"
    failures = _Failures(unreadable, unwritten)
    _print_outcome(rows, failures, gate, name + summary, is_stdout_taken=bool(output.on_stdout))


class ScoreOutput(NamedTuple):
    """Where rows go: a report, stdout as `json` lines or as `csv`, and a page of the report."""

    report: Path | None
    per_segment: Path | None = None
    on_stdout: Literal["", "json", "csv"] = ""
    page: Path | None = None
    junit: Path | None = None

    @classmethod
    def chosen(
        cls, out: Path | None, per_segment: Path | None, is_json: bool, junit: Path | None = None
    ) -> Self:
        """What -o, --per-segment, --json and --junit ask for together.

        A page needs the rows that it is made of in files, which also let a run be resumed.
        """
        from vqatool.scoring.formats import is_page

        page = out if out and is_page(out) else None
        if out and page:
            out = out.with_suffix(".csv")
            per_segment = per_segment or out.with_name(f"{out.stem}-segments.csv")
        is_csv = out == STDOUT
        if is_csv and is_json:
            raise click.UsageError("-o - and --json both write to stdout: leave one out")
        report = None if is_csv or (is_json and not out) else out or DEFAULT_REPORT
        if per_segment and not report:
            raise click.UsageError("--per-segment needs a report in a file: name one with -o")
        _require_different({"-o": report, "--per-segment": per_segment, "--junit": junit})
        form: Literal["", "json", "csv"] = "json" if is_json else "csv" if is_csv else ""
        return cls(report, per_segment, form, page, junit)

    def require_writable(self) -> None:
        """Refuse, before any work, files that could not be written at its end.

        Raises:
            OutputError: one of them cannot be written.
            OutputNameError: the page is of another program.
            ReportError: the suffix is of no format of a report.
        """
        from vqatool.files import require_own_texts, require_writable
        from vqatool.scoring import formats

        for path in (self.report, self.per_segment):
            if path:
                formats.require_writable(path)
        require_own_texts([self.page] if self.page else [])
        files = (self.report, self.per_segment, self.junit)
        require_writable(path for path in files if path)


def _require_different(named: "Mapping[str, Path | None]") -> None:
    """A usage error if two options name one file."""
    first: dict[str, str] = {}
    for option, path in named.items():
        if path is None:
            continue
        other = first.setdefault(os.path.realpath(path), option)
        if other != option:
            raise click.UsageError(f"{other} and {option} both name {path}: name two files")


def _scoring(
    runner: "RayRunner | None", model: Path | None, device: str, batch: int | None
) -> "Scoring":
    """What scores videos: workers of this machine, or of a cluster."""
    from vqatool.scoring.run import score_videos

    if runner is None:
        return with_hint(score_videos)
    from vqatool.scoring.cluster import ClusterScoring

    return with_hint(ClusterScoring(runner, model, device, batch))


_HINTED_SAMPLE = 12
# what is read beside a segment, to its key frame and of its blocks, and of a file's two ends
_BESIDE_S, _AROUND_S = 2.0, 12.0


def with_hint(scoring: "Scoring") -> "Scoring":
    """The same, which tells after the first long remote video what a sample would fetch of it."""
    from vqatool.terminal import print_note

    def scored(
        videos: "Iterable[Path]", predictor: "Predictor", config: "ScoreConfig"
    ) -> "Iterator[ScoreResult]":
        is_told = False
        for result in scoring(videos, predictor, config):
            if not is_told and (hint := _sample_hint(result)):
                print_note(hint)
                is_told = True
            yield result

    return scored


def _sample_hint(result: "ScoreResult") -> str:
    """What a sample would fetch of a remote video; empty where it would save less than half."""
    from ladder.media.remote import RemotePath
    from vqatool.scoring.rows import ScoredVideo

    if not isinstance(result, ScoredVideo) or not isinstance(result.path, RemotePath):
        return ""
    count, length_s = len(result.segments), result.info.duration_s
    sampled_s = _HINTED_SAMPLE * (length_s / count + _BESIDE_S)
    share = (sampled_s + _AROUND_S) / length_s
    if result.sampled or share > 1 / 2:
        return ""
    size_mb = result.info.size_bytes / 1e6
    return (
        f"nearly all of {result.path} ({size_mb:.0f} MB) was fetched for the scores of all of its "
        f"{count} segments: --sample {_HINTED_SAMPLE} fetches about {share * size_mb:.0f} MB"
    )


def _hardware(name: str | None) -> str:
    """The hardware decoder of that name; empty: none."""
    from ladder.media.hardware import AUTO, find_device
    from vqatool.terminal import print_note

    found = find_device(name) if name else ""
    if name == AUTO and not found:
        print_note("no hardware decoder works here: videos are decoded in software")
    return found


def write_page(output: ScoreOutput, gate: "Gate", jobs: int | None) -> str:
    """Make the page of the whole report, of which this run may have scored a part."""
    from vqatool.reporting.report_page import Report

    assert output.page
    assert output.report
    assert output.per_segment
    content = Report.read([output.report], [output.per_segment], gate)
    return write_page_of(content, output.page, jobs=jobs)


def _videos(
    paths: Sequence[str], include: Sequence[str], exclude: Sequence[str], shard: "Shard | None"
) -> tuple[Sequence[Path], tuple[Path, ...], str]:
    """The files to score, folders without access, and a note on the others; exits without video."""
    from ladder.media.discover import FileFilter, expand_arguments
    from ladder.media.remote import shown
    from vqatool.scoring.videos import videos_to_score

    named = expand_arguments(paths, sys.stdin.buffer)
    found = videos_to_score(named, FileFilter(include, exclude))
    if not found.videos:
        name_unreadable(found.unreadable)
        fail(f"no video found in {shown(paths)}", ExitCode.NO_VIDEO)
    videos = [path for path in found.videos if shard.matches(path)] if shard else found.videos
    others = f", {found.skipped_count} other files skipped" if found.skipped_count else ""
    share = f" (shard {shard} of {len(found.videos)} files)" if shard else ""
    return videos, found.unreadable, share + others


def run_score(
    videos: Sequence[Path],
    predictor: "Predictor",
    config: "ScoreConfig",
    output: "ScoreOutput",
    *,
    shard: "Shard | None" = None,
    is_forced: bool = False,
    keeps_others: bool = False,
    scoring: "Scoring | None" = None,
    unwritten: list[str] | None = None,
) -> "list[ReportRow]":
    """Score the videos that the report lacks; returns new rows and those of earlier runs.

    Where the report cannot be put in order once all rows are known, `unwritten`, if given, gets the
    reason, so that the rows are not lost for it.
    """
    from ladder.storage import Table
    from vqatool.cli.progress import Progress
    from vqatool.scoring.report_file import stream_rows, write_report
    from vqatool.scoring.rows import ReportRow
    from vqatool.scoring.run import score_videos

    scoring = scoring or score_videos

    watch = Watch("score", len(videos))
    if output.report:
        source = write_report(
            videos,
            output.report,
            predictor,
            config,
            per_segment=output.per_segment,
            shard=shard,
            is_forced=is_forced,
            keeps_others=keeps_others,
            scoring=scoring,
            on_start=partial(_tell_resumed, output.report, watch),
        )
    else:
        source = stream_rows(videos, predictor, config, scoring=scoring)
    rows = []
    write = stdout_writer(output.on_stdout, Table(DEFAULT_REPORT, ReportRow))
    with Progress("scoring", count=len(videos), unit="files") as progress:
        try:
            for row in watch.rows(source):
                progress.finish(row.path)
                write(row)
                rows.append(row)
        except ReportError as error:
            if unwritten is None or len(rows) < len(videos):
                raise
            unwritten.append(str(error))
    return rows


def _tell_resumed(report: Path, watch: Watch, resumed: "Resumed") -> None:
    from vqatool.terminal import print_note

    watch.skip(resumed.num_kept)
    if resumed.num_kept:
        print_note(f"{report}: {resumed.num_kept} rows are kept, their files have not changed")
    if again := again_text(resumed):
        print_note(f"{report}: {again}")
    if dropped := resumed.dropped:
        more = f" and {len(dropped) - 1} more" * (len(dropped) > 1)
        print_note(
            f"{report}: drops the rows of files that are not given, {dropped[0]}{more}, at its "
            "end: --append keeps them"
        )


def again_text(resumed: "Resumed") -> str:
    """Such as `7 rows are made anew (--display 960x540, now native), and stay until then`."""
    if not resumed.again:
        return ""
    count = sum(resumed.again.values())
    reasons = [
        reason if number == count else f"{number} {reason}"
        for reason, number in sorted(resumed.again.items(), key=lambda pair: -pair[1])
    ]
    return f"{count} rows are made anew ({'; '.join(reasons)}), and stay until then"


def _write_junit(rows: "Sequence[ReportRow]", gate: "Gate", path: Path) -> None:
    from ladder.storage import atomic_write
    from vqatool.files import is_device
    from vqatool.scoring.ci_output import junit_xml

    text = junit_xml(rows, gate).encode()
    if is_device(path):
        path.write_bytes(text)
        return
    with atomic_write(path) as file:
        file.write(text)


class _Service(NamedTuple):
    """GitHub Actions: lines in the log, and a page of the run, to which every step appends."""

    page: Path

    @classmethod
    def chosen(cls, name: str | None) -> "_Service | None":
        """The service that --ci names, if its page can be written; None: none."""
        from ladder.errors import OutputError

        if name is None:
            return None
        page = Path(os.environ.get("GITHUB_STEP_SUMMARY") or os.devnull)
        try:
            page.open("a").close()
        except OSError as error:
            raise OutputError.of(page, error) from error
        return cls(page)

    def tell(self, rows: "Sequence[ReportRow]", gate: "Gate", summary: str) -> None:
        """What failed or does not pass."""
        from vqatool.scoring.ci_output import github_annotations, github_summary

        for line in github_annotations(rows, gate):
            click.echo(line, err=True)
        with self.page.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(github_summary(rows, gate, summary))


class _Failures(NamedTuple):
    """What went wrong beside the rows: folders without access, and why files are not written."""

    unreadable: Sequence[Path]
    unwritten: Sequence[str]


def _print_outcome(
    rows: "Sequence[ReportRow]",
    failures: _Failures,
    gate: "Gate",
    summary: str,
    *,
    is_stdout_taken: bool,
) -> None:
    """Print the table, the summary, each failure and each missed gate, and exit accordingly."""
    from vqatool.cli.tables import enlarged_hint, named_reason, score_summary
    from vqatool.terminal import console, is_json, print_message, print_note

    is_hidden = is_stdout_taken and is_json()  # a table on stderr would be no line of JSON
    if any(row.score is not None for row in rows) and not is_hidden:
        console(is_result=not is_stdout_taken).print(score_summary(rows, gate))
    print_note(summary)
    if hint := enlarged_hint(rows):
        print_note(hint)
    has_failures = name_unreadable(failures.unreadable)
    has_failures |= name_failures(rows)
    for reason in failures.unwritten:
        print_message(f"failed: {reason}")
    missed = [row for row in rows if gate.is_missed(row)]
    for row in missed:
        if row.status != "error":  # those are named already
            print_message(named_reason(row.path, gate.message(row)), file=row.path)
    if code := _exit_code(bool(missed), has_failures, bool(failures.unwritten)):
        raise click.exceptions.Exit(code)


def _exit_code(is_missed: bool, has_failures: bool, is_unwritten: bool) -> ExitCode:
    if is_missed:
        return ExitCode.GATE_AND_SOME_FAILED if has_failures else ExitCode.GATE_FAILED
    if is_unwritten:
        return ExitCode.USAGE
    return ExitCode.SOME_FAILED if has_failures else ExitCode.DONE
