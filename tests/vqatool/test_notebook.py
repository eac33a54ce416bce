"""The Python interface in a notebook, in a real kernel."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import vqatool
from vqatool.errors import OutputNameError
from vqatool.notebook import is_notebook

CELLS = (
    """
import vqatool
from vqatool.errors import OutputNameError
scorer = vqatool.Scorer(MODEL, device="cpu", display=(320, 180), segment_s=0.4)
report = scorer.score(PATHS)
for row in report:
    print(row.status, row.score is not None)
""",
    "[row.path for row in report] == [row.path for row in report.rows]",
    "report.to_pandas()[['path', 'score']].shape, str(report.to_pandas()['score'].dtype)",
    "report",
    "page = report.to_html(); (report.to_html(OUT), '<h1>Video quality</h1>' in page)",
    "'Scores over time' in page, 'data:image' in page",
    "scorer.score(PATHS[0], progress=False).rows[0].score == report.rows[0].score",
)


@pytest.fixture(scope="module")
def outputs(
    labelled: Path, small_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[list[nbformat.NotebookNode]]:
    """What each of `CELLS` shows."""
    folder = tmp_path_factory.mktemp("notebook")
    bad = folder / "not <b>a video.mp4"
    bad.write_text("no video")
    paths = [str(path) for path in (*sorted(labelled.rglob("*.mp4"))[:1], bad)]
    values = f"PATHS = {paths}\nMODEL, OUT = {str(small_model)!r}, {str(folder / 'r.html')!r}"
    cells = [nbformat.v4.new_code_cell(text) for text in (values, *CELLS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    root = str(Path(vqatool.__file__).parent.parent)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with client.setup_kernel(env={**os.environ, "PYTHONPATH": root}):
        for number, cell in enumerate(cells):
            client.execute_cell(cell, number)
    return [cell.outputs for cell in cells[1:]]


def text_of(outputs: list[nbformat.NotebookNode]) -> str:
    (output,) = outputs
    return str(output.data["text/plain"])


def test_progress_is_one_output_and_rows_come_one_by_one(
    outputs: list[list[nbformat.NotebookNode]],
) -> None:
    kinds = [output.output_type for output in outputs[0]]
    assert kinds.count("display_data") == 1
    (progress,) = (output for output in outputs[0] if output.output_type == "display_data")
    assert progress.data["text/html"] == "scored 2 of 2"
    printed = [output for output in outputs[0] if output.output_type == "stream"]
    assert [o.text for o in printed if o.name != "stdout"] == []
    assert "".join(output.text for output in printed) == "ok True\nerror False\n"
    assert len(printed) + 1 == len(outputs[0])


def test_rows_are_kept_and_make_tables_and_pages(
    outputs: list[list[nbformat.NotebookNode]],
) -> None:
    assert text_of(outputs[1]) == "True"
    assert text_of(outputs[2]) == "((2, 2), 'float64')"
    (shown,) = outputs[3]
    assert "<table" in shown.data["text/html"]
    # a bar for the pictures would be an output too
    assert text_of(outputs[4]) == "(None, True)"
    assert text_of(outputs[5]) == "(True, True)"
    assert text_of(outputs[6]) == "True"


def test_nothing_is_a_notebook_but_a_kernel() -> None:
    assert not is_notebook()


def test_outside_of_notebooks_nothing_is_shown(
    labelled: Path, small_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = vqatool.score(sorted(labelled.rglob("*.mp4"))[:1], model=small_model, device="cpu")
    first = next(report)
    assert [row.path for row in report] == [first.path]
    assert next(report, None) is None
    assert capfd.readouterr() == ("", "")


def test_the_page_of_another_program_is_left_alone(
    labelled: Path, small_model: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>mine</p>")
    report = vqatool.score(sorted(labelled.rglob("*.mp4"))[:1], model=small_model, device="cpu")
    with pytest.raises(OutputNameError):
        report.to_html(page)
    assert page.read_text() == "<p>mine</p>"
