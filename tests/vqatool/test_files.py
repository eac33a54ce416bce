from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vqatool.errors import OutputNameError
from vqatool.files import PNG_METADATA, cache_folder, require_own_files

pytestmark = pytest.mark.usefixtures("drawn_plots")

COLUMNS = ("step", "epoch")


def draw(path: Path, metadata: dict[str, str] | None = None) -> Path:
    figure = Figure(figsize=(1, 1))
    FigureCanvasAgg(figure)
    figure.savefig(path, metadata=metadata)
    return path


def test_own_files_and_missing_files_may_be_written(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("step,epoch,lr\n1,0,0.1\n")
    picture = draw(tmp_path / "m.png", PNG_METADATA)
    require_own_files({table: COLUMNS}, [picture])
    require_own_files({tmp_path / "new.csv": COLUMNS}, [tmp_path / "new.png"])
    (tmp_path / "empty.csv").touch()
    require_own_files({tmp_path / "empty.csv": COLUMNS})


@pytest.mark.parametrize("content", ["epoch,step\n", "step;epoch\n", "notes"])
def test_a_table_of_another_program_is_refused(tmp_path: Path, content: str) -> None:
    table = tmp_path / "m.csv"
    table.write_text(content)
    with pytest.raises(OutputNameError, match=r"m\.csv exists .* choose another name with -o"):
        require_own_files({table: COLUMNS})


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8 a photograph"])
def test_a_file_that_is_no_picture_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    picture = tmp_path / "m.png"
    picture.write_bytes(content)
    with pytest.raises(OutputNameError, match=r"m\.png exists"):
        require_own_files({}, [picture])


def test_a_picture_of_version_0_1_is_known_by_its_table(tmp_path: Path) -> None:
    picture, table = draw(tmp_path / "m.png"), tmp_path / "m.csv"
    with pytest.raises(OutputNameError, match=r"m\.png exists"):
        require_own_files({table: COLUMNS}, [picture])
    table.write_text("step,epoch\n")
    require_own_files({table: COLUMNS}, [picture])


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    for suffix in ("csv", "png"):
        (tmp_path / f"m.{suffix}").mkdir()
    with pytest.raises(OutputNameError, match=r"m\.csv exists"):
        require_own_files({tmp_path / "m.csv": COLUMNS})
    with pytest.raises(OutputNameError, match=r"m\.png exists"):
        require_own_files({}, [tmp_path / "m.png"])


def test_caches_go_to_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "vqatool"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
    assert cache_folder() == tmp_path / ".cache" / "vqatool"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "vqatool"
