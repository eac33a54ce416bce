"""The options of a cluster, which `score`, `label` and `ladder` share, and the way to one."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vqatool.cli.options import is_on_command_line

if TYPE_CHECKING:  # for annotations alone
    from ladder.runner import Runner
    from vqatool.cluster import ClusterRequest, RayRunner

C = TypeVar("C", bound=Callable[..., Any])

_ADDRESS = re.compile(r"ray(://[^\s/:]+:\d+)?")


class AddressType(click.ParamType[str]):
    """`ray`, or `ray://HOST:PORT`."""

    name = "ray|ray://HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _ADDRESS.fullmatch(value):
            self.fail(f"{value!r} is neither ray nor such as ray://head:10001", param, ctx)
        return str(value)


_OPTIONS = (
    click.option("--on", type=AddressType(),
                 help="Run on a cluster with Ray: the one at this address; ray: the one of "
                 "$RAY_ADDRESS, else one of this machine, for this run.  [default: without Ray]"),
    click.option("--workers", type=click.IntRange(1),
                 help="Workers to ask the cluster for.  [default: as many as its nodes have room "
                 "for]"),
    click.option("--worker-cpus", type=click.IntRange(1), default=1, show_default=True,
                 help="Cores of each worker of the cluster."),
    click.option("--worker-gpus", type=click.FloatRange(0), default=0.0, show_default=True,
                 help="GPUs of each worker of the cluster; 0.25: four workers share one."),
)  # fmt: skip


def cluster_options(command: C) -> C:
    """--on, --workers, --worker-cpus and --worker-gpus, as one `cluster` (None: without Ray)."""

    @functools.wraps(command)
    def with_cluster(
        *args: Any,
        on: str | None,
        workers: int | None,
        worker_cpus: int,
        worker_gpus: float,
        **more: Any,
    ) -> Any:
        cluster = None
        for name in ("workers", "worker_cpus", "worker_gpus"):
            if not on and is_on_command_line(name):
                raise click.UsageError(f"--{name.replace('_', '-')} is for a cluster: add --on")
        if on:
            from vqatool.cluster import ClusterRequest

            cluster = ClusterRequest(on, workers, worker_cpus, worker_gpus)
        return command(*args, cluster=cluster, **more)

    made: Any = with_cluster
    for option in reversed(_OPTIONS):
        made = option(made)
    return made  # type: ignore[no-any-return]  # the same callable, with options


@contextlib.contextmanager
def connected_to(cluster: "ClusterRequest | None") -> "Iterator[RayRunner | None]":
    """A runner on the cluster, if there is one."""
    if cluster is None:
        yield None
        return
    from vqatool.cluster import connected
    from vqatool.terminal import print_note

    with connected(cluster) as runner:
        count = runner.num_workers
        print_note(f"{count} worker{'s' * (count > 1)} on {cluster.address}")
        yield runner


@contextlib.contextmanager
def runner_on(cluster: "ClusterRequest | None", jobs: int | None) -> "Iterator[Runner]":
    """A runner on the cluster, else one of this machine with that many jobs."""
    from ladder.runner import LocalRunner

    with connected_to(cluster) as runner:
        yield runner or LocalRunner(jobs)
