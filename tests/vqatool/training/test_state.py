import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from ladder.media.stills import read_picture
from vqatool.files import require_own_files
from vqatool.training.state import (
    FIRST_COLUMNS,
    MetricsLog,
    TrainingState,
    plot_history,
    read_state,
    write_state,
)

pytestmark = pytest.mark.usefixtures("drawn_plots")

HEADER = "step,epoch,lr,quality\n"


def test_a_resumed_log_drops_torn_rows_and_rows_that_are_written_again(tmp_path: Path) -> None:
    table = MetricsLog(tmp_path / "m-metrics.csv")
    table.path.write_text(f"{HEADER}10,0,0.1,1\n20,0,0.1,1\n30,1,0.1,1\n4")
    table.truncate_after(20)
    assert table.path.read_text() == f"{HEADER}10,0,0.1,1\n20,0,0.1,1\n"
    table.append({"step": 30, "epoch": 1, "lr": 0.05, "quality": float("nan")})
    assert table.path.read_text().splitlines()[-1] == "30,1,0.05,"


def test_a_log_that_an_earlier_version_began_keeps_its_columns(tmp_path: Path) -> None:
    table = MetricsLog(tmp_path / "m-metrics.csv")
    table.path.write_text(f"{HEADER}10,0,0.1,1\n")
    table.append({"step": 30, "epoch": 1, "lr": 0.05, "quality": 2, "val_bias": 1.5})
    assert table.path.read_text().splitlines()[-1] == "30,1,0.05,2"


def test_a_new_training_starts_a_new_log(tmp_path: Path) -> None:
    table = MetricsLog(tmp_path / "m-metrics.csv")
    table.path.write_text(f"{HEADER}10,0,0.1,1\n")
    table.truncate_after(0)
    table.append({"step": 1_234_567, "epoch": 0, "lr": 0.1, "rank": None})
    assert table.path.read_text() == "step,epoch,lr,rank\n1234567,0,0.1,\n"


def test_an_empty_log_is_not_plotted(tmp_path: Path) -> None:
    table = MetricsLog(tmp_path / "m-metrics.csv")
    table.truncate_after(0)
    plot_history(table.path, tmp_path / "m.png")
    assert not (tmp_path / "m.png").exists()


def test_a_single_step_is_seen_in_the_plot(tmp_path: Path) -> None:
    table, picture = tmp_path / "m-metrics.csv", tmp_path / "m.png"
    state = TrainingState()
    state.add_step({"quality": 1.0}, wait_s=0.0)
    MetricsLog(table).append(state.next_row(0.1, is_validated=False))
    plot_history(table, picture)
    shown_HWC = read_picture(picture)
    panel_HWC = shown_HWC[: shown_HWC.shape[0] // 3, : shown_HWC.shape[1] * 2 // 3].astype(int)
    assert (np.ptp(panel_HWC, axis=2) > 50).any()  # a colour, besides the grey of the grid


def test_the_log_and_its_plot_are_known_as_files_of_ours(tmp_path: Path) -> None:
    table, picture = tmp_path / "m-metrics.csv", tmp_path / "m.png"
    state = TrainingState()
    state.add_step({"quality": 1.0}, wait_s=0.0)
    MetricsLog(table).append(state.next_row(0.1, is_validated=False))
    plot_history(table, picture)
    require_own_files({table: FIRST_COLUMNS})
    require_own_files({}, [picture])


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, weights = tmp_path / "m.training", {"model": {"a": torch.ones(2)}}
    state = TrainingState(step=3, validation={"srcc": 0.5}, log_sums={"rank": 0.25})
    write_state(path, weights, state, "x")
    saved = read_state(path, "x")
    assert saved is not None
    assert saved[1] == state
    assert torch.equal(saved[0]["model"]["a"], torch.ones(2))
    assert read_state(tmp_path / "none.training", "x") is None


@pytest.mark.parametrize("kind", ["of other data", "damaged", "empty", "of version 0.1", "a list"])
def test_a_state_that_cannot_be_resumed_restarts_the_training(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.training"
    write_state(path, {}, TrainingState(step=3), "other" if kind == "of other data" else "x")
    if kind == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "of version 0.1":
        torch.save({"standing": {"step": 3, "number": 1}, "fingerprint": "x"}, path)
    elif kind == "a list":
        torch.save([1, 2], path)
    with caplog.at_level(logging.WARNING):
        assert read_state(path, "x") is None
    assert "m.training" in caplog.text
    assert "starts anew" in caplog.text
