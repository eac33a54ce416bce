"""Files in object storage, read from a real S3 server, which fails as servers do."""

import contextlib
import http.server
import io
import os
import pickle
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ladder.errors import CapabilityError, RemoteError, VideoError
from ladder.media import remote, stores
from ladder.media.decode import frames_at
from ladder.media.discover import FileFilter, expand_arguments, find_videos
from ladder.media.probe import Size, probe
from ladder.media.remote import LocalCopies, RemotePath, as_path, block_size, written_to
from tests.conftest import MakeVideo
from tests.object_store import BUCKET, KEY, SECRET, ObjectStore


def names(url: str, **wanted: Any) -> list[str]:
    found = find_videos(expand_arguments([url], io.BytesIO()), FileFilter(**wanted))
    return [path.name for path in found.videos]


@pytest.mark.parametrize("url", ["s3://b/k", "gs://b/a/k.mp4", "https://h/a/k.mp4", "memory://k"])
def test_a_path_has_the_text_of_its_url_and_is_pickled_as_it(url: str) -> None:
    path = as_path(url)
    assert isinstance(path, RemotePath)
    assert str(path) == os.fspath(path) == url
    again = pickle.loads(pickle.dumps(path))
    assert again == path
    assert hash(again) == hash(path)
    assert again.address == url
    assert {path, again, as_path("s3://b/other")} == {path, as_path("s3://b/other")}


def test_parts_of_a_path_are_paths() -> None:
    path = as_path("s3://bucket/a/film.mkv")
    assert (path.name, path.stem, path.suffix) == ("film.mkv", "film", ".mkv")
    assert str(path.parent) == "s3://bucket/a"
    assert str(path.with_suffix(".csv")) == "s3://bucket/a/film.csv"
    assert str(path.parent / "b.mp4") == "s3://bucket/a/b.mp4"
    assert path.relative_to(path.parent).as_posix() == "film.mkv"
    assert as_path("https://host/film.mp4?v=1").suffix == ".mp4"
    assert as_path("a/b.mp4") == Path("a/b.mp4")
    assert as_path("file:///a/b.mp4") == Path("/a/b.mp4")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@host/a.mp4", "https://host/a.mp4"),
        ("https://host/a.mp4?X-Amz-Credential=AKIA&X-Amz-Signature=ab&X-Amz-Expires=9",
         "https://host/a.mp4"),
        ("https://host/a.mp4?v=7&token=abc", "https://host/a.mp4?v=7"),
        ("https://h.blob.core.windows.net/c/a.mp4?sv=2022&sp=r&se=2026&sig=x%3D", "https://"
         "h.blob.core.windows.net/c/a.mp4"),
        ("sftp://me:pw@host/a.mp4", "sftp://host/a.mp4"),
        ("s3://bucket/what?.mp4", "s3://bucket/what?.mp4"),
    ],
)  # fmt: skip
def test_what_opens_a_url_is_not_in_its_text(url: str, shown: str) -> None:
    path = as_path(url)
    assert isinstance(path, RemotePath)
    assert str(path) == shown
    assert shown in repr(path)
    assert pickle.loads(pickle.dumps(path)).address == path.address == url
    of_a_table = as_path(shown)
    assert isinstance(of_a_table, RemotePath)
    assert of_a_table == path
    assert of_a_table.address == url


def test_a_remote_video_is_the_one_that_was_put_there(
    store: ObjectStore, source_video: Path
) -> None:
    path = as_path(store.put("a/film.mp4", source_video))
    here, there = probe(source_video), probe(path)
    assert replace(there, path=source_video) == here
    times_s, size = [0.1, 0.5], Size(96, 54)
    assert (frames_at(there, times_s, size) == frames_at(here, times_s, size)).all()


@pytest.mark.parametrize("fault", ["503", "cut", "slow"])
def test_a_flaky_server_costs_tries_and_no_content(
    fault: str, store: ObjectStore, source_video: Path
) -> None:
    url = store.put("a/flaky.mp4", source_video)
    content = source_video.read_bytes()
    store.forget()

    def every_other(number: int, environ: dict[str, Any]) -> str:
        is_read = environ["REQUEST_METHOD"] == "GET"
        return fault if number % 2 and (is_read or fault == "503") else ""

    store.fault = every_other
    assert as_path(url).read_bytes() == content
    assert store.faults[fault]


def test_a_server_that_stays_away_is_an_error_that_names_the_file(
    store: ObjectStore, source_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stores._PATIENT["retry_config"], "max_retries", 1)
    path = as_path(store.put("a/gone.mp4", source_video))
    store.fault = lambda number, environ: "503"
    with pytest.raises(RemoteError, match=r"s3://videos/a/gone\.mp4 cannot be reached.*503"):
        probe(path)


def test_an_object_that_changes_while_it_is_read_is_no_mixture(
    store: ObjectStore, source_video: Path
) -> None:
    content = source_video.read_bytes() * 3
    with as_path(store.put("a/new.mp4", content)).open("rb") as file:
        file.read(10)
        store.put("a/new.mp4", content[::-1])
        with pytest.raises(RemoteError, match="changed while it was read"):
            file.read()


@pytest.mark.parametrize(
    ("key", "code"), [("none.mp4", "missing"), ("empty.mp4", "empty"), ("text.mp4", "not_video")]
)
def test_a_bad_object_has_the_code_of_a_bad_file(key: str, code: str, store: ObjectStore) -> None:
    store.put("bad/empty.mp4", b"")
    store.put("bad/text.mp4", b"dear diary " * 20)
    with pytest.raises(VideoError) as caught:
        probe(as_path(f"s3://{BUCKET}/bad/{key}"))
    assert caught.value.code == code
    assert f"s3://{BUCKET}/bad/{key}" in str(caught.value)


def test_a_remote_playlist_leads_to_no_file_here(store: ObjectStore, source_video: Path) -> None:
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{source_video}\n#EXT-X-ENDLIST\n"
    for key in ("a/list.m3u8", "a/list.mp4"):
        with pytest.raises(VideoError, match=r"copy its folder|opened as video"):
            probe(as_path(store.put(key, text.encode())))


def test_a_prefix_a_bucket_and_a_pattern_are_listed(store: ObjectStore) -> None:
    for key in ("p/one.mp4", "p/q/two ü#.mkv", "p/.hidden/x.mp4", "p/notes.txt", "pp/other.mp4"):
        store.put(key, b"x")
    root = f"s3://{BUCKET}"
    assert names(f"{root}/p/") == ["one.mp4", "two ü#.mkv"]
    assert names(f"{root}/p") == ["one.mp4", "two ü#.mkv"]
    assert {"one.mp4", "other.mp4"} <= set(names(root))
    assert names(f"{root}/p/", exclude=["*.mkv"]) == ["one.mp4"]
    assert names(f"{root}/p/*.mp4") == ["one.mp4"]
    assert names(f"{root}/p*/**/*.m??") == ["one.mp4", "two ü#.mkv", "other.mp4"]
    assert names(f"{root}/p/one.mp4") == ["one.mp4"]
    assert find_videos([as_path(f"{root}/none/")]).videos == ()


def test_segments_of_a_remote_playlist_are_no_videos_of_their_own(store: ObjectStore) -> None:
    store.put("hls/a.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nseg/1.ts\n")
    store.put("hls/seg/1.ts", b"x")
    store.put("hls/seg/2.ts", b"x")
    assert names(f"s3://{BUCKET}/hls/") == ["a.m3u8", "2.ts"]
    template = (
        b'<SegmentTemplate initialization="$RepresentationID$/i.m4s" media="v[1]-$Number$.mp4"/>'
    )
    store.put("dash/t/a.mpd", template)
    for key in ("t/hd/i.m4s", "t/v[1]-7.mp4", "t/v1-7.mp4", "t/hd/v[1]-8.mp4", "u/v[1]-7.mp4"):
        store.put(f"dash/{key}", b"x")
    found = [str(path) for path in find_videos([as_path(f"s3://{BUCKET}/dash/")]).videos]
    own = ["t/a.mpd", "t/hd/v[1]-8.mp4", "t/v1-7.mp4", "u/v[1]-7.mp4"]
    assert found == [f"s3://{BUCKET}/dash/{key}" for key in own]


def page_of_keys(query: dict[str, str], count: int) -> bytes:
    """A page of a listing that no server holds; the token is the number of its first key."""
    first = int(query.get("continuation-token", "0"))
    keys = "".join(
        f"<Contents><Key>made-up/folder-{n // 1000:05}/{n:08}/video.mp4</Key>"
        "<LastModified>2026-11-27T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{n:032x}&quot;</ETag><Size>{n + 1}</Size></Contents>"
        for n in range(first, min(first + 1000, count))
    )
    more = first + 1000 < count
    token = f"<NextContinuationToken>{first + 1000}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{keys}"
        "</ListBucketResult>"
    ).encode()


def test_a_long_listing_takes_little_memory_and_knows_what_resuming_needs(
    store: ObjectStore,
) -> None:
    count = 5_000
    folder = as_path(f"s3://{BUCKET}/made-up/")
    store.listing = lambda query: page_of_keys(query, 1)
    find_videos([folder])  # loads what all listings need
    store.listing = lambda query: page_of_keys(query, count)
    tracemalloc.start()
    found = find_videos([folder])
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(found.videos) == count
    assert kept < 200 * count
    last = found.videos[count - 1]
    assert isinstance(last, RemotePath)
    store.fault = lambda number, environ: "503"  # nobody asks again
    assert last.facts()[:2] == (count, f'"{count - 1:032x}"')
    assert [path.stat().st_size for path in found.videos[:2]] == [1, 2]


def test_credentials_that_are_not_there_or_denied_are_told_without_them(
    store: ObjectStore,
) -> None:
    answer = (
        "<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist</Message>"
        f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign></Error>"
    )
    store.refusal = answer.encode()
    paths = [as_path(f"s3://{BUCKET}/a/{number}.mp4") for number in range(3)]
    with pytest.raises(RemoteError, match=r"InvalidAccessKeyId.*AWS_ACCESS_KEY_ID") as caught:
        find_videos(paths)
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(RemoteError, match="InvalidAccessKeyId"):
        find_videos([as_path(f"s3://{BUCKET}/a/")])
    store.refusal = b"<Error><Code>AccessDenied</Code></Error>"
    assert len(find_videos(paths).videos) == 3  # some may be allowed: each has a row
    with pytest.raises(RemoteError, match="may not be accessed"):
        probe(paths[0])


@pytest.mark.parametrize(
    ("key", "settings", "reason"),
    [
        ("a/", {"AWS_ENDPOINT_URL": "{closed}"}, "the connection fails"),
        ("*.mp4", {"AWS_ENDPOINT_URL": "{full}"}, "the connection fails"),
        ("a.mp4", {"AWS_ACCESS_KEY_ID": ""}, "no usable credentials: set AWS_"),
        ("a/", {"AWS_SECRET_ACCESS_KEY": ""}, "no usable credentials: set AWS_"),
        ("a/", {"AWS_ACCESS_KEY_ID": "", "AWS_PROFILE": "no"}, "ProfileNotFound.*AWS_PROFILE"),
    ],
)
def test_what_is_wrong_with_all_of_a_store_is_told_within_seconds(
    key: str,
    settings: dict[str, str],
    reason: str,
    full_address: str,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "AWS_PROFILE" not in settings:  # obstore then looks where machines in a cloud do
        monkeypatch.setitem(sys.modules, "obstore.auth.boto3", None)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    for name, text in settings.items():
        known = text.format(closed="http://127.0.0.1:9", full=full_address)
        monkeypatch.setenv(name, known) if known else monkeypatch.delenv(name)
    started = time.monotonic()
    with pytest.raises(RemoteError, match=reason):
        names(f"s3://{BUCKET}/{key}")
    assert time.monotonic() - started < 20  # of others, it waits for a minute


@pytest.fixture
def full_address() -> Iterator[str]:
    """The address of a server that takes no connection and refuses none."""
    with socket.socket() as server, contextlib.ExitStack() as held:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_package_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores.store_of.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(CapabilityError, match=r"pip install 'vqatool\[cloud\]'"):
        find_videos([as_path("s3://bucket/a.mp4")])


def test_blocks_are_a_small_part_of_a_file() -> None:
    assert block_size(0) == block_size(10**6) == 2**16
    assert block_size(53_000_000) == 2**17
    assert block_size(10**12) == 2**20


def test_copies_are_bounded_shared_and_gone_at_the_end(store: ObjectStore) -> None:
    paths = [as_path(store.put(f"c/{number}.mp4", b"x" * 100)) for number in range(3)]
    store.forget()
    with LocalCopies(max_bytes=250) as copies:
        for path in (paths[0], paths[0], paths[1]):
            with copies.held() as localized:
                assert localized(path).read_bytes() == b"x" * 100
        assert store.sent == {"c/0.mp4": 100, "c/1.mp4": 100}
        with copies.held() as localized:
            files = [localized(path) for path in paths]
            assert all(file.is_file() for file in files)
            assert copies.named(f"{files[2]} is bad") == f"{paths[2]} is bad"
            assert localized(Path("here.mp4")) == Path("here.mp4")
        assert sum(file.is_file() for file in files) == 2
    assert not any(file.exists() for file in files)


def test_a_copy_that_breaks_off_takes_no_room(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_path(store.put("c/broken.mp4", b"x" * 100))
    made: list[Path] = []

    def download(path: RemotePath, to: Path) -> None:
        to.write_bytes(b"x" * 50)
        made.append(to)
        raise RemoteError("it broke off")

    monkeypatch.setattr(remote, "download", download)
    with LocalCopies() as copies, copies.held() as localized:
        with pytest.raises(RemoteError, match="it broke off"):
            localized(path)
        assert not made[0].parent.exists()


def test_copies_of_another_process_do_not_wait_and_it_knows_what_is_signed(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_path(store.put("c/worker.mp4", b"x" * 100))
    as_path("https://host/a.mp4?X-Amz-Signature=ab")
    sent = pickle.dumps(LocalCopies())
    monkeypatch.setattr("ladder.media.remote._SIGNED", {})  # as in a process that is new
    with pickle.loads(sent) as copies:
        with copies.held() as localized:
            file = localized(path)
            assert file.read_bytes() == b"x" * 100
        assert not file.exists()
    of_a_table = as_path("https://host/a.mp4")
    assert isinstance(of_a_table, RemotePath)
    assert of_a_table.address == "https://host/a.mp4?X-Amz-Signature=ab"


def test_a_file_is_uploaded_when_it_is_whole(store: ObjectStore) -> None:
    path = as_path(f"s3://{BUCKET}/out/page.html")
    with contextlib.suppress(KeyError), written_to(path) as file:
        file.write_text("half")
        raise KeyError
    assert not path.exists()
    with written_to(path) as file:
        file.write_text("whole")
    assert as_path(str(path)).read_text() == "whole"


class _Web(http.server.SimpleHTTPRequestHandler):
    """One file, of which ranges are sent, behind a signature in the query."""

    content, sends_ranges = b"", True

    def do_HEAD(self) -> None:
        self.send_error(403)  # the URL is signed for GET

    def do_GET(self) -> None:
        if self.path != "/film.mp4?v=1&token=s3cret":
            self.send_error(403)
            return
        body, span = self.content, self.headers.get("Range")
        if span and self.sends_ranges:
            first, last = span.removeprefix("bytes=").split("-")
            body = body[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"web"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web(source_video: Path) -> Iterator[str]:
    _Web.content = source_video.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_web_server_is_read_in_ranges_and_signatures_stay_unseen(
    web: str, source_video: Path
) -> None:
    path = as_path(f"{web}/film.mp4?v=1&token=s3cret")
    assert replace(probe(path), path=source_video) == probe(source_video)
    with pytest.raises(RemoteError, match="may not be accessed") as caught:
        probe(as_path(f"{web}/film.mp4?v=2&token=wr0ng"))
    assert "wr0ng" not in str(caught.value)


def test_a_web_server_without_ranges_is_told(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Web, "sends_ranges", False)
    monkeypatch.setattr(_Web, "do_HEAD", _Web.do_GET)
    with pytest.raises(RemoteError, match="sends no ranges"):
        probe(as_path(f"{web}/film.mp4?v=1&token=s3cret"))


def test_another_file_system_of_fsspec_is_read_too(source_video: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/folder/film.mp4", source_video.read_bytes())
    try:
        path = as_path("memory://folder/film.mp4")
        assert replace(probe(path), path=source_video) == probe(source_video)
        assert names("memory://folder/") == ["film.mp4"]
        with pytest.raises(RemoteError, match="nothing here reads nowhere://"):
            probe(as_path("nowhere://folder/film.mp4"))
    finally:
        memory.rm("/folder", recursive=True)


def test_a_part_of_a_long_file_is_read_by_its_blocks(
    store: ObjectStore, make_video: MakeVideo
) -> None:
    scene = "testsrc2=size=192x108:rate=25:duration=60,noise=alls=60:allf=t"
    args = ("-c:v", "libx264", "-preset", "ultrafast", "-b:v", "1500k", "-g", "25")
    video = make_video("long-remote.mp4", scene, (*args, "-movflags", "+faststart"))
    size = video.stat().st_size
    path = as_path(store.put("long-remote.mp4", video))
    info = probe(path)
    remote._block.cache_clear()
    store.forget()
    frames_at(info, [30.0, 30.1], Size(96, 54))
    assert store.sent["long-remote.mp4"] < 0.1 * size
