"""Object stores and web servers: facts, ranges of bytes, listings and uploads, by URL.

obstore reads S3, Google Cloud Storage, Azure and HTTP; fsspec reads what else it knows. Credentials
come from where the programs of each provider look for them. What a server answers may repeat a
part of them, so no error of these libraries is passed on: each becomes a text of ours.
"""

import contextlib
import errno
import functools
import mimetypes
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

from ladder.errors import CapabilityError, RemoteError

_BUCKETS = frozenset({"s3", "s3a", "gs", "az", "azure", "abfs", "abfss"})
_WEB = frozenset({"http", "https"})
_S3 = frozenset({"s3", "s3a"})

_VARIABLES = ("AWS_", "AZURE_", "GOOGLE_")

_TRIES, _WAIT_S = 4, 0.5
_BACKOFF = {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5)}
_PATIENT: dict[str, Any] = {
    "client_options": {"timeout": timedelta(seconds=30)},  # of one request
    "retry_config": {
        "max_retries": 8,
        "retry_timeout": timedelta(seconds=60),
        "backoff": _BACKOFF,
    },
}
_BRIEF: dict[str, Any] = {
    "client_options": {"timeout": timedelta(seconds=3), "connect_timeout": timedelta(seconds=2)},
    "retry_config": {
        "max_retries": 2,
        "retry_timeout": timedelta(seconds=2),
        "backoff": _BACKOFF,
    },
}
_PAGE = 1000  # keys of a listing at once

_REFUSED = re.compile(r"status code: 40[13]")

# of obstore's log of an error, where no server was asked at all
_UNREACHED = re.compile(r"kind: Connect,|\(\s+Connect,")

# of keys that are half there or no keys, and of where machines in a cloud find theirs
_NO_CREDENTIALS = re.compile(
    "Missing (SecretAccessKey|AccessKeyId)|service account file|Invalid Access Key:|token request"
    "|/latest/(api/token|meta-data)|/computeMetadata/|/metadata/identity"
)

# of credentials that are no good at all, whatever is asked for: S3's codes, Azure's, and 401
_BAD_CREDENTIALS = re.compile(
    "<Code>(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|"
    "TokenRefreshRequired|AuthenticationFailed|InvalidAuthenticationInfo)<|status code: 401"
)
_WHERE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or AWS_SKIP_SIGNATURE=true",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, gcloud, or GOOGLE_SKIP_SIGNATURE=true",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_USE_AZURE_CLI=true",
    "http": "a URL that is signed",
}


class Facts(NamedTuple):
    """Size, entity tag and time of last change (seconds of the epoch) of an object.

    Of one without an entity tag, the time of its last change stands for it.
    """

    size_bytes: int
    etag: str
    modified_s: float


class Store(Protocol):
    """What keeps objects: a bucket, one address of the web, or a file system of fsspec."""

    def check(self, key: str) -> None:
        """Ask for a byte of an object or, of a folder, for a name; waits some seconds at most.

        Does nothing where an answer has been had.

        Raises:
            RemoteError: it cannot be had; `is_for_all`: nor can anything else of the store.
        """

    def facts(self, key: str) -> Facts:
        """Of one object.

        Raises:
            FileNotFoundError: there is none.
            RemoteError: it cannot be asked for.
        """

    def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        """The bytes from `start` to before `end`, of the version with that entity tag."""

    def each(self, prefix: str) -> Iterator[tuple[str, Facts]]:
        """The key and the facts of every object below a folder, page by page."""

    def put(self, key: str, file: Path) -> None:
        """Upload a local file."""

    def delete(self, key: str) -> None:
        """Delete one object."""


def store_environment() -> dict[str, str]:
    """The variables of the environment by which stores are found and opened."""
    return {name: text for name, text in os.environ.items() if name.startswith(_VARIABLES)}


def split_address(address: str) -> tuple[str, str]:
    """The store and the key of an address; what the web says of a file is a store of its own."""
    scheme, _, rest = address.partition("://")
    if scheme in _BUCKETS:
        bucket, _, key = rest.partition("/")
        return f"{scheme}://{bucket}", key
    return address, ""


def is_whole_bucket(address: str) -> bool:
    """Whether an address is that of a bucket, and of nothing in it."""
    root, key = split_address(address)
    return root.partition("://")[0] in _BUCKETS and not key


@functools.lru_cache(maxsize=64)
def store_of(root: str) -> Store:
    """The store of an address that `split_address` gives.

    Raises:
        CapabilityError: the package for it is not installed.
        RemoteError: its settings are missing.
    """
    scheme = root.partition("://")[0]
    if scheme in _BUCKETS | _WEB:
        return _Bucket(root)
    return _FileSystem(root)


class _Bucket:
    """Objects that obstore reads."""

    def __init__(self, root: str) -> None:
        try:
            import obstore.exceptions
            import obstore.store
        except ImportError as error:
            raise _needs("obstore", root) from error
        self._errors = obstore.exceptions
        self._shown, self._scheme = without_secrets(root), root.partition("://")[0]
        self._root, self._open, self._is_checked = root, obstore.store.from_url, False
        self._store = self._opened(_PATIENT)

    def _opened(self, waits: dict[str, Any]) -> Any:
        with self._translated(""):
            return self._open(self._root, **waits | self._settings(waits["client_options"]))

    def _settings(self, client: dict[str, Any]) -> dict[str, Any]:
        # a server of one's own, such as MinIO, may have no certificate
        named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        is_s3 = self._scheme in _S3
        endpoints = [os.environ.get(each, "") for each in named] if is_s3 else [self._root]
        is_plain = any(each.startswith("http:") for each in endpoints)
        found = {"client_options": client | ({"allow_http": True} if is_plain else {})}
        return found | (_aws_credentials() if is_s3 else {})

    def check(self, key: str) -> None:
        if self._is_checked:
            return
        store = self._opened(_BRIEF)
        with self._translated(key):
            if key and not key.endswith("/"):
                store.get(key, options={"range": (0, 1)})
            else:
                next(iter(store.list(key.strip("/"), chunk_size=1)), None)
        self._is_checked = True

    def facts(self, key: str) -> Facts:
        with self._translated(key):
            if self._scheme in _WEB:
                # a URL that is signed is signed for GET, and refuses HEAD
                try:
                    return _facts(self._store.get(key, options={"range": (0, 1)}).meta)
                except self._errors.GenericError as error:
                    if _UNREACHED.search(str(error)):
                        raise
            return _facts(self._store.head(key))

    def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        options: Any = {"range": (start, end)}
        if _is_strong(etag):
            options["if_match"] = etag
        for number in range(_TRIES):
            with self._translated(key):
                try:
                    found = bytes(self._store.get(key, options=options).bytes())
                    if len(found) == end - start:
                        return found
                except self._errors.GenericError as error:
                    # obstore tries again itself, but for an answer that was cut in the middle
                    if number == _TRIES - 1 or "Error performing" in str(error):
                        raise
            time.sleep(_WAIT_S * 2**number)
        raise RemoteError(f"{self._url(key)} sent fewer bytes than it has, {_TRIES} times")

    def each(self, prefix: str) -> Iterator[tuple[str, Facts]]:
        if self._scheme in _WEB:
            raise RemoteError(
                f"{self._shown} is no file, and web servers list none: name files, or a list of "
                "them as @FILE"
            )
        with self._translated(prefix):
            for page in self._store.list(prefix.strip("/"), chunk_size=_PAGE):
                yield from ((each["path"], _facts(each)) for each in page)

    def put(self, key: str, file: Path) -> None:
        if self._scheme in _WEB:
            raise RemoteError(f"{self._shown} cannot be written: name a bucket or a local file")
        with self._translated(key):
            kind = mimetypes.guess_type(key)[0]  # else a browser saves a page and does not show it
            self._store.put(key, file, attributes={"Content-Type": kind} if kind else None)

    def delete(self, key: str) -> None:
        with self._translated(key):
            self._store.delete(key)

    def _url(self, key: str) -> str:
        return f"{self._shown}/{key}" if key else self._shown

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Errors of obstore as ours; `from None`, because theirs may repeat what is secret."""
        subject, errors = self._url(key), self._errors
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), subject) from None
        except errors.PreconditionError:
            raise RemoteError(f"{subject} changed while it was read: run again") from None
        except (errors.BaseError, ValueError) as error:
            raise self._remote_error(subject, str(error)) from None

    def _remote_error(self, subject: str, answer: str) -> RemoteError:
        where = _WHERE[_kind(self._scheme)]
        if _NO_CREDENTIALS.search(answer):
            reason = f"there are no usable credentials: set {where}"
            return RemoteError(f"{subject}: {reason}", is_for_all=True)
        if _REFUSED.search(answer):  # a listing has no error of its own for it
            return self._refused(subject, answer, where)
        is_for_all = self._scheme in _BUCKETS and bool(_UNREACHED.search(answer))
        return RemoteError(f"{subject} cannot be reached: {_reason(answer)}", is_for_all=is_for_all)

    def _refused(self, subject: str, answer: str, where: str) -> RemoteError:
        if found := _BAD_CREDENTIALS.search(answer):
            reason = f"the credentials are not valid ({found[1] or 401})"
            return RemoteError(f"{subject}: {reason}: set {where}", is_for_all=True)
        return RemoteError(f"{subject} may not be accessed: it needs other credentials ({where})")


class _FileSystem:
    """What fsspec has a file system for; the whole URL is one store."""

    def __init__(self, root: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise _needs("fsspec", root) from error
        self._shown, self._root = without_secrets(root), root
        scheme = root.partition("://")[0]
        try:
            self._system, self._path = url_to_fs(root)
        except ImportError as error:
            reason = f"{scheme}:// needs a package: pip install {error.name or scheme}"
            raise CapabilityError(reason) from None
        except ValueError:
            raise RemoteError(f"{self._shown}: nothing here reads {scheme}://") from None

    def check(self, key: str) -> None:
        """Nothing: the errors of these systems do not say what they are about."""

    def facts(self, key: str) -> Facts:
        with self._translated():
            found = self._system.info(self._path)
        if found.get("type") == "directory":
            raise FileNotFoundError(errno.ENOENT, "is a folder", self._shown)
        return _facts_of_info(found)

    def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        with self._translated():
            return bytes(self._system.cat_file(self._path, start, end))

    def each(self, prefix: str) -> Iterator[tuple[str, Facts]]:
        with self._translated():
            found = self._system.find(self._path, detail=True)
        for path, info in sorted(found.items()):
            yield path.removeprefix(self._path).strip("/"), _facts_of_info(info)

    def put(self, key: str, file: Path) -> None:
        with self._translated():
            self._system.makedirs(self._path.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(file), self._path)

    def delete(self, key: str) -> None:
        with self._translated():
            self._system.rm_file(self._path)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._shown) from None
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own
            reason = f"{self._shown} cannot be reached: {type(error).__name__}"
            raise RemoteError(reason) from None


def without_secrets(url: str) -> str:
    """A URL without user and password, and without what signs it.

    What else a query has stays: it may say which video is meant.
    """
    scheme, mark, rest = url.partition("://")
    place, question, query = rest.partition("?") if scheme in _WEB else (rest, "", "")
    host, slash, path = place.partition("/")
    kept = [each for each in query.split("&") if each and not _is_secret(each)]
    end = question + "&".join(kept) if kept else ""
    if scheme in _HAVE_USERS:
        host = host.rpartition("@")[2]
    return f"{scheme}{mark}{host}{slash}{path}{end}"


_HAVE_USERS = _WEB | {"ftp", "sftp", "ssh", "smb", "webdav", "webhdfs", "hdfs"}
_SECRET = re.compile(
    r"x-(amz|goog|ms|oss|cos)-|sig|sign|.*(signature|token|key|secret|pass|auth|credential|policy)"
    r"|hdn|expires$|s[eprtvk]$|sp?r$|sk\w+$",
    re.IGNORECASE,
)


def _is_secret(pair: str) -> bool:
    """Whether a part of a query signs it; SAS of Azure has names of two letters."""
    return bool(_SECRET.match(unquote(pair.partition("=")[0])))


def _needs(package: str, url: str) -> CapabilityError:
    return CapabilityError(f"{without_secrets(url)} needs {package}: pip install 'vqatool[cloud]'")


def _kind(scheme: str) -> str:
    if scheme in _S3:
        return "s3"
    return "az" if scheme.startswith(("az", "abfs")) else "http" if scheme in _WEB else scheme


def _aws_credentials() -> dict[str, Any]:
    """What botocore finds, which also knows ~/.aws; obstore knows the environment alone."""
    if {"AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"} & set(os.environ):
        return {}
    try:
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return {}  # of a machine in the cloud, obstore finds them
    try:
        return {"credential_provider": Boto3CredentialProvider()}
    except ValueError:
        reason = f"there are no credentials for S3: set {_WHERE['s3']}"
    except BotoCoreError as error:  # its text may repeat what a program of the user's wrote
        reason = f"~/.aws gives no credentials for S3 ({type(error).__name__}): check AWS_PROFILE"
    raise RemoteError(reason, is_for_all=True) from None


def _is_strong(etag: str) -> bool:
    """Whether a server compares this entity tag (RFC 9110, section 13.1.1)."""
    return etag.startswith('"')


def _facts(found: Any) -> Facts:
    modified: datetime = found["last_modified"]
    etag = found["e_tag"] or modified.isoformat()
    return Facts(found["size"], etag, modified.timestamp())


def _facts_of_info(info: dict[str, Any]) -> Facts:
    named = {key.lower().replace("_", ""): value for key, value in info.items()}
    changed = named.get("mtime") or named.get("lastmodified") or named.get("created") or ""
    seconds = changed.timestamp() if isinstance(changed, datetime) else changed
    return Facts(
        int(info["size"] or 0),
        str(named.get("etag") or changed),
        float(seconds) if isinstance(seconds, int | float) else 0.0,
    )


def _reason(answer: str) -> str:
    """What went wrong, from the text of an error, without anything of its own words."""
    answer = answer.partition("Debug source")[0]
    for sign, reason in _REASONS.items():
        if re.search(sign, answer):
            return reason
    if found := re.search(r"status code: (\d{3} [A-Z][A-Za-z ]+)", answer):
        return f"the server answers {found[1].strip()}"
    if "timed out" in answer:
        return "the server takes too long"
    return "the connection fails: is the address right, and the network there?"


_REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "status code: 301|missing region": "the bucket is in another region: set AWS_REGION",
    "empty path segment": "a key has an empty part, as in a//b, which obstore does not read",
    "Account must be specified": f"there is no account: set {_WHERE['az']}",
    "Range request not supported": "the server sends no ranges of a file: download it first",
}
"""By what the text of an error has in it; the first that is found."""
