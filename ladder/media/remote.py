"""Remote paths: files in object storage and on web servers, by URL, beside paths of files here.

A `RemotePath` is a `Path`, so that whatever reads, names or sorts files takes it. It is pickled as
its URL and what is known of the object, so that all workers read the same version of it, or none.
Its text has no password and no signature in it.
"""

import contextlib
import functools
import glob
import io
import os
import re
import shutil
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PosixPath
from typing import IO, Any, cast

from ladder.errors import RemoteError
from ladder.media.stores import (
    Facts,
    Store,
    is_whole_bucket,
    split_address,
    store_of,
    without_secrets,
)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
_MAGIC = re.compile(r"[*?[]")
_WEB = ("http://", "https://")

_BLOCKS_A_FILE = 512
_MIN_BLOCK_BYTES, _MAX_BLOCK_BYTES = 2**16, 2**20
_MAX_BLOCKS = 96  # in the memory of a process
_COPY_BYTES = 2**23
_MAX_COPIES_BYTES = 2**34


def is_url(text: str) -> bool:
    """Whether a text names something remote; `file://` does not."""
    return bool(_URL.match(text)) and not text.startswith("file://")


def shown(named: Iterable[str]) -> str:
    """What a user named, in a message: joined, and without what is secret in URLs."""
    return ", ".join(without_secrets(each) if is_url(each) else each for each in named)


def as_path(named: str | os.PathLike[str]) -> Path:
    """The path that a text names: remote if it is a URL, else here."""
    if isinstance(named, Path):
        return named
    text = os.fspath(named)
    if is_url(text):
        return RemotePath.of(_SIGNED.get(text, text))
    return Path(text.removeprefix("file://"))


def as_it_is_now(path: Path) -> Path:
    """The path without what was known of an object, which may have been replaced since."""
    return RemotePath.of(path.address) if isinstance(path, RemotePath) else path


def path_in(folder: Path, named: str) -> Path:
    """The path that a cell of a table names: a URL, or relative to a folder."""
    return as_path(named) if is_url(named) else folder / named


_SIGNED: dict[str, str] = {}
"""The URLs of this run that are signed, by what is shown of them: tables hold nothing secret."""


class RemotePath(PosixPath):
    """A file, or everything below a prefix, in a store that a URL names."""

    _address = ""  # as given, with what opens it
    _facts: Facts | None = None

    @classmethod
    def of(cls, address: str, facts: Facts | None = None) -> "RemotePath":
        """The path of a URL, and what a listing said of the object."""
        path = cls(address)
        path._address, path._facts = address, facts
        if (shown := str(path)) != address:
            _SIGNED[shown] = address
        return path

    @property
    def address(self) -> str:
        """The URL, with what is secret in it."""
        return self._address or _COLLAPSED.sub(r"\1://", super().__str__(), count=1)

    def __str__(self) -> str:
        return without_secrets(self.address)

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return RemotePath.of, (self.address, self._facts)

    @property
    def name(self) -> str:
        """The last part of the path, without the query of a URL."""
        return super().name.partition("?")[0] if self.address.startswith(_WEB) else super().name

    def beside(self, name: str) -> "RemotePath":
        """The object of another name at the same place."""
        return RemotePath.of(f"{self.address.rpartition('/')[0]}/{name}")

    @property
    def store(self) -> Store:
        """What keeps the object."""
        return store_of(split_address(self.address)[0])

    @property
    def key(self) -> str:
        """The name of the object in its store."""
        return split_address(self.address)[1]

    @property
    def is_known(self) -> bool:
        """Whether `facts` asks for nothing."""
        return self._facts is not None

    def facts(self) -> Facts:
        """Size, entity tag and time of the object: one request for each instance.

        Raises:
            FileNotFoundError: there is none.
            RemoteError: its store cannot be asked.
        """
        if self._facts is None:
            self._facts = self.store.facts(self.key)
        return self._facts

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and time; all else of it means nothing."""
        size, _, modified_s = self.facts()
        times = (modified_s,) * 3
        return os.stat_result((stat.S_IFREG | 0o644, 0, 0, 1, 0, 0, size, *map(int, times)))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is such an object."""
        try:
            self.facts()
        except FileNotFoundError:
            return False
        return True

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is such an object."""
        return self.exists()

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is no object and there are objects below it; asks as little as it can."""
        if self.address.startswith(_WEB):
            return False
        if self.address.endswith("/") or is_whole_bucket(self.address):
            return True
        return not self.exists() and next(self.store.each(self.key), None) is not None

    def packed(self) -> bytes:
        """All that is known of it, in a tenth of the memory; see `unpacked`."""
        facts = self.facts()
        return "\0".join((self.address, *map(str, facts))).encode("utf-8", "surrogateescape")

    @classmethod
    def unpacked(cls, content: bytes) -> "RemotePath":
        """The path of which `packed` made these bytes."""
        address, size, etag, modified_s = content.decode("utf-8", "surrogateescape").split("\0")
        return cls.of(address, Facts(int(size), etag, float(modified_s)))

    def is_symlink(self) -> bool:
        """Never."""
        return False

    def samefile(self, other_path: str | os.PathLike[str]) -> bool:
        """Whether the other one has the same URL."""
        return self == as_path(other_path)

    def absolute(self) -> "RemotePath":
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> "RemotePath":
        """Itself."""
        return self

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """The object to read: as bytes, or as text."""
        if set(mode) - set("rbt"):
            raise RemoteError(f"{self} cannot be written in place")
        file = cast("IO[bytes]", RemoteFile(self))
        return file if "b" in mode else io.TextIOWrapper(file, encoding or "utf-8", errors, newline)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        with contextlib.suppress(FileNotFoundError):
            self.store.delete(self.key)

    def below(self) -> Iterator["RemotePath"]:
        """Every object below this prefix, page by page, as the store sorts them."""
        root = split_address(self.address)[0].rstrip("/")
        for key, facts in self.store.each(self.key):
            yield RemotePath.of(f"{root}/{key}", facts)

    def matching(self) -> Iterator["RemotePath"]:
        """The objects that this path is a pattern for: `**` for any depth."""
        scheme_root = split_address(self.address)[0]
        start = _MAGIC.split(self.key)[0].rpartition("/")[0]
        pattern = re.compile(_translated(self.key))
        for path in RemotePath.of(f"{scheme_root}/{start}").below():
            is_hidden = "/." in f"/{path.key}" and "/." not in f"/{self.key}"
            if pattern.fullmatch(path.key) and not is_hidden:
                yield path

    def glob(self, pattern: str) -> Iterator["RemotePath"]:  # type: ignore[override]
        """The objects below this prefix that a pattern stands for."""
        return RemotePath.of(f"{glob.escape(self.address.rstrip('/'))}/{pattern}").matching()

    def is_pattern(self) -> bool:
        """Whether it has signs of a pattern and is no object; on the web, `?` begins a query."""
        has_signs = not self.address.startswith(_WEB) and bool(_MAGIC.search(self.key))
        return has_signs and not self.exists()


class RemoteFile(io.RawIOBase):
    """An object as a file to read: in blocks, of which a process remembers the latest.

    A file has about 512 blocks, so that whoever reads a part of it fetches little else.
    """

    def __init__(self, path: RemotePath) -> None:
        super().__init__()
        self._path, self._facts, self._place = path, path.facts(), 0
        self.name = path.name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._facts.size_bytes}
        self._place = max(0, start[whence] + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        block_bytes = block_size(self._facts.size_bytes)
        while done < len(view) and self._place < self._facts.size_bytes:
            number, within = divmod(self._place, block_bytes)
            part = _block(self._path, self._facts, number)[within : within + len(view) - done]
            view[done : done + len(part)] = part
            done += len(part)
            self._place += len(part)
        return done


def block_size(size_bytes: int) -> int:
    """The bytes of the blocks that a file of this size is read in."""
    wanted = 1 << (size_bytes // _BLOCKS_A_FILE).bit_length()
    return min(max(wanted, _MIN_BLOCK_BYTES), _MAX_BLOCK_BYTES)


@functools.lru_cache(maxsize=_MAX_BLOCKS)
def _block(path: RemotePath, facts: Facts, number: int) -> bytes:
    start = number * block_size(facts.size_bytes)
    end = min(start + block_size(facts.size_bytes), facts.size_bytes)
    return path.store.read(path.key, start, end, facts.etag)


def require_access(paths: Iterable[Path]) -> None:
    """Ask each bucket once, so that wrong credentials are one error before any work.

    Raises:
        RemoteError: a bucket takes no credentials that are here, or cannot be reached.
        CapabilityError: the package that reads a URL is not installed.
    """
    asked = set()
    for path in paths:
        if isinstance(path, RemotePath) and (root := split_address(path.address)[0]) not in asked:
            asked.add(root)
            store = path.store
            if not path.address.startswith(_WEB):
                _check(store, path.key)


def _check(store: Store, key: str) -> None:
    try:
        store.check(key)
    except FileNotFoundError:
        pass  # its row says so
    except RemoteError as error:
        if error.is_for_all:
            raise


class LocalCopies(contextlib.AbstractContextManager["LocalCopies"]):
    """Remote files as files here, for programs that read no URL; all are gone at the end.

    Those that nobody holds are kept for the next one as far as there is room.
    """

    def __init__(self, max_bytes: int = _MAX_COPIES_BYTES) -> None:
        self._max_bytes, self._lock = max_bytes, threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._holders: Counter[RemotePath] = Counter()
        self._files: dict[RemotePath, Path] = {}  # the longest unused first

    def __reduce__(self) -> tuple[Any, ...]:
        return _copies_elsewhere, (dict(_SIGNED),)

    def __exit__(self, *_: object) -> None:
        if self._folder:
            self._folder.cleanup()

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[Path], Path]]:
        """What gives the local file of a path, which stays until the end of the block."""
        mine: list[RemotePath] = []

        def localized(path: Path) -> Path:
            if not isinstance(path, RemotePath):
                return path
            with self._lock:  # one download at a time
                self._holders[path] += 1
                mine.append(path)
                file = self._files.pop(path, None) or self._copied(path)
                self._files[path] = file
                return file

        try:
            yield localized
        finally:
            with self._lock:
                self._holders.subtract(mine)
                self._make_room(0)

    def named(self, message: str) -> str:
        """A message about a copy as one about what it is a copy of."""
        for path, file in list(self._files.items()):
            message = message.replace(str(file), str(path))
        return message

    def _copied(self, path: RemotePath) -> Path:
        self._make_room(path.facts().size_bytes)
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="vqatool-")
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        try:
            download(path, folder / path.name)
        except BaseException:
            shutil.rmtree(folder)
            raise
        return folder / path.name

    def _make_room(self, num_bytes: int) -> None:
        unused = [path for path in self._files if not self._holders[path]]
        sizes = {path: path.facts().size_bytes for path in self._files}
        for path in unused:
            if sum(sizes.values()) + num_bytes <= self._max_bytes:
                return
            del sizes[path]
            shutil.rmtree(self._files.pop(path).parent)


def _copies_elsewhere(signed: dict[str, str]) -> LocalCopies:
    """The copies of another process, which may be ended at any time: it keeps no file that waits.

    Texts of paths in tables mean there what they mean here.
    """
    _SIGNED.update(signed)
    return LocalCopies(0)


def download(path: RemotePath, to: Path) -> None:
    """Copy an object into a local file.

    Raises:
        FileNotFoundError: there is none.
        RemoteError: it cannot be read.
    """
    size, etag, _ = path.facts()
    with to.open("wb") as file:
        for start in range(0, size, _COPY_BYTES):
            file.write(path.store.read(path.key, start, min(start + _COPY_BYTES, size), etag))


def upload(file: Path, path: RemotePath) -> None:
    """Copy a local file into an object.

    Raises:
        RemoteError: it cannot be written.
    """
    path.store.put(path.key, file)
    path._facts = None


@contextlib.contextmanager
def written_to(path: Path) -> Iterator[Path]:
    """A file here that becomes `path` at the end of the block: itself, unless `path` is remote."""
    if not isinstance(path, RemotePath):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="vqatool-") as folder:
        local = Path(folder) / path.name
        yield local
        upload(local, path)


def _translated(pattern: str) -> str:
    """A glob as a regular expression: `*` stays between two slashes, `**` does not."""
    found = ""
    for piece in re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern):
        known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(piece)
        is_set = piece.startswith("[") and piece.endswith("]")
        found += known or (piece.replace("[!", "[^") if is_set else re.escape(piece))
    return found
