"""Progress in a Jupyter notebook: one output of HTML, in which a bar becomes a line of text.

Not by rich, which needs ipywidgets there, and warns and shows nothing where it has none.
"""

import html
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

R = TypeVar("R")


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, and not a terminal of IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def ask_for_no_widgets() -> None:
    """Silence the library that asks for widgets as soon as a model of torch is built."""
    warnings.filterwarnings("ignore", message="IProgress not found")


def with_progress(rows: Iterable[R], total: int) -> Iterator[R]:
    """The same rows; meanwhile an output of the cell tells how many of `total` are done.

    Args:
        rows: those of a report: each has a path.
        total: their number.
    """
    from IPython.display import HTML, display

    done, shown = 0, display(HTML(_bar(0, total)), display_id=True)
    try:
        for done, row in enumerate(rows, 1):
            shown.update(HTML(_bar(done, total, str(getattr(row, "path", "")))))
            yield row
    finally:
        shown.update(HTML(_text(done, total)))


def _bar(done: int, total: int, path: str = "") -> str:
    name = html.escape(Path(path).name)
    return f'<progress value="{done}" max="{total}"></progress> {_text(done, total)} {name}'


def _text(done: int, total: int) -> str:
    return f"scored {done} of {total}"
