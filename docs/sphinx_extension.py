"""Our Sphinx extension: tables of file formats, pages of the top folder, docstrings as plain text.

- `{file-format} ReportRow` shows the columns of a CSV (`columns.py`).
- Pages of the top folder appear in the documentation with their links changed.
- Docstrings and the help of the commands are plain text with backticks; characters that
  reStructuredText would read as markup are escaped.
"""

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import columns
from click import Context
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).parent.parent
ROOT_PAGES = {
    "architecture": "ARCHITECTURE.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "model-card": "MODEL_CARD.md",
}
"""Page of the documentation -> the file of the top folder that it shows."""

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")
_PATH = re.compile(r"PosixPath\('([^']*)'\)")  # how a default that is a path prints itself
_CODE_OR_MARKUP = re.compile(r"``[^`]*``|`[^`]*`|[*|]")


class FileFormat(SphinxDirective):
    """`{file-format} ReportRow`: the table of a row type."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the table that the argument names."""
        self.env.note_dependency(str(columns.COLUMNS_FILE))
        name = self.arguments[0]
        table = columns.read_tables()[name]
        if faults := columns.undescribed(name, table):
            raise ExtensionError("; ".join(faults))
        found: list[nodes.Node] = self.parse_text_to_nodes(columns.markdown_table(name, table))
        return found


def root_page(text: str) -> str:
    """A page of the top folder with links to pages and pictures of `docs`; others become code."""
    pages = {file: f"{page}.md" for page, file in ROOT_PAGES.items()}

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        page = pages.get(target) or (target.startswith("docs/") and target.removeprefix("docs/"))
        is_page = page and str(page).endswith((".md", ".jpg"))
        return f"[{words}]({page}{anchor})" if is_page else f"`{target}`"

    return _LINK.sub(link, text)


def escape(lines: list[str]) -> None:
    """Escape `*` and `|` outside of backticks, in place."""
    for number, line in enumerate(lines):
        lines[number] = _CODE_OR_MARKUP.sub(
            lambda found: found[0] if found[0].startswith("`") else f"\\{found[0]}", line
        )


def _show_root_page(app: Sphinx, page: str, content: list[str]) -> None:
    if page in ROOT_PAGES:
        path = ROOT / ROOT_PAGES[page]
        app.env.note_dependency(path)
        content[0] = root_page(path.read_text(encoding="utf-8"))


def _escape_docstring(
    app: Sphinx, kind: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    escape(lines)


def _show_help(app: Sphinx, context: Context, lines: list[str]) -> None:
    """Help of a command: its examples, which sphinx-click makes line blocks, become code."""
    shown: list[str] = []
    for is_example, group in groupby(lines, lambda line: line.startswith("|")):
        part = list(group)
        if is_example:
            code = [f"   {line.removeprefix('|').removeprefix(' ')}" for line in part]
            shown += [".. code-block:: text", "", *code, ""]
        else:
            escape(part)
            shown += part
    lines[:] = shown


def _show_options(app: Sphinx, context: Context, lines: list[str]) -> None:
    lines[:] = [_PATH.sub(r"\1", line) for line in lines]
    escape(lines)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_directive("file-format", FileFormat)
    app.connect("source-read", _show_root_page)
    app.connect("autodoc-process-docstring", _escape_docstring)
    app.connect("sphinx-click-process-description", _show_help)
    app.connect("sphinx-click-process-options", _show_options)
    return {"parallel_read_safe": True}
