"""`vqatool label`: stage 2, encodes -> VMAF labels."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import click

from ladder.label.metrics import METRICS, SHORTEST_RANGE_S, features, model_names, vmaf_models
from vqatool.cli.cluster import cluster_options, runner_on
from vqatool.cli.observe import Watch, metrics_option
from vqatool.cli.options import (
    STDOUT,
    WORK_FOLDER,
    FileType,
    HereType,
    count_rows,
    exit_on_failures,
    fail,
    ffmpeg_option,
    is_on_command_line,
    jobs_option,
    name_failures,
    name_unreadable,
    stdout_writer,
    tonemap_option,
)
from vqatool.errors import ExitCode

if TYPE_CHECKING:  # for annotations alone: these modules load PyAV
    from ladder.label.files import LabelFiles
    from ladder.label.pairs import MatchedPairs, Pair
    from ladder.label.rows import LabelRow
    from ladder.label.run import LabelOptions, LabelPlan
    from ladder.media.ffmpeg import Ffmpeg
    from ladder.runner import Runner
    from vqatool.cluster import ClusterRequest

_FEATURES = ", ".join(
    f"{name} (always)" if metric.is_always_measured else name for name, metric in features().items()
)

_TABLE = Path("labels.csv")  # for several pairs


def _split_names(ctx: click.Context, param: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


class _Outputs(NamedTuple):
    """Where labels go: a table, stdout as `json` lines or as `csv`, a drawing."""

    table: Path | None
    on_stdout: Literal["", "json", "csv"]
    plot: Path | None

    @classmethod
    def chosen(cls, out: Path | None, is_json: bool, plot: Path | None) -> Self:
        """What -o, --json and --plot ask for together.

        What cannot be written is a usage error, or an OutputNameError.
        """
        from vqatool.files import require_own_files

        is_csv = out == STDOUT
        if is_csv and is_json:
            raise click.UsageError("-o - and --json both write to stdout: leave one out")
        for option, path, suffix in (
            ("-o", None if is_csv else out, ".csv"),
            ("--plot", plot, ".svg"),
        ):
            if path and path.suffix.lower() != suffix:
                raise click.UsageError(f"{option} {path} must end in {suffix}")
        if plot:
            require_own_files(pictures=[plot])
        return cls(None if is_csv else out, "json" if is_json else "csv" if is_csv else "", plot)


class _Pairing(NamedTuple):
    """How the pairs of sources and encodes are given."""

    source: str | None
    pairs: Path | None
    pattern: str | None
    encodes: tuple[str, ...]


class _Found(NamedTuple):
    """The pairs, folders that cannot be read, and what is left out, if names were matched."""

    pairs: "Sequence[Pair]"
    unreadable: Sequence[Path] = ()
    matched: "MatchedPairs | None" = None


@click.command()
@click.argument("paths", nargs=-1, metavar="[FOLDER | ENC...]")
@click.option("--vmaf", is_flag=True, expose_value=False,
              help="Label with VMAF, which is the default and the only label so far.")  # fmt: skip
@click.option("--source", metavar="SRC",
              help="The source of encodes made elsewhere; with --match a folder of sources or "
              "any paths that ENC may be.")  # fmt: skip
@click.option("--match", "pattern", metavar="PATTERN",
              help="Pair each of ENC with the source whose name is in its own, such as "
              "'{stem}_*' or, of folders named after sources, '{stem}/*'.")  # fmt: skip
@click.option("--pairs",
              type=FileType(exists=True, allow_dash=True, is_report=False),
              help="CSV of pairs with the columns source, encode and, if there is one, rung; "
              "paths are relative to its folder; - is stdin.")  # fmt: skip
@click.option("-o", "--out", type=HereType(dir_okay=False, allow_dash=True, path_type=Path),
              help="Table of encodes made elsewhere; - is stdout.  "
              "[default: labels.csv; of one pair and with --json none]")  # fmt: skip
@click.option("--rung-by", type=click.Choice(["bitrate", "height", "folder"]),
              help="What the rung of an encode made elsewhere is, for `train`: its bitrate to half "
              "an octave, its height, or its folder.  [default: bitrate]")  # fmt: skip
@click.option("--json", "is_json", is_flag=True,
              help="Print the rows to stdout, one object of JSON a line.")  # fmt: skip
@click.option("--plot", type=HereType(dir_okay=False, path_type=Path), metavar="FILE.svg",
              help="Draw the values of every frame, of at most ten encodes.")  # fmt: skip
@click.option("--vmaf-model", "models", default="auto", show_default=True, callback=_split_names,
              metavar="NAME[,NAME]",
              help=f"auto (v0 and neg; 4k and 4k-neg above 1440p), {', '.join(vmaf_models())} "
              "or libvmaf's own name; the first is the label.")  # fmt: skip
@click.option("--features", "names", default="psnr", show_default=True, callback=_split_names,
              metavar="NAME[,NAME]", help=f"Besides VMAF: {_FEATURES}.")  # fmt: skip
@click.option("--subsample", type=click.IntRange(1, 99), default=1, show_default=True,
              help="Measure every n-th frame; must be odd.")  # fmt: skip
@click.option(
    "--sync",
    is_flag=True,
    help="Pair encodes that begin late or early, by at most 5 s, with the right frames; "
    "without it, they get the warning shifted.",
)
@tonemap_option("Compare HDR (PQ, HLG) as SDR, which VMAF was made for.")
@click.option("--range-s", type=click.FloatRange(0), default=SHORTEST_RANGE_S, show_default=True,
              help="Where processes are to spare, measure a long encode in ranges of at least so "
              "many seconds at once, with the same result, such as 120; 0: never.")  # fmt: skip
@jobs_option
@ffmpeg_option
@cluster_options
@metrics_option
def label(
    paths: tuple[str, ...],
    source: str | None,
    pattern: str | None,
    pairs: Path | None,
    out: Path | None,
    rung_by: str | None,
    is_json: bool,
    plot: Path | None,
    models: tuple[str, ...],
    names: tuple[str, ...],
    subsample: int,
    sync: bool,
    tonemap: bool,
    range_s: float,
    jobs: int | None,
    ffmpeg_path: Path | None,
    cluster: "ClusterRequest | None",
) -> None:
    """Measure the VMAF of every encode.

    Each encode in the work folder FOLDER (default: encodes) is compared with its source. With
    --source, ENC are encodes made elsewhere: files, folders, globs, @FILE for a list of paths, or -
    for such a list on stdin. Run again, the command measures only what is missing.

    \b
    Example:
        vqatool label encodes --vmaf-model auto,phone --features ssim
        vqatool label --source src.mp4 encode.mp4
        vqatool label --source src.mp4 made/*.mp4 -o labels.csv
        vqatool label --source sources/ made/ --match '{stem}_*' -o labels.csv
    """
    from ladder.media.ffmpeg import find_ffmpeg

    options = _label_options(models, names, subsample, sync, tonemap)
    outputs = _Outputs.chosen(out, is_json, plot)
    given = _Pairing(source, pairs, pattern, paths)
    if source or pairs:
        if cluster and not outputs.table:
            raise click.UsageError("--on needs a table for the labels: name one with -o")
        with runner_on(cluster, jobs) as runner:
            _label_pairs(
                given, rung_by, outputs, options, find_ffmpeg(ffmpeg_path), runner, range_s
            )
        return
    for name, option in (("pattern", "--match"), ("out", "-o"), ("rung_by", "--rung-by")):
        if is_on_command_line(name):
            raise click.UsageError(
                f"{option} is for encodes made elsewhere: add --source or --pairs"
            )
    folder = _work_folder(paths)
    with runner_on(cluster, jobs) as runner:
        _label_folder(folder, outputs, options, find_ffmpeg(ffmpeg_path), runner, range_s)


def _label_options(
    models: tuple[str, ...], names: tuple[str, ...], subsample: int, sync: bool, tonemap: bool
) -> "LabelOptions":
    """What to measure; a usage error if it cannot be."""
    from ladder.label.run import LabelOptions

    if subsample % 2 == 0:
        raise click.UsageError(
            f"--subsample {subsample} is even, which biases VMAF: use an odd number"
        )
    unknown = [name for name in names if name not in features()]
    if unknown or not models:
        raise click.UsageError(
            f"--features {unknown[0]!r} is not one of {', '.join(features())}"
            if unknown
            else "--vmaf-model names no model"
        )
    return LabelOptions(
        models=model_names(models),
        features=tuple(name for name in names if not METRICS[name].is_always_measured),
        subsample=subsample,
        sync=sync,
        tonemap=tonemap,
    )


def _work_folder(paths: Sequence[str]) -> Path:
    """The one folder among the arguments; a usage error tells how to label anything else."""
    from ladder.media.remote import is_url, shown

    folder = Path(paths[0]) if paths else WORK_FOLDER
    is_remote = any(map(is_url, paths))
    if is_remote or len(paths) > 1 or folder.is_file():
        is_table = folder.suffix.lower() == ".csv" and not is_remote
        raise click.UsageError(
            f"{folder} is no work folder: label pairs with --pairs {folder}"
            if is_table
            else f"{shown(paths)} is not one work folder: for encodes made elsewhere name "
            "their source with --source SRC"
        )
    return folder


def _label_folder(
    folder: Path,
    outputs: _Outputs,
    options: "LabelOptions",
    ffmpeg: "Ffmpeg",
    runner: "Runner",
    range_s: float,
) -> None:
    """Label the encodes of a work folder, and exit accordingly."""
    from ladder.label.files import LabelFiles
    from vqatool.cli.tables import label_summary
    from vqatool.terminal import console, print_note

    plan = _planned(folder, options, needs_logs=bool(outputs.plot))
    _require_few_curves(plan, outputs)
    files = LabelFiles.of_folder(folder)
    write = stdout_writer(outputs.on_stdout, files.table)
    rows = run_label_plan(plan, folder, ffmpeg, runner, "labelling", write, range_s=range_s)
    if not outputs.on_stdout:
        console(is_result=True).print(label_summary(rows))
    print_note(f"{files.table_path}: {count_rows(rows, 'labelled')}; next: vqatool train {folder}")
    _draw(rows, files, outputs)
    exit_on_failures(rows)


def _label_pairs(
    given: _Pairing,
    rung_by: str | None,
    outputs: _Outputs,
    options: "LabelOptions",
    ffmpeg: "Ffmpeg",
    runner: "Runner",
    range_s: float,
) -> None:
    """Label encodes made elsewhere, show the outcome, and exit accordingly."""
    from ladder.label.elsewhere import plan_pairs
    from ladder.label.pairs import RungBy

    found = _find_pairs(given)
    if not outputs.table and not outputs.on_stdout and len(found.pairs) > 1:
        outputs = outputs._replace(table=_TABLE)
    with _label_files(outputs.table) as files:
        plan = plan_pairs(
            found.pairs,
            files,
            options,
            rung_by=RungBy(rung_by or RungBy.BITRATE),
            needs_logs=bool(outputs.plot),
        )
        _require_few_curves(plan, outputs)
        write = stdout_writer(outputs.on_stdout, files.table)
        rows = run_label_plan(plan, files, ffmpeg, runner, "labelling", write, range_s=range_s)
        rows.sort(key=lambda row: row.key)
        _show_outcome(rows, files, outputs)
        _draw(rows, files, outputs)
    has_left_out = _name_left_out(found.matched, given.pattern)
    has_failures = name_unreadable(found.unreadable)
    if name_failures(rows) or has_failures or has_left_out:
        raise click.exceptions.Exit(ExitCode.SOME_FAILED)


@contextlib.contextmanager
def _label_files(table: Path | None) -> "Iterator[LabelFiles]":
    """The files of a table; those of one that nobody keeps are temporary."""
    from ladder.label.files import LabelFiles

    if table:
        yield LabelFiles.of_table(table)
        return
    with tempfile.TemporaryDirectory(prefix="labels-") as folder:
        kept = LabelFiles.of_folder(Path(folder))
        yield LabelFiles(Path.cwd(), kept.table_path, kept.logs)


def _find_pairs(given: _Pairing) -> _Found:
    """The pairs that are meant; exits where there is no video or no pair."""
    from ladder.label.pairs import find_below, pairs_with, read_pairs
    from ladder.media.discover import expand_arguments
    from ladder.media.remote import as_path, shown

    if given.pairs:
        if given.source or given.pattern or given.encodes:
            raise click.UsageError("--pairs names all sources and encodes: use it alone")
        return _Found(read_pairs(given.pairs, sys.stdin.buffer))
    assert given.source
    if not given.encodes:
        raise click.UsageError(f"name the encodes of {shown([given.source])}: --source SRC ENC...")
    encodes, unreadable = find_below(expand_arguments(given.encodes, sys.stdin.buffer))
    if not encodes:
        name_unreadable(unreadable)
        fail(f"no video found in {shown(given.encodes)}", ExitCode.NO_VIDEO)
    if given.pattern:
        matched, no_access = _match(given, encodes)
        return _Found(matched.pairs, (*unreadable, *no_access), matched)
    source = as_path(given.source)
    if not source.is_file():
        raise click.UsageError(
            f"--source {source} is a folder: pair its files with --match '{{stem}}_*'"
            if source.is_dir()
            else f"--source {source} is not a file"
        )
    return _Found(pairs_with(source, tuple(encodes)), unreadable)


def _match(given: _Pairing, encodes: dict[Path, str]) -> "tuple[MatchedPairs, Sequence[Path]]":
    """Pair by names; exits where there is no source, or no pair at all."""
    from ladder.label.pairs import find_below, match_pairs
    from ladder.media.discover import expand_arguments
    from ladder.media.remote import shown

    assert given.source
    assert given.pattern
    sources, unreadable = find_below(expand_arguments([given.source], sys.stdin.buffer))
    if not sources:
        name_unreadable(unreadable)
        fail(f"no video found in {shown([given.source])}", ExitCode.NO_VIDEO)
    try:
        matched = match_pairs(tuple(sources), encodes, given.pattern)
    except ValueError as error:
        raise click.UsageError(f"--match {error}") from error
    if not matched.pairs:
        _name_left_out(matched, given.pattern)
        raise click.UsageError(
            f"--match {given.pattern!r} pairs none of {len(encodes)} encodes with one of "
            f"{len(sources)} sources"
        )
    return matched, unreadable


def _name_left_out(matched: "MatchedPairs | None", pattern: str | None) -> bool:
    """Print each file without a partner or with several; returns whether an encode is left out."""
    from vqatool.terminal import print_message, print_note

    if matched is None:
        return False
    for source in matched.unused:
        print_note(f"no encode matches {source}")
    for encode in matched.unmatched:
        print_message(f"failed: {encode}: no source matches {pattern!r}")
    for encode, sources in matched.ambiguous.items():
        found = ", ".join(map(str, sources))
        print_message(
            f"failed: {encode}: {len(sources)} sources match {pattern!r} ({found}): name the "
            "right one with --pairs"
        )
    return bool(matched.unmatched or matched.ambiguous)


def _require_few_curves(plan: "LabelPlan", outputs: _Outputs) -> None:
    from vqatool.reporting.frame_plot import MAX_CURVES

    count = len(plan.jobs) + len(plan.done)
    if outputs.plot and count > MAX_CURVES:
        raise click.UsageError(
            f"--plot draws at most {MAX_CURVES} encodes, and there are {count}: name fewer"
        )


def _draw(rows: "Sequence[LabelRow]", files: "LabelFiles", outputs: _Outputs) -> None:
    """Draw the values of every frame of the good labels, if that was asked for."""
    from ladder.label.libvmaf import read_log
    from ladder.label.metrics import log_metric_name
    from vqatool.reporting.frame_plot import Curve, write_frame_plot
    from vqatool.terminal import print_note

    good = [row for row in rows if row.status == "ok"]
    if not outputs.plot or not good:
        return
    curves = [
        Curve(
            row.encode_path,
            read_log(files.log(row.encode_path)).metrics[log_metric_name(row.vmaf_model)],
            (row.subsample or 1) / float(row.fps or 25),
        )
        for row in good
    ]
    title = " and ".join(dict.fromkeys(row.vmaf_model for row in good))
    write_frame_plot(curves, f"{title} of every frame", outputs.plot)
    print_note(f"wrote {outputs.plot}")


def _show_outcome(rows: "Sequence[LabelRow]", files: "LabelFiles", outputs: _Outputs) -> None:
    """Print the figures of one pair, or a table of several, and where the rows are."""
    from vqatool.cli.tables import label_figures, pair_summary
    from vqatool.terminal import console, print_note

    good = [row for row in rows if row.status == "ok"]
    if len(rows) == 1 and good and not outputs.on_stdout:
        console(is_result=True).print(label_figures(good[0]))
    elif good and not outputs.on_stdout:
        console(is_result=True).print(pair_summary(rows))
    if outputs.table:
        can_train = files.is_of_work_folder and len({row.source for row in good}) > 1
        next_step = f"; next: vqatool train {files.folder}" if can_train else ""
        print_note(f"{outputs.table}: {count_rows(rows, 'labelled')}{next_step}")


def run_label(folder: Path, ffmpeg: "Ffmpeg", options: "LabelOptions") -> "list[LabelRow]":
    """Label every good encode of the folder; returns new labels and those of earlier runs.

    Raises:
        TrainingDataError: the folder holds no encodes.
    """
    from ladder.runner import LocalRunner

    return run_label_plan(_planned(folder, options), folder, ffmpeg, LocalRunner(), "labelling")


def _planned(folder: Path, options: "LabelOptions", *, needs_logs: bool = False) -> "LabelPlan":
    from ladder.label.run import plan_labels
    from vqatool.errors import TrainingDataError

    plan = plan_labels(folder, options, needs_logs=needs_logs)
    if not plan.jobs and not plan.done:
        raise TrainingDataError(
            f"{folder} holds no encodes: run `vqatool ladder SRC... -o {folder}` first, or name "
            "encodes made elsewhere and their source with --source SRC ENC..."
        )
    return plan


def run_label_plan(
    plan: "LabelPlan",
    folder: "Path | LabelFiles",
    ffmpeg: "Ffmpeg",
    runner: "Runner",
    name: str,
    on_row: "Callable[[LabelRow], None]" = lambda row: None,
    *,
    range_s: float = SHORTEST_RANGE_S,
) -> "list[LabelRow]":
    """Make the labels of a plan and show progress under that name; returns old and new labels.

    `on_row` is called with each of them.
    """
    from ladder.label.run import make_labels
    from vqatool.cli.progress import Progress
    from vqatool.terminal import print_note

    if plan.done:
        print_note(f"{name}: {len(plan.done)} labels exist already")
    rows = list(plan.done)
    for row in rows:
        on_row(row)
    watch = Watch("label", len(plan.done) + len(plan.jobs), len(plan.done))
    costs = {row.key: float(row.frame_count or 1) for row in plan.jobs}
    with Progress(name, costs, unit="encodes") as progress:
        made = make_labels(
            plan, folder, ffmpeg, runner=runner, range_s=range_s, on_progress=progress.update
        )
        for row in watch.rows(made):
            progress.finish(row.key)
            rows.append(row)
            on_row(row)
    return rows
