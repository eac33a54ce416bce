from pathlib import Path

from vqatool.training.history import MetricsLog, plot_history

HEADER = "step,epoch,lr,quality\n"


def test_a_resumed_table_drops_what_is_done_again_and_a_torn_line(tmp_path: Path) -> None:
    table = MetricsLog(tmp_path / "m-metrics.csv")
    table.path.write_text(f"{HEADER}10,0,0.1,1\n20,0,0.1,1\n30,1,0.1,1\n4")
    table.truncate_after(20)
    assert table.path.read_text() == f"{HEADER}10,0,0.1,1\n20,0,0.1,1\n"
    table.add({"step": 30, "epoch": 1, "lr": 0.05, "quality": float("nan")})
    assert table.path.read_text().splitlines()[-1] == "30,1,0.05,"


def test_a_new_training_begins_a_new_table(tmp_path: Path) -> None:
    table = MetricsLog(tmp_path / "m-metrics.csv")
    table.path.write_text(f"{HEADER}10,0,0.1,1\n")
    table.truncate_after(0)
    table.add({"step": 1_234_567, "epoch": 0, "lr": 0.1, "rank": None})
    assert table.path.read_text() == "step,epoch,lr,rank\n1234567,0,0.1,\n"


def test_before_the_first_line_there_is_no_picture(tmp_path: Path) -> None:
    table = MetricsLog(tmp_path / "m-metrics.csv")
    table.truncate_after(0)
    plot_history(table.path, tmp_path / "m.png")
    assert not (tmp_path / "m.png").exists()
