"""Files that this program writes: none of another program is overwritten, caches have one place."""

import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ladder import storage
from ladder.media.remote import RemotePath
from vqatool.errors import OutputNameError

PNG_METADATA = {"Software": "vqatool"}
"""The text chunk by which a picture of ours is known; give it to matplotlib's `savefig`."""


SVG_MARK = "<!-- vqatool -->"
"""The comment by which a drawing of ours is known; write it in front of the drawing."""


_EXPORTED_MARK = b"vqatool.engine"  # a name in the metadata of an exported model


_TEXT_START_BYTES = 4096


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def cache_folder() -> Path:
    """The user's folder for caches of this program; may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "vqatool"


def require_own_files(
    tables: Mapping[Path, Sequence[str]] = MappingProxyType({}),
    pictures: Sequence[Path] = (),
    models: Sequence[Path] = (),
) -> None:
    """Refuse to overwrite a file that this program did not write; call it before any work.

    Args:
        tables: CSV files to write, each with the first columns of its header.
        pictures: PNG and SVG files to write. A PNG without our mark counts as ours if matplotlib
            drew it and all of `tables` are there: version 0.1 wrote no mark.
        models: model files to write.

    Raises:
        OutputNameError: one of these files exists and is of another program.
        OutputError: one of them cannot be written.
    """
    has_own_tables = bool(tables) and all(path.exists() for path in tables)
    for path, columns in tables.items():
        if path.exists() and not _has_header(path, columns):
            raise _foreign(path)
    for path in models:
        if path.exists() and not _is_own_model(path):
            raise _foreign(path)
    for path in pictures:
        makers = ("vqatool", "Matplotlib") if has_own_tables else ("vqatool",)
        is_ours = _is_own_drawing(path) or _png_software(path).startswith(makers)
        if path.exists() and not is_ours:
            raise _foreign(path)
    require_writable([*tables, *pictures, *models])


def require_own_texts(paths: Iterable[Path]) -> None:
    """The same for other text files to write: ours name this program near their start.

    Raises:
        OutputNameError: one of these files exists and is of another program.
        OutputError: one of them cannot be written.
    """
    paths = list(paths)
    for path in paths:
        if path.exists() and not _names_this_program(path):
            raise _foreign(path)
    require_writable(paths)


def require_writable(paths: Iterable[Path]) -> None:
    """Refuse, before any work, files of this machine that could not be written at its end.

    A device, such as `/dev/stdout`, can be written to.

    Raises:
        OutputError: one of them, or a folder for it, cannot be created.
    """
    for path in paths:
        if not isinstance(path, RemotePath) and not is_device(path):
            storage.require_writable(path)


def is_device(path: Path) -> bool:
    """Whether a path is there and is neither a file nor a folder: it is written to in place."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _foreign(path: Path) -> OutputNameError:
    return OutputNameError(
        f"{path} exists and vqatool did not write it: choose another name with -o, or move that "
        "file away"
    )


def _has_header(path: Path, columns: Sequence[str]) -> bool:
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return not first or first.startswith(",".join(columns))


def _names_this_program(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"vqatool" in file.read(_TEXT_START_BYTES)


def _is_own_model(path: Path) -> bool:
    """Whether the header of a safetensors file, or an exported file, has a model card of ours."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".onnx":
        return _EXPORTED_MARK in path.read_bytes()
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if length > path.stat().st_size:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    return isinstance(header, dict) and "vqatool" in header.get("__metadata__", {})


def _is_own_drawing(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SVG_MARK)) == SVG_MARK.encode()


def _png_software(path: Path) -> str:
    """The text of a PNG's chunk `Software`; empty if there is none or the file is no PNG."""
    if not path.is_file():
        return ""
    for kind, body in _png_chunks(path):
        keyword, _, text = body.partition(b"\0")
        if kind == b"tEXt" and keyword == b"Software":
            return text.decode("latin-1")
    return ""


def _png_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk in front of the pixels (PNG specification, section 5.3)."""
    with path.open("rb") as file:
        if file.read(8) != _PNG_SIGNATURE:
            return
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            (length,) = struct.unpack(">I", head[:4])
            yield head[4:], file.read(length)
            file.read(4)  # its checksum
