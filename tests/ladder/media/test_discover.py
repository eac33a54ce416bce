"""Finding the video files behind command line arguments."""

import io
import os
import shutil
from pathlib import Path

import pytest

from ladder.errors import ListError
from ladder.media.discover import FileFilter, expand_arguments, find_videos
from tests.conftest import CloseFolder, MakeVideo


@pytest.fixture
def folder(tmp_path: Path, source_video: Path) -> Path:
    """Videos and other files; `sub/no_suffix` is a real video, `a.mp4` only has the suffix."""
    root = tmp_path / "folder"
    for name in ("sub/deep/z.webm", "b.MKV", "a.mp4", "sub/clip.ts", "stream.m2ts"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"by name")
    shutil.copy(source_video, root / "sub" / "no_suffix")
    for name in ("notes.txt", "sub/cover.jpg", "encodes.csv", "half.mp4.part", "sub/text"):
        (root / name).write_text("no video\n" * 100)
    for name in (".hidden.mp4", ".git/clip.mp4"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(source_video, root / name)
    return root


def test_a_folder_gives_the_videos_in_and_below_it_in_a_stable_order(folder: Path) -> None:
    names = [str(path.relative_to(folder)) for path in find_videos([folder]).videos]
    assert names == [
        "a.mp4", "b.MKV", "stream.m2ts", "sub/clip.ts", "sub/deep/z.webm", "sub/no_suffix",
    ]  # fmt: skip


def test_files_that_are_not_videos_are_counted_as_skipped(folder: Path) -> None:
    # notes.txt, cover.jpg, encodes.csv, half.mp4.part, text, .hidden.mp4, .git
    assert find_videos([folder]).skipped_count == 7


def test_unfinished_encodes_are_skipped_even_if_they_are_readable(
    tmp_path: Path, source_video: Path
) -> None:
    shutil.copy(source_video, tmp_path / "64p.mp4.part")
    assert find_videos([tmp_path]).videos == ()


def test_a_video_without_a_suffix_is_found_by_its_content(
    tmp_path: Path, source_video: Path
) -> None:
    shutil.copy(source_video, tmp_path / "video")
    shutil.copy(source_video, tmp_path / "video.2024-take2")
    (tmp_path / "empty").touch()
    assert [path.name for path in find_videos([tmp_path]).videos] == ["video", "video.2024-take2"]


def test_a_named_file_is_always_included(tmp_path: Path, folder: Path) -> None:
    named = [tmp_path / "gone.mp4", folder / "notes.txt", folder / ".hidden.mp4"]
    found = find_videos(named)
    assert (list(found.videos), found.skipped_count) == (named, 0)


def test_a_file_named_twice_is_included_once(folder: Path) -> None:
    found = find_videos([folder / "b.MKV", folder, folder])
    assert len(found.videos) == len(set(found.videos)) == 6
    assert found.videos[0] == folder / "b.MKV"


def test_a_link_to_a_parent_folder_does_not_make_the_search_endless(
    tmp_path: Path, source_video: Path
) -> None:
    shutil.copy(source_video, tmp_path / "clip.mp4")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [path.resolve() for path in find_videos([tmp_path]).videos] == [tmp_path / "clip.mp4"]


def test_a_video_is_found_by_its_content_whatever_its_suffix(
    tmp_path: Path, source_video: Path, make_video: MakeVideo
) -> None:
    for name in ("clip.txt", "clip.jpg", "song.mp3", "archive.zip"):
        shutil.copy(source_video, tmp_path / name)
    still = make_video("still.jpg", "testsrc2=size=64x48", ("-frames:v", "1"))
    moving = make_video("moving.gif", "testsrc2=size=64x48:d=1", ("-r", "5"))
    tone = make_video("tone.m4a", "sine=d=1", ("-c:a", "aac"))
    others = [still, moving, tone]
    for path in others:
        shutil.copy(path, tmp_path)
    shutil.copy(still, tmp_path / "still_without_suffix")
    found = find_videos([tmp_path])
    assert {path.name for path in found.videos} == {
        "clip.txt", "clip.jpg", "song.mp3", "archive.zip",
    }  # fmt: skip
    assert found.skipped_count == 4


def test_a_broken_link_with_the_suffix_of_a_video_is_included(tmp_path: Path) -> None:
    (tmp_path / "gone.mp4").symlink_to("nowhere")
    (tmp_path / "gone").symlink_to("nowhere")
    found = find_videos([tmp_path])
    assert ([path.name for path in found.videos], found.skipped_count) == (["gone.mp4"], 1)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (FileFilter(include=["*.mp4", "*.MKV"]), {"a.mp4", "b.MKV"}),
        (FileFilter(exclude=["*.m2ts", "a*"]), {"b.MKV", "z.webm", "clip.ts", "no_suffix"}),
        (FileFilter(include=["sub/*"]), {"z.webm", "clip.ts", "no_suffix"}),
        (FileFilter(include=["sub/*"], exclude=["*/deep/*"]), {"clip.ts", "no_suffix"}),
        (FileFilter(include=["*.mov"]), set()),
    ],
)
def test_patterns_filter_the_files_of_a_folder(
    folder: Path, wanted: FileFilter, names: set[str]
) -> None:
    found = find_videos([folder], wanted)
    assert {path.name for path in found.videos} == names
    assert found.skipped_count + len(names) == 13


def test_patterns_filter_named_files_too(folder: Path) -> None:
    named = [folder / "a.mp4", folder / "b.MKV"]
    assert find_videos(named, FileFilter(exclude=["b.*"])).videos == (folder / "a.mp4",)


def names(arguments: list[str], stdin: bytes = b"") -> list[str]:
    return [os.fspath(path) for path in expand_arguments(arguments, io.BytesIO(stdin))]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_lists_are_read_from_files_and_from_stdin(tmp_path: Path, end: bytes) -> None:
    content = end.join([b"a b.mp4", b"", b"sub/[1].mp4", b"caf\xe9.mp4", b""])
    (tmp_path / "list.txt").write_bytes(content)
    listed = ["a b.mp4", "sub/[1].mp4", os.fsdecode(b"caf\xe9.mp4")]
    assert names([f"@{tmp_path / 'list.txt'}", "x.mp4"]) == [*listed, "x.mp4"]
    assert names(["x.mp4", "-"], content) == ["x.mp4", *listed]


def test_a_missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"gone\.txt cannot be read: No such file"):
        names([f"@{tmp_path / 'gone.txt'}"])


def test_globs_give_sorted_files_and_existing_names_with_brackets_are_not_globs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert names(["[a-b]*.[mM]*"]) == ["a.mp4", "b.MKV"]
    assert names(["**/*.[tw]*"]) == ["notes.txt", "sub/clip.ts", "sub/deep/z.webm"]
    assert names(["*.none"]) == ["*.none"]
    (folder / "x[1].mp4").touch()
    assert names(["x[1].mp4"]) == ["x[1].mp4"]


@pytest.mark.parametrize("fault", ["iterdir", "resolve"])
def test_a_folder_without_access_is_named_and_the_others_are_searched(
    tmp_path: Path, source_video: Path, close_folder: CloseFolder, fault: str
) -> None:
    close_folder(tmp_path, source_video, fault)
    found = find_videos([tmp_path])
    assert found.videos == (tmp_path / "open" / "open.mp4",)
    assert found.unreadable == (tmp_path / "closed",)


@pytest.mark.parametrize("suffix", ["3gp", "3g2"])
def test_a_broken_file_of_a_suffix_that_is_of_sound_elsewhere_is_found(
    tmp_path: Path, suffix: str
) -> None:
    broken = tmp_path / f"broken.{suffix}"  # Python's table has these as sound
    broken.write_bytes(b"no video")
    assert find_videos([tmp_path]).videos == (broken,)
