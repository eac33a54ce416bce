"""Write the tree in ARCHITECTURE.md from files and docstrings: `python docs/make_tree.py`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
_PACKAGES = ("ladder", "vqatool")
_BLOCK = re.compile(
    r"(?<=<!-- tree: python docs/make_tree\.py -->\n```text\n).*?(?=^```$)", re.M | re.S
)


def tree() -> str:
    """Every folder and module of the packages with the first sentence of its docstring."""
    return "".join(f"{line}\n" for package in _PACKAGES for line in _lines(ROOT / package, 0))


def with_tree(page: str) -> str:
    """The page with the present tree in its marked block."""
    return _BLOCK.sub(lambda found: tree(), page)


def _lines(folder: Path, depth: int) -> Iterator[str]:
    yield _line(f"{folder.name}/", folder / "__init__.py", depth)
    inside = sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name))
    for path in inside:
        if path.suffix == ".py" and path.name != "__init__.py":
            yield _line(path.name, path, depth + 1)
        elif (path / "__init__.py").exists():
            yield from _lines(path, depth + 1)


def _line(name: str, module: Path, depth: int) -> str:
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    first = re.split(r"\.(?:\s|$)|\n\n", text, maxsplit=1)[0]
    return f"{'    ' * depth + name:<32}{' '.join(first.split())}".rstrip()


if __name__ == "__main__":
    ARCHITECTURE.write_text(with_tree(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
