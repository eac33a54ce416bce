"""Ray with two nodes on this machine: rows as without it, though nodes and drivers are killed."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vqatool.cluster as engine
from ladder.media.ffmpeg import OnProgress
from tests.conftest import MakeVideo
from tests.object_store import BUCKET, ObjectStore
from tests.vqatool.program import RUNGS, kill_after_three_rows, read_rows, vqatool
from vqatool import __version__
from vqatool.cluster import ClusterRequest, RayRunner, connected
from vqatool.errors import ClusterError
from vqatool.inference.loading import load_predictor
from vqatool.inputs.decode_pool import Answer, DecodeFailure
from vqatool.scoring.cluster import ClusterScoring, _explained
from vqatool.scoring.report_file import write_report
from vqatool.scoring.rows import FailedVideo
from vqatool.scoring.segments import ScoreConfig

ROOT = Path(__file__).parent.parent.parent
NATIVE = ("--display", "native")
NODE: dict[str, Any] = {
    "num_cpus": 1,
    "object_store_memory": 100 * 2**20,
    "include_dashboard": False,
    "include_log_monitor": False,
}


def tagged(folder: str):
    """A preparation of workers whose tasks say what is to happen; `folder` counts the starts."""

    def prepare(on_progress: OnProgress | None) -> Callable[[str], str]:
        def work(task: str) -> str:
            with (Path(folder) / task).open("a") as file:
                file.write("x")
            if task == "deadly":
                os._exit(3)
            if task == "faulty":
                raise ClusterError("as it is")
            return task.upper()

        return work

    return prepare


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with a core each, which the tests' process is connected to."""
    before = dict(os.environ)
    os.environ["RAY_AUTH_MODE"] = "disabled"  # a token would be written to the home folder
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.update(RAY_worker_niceness="0")  # 15 by default, and other tests run beside
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE, shutdown_at_exit=False)
    try:
        made.add_node(**NODE)
        ray.init(made.address, log_to_driver=False, configure_logging=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def clips(tmp_path: Path, make_video: MakeVideo) -> Path:
    """A folder of five videos and a text."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(5):
        scene = f"mandelbrot=size=160x90:rate=10:start_scale=0.{number % 4 + 1}:end_pts=20"
        args = ("-frames:v", "5", "-c:v", "libx264", "-crf", "30", "-pix_fmt", "yuv420p")
        shutil.copy(make_video(f"cluster-{number % 4}.mp4", scene, args), folder / f"{number}.mp4")
    (folder / "text.mp4").write_text("no video\n" * 100)
    return folder


def untimed(path: Path) -> list[dict[str, str]]:
    return [row | {"score_s": ""} for row in read_rows(path)]


@pytest.mark.slow
def test_reports_and_labels_are_those_of_one_machine_though_drivers_and_nodes_are_killed(
    cluster: Any, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone, shared = tmp_path / "alone.csv", tmp_path / "shared.csv"
    assert vqatool("score", "clips", "-o", alone, *NATIVE).exit_code == 4
    command = ("score", "clips", "-o", shared, "--on", "ray", *NATIVE)
    kill_after_three_rows(*command, RAY_ADDRESS=cluster.address)
    before = read_rows(shared)
    assert len(before) == 3
    done = vqatool(*command)
    assert done.exit_code == 4, done.stderr
    assert "2 workers on ray" in done.stderr
    assert untimed(shared) == untimed(alone)
    # what was done is not done again: it would take other seconds
    assert all(row["status"] == "error" or row in read_rows(shared) for row in before)

    node = cluster.add_node(**NODE)
    killed = tmp_path / "killed.csv"
    predictor, config = load_predictor(None, "cpu"), ScoreConfig(display=None)
    videos = [Path(row["path"]) for row in untimed(alone)]
    with connected(ClusterRequest("ray")) as runner:
        assert runner.num_workers == 3
        rows = write_report(videos, killed, predictor, config, scoring=ClusterScoring(runner))
        assert next(rows)
        cluster.remove_node(node, allow_graceful=False)
        assert len(list(rows)) == len(videos) - 1
    assert untimed(killed) == untimed(alone)

    source, two_rungs = "clips/1.mp4", tmp_path / "two.toml"
    two_rungs.write_text(RUNGS)
    assert (
        vqatool("ladder", source, "-o", "work", "--rungs", two_rungs, "--on", "ray").exit_code == 0
    )
    encodes = read_rows(tmp_path / "work" / "encodes.csv")
    assert [(row["status"], row["frame_count"]) for row in encodes] == [("ok", "5")] * 2
    shutil.copytree("work", "again")
    assert vqatool("label", "work").exit_code == 0
    assert vqatool("label", "again", "--on", "ray").exit_code == 0
    here, there = (read_rows(tmp_path / name / "labels.csv") for name in ("work", "again"))
    assert [row | {"label_s": ""} for row in there] == [row | {"label_s": ""} for row in here]
    assert len(list((tmp_path / "again" / "vmaf").rglob("*.gz"))) == 2


@pytest.mark.slow
def test_what_ends_workers_costs_itself_alone(
    cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "starts"
    folder.mkdir()
    with connected(ClusterRequest("ray")) as runner:
        tasks = ["a", "deadly", "b", "c", "d"]
        results = runner.run(tagged(str(folder)), tasks, lambda task, reason: f"{task} {reason}")
        assert sorted(results) == ["A", "B", "C", "D", "deadly crashed 3 workers"]
        assert {path.name: len(path.read_text()) for path in folder.iterdir()} == {
            "a": 1, "b": 1, "c": 1, "d": 1, "deadly": 3,
        }  # fmt: skip
        with pytest.raises(ClusterError, match="as it is"):
            list(runner.run(tagged(str(folder)), ["faulty"], lambda task, reason: task))
    assert not capfd.readouterr().out  # where rows may go


@pytest.mark.slow
def test_workers_open_urls_by_themselves(
    cluster: Any, clips: Path, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store.put("signed/1.mp4", clips / "1.mp4")
    named = {"Bucket": BUCKET, "Key": "signed/1.mp4"}
    url = store.client.generate_presigned_url("get_object", Params=named)
    # the nodes have no credentials: what the URL is signed with must reach them
    store.fault = lambda number, environ: "" if "Signature" in environ["QUERY_STRING"] else "503"
    alone = ("--on", "ray", "--workers", 1)
    assert vqatool("score", url, clips / "1.mp4", *alone, *NATIVE).exit_code == 0
    there, here = sorted(read_rows(tmp_path / "report.csv"), key=lambda row: row["path"])[::-1]
    assert there["path"] == url.partition("?")[0]
    assert there["score"] == here["score"] != ""

    (tmp_path / "two.toml").write_text(RUNGS)
    assert vqatool("ladder", url, "-o", "work", "--rungs", "two.toml", *alone).exit_code == 0
    made = vqatool("label", "--source", url, *sorted(tmp_path.glob("work/*/*.mp4")), *alone,
                   "-o", "labels.csv")  # fmt: skip
    assert made.exit_code == 0, made.stderr
    labels = read_rows(tmp_path / "labels.csv")
    assert [row["status"] for row in labels] == ["ok"] * 2
    assert "Signature" not in (tmp_path / "labels.csv").read_text()


def test_a_worker_of_another_version_is_refused() -> None:
    worker = engine._Worker[str, str]("0.0.1", b"never read")
    with pytest.raises(ClusterError, match=rf"has vqatool {__version__}.*is 0\.0\.1: install"):
        worker.start()


def started(folder: Path, *needs: Path) -> engine._Worker[str, str]:
    from ray import cloudpickle

    order = engine._Order(tagged(str(folder)), [30, 30], folder, needs)
    worker = engine._Worker[str, str](__version__, cloudpickle.dumps(order))
    worker.start()
    return worker


def test_a_worker_names_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # and back
    (tmp_path / "here").touch()
    assert started(tmp_path, Path("here")).do("a").value == "A"
    with pytest.raises(ClusterError, match="cannot read gone: workers must reach the same files"):
        started(tmp_path, Path("gone"))
    with pytest.raises(ClusterError, match=r"cannot read setup\.cfg"):  # of another folder
        started(tmp_path / "no such folder", Path("setup.cfg"))


def test_a_file_that_this_machine_alone_sees_is_told_so(tmp_path: Path) -> None:
    seen, gone = tmp_path / "seen.mp4", tmp_path / "gone.mp4"
    seen.touch()
    reasons = [
        _explained("node-7", FailedVideo(DecodeFailure(path, "missing", "as before")))
        for path in (seen, gone)
    ]
    assert [each.failure.reason for each in reasons if isinstance(each, FailedVideo)] == [
        f"{seen} is on this machine, but not on worker node-7: workers must reach the same files "
        "by the same paths: use a shared file system",
        "as before",
    ]


def nodes(*resources: dict[str, float]) -> Any:
    dead = {"Alive": False, "Resources": {"CPU": 99.0}}
    return SimpleNamespace(
        nodes=lambda: [dead, *({"Alive": True, "Resources": each} for each in resources)]
    )


def test_as_many_workers_as_fit_into_the_nodes() -> None:
    ray = nodes({"CPU": 8.0, "GPU": 1.0}, {"CPU": 3.0}, {})
    assert RayRunner(ray, ClusterRequest("ray")).num_workers == 11
    assert RayRunner(ray, ClusterRequest("ray", cpus=2)).allocate() == (5, 2)
    assert RayRunner(ray, ClusterRequest("ray", cpus=2)).spare(1) == 2  # those of its own cores
    assert RayRunner(ray, ClusterRequest("ray", gpus=0.25)).num_workers == 4
    assert RayRunner(ray, ClusterRequest("ray", workers=500, cpus=64)).num_workers == 500
    assert RayRunner(ray, ClusterRequest("ray")).allocate(3) == (3, 1)
    with pytest.raises(ClusterError, match=r"no node .* has 64 CPUs and 2 GPUs .*--workers N"):
        RayRunner(ray, ClusterRequest("ray", cpus=64, gpus=2))


class CountingRay:
    """What a run asks of Ray, in this process, one call at a time, and how often."""

    def __init__(self, *, starts: bool = True) -> None:
        from ray import cloudpickle, exceptions

        self.cloudpickle, self.exceptions, self._starts = cloudpickle, exceptions, starts
        self.num_hired, self.num_killed, self.tasks = 0, 0, list[str]()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 3.0}}]

    def remote(self, kind: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._hire))

    def put(self, value: bytes) -> bytes:
        return value

    def _hire(self, version: str, order: bytes) -> Any:
        self.num_hired += 1
        work = self.cloudpickle.loads(order).prepare(None)

        def do(task: str) -> Callable[[], Answer[str]]:
            self.tasks.append(task)
            return lambda: Answer(self._fail() if task == "deadly" else work(task), [])

        start: Callable[[], Any] = (lambda: None) if self._starts else self._fail
        # each call of a start is another reference
        return SimpleNamespace(
            start=SimpleNamespace(remote=lambda: lambda: start()), do=SimpleNamespace(remote=do)
        )

    def _fail(self) -> str:
        raise self.exceptions.ActorDiedError

    def wait(
        self, refs: list[Any], num_returns: int, timeout: float
    ) -> tuple[list[Any], list[Any]]:
        return refs[:num_returns], refs[num_returns:]

    def get(self, ref: Callable[[], Any]) -> Any:
        return ref()

    def kill(self, actor: Any) -> None:
        self.num_killed += 1


def test_a_slow_writer_holds_the_workers_and_the_rest_is_never_handed_out(tmp_path: Path) -> None:
    ray = CountingRay()
    runner = RayRunner(ray, ClusterRequest("ray"))
    results = runner.run(tagged(str(tmp_path)), list("abcdefghij"), lambda task, reason: reason)
    assert next(results) == "A"
    assert len(ray.tasks) <= 6  # three were done, and each worker has another
    results.close()
    assert ray.num_killed == ray.num_hired == 3


def test_each_loss_costs_a_worker_that_is_replaced(tmp_path: Path) -> None:
    ray = CountingRay()
    runner = RayRunner(ray, ClusterRequest("ray"))
    tasks = ["deadly", *"abcde"]
    results = runner.run(tagged(str(tmp_path)), tasks, lambda task, reason: f"{task} {reason}")
    assert sorted(results) == ["A", "B", "C", "D", "E", "deadly crashed 3 workers"]
    assert ray.tasks.count("deadly") == 3
    assert (ray.num_hired, ray.num_killed) == (6, 6)


def test_workers_that_never_start_end_the_run(tmp_path: Path) -> None:
    ray = CountingRay(starts=False)
    runner = RayRunner(ray, ClusterRequest("ray"))
    with pytest.raises(ClusterError, match=r"workers end while they start \(The actor died"):
        list(runner.run(tagged(str(tmp_path)), ["a", "b"], lambda task, reason: reason))
    assert ray.num_hired == 2 + 6  # three starts for each worker are allowed to fail


@pytest.mark.parametrize("address", ["spark", "ray://head", "ray:/head:1", "ray://a/b:1"])
def test_an_address_of_no_cluster_is_refused(address: str, tmp_path: Path) -> None:
    done = vqatool("score", tmp_path, "--on", address)
    assert done.exit_code == 2
    assert "ray://head:10001" in done.stderr


def test_workers_of_no_cluster_are_refused(tmp_path: Path) -> None:
    done = vqatool("ladder", tmp_path, "--worker-cpus", 4)
    assert done.exit_code == 2
    assert "--worker-cpus is for a cluster: add --on" in done.stderr


def test_labels_that_nobody_keeps_are_not_made_on_a_cluster(
    source_video: Path,
) -> None:
    done = vqatool("label", "--source", source_video, source_video, "--on", "ray")
    assert done.exit_code == 2
    assert "-o" in done.stderr
