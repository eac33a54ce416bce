"""A real S3 server (moto), which counts what it sends and fails where a test asks it to."""

import contextlib
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET = "AKIAEXAMPLEKEY", "thisIsVerySecret/0123456789"
BUCKET = "videos"

Fault = Callable[[int, dict[str, Any]], str]
"""What goes wrong with the nth request for an object: "" (nothing), "503", "cut" or "slow"."""


def _no_fault(number: int, environ: dict[str, Any]) -> str:
    return ""


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@dataclass
class ObjectStore:
    """The server. `sent` are the bytes of each key that GET requests were answered with."""

    fault: Fault = _no_fault
    slow_s: float = 0.3
    sent: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    listing: Callable[[dict[str, str]], bytes] | None = None
    """Answers listings instead of moto."""
    refusal: bytes = b""
    """The answer to all requests, with status 403."""

    def __post_init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._count, self._lock = 0, threading.Lock()
        self.server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_Handler
        )
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to read it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    @functools.cached_property
    def client(self) -> Any:
        """Of boto3, to put objects there."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def put(self, key: str, content: bytes | Path) -> str:
        """Put one object; returns its URL."""
        body = content.read_bytes() if isinstance(content, Path) else content
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)
        return f"s3://{BUCKET}/{key}"

    def forget(self) -> None:
        """Begin to count, and without faults."""
        self.sent.clear()
        self.requests.clear()
        self.faults.clear()
        self.fault, self.listing, self.refusal, self._count = _no_fault, None, b"", 0

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, key = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(f"/{BUCKET}/")
        is_listing = "list-type" in environ.get("QUERY_STRING", "")
        if is_listing and self.listing:
            query = dict(p.split("=", 1) for p in environ["QUERY_STRING"].split("&") if "=" in p)
            return _sent(start, "200 OK", self.listing(query))
        if self.refusal:
            return _sent(start, "403 Forbidden", self.refusal)
        with self._lock:
            self._count += 1
            fault = self.fault(self._count, environ)
            self.requests[method] += 1
            self.faults[fault] += 1
        if fault == "503":
            start("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        if fault == "slow":
            time.sleep(self.slow_s)
        body = b"".join(self._app(environ, start))
        if fault == "cut":
            body = body[: len(body) // 2]  # of a length that the header does not have
        if method == "GET":
            self.sent[key] += len(body)
        return [body]


def _sent(start: Any, status: str, body: bytes) -> list[bytes]:
    start(status, [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
    return [body]


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """The server, with an empty bucket."""
    store = ObjectStore()
    thread = threading.Thread(target=store.server.serve_forever, daemon=True)
    thread.start()
    try:
        store.client.create_bucket(Bucket=BUCKET)
        yield store
    finally:
        store.server.shutdown()
        store.server.server_close()
        thread.join()
