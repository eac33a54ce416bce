"""A list of videos in shares, and the reports of the shares in one."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from ladder.storage import Table
from vqatool.errors import ReportError
from vqatool.scoring.rows import ReportRow
from vqatool.scoring.shards import UNFINISHED, Shard, merge_shards

VIDEOS = [Path(f"folder/{number}/clip {number}.mp4") for number in range(200)]


def row(path: Path, shard: object = "", **more: str) -> ReportRow:
    return ReportRow(path=str(path), status="ok", score=50.0, shard=str(shard), **more)  # type: ignore[arg-type]


def parts(count: int) -> list[tuple[Path, list[ReportRow]]]:
    shards = [Shard(number, count) for number in range(1, count + 1)]
    return [
        (Path(f"part-{s.number}.csv"), [row(path, s) for path in VIDEOS if s.matches(path)])
        for s in shards
    ]


@pytest.mark.parametrize("count", [1, 2, 8, 64])
def test_every_video_is_of_one_shard(count: int) -> None:
    shares = [{v for v in VIDEOS if Shard(n, count).matches(v)} for n in range(1, count + 1)]
    assert set.union(*shares) == set(VIDEOS)
    assert sum(map(len, shares)) == len(VIDEOS)


def test_shards_are_of_about_one_size() -> None:
    sizes = [sum(Shard(n, 4).matches(video) for video in VIDEOS) for n in range(1, 5)]
    assert min(sizes) > 30


def test_a_video_stays_in_its_shard_whatever_else_there_is() -> None:
    # a fixed expectation, because other versions and machines must agree
    assert [Shard(n, 3).matches(Path("a/b.mp4")) for n in (1, 2, 3)].count(True) == 1
    assert Shard.parse("2/8") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"


@pytest.mark.parametrize("text", ["0/8", "9/8", "2", "a/b", "1/0", "-1/2", ""])
def test_an_invalid_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="2/8"):
        Shard.parse(text)


def slurm(task: int, first: int, last: int, step: int, count: int) -> dict[str, str]:
    values = {"ID": task, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        (slurm(0, 0, 7, 1, 8), "1/8"),
        (slurm(8, 1, 8, 1, 8), "8/8"),
        (slurm(5, 1, 7, 2, 4), "3/4"),
        (slurm(3, 3, 3, 1, 1), "1/1"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "9", "AWS_BATCH_JOB_ARRAY_SIZE": "10"}, "10/10"),
        ({"JOB_COMPLETION_INDEX": "0", "VQATOOL_SHARDS": "12"}, "1/12"),
        # a batch system on Kubernetes sets its own variables, and they count
        (
            {
                "JOB_COMPLETION_INDEX": "0",
                "AWS_BATCH_JOB_ARRAY_INDEX": "4",
                "AWS_BATCH_JOB_ARRAY_SIZE": "6",
            },
            "5/6",
        ),
    ],
)
def test_a_task_of_an_array_knows_its_shard(environment: dict[str, str], shard: str) -> None:
    assert str(Shard.of_environment({"HOME": "/root", **environment})) == shard


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "such as 2/8"),
        ({"JOB_COMPLETION_INDEX": "3"}, "VQATOOL_SHARDS is not: set it to the number of tasks"),
        ({"JOB_COMPLETION_INDEX": "3", "VQATOOL_SHARDS": "three"}, "'three', which is not a"),
        ({"JOB_COMPLETION_INDEX": "3", "VQATOOL_SHARDS": "3"}, "must be greater"),
        ({"JOB_COMPLETION_INDEX": "0", "VQATOOL_SHARDS": "0"}, "must be greater"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "3"}, "AWS_BATCH_JOB_ARRAY_SIZE is not"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN is not"),
        # --array=1,2,9: every task says so, not only the last
        (slurm(1, 1, 9, 1, 3), "--array=1-3"),
        (slurm(9, 1, 9, 1, 3), "--array=1-3"),
        (slurm(4, 1, 7, 2, 4), "not evenly spaced"),
    ],
)
def test_what_does_not_name_a_shard_is_refused(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Shard.of_environment(environment)


def merged(parts: list[tuple[Path, list[ReportRow]]], folder: Path) -> list[ReportRow]:
    for path, rows in parts:
        Table(folder / path, ReportRow).rewrite(rows)
    return list(merge_shards([folder / path for path, _ in parts]))


@pytest.mark.parametrize("rows_a_piece", [7, 1000])
def test_merged_shards_equal_one_run(
    rows_a_piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqatool.scoring.shards._ROWS_A_PIECE", rows_a_piece)
    whole = [row(path) for path in sorted(VIDEOS)]
    assert merged(parts(8), tmp_path) == whole
    assert merged(parts(8)[::-1], tmp_path) == whole
    assert merged(parts(1), tmp_path) == whole


def test_a_shard_without_a_video_is_an_empty_report(tmp_path: Path) -> None:
    few = [(path, rows[:0] if path.name == "part-3.csv" else rows) for path, rows in parts(4)]
    assert len(merged(few, tmp_path)) == sum(len(rows) for _, rows in few)


def test_a_merge_holds_few_rows_and_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqatool.scoring.shards._ROWS_A_PIECE", 500)
    num_rows = 6_000
    rows = [row(Path(f"{number % 100}/{number}.mp4"), "1/1") for number in range(num_rows)]
    Table(tmp_path / "part.csv", ReportRow).rewrite(rows)
    del rows
    tracemalloc.start()
    count = sum(1 for _ in merge_shards([tmp_path / "part.csv"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == num_rows
    assert peak < num_rows * 1000  # a row alone takes more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ps: ps[:-1], "missing: shard 4/4"),
        (lambda ps: [ps[0], ps[2]], "2/4, 4/4"),
        (lambda ps: [*ps, (Path("again.csv"), ps[0][1])], "both shard 1/4"),
        (lambda ps: [*ps[:-1], (Path("p.csv"), [replace(r, shard="4/5") for r in ps[3][1]])],
         "of 4 and of 5"),
        (lambda ps: [*ps[:-1], (Path("p.csv"), [replace(r, shard="") for r in ps[3][1]])],
         "without --shard"),
        (lambda ps: [*ps[:-1], (Path("p.csv"), [replace(r, model="x") for r in ps[3][1]])],
         "different settings"),
        (lambda ps: [*ps[:-1], (Path("p.csv"), [*ps[3][1], replace(ps[0][1][0], shard="4/4")])],
         "in two of the reports"),
        (lambda ps: [(p, [replace(r, shard=r.shard + UNFINISHED) for r in rows]) for p, rows in ps],
         "not finished"),
    ],
)  # fmt: skip
def test_shards_that_do_not_add_up_are_refused(change, message: str, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=message):
        merged(change(parts(4)), tmp_path)
