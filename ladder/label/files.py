"""Where labels are kept: a table, libvmaf's log of each encode, and the lock of both."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ladder.label.rows import LabelRow, label_row_type
from ladder.media.remote import RemotePath, is_url, path_in
from ladder.storage import Table, digest, locked, part_of, remove_parts, work_lock

LABELS_FILE = "labels.csv"
"""The name of the table in a work folder, which `vqatool train` reads."""

_LOGS_FOLDER = "vmaf"
_LOG_SUFFIX = ".json.gz"
_MAX_NAME_BYTES = 200  # of a file; systems allow 255


@dataclass(frozen=True)
class LabelFiles:
    """The files of one table of labels.

    Attributes:
        folder: what relative paths in the table are relative to.
        table_path: the table.
        logs: folder of libvmaf's logs.
    """

    folder: Path
    table_path: Path
    logs: Path

    @classmethod
    def of_folder(cls, folder: Path) -> "LabelFiles":
        """Those of a work folder."""
        return cls.of_table(folder / LABELS_FILE)

    @classmethod
    def of_table(cls, path: Path) -> "LabelFiles":
        """Those of a table of any name."""
        name = _LOGS_FOLDER if path.name == LABELS_FILE else f"{path.stem}-{_LOGS_FOLDER}"
        return cls(path.parent, path, path.parent / name)

    @property
    def is_of_work_folder(self) -> bool:
        """Whether the table is the one that `vqatool train` reads in its folder."""
        return self.table_path.name == LABELS_FILE

    @property
    def table(self) -> Table[LabelRow]:
        """The table that stage 2 writes."""
        return Table(self.table_path, label_row_type())

    def path(self, named: str) -> Path:
        """The file that a cell of the table names."""
        return path_in(self.folder, named)

    def log(self, encode_path: str) -> Path:
        """The file of libvmaf's log of an encode; `encode_path` as the table has it."""
        name = Path(encode_path).name
        is_long = len(os.fsencode(name)) > _MAX_NAME_BYTES
        if Path(encode_path).is_absolute() or is_url(encode_path) or is_long:
            # 40 letters are 160 bytes at most
            return self.logs / f"{digest(encode_path, size=6)}-{name[:40]}{_LOG_SUFFIX}"
        return self.logs / f"{encode_path}{_LOG_SUFFIX}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the files and remove what interrupted runs left.

        Raises:
            LockedError: another run holds it.
        """
        with self._lock():
            part_of(self.table_path).unlink(missing_ok=True)
            remove_parts(self.logs)  # other runs may be busy elsewhere below the folder
            yield

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        if self.is_of_work_folder:  # whose other stages must wait too
            return work_lock(self.table_path.parent)
        lock = self.table_path.with_name(f".{self.table_path.name}.lock")
        in_use = f"{self.table_path} is in use by another run: wait for it to end"
        return locked(lock, in_use, self.table_path)

    def shown(self, path: Path) -> str:
        """A path as the table has it: relative if the file lies below the folder, else absolute.

        Both move together where it lies below; links of folders are followed, that of the file is
        not.
        """
        if isinstance(path, RemotePath):
            return str(path)
        full = path.parent.resolve() / path.name
        folder = self.folder.resolve()
        return str(full.relative_to(folder) if full.is_relative_to(folder) else full)
