"""Groups of tasks on a runner that loses what ends its processes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ladder.media.ffmpeg import OnProgress
from ladder.runner import LocalRunner, OnLost, Prepare, R, T, no_progress, run_groups


class LosingRunner:
    """Loses each group in which there is a bad member, as a process that ends would."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []

    def allocate(self, most: int | None = None) -> tuple[int, int]:
        return 1, 1

    def spare(self, num_tasks: int) -> int:
        return 1

    def run(
        self,
        prepare: Prepare[T, R],
        tasks: Sequence[T],
        on_lost: OnLost[T, R],
        *,
        on_progress: OnProgress = no_progress,
        needs: Sequence[Path] = (),
    ) -> Iterator[R]:
        work = prepare(None)
        for task in tasks:
            assert isinstance(task, Sequence)
            self.groups.append(list(task))
            yield on_lost(task, "died") if 13 in task else work(task)


def doubled(on_progress: OnProgress | None):
    return lambda group: [str(2 * number) for number in group]


def test_of_a_group_that_is_lost_each_member_is_tried_alone() -> None:
    runner = LosingRunner()
    results = run_groups(
        runner, doubled, [[1, 2], [3, 13, 4], [13]], lambda number, reason: f"{number} {reason}"
    )
    assert list(results) == ["2", "4", "13 died", "6", "13 died", "8"]
    assert runner.groups == [[1, 2], [3, 13, 4], [13], [3], [13], [4]]


def test_here_tasks_report_progress_and_few_get_more_threads() -> None:
    seen = []

    def prepare(on_progress: OnProgress | None):
        def work(task: int) -> int:
            assert on_progress
            on_progress(str(task), 1.0)
            return -task

        return work

    runner = LocalRunner(2)
    results = runner.run(
        prepare, [1, 2, 3], lambda task, reason: 0, on_progress=lambda key, share: seen.append(key)
    )
    assert sorted(results) == [-3, -2, -1]
    assert sorted(seen) == ["1", "2", "3"]
    assert runner.allocate()[0] == 2
    assert runner.allocate(1)[1] >= runner.allocate()[1]
    assert [runner.spare(tasks) for tasks in (0, 1, 2, 3)] == [2, 2, 1, 0]
