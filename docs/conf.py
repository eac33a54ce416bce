"""How Sphinx builds this documentation: `sphinx-build -W docs docs/_build`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from vqatool import __version__  # noqa: E402 - the path of the package is set above

project = "vqatool"
copyright = "2026, the vqatool developers"
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_extension",
]
exclude_patterns = ["_build"]

# two dashes are an option, not a dash
smartquotes = False

html_theme = "furo"
html_title = f"vqatool {release}"

# headings of every level can be linked as page.md#heading, as on a code host
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# a shell block may hold what no lexer knows, such as <placeholders>
suppress_warnings = ["misc.highlighting_failure"]

# single backticks in docstrings are code
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
