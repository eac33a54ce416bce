"""The command line: parse, call a stage, show what came of it; the only file that imports click."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import click

from vqatool import __version__
from vqatool.methods import Method

if TYPE_CHECKING:  # for annotations alone: torch, pandas and PyAV load in the commands
    from vqatool.checkpoint import Checkpoint
    from vqatool.predict import Predictor
    from vqatool.score import Display

WORK_FOLDER = Path("encodes")
MODEL_NAME = "model.safetensors"
BAD_USE, GATE_FAILED, SOME_FAILED, NO_VIDEO, NO_CAPABILITY, INTERRUPTED = 2, 3, 4, 5, 6, 130

C = TypeVar("C", bound=Callable[..., Any])


class _Program(click.Group):
    """The one place where errors of the stages become messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        from ladder.errors import CapabilityError, LadderError
        from vqatool.errors import VqatoolError

        try:
            return super().invoke(ctx)
        except CapabilityError as error:
            _fail(str(error), NO_CAPABILITY)
        except (LadderError, VqatoolError) as error:
            _fail(str(error), BAD_USE)
        except KeyboardInterrupt:
            _fail("interrupted: run it again to go on", INTERRUPTED)


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    raise click.exceptions.Exit(exit_code)


def _work_folder(command: C) -> C:
    return click.argument(
        "folder", type=click.Path(file_okay=False, path_type=Path), default=WORK_FOLDER
    )(command)


def _ffmpeg_option(command: C) -> C:
    return click.option(
        "--ffmpeg",
        "ffmpeg_path",
        type=click.Path(path_type=Path),
        help="ffmpeg to use. Else $VQATOOL_FFMPEG, PATH if it has libvmaf, the bundled one.",
    )(command)


def _jobs_option(command: C) -> C:
    return click.option(
        "--jobs", type=click.IntRange(1, 256), help="Files worked on at once. Default: the cores."
    )(command)


def _model_option(command: C) -> C:
    return click.option(
        "-m",
        "--model",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Model file to use.",
    )(command)


def _device_option(command: C) -> C:
    return click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda, mps, or torch's name."
    )(command)


class _DisplayType(click.ParamType["Display"]):
    name = "WxH|native"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Display":
        if value is None or isinstance(value, tuple) or value == "native":
            return value if isinstance(value, tuple) else None
        found = re.fullmatch(r"(\d{2,5})x(\d{2,5})", value)
        if not found or min(int(found[1]), int(found[2])) < 16:
            self.fail(f"{value!r} is not a size such as 1920x1080, nor native", param, ctx)
        return int(found[1]), int(found[2])


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Bitrate ladders, VMAF labels, and a no-reference model that scores directories of video.

    \b
    vqatool ladder src.mp4           source -> encodes
    vqatool label --vmaf             encodes -> labels
    vqatool train                    labels -> model
    vqatool score dir/ -o report.csv any videos -> scores
    """


@cli.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", "folder", type=click.Path(file_okay=False, path_type=Path),
              default=WORK_FOLDER, show_default=True, help="Work folder.")  # fmt: skip
@click.option("--rungs", "ladder_name", default="apple-hls", show_default=True, metavar="NAME|FILE",
              help="apple-hls, netflix-2015, crf-sweep, training, or a TOML file.")  # fmt: skip
@click.option("--codec", "codecs", multiple=True,
              type=click.Choice(["libx264", "libx265", "libsvtav1", "libvpx-vp9"]),
              help="Every rung with this codec instead of its own; may be repeated.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the ffmpeg commands and make nothing.")
@_jobs_option
@_ffmpeg_option
def ladder(
    sources: tuple[Path, ...],
    folder: Path,
    ladder_name: str,
    codecs: tuple[str, ...],
    dry_run: bool,
    jobs: int | None,
    ffmpeg_path: Path | None,
) -> None:
    """Transcode SOURCES (files or folders) into the rungs of a bitrate ladder.

    \b
    Example:
        vqatool ladder src.mp4 --rungs netflix-2015 --codec libx265
    """
    from ladder.ffmpeg import find_ffmpeg
    from ladder.find import find_videos
    from ladder.rungs import ladder_named, with_codecs
    from ladder.tables import work_lock
    from ladder.transcode import plan_ladder, shell_commands
    from vqatool.live import run_ladder, say

    ffmpeg = find_ffmpeg(ffmpeg_path)
    rungs = with_codecs(ladder_named(ladder_name), codecs)
    videos = find_videos(sources).videos
    if not videos:
        _fail(f"no video found in {', '.join(map(str, sources))}", NO_VIDEO)
    if dry_run:
        for command in shell_commands(plan_ladder(videos, rungs, folder), ffmpeg):
            click.echo(command)
        return
    with work_lock(folder):
        rows = run_ladder(videos, rungs, folder, ffmpeg, jobs)
    say(f"{folder / 'encodes.csv'}: {_counts(rows)}; next: vqatool label {folder} --vmaf")
    _exit_on_failures(rows)


@cli.command()
@_work_folder
@click.option("--vmaf", is_flag=True, help="Label with VMAF (the one label there is so far).")
@click.option("--vmaf-model", "models", default="v0", show_default=True, metavar="NAME[,NAME]",
              help="v0, neg, v1 or libvmaf's own name; the first is the label.")  # fmt: skip
@click.option("--subsample", type=click.IntRange(1, 99), default=1, show_default=True,
              help="Measure every n-th frame; odd.")  # fmt: skip
@_jobs_option
@_ffmpeg_option
def label(
    folder: Path,
    vmaf: bool,
    models: str,
    subsample: int,
    jobs: int | None,
    ffmpeg_path: Path | None,
) -> None:
    """Label every encode in FOLDER (default: encodes) against its source.

    \b
    Example:
        vqatool label encodes --vmaf --vmaf-model v0,neg
    """
    from ladder.ffmpeg import find_ffmpeg
    from ladder.tables import work_lock
    from ladder.vmaf import model_names
    from vqatool.live import console, run_label, say
    from vqatool.report import label_summary

    if not vmaf:
        raise click.UsageError("say which label to make: --vmaf")
    if subsample % 2 == 0:
        raise click.UsageError(
            f"--subsample {subsample} is even, which biases VMAF: use an odd one"
        )
    ffmpeg = find_ffmpeg(ffmpeg_path)
    names = model_names([name.strip() for name in models.split(",") if name.strip()])
    with work_lock(folder):
        rows = run_label(folder, ffmpeg, names, jobs, subsample)
    console().print(label_summary(rows))
    say(f"{folder / 'labels.csv'}: {_counts(rows)}; next: vqatool train {folder}")
    _exit_on_failures(rows)


@cli.command()
@_work_folder
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              help=f"Model file to write.  [default: FOLDER/{MODEL_NAME}]")  # fmt: skip
@click.option("--method", type=click.Choice([method.value for method in Method]),
              default=Method.COARSE_TO_FINE.value, show_default=True,
              help="Published method to train.")  # fmt: skip
@click.option("--init", default="default", show_default=True, metavar="default|scratch|FILE",
              help="Start from the packaged weights, from none, or from a file's.")  # fmt: skip
@click.option("--size", type=click.Choice(["nano", "tiny", "small", "base", "pico"]),
              help="Size of SwinV2; needs --init scratch.  [default: nano]")  # fmt: skip
@click.option("--stem", type=click.Choice(["conv", "patch"]),
              help="How pixels become tokens; needs --init scratch.  [default: conv]")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True,
              help="Times every encode is seen.")  # fmt: skip
@click.option("--sources", type=click.IntRange(1), default=4, show_default=True,
              help="Sources in a batch.")  # fmt: skip
@click.option("--rungs", type=click.IntRange(1), default=4, show_default=True,
              help="Bitrate groups in a batch.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(0, min_open=True),
              help="Peak learning rate.  [default: 1e-4, from scratch 5e-4]")  # fmt: skip
@click.option("--group-weight", type=click.FloatRange(0), default=0.1, show_default=True,
              help="Weight of the group contrastive (coarse) loss.")  # fmt: skip
@click.option("--rank-weight", type=click.FloatRange(0), default=1.0, show_default=True,
              help="Weight of the rank (fine) loss.")  # fmt: skip
@click.option("--val-share", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              default=0.25, show_default=True, help="Share of sources held out.")  # fmt: skip
@click.option("--validations", type=click.IntRange(1), default=20, show_default=True,
              help="How often, over the whole training, held-out sources are judged.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@_device_option
def train(
    folder: Path,
    out: Path | None,
    method: str,
    init: str,
    size: str | None,
    stem: str | None,
    group_weight: float,
    rank_weight: float,
    device: str,
    **settings: Any,
) -> None:
    """Train a no-reference model on the labels in FOLDER (default: encodes).

    Sources are split into train and val by FOLDER/splits.csv, made if it is missing. Killed and
    started again, it goes on where it was.

    \b
    Example:
        vqatool train encodes --epochs 60 -o model.safetensors
    """
    from vqatool.live import console, say
    from vqatool.progress import step_progress
    from vqatool.recipes import LossWeights
    from vqatool.train import Progress, TrainConfig
    from vqatool.train import train as learn

    config = TrainConfig(
        method=method,
        shape=_shape(size, stem, init),
        weights=LossWeights(group=group_weight, rank=rank_weight),
        **settings,
    )
    target = out or folder / MODEL_NAME
    with step_progress(console(), "training") as progress:

        def show(now: Progress) -> None:
            terms = ", ".join(f"{name} {value:.3f}" for name, value in now.terms.items())
            note = terms if now.val_srcc is None else f"{terms}, val SRCC {now.val_srcc:.3f}"
            progress.show(now.step, now.steps, note, "training")

        checkpoint = learn(
            folder,
            target,
            config,
            init=_checkpoint_named(init),
            device=_device(device),
            on_progress=show,
            on_decoded=lambda done, total: progress.show(done, total, what="decoding"),
        )
    found = checkpoint.card.validation
    say(
        f"{target}: SRCC {found['srcc']:.3f}, PLCC {found['plcc']:.3f}, RMSE {found['rmse']:.1f} "
        f"on {found['count']:.0f} encodes of held-out sources; next: vqatool evaluate {folder}"
    )


@cli.command()
@_work_folder
@_model_option
@click.option("--split", type=click.Choice(["val", "train", "all"]),
              help="Which sources.  [default: val if FOLDER has a split, else all]")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path),
              help="Stem of the files to write.  [default: FOLDER/evaluation]")  # fmt: skip
@_device_option
def evaluate(
    folder: Path, model: Path | None, split: str | None, out: Path | None, device: str
) -> None:
    """Compare predictions with the labels in FOLDER (default: encodes).

    Without --model it judges FOLDER/model.safetensors if `vqatool train` left one there, else the
    packaged model.

    \b
    Example:
        vqatool evaluate encodes -m model.safetensors --split val
    """
    from vqatool.evaluate import judge, mean_in_group_srcc, predict_labelled, write_evaluation
    from vqatool.groups import labelled_of
    from vqatool.live import console, say
    from vqatool.progress import WorkProgress
    from vqatool.report import evaluation_summary

    trained = folder / MODEL_NAME
    predictor = _predictor(model or (trained if trained.exists() else None), device)
    encodes = labelled_of(folder, split)
    costs = {str(encode.path): 1.0 for encode in encodes}
    predictions = []
    with WorkProgress(console(), "predicting", costs) as progress:
        for pair in predict_labelled(encodes, predictor):
            predictions.append(pair)
            progress.done(str(pair[0].path))
    found = judge(predictions)
    console().print(evaluation_summary(found, mean_in_group_srcc(found)))
    paths = write_evaluation(predictions, found, out or folder / "evaluation")
    say(f"{predictor.name}, {len({e.source for e in encodes})} sources: wrote " + _listed(paths))


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              default=Path("report.csv"), show_default=True, help="Report to write.")  # fmt: skip
@_model_option
@click.option("--display", type=_DisplayType(), default="1920x1080", show_default=True,
              help="Screen the videos are judged on; native is pixel for pixel.")  # fmt: skip
@click.option("--segment", "segment_s", type=click.FloatRange(0.5), default=10.0,
              show_default=True, help="Seconds that get a score of their own.")  # fmt: skip
@click.option("--fail-under", type=click.FloatRange(0, 100),
              help="Exit with 3 if any score is below.")  # fmt: skip
@click.option("--force", is_flag=True, help="Score again what the report already holds.")
@_jobs_option
@_device_option
def score(
    paths: tuple[Path, ...],
    out: Path,
    model: Path | None,
    display: "Display",
    segment_s: float,
    fail_under: float | None,
    force: bool,
    jobs: int | None,
    device: str,
) -> None:
    """Score videos: every file in PATHS (files or folders) gets one row of a CSV report.

    \b
    Example:
        vqatool score encodes/ -o report.csv --fail-under 70
    """
    from ladder.find import find_videos
    from vqatool.live import console, run_score, say
    from vqatool.report import missed_gate, score_summary
    from vqatool.score import ScoreOptions

    found = find_videos(paths)
    if not found.videos:
        _fail(f"no video found in {', '.join(map(str, paths))}", NO_VIDEO)
    predictor = _predictor(model, device)
    options = ScoreOptions(display=display, segment_s=segment_s)
    rows = run_score(found.videos, predictor, options, out, jobs=jobs, is_forced=force)
    console().print(score_summary(rows, fail_under))
    passed_over = f", {found.skipped_count} other files passed over" if found.skipped_count else ""
    say(f"{out}: {_counts(rows)}{passed_over}; model {predictor.name}")
    missed = missed_gate(rows, fail_under)
    for row in missed:
        say(f"below {fail_under:g}: {row.path} has {row.score:.2f}")
    if missed:
        raise click.exceptions.Exit(GATE_FAILED)
    _exit_on_failures(rows)


@cli.command()
@_ffmpeg_option
def doctor(ffmpeg_path: Path | None) -> None:
    """Try everything vqatool needs and say how to mend what does not work.

    \b
    Example:
        vqatool doctor
    """
    from rich.table import Table

    from vqatool.doctor import examine
    from vqatool.live import console

    table = Table(title="vqatool doctor", title_justify="left")
    for heading in ("what", "works", "found"):
        table.add_column(heading, overflow="fold")
    checks = list(examine(ffmpeg_path))
    for check in checks:
        mark = "yes" if check.works else "no" if check.is_required else "no (optional)"
        found = check.found if check.works else f"{check.found}\nremedy: {check.remedy}"
        table.add_row(check.what, mark, found)
    console(is_result=True).print(table)
    if any(check.is_required and not check.works for check in checks):
        raise click.exceptions.Exit(NO_CAPABILITY)


@cli.command()
@click.option("-o", "--out", "folder", type=click.Path(file_okay=False, path_type=Path),
              default=Path("vqatool-demo"), show_default=True, help="Work folder.")  # fmt: skip
@_ffmpeg_option
def demo(folder: Path, ffmpeg_path: Path | None) -> None:
    """Run the whole pipeline on a real clip: ladder, labels, scores, side by side.

    \b
    Example:
        vqatool demo -o /tmp/demo
    """
    from ladder.ffmpeg import find_ffmpeg
    from ladder.probe import probe
    from ladder.rungs import ladder_named
    from ladder.tables import work_lock
    from ladder.vmaf import model_names
    from vqatool.demo import DEMO_LADDER, compare, demo_clip, demo_table
    from vqatool.live import console, run_label, run_ladder, run_score, say
    from vqatool.score import ScoreOptions

    clip, ffmpeg = demo_clip(), find_ffmpeg(ffmpeg_path)
    report = folder / "report.csv"
    with work_lock(folder):
        encodes = run_ladder([clip], ladder_named(DEMO_LADDER), folder, ffmpeg, None)
        labels = run_label(folder, ffmpeg, model_names(["v0"]), None)
    options = ScoreOptions(display=probe(clip).display_size)
    made = [folder / row.encode_path for row in encodes if row.status == "ok"]
    scored = run_score(made, _predictor(None, "auto"), options, report)
    console(is_result=True).print(demo_table(compare(encodes, labels, scored, folder)))
    say("wrote " + _listed([folder / "encodes.csv", folder / "labels.csv", report]))
    _exit_on_failures([*encodes, *labels, *scored])


def _predictor(model: Path | None, device: str) -> "Predictor":
    from vqatool.checkpoint import default_checkpoint, load_checkpoint
    from vqatool.predict import Predictor

    checkpoint = load_checkpoint(model) if model else default_checkpoint()
    return Predictor(checkpoint, _device(device))


def _shape(size: str | None, stem: str | None, init: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"size": size} if size else {}
    shape |= {"has_conv_stem": stem == "conv"} if stem else {}
    if shape and init != "scratch":
        raise click.UsageError("--size and --stem choose a new model: add --init scratch")
    return shape


def _checkpoint_named(init: str) -> "Checkpoint | None":
    from vqatool.checkpoint import default_checkpoint, load_checkpoint

    if init == "scratch":
        return None
    return default_checkpoint() if init == "default" else load_checkpoint(Path(init))


def _device(name: str) -> str:
    from vqatool.device import device_named

    try:
        return str(device_named(name))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


class _Outcome(Protocol):
    """A row of any stage."""

    @property
    def key(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def error(self) -> str: ...


def _counts(rows: Sequence[_Outcome]) -> str:
    failed = sum(row.status == "error" for row in rows)
    good = len(rows) - failed
    return f"{good} good" + (f", {failed} failed" if failed else "")


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))


def _exit_on_failures(rows: Iterable[_Outcome]) -> None:
    failed = [row for row in rows if row.status == "error"]
    for row in failed:
        click.echo(f"failed: {row.key}: {row.error}", err=True)
    if failed:
        raise click.exceptions.Exit(SOME_FAILED)
