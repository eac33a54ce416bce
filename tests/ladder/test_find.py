"""Files and folders named by a user -> video files."""

import shutil
from pathlib import Path

import pytest

from ladder.find import find_videos


@pytest.fixture
def folder(tmp_path: Path, source_video: Path) -> Path:
    """Videos and other files; `sub/no_suffix` is a real video, `a.mp4` is one by name only."""
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


def test_a_folder_gives_its_videos_and_those_below_in_a_stable_order(folder: Path) -> None:
    names = [str(path.relative_to(folder)) for path in find_videos([folder]).videos]
    assert names == [
        "a.mp4", "b.MKV", "stream.m2ts", "sub/clip.ts", "sub/deep/z.webm", "sub/no_suffix",
    ]  # fmt: skip


def test_what_is_no_video_is_counted_and_what_is_hidden_is_not(folder: Path) -> None:
    # notes.txt, cover.jpg, encodes.csv, half.mp4.part, text
    assert find_videos([folder]).skipped_count == 5


def test_half_written_encodes_are_passed_over_even_if_they_are_readable(
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


def test_a_named_file_always_counts(tmp_path: Path, folder: Path) -> None:
    named = [tmp_path / "gone.mp4", folder / "notes.txt", folder / ".hidden.mp4"]
    found = find_videos(named)
    assert (list(found.videos), found.skipped_count) == (named, 0)


def test_a_file_named_twice_counts_once(folder: Path) -> None:
    found = find_videos([folder / "b.MKV", folder, folder])
    assert len(found.videos) == len(set(found.videos)) == 6
    assert found.videos[0] == folder / "b.MKV"


def test_a_folder_that_leads_back_to_itself_does_not_trap_the_search(
    tmp_path: Path, source_video: Path
) -> None:
    shutil.copy(source_video, tmp_path / "clip.mp4")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [path.resolve() for path in find_videos([tmp_path]).videos] == [tmp_path / "clip.mp4"]
