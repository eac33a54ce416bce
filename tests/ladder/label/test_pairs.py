"""Which encode belongs to which source, and which rung it has: pure, but for the CSV of pairs."""

import os
from io import BytesIO
from pathlib import Path

import pytest

from ladder.errors import ListError
from ladder.label.files import LabelFiles
from ladder.label.pairs import (
    Pair,
    RungBy,
    find_below,
    match_pairs,
    pairs_with,
    read_pairs,
    rung_of,
)
from ladder.label.rows import LabelRow


def matched(sources: str, encodes: str, pattern: str) -> dict[str, str]:
    """Encode -> its source, of the pairs; `-` for none, the names of several joined by `+`."""
    found = match_pairs(
        [Path("src", name) for name in sources.split()],
        {Path("enc", name): name for name in encodes.split()},
        pattern,
    )
    names = {str(pair.encode.relative_to("enc")): pair.source.name for pair in found.pairs}
    names |= {
        str(encode.relative_to("enc")): "+".join(source.name for source in several)
        for encode, several in found.ambiguous.items()
    }
    return names | {str(encode.relative_to("enc")): "-" for encode in found.unmatched}


@pytest.mark.parametrize(
    ("pattern", "encode"),
    [
        ("{stem}_*", "film_720p.mp4"),
        ("{stem}", "film.mkv"),
        ("{stem}.*", "film.mkv"),
        ("*-{stem}-?m", "x264-film-2m.mp4"),
        ("{stem}/*", "film/720p.mp4"),
        ("{stem}/*.mp4", "film/a/720p.mp4"),
        ("*p/{stem}", "720p/film.mp4"),
        ("{stem}/*", "2026/film/720p.mp4"),  # with the end of its path
    ],
)
def test_an_encode_is_paired_with_the_source_in_its_name(pattern: str, encode: str) -> None:
    assert matched("film.mov other.mov", encode, pattern) == {encode: "film.mov"}


def test_what_does_not_match_and_what_matches_twice_is_told_apart() -> None:
    assert matched("film.mov film_hd.mov", "film_1.mp4 film_hd_1.mp4 movie_1.mp4", "{stem}_*") == {
        "film_1.mp4": "film.mov",
        "film_hd_1.mp4": "film.mov+film_hd.mov",
        "movie_1.mp4": "-",
    }
    assert matched("film.mov film.mp4", "film_1.mp4", "{stem}_*") == {
        "film_1.mp4": "film.mov+film.mp4"
    }


def test_a_source_whose_name_looks_like_a_pattern_matches_itself_alone() -> None:
    assert matched("a[1].mov a1.mov *.mov", "a[1]_x.mp4 a1_x.mp4 b_x.mp4", "{stem}_*") == {
        "a[1]_x.mp4": "a[1].mov",
        "a1_x.mp4": "a1.mov",
        "b_x.mp4": "-",
    }


def test_a_source_without_an_encode_is_told() -> None:
    found = match_pairs([Path("a.mov"), Path("b.mov")], {Path("a_1.mp4"): "a_1.mp4"}, "{stem}_*")
    assert found.unused == (Path("b.mov"),)


def test_sources_and_encodes_may_share_a_folder() -> None:
    files = [Path(name) for name in ("a.mp4", "a_1.mp4", "a_2.mp4", "lone.mp4")]
    for pattern in ("{stem}_*", "{stem}*"):
        found = match_pairs(files, {path: path.name for path in files}, pattern)
        assert found.pairs == (Pair(files[0], files[1]), Pair(files[0], files[2]))
        assert found.unmatched == found.unused == (Path("lone.mp4"),)
        assert not found.ambiguous


def test_a_pattern_needs_the_stem() -> None:
    with pytest.raises(ValueError, match=r"has no \{stem\}"):
        match_pairs([Path("a.mov")], {Path("a_1.mp4"): "a_1.mp4"}, "*_1")


def test_the_path_below_the_folder_is_what_was_searched(tmp_path: Path) -> None:
    (tmp_path / "enc" / "film").mkdir(parents=True)
    video = tmp_path / "enc" / "film" / "1.mp4"
    video.write_bytes(b"x")
    assert find_below([tmp_path / "enc"]) == ({video: "film/1.mp4"}, ())
    assert find_below([video]) == ({video: video.as_posix()}, ())


def test_the_source_is_no_encode_of_itself_among_others(tmp_path: Path) -> None:
    source, encode, link = (tmp_path / name for name in ("s.mp4", "e.mp4", "l.mp4"))
    source.write_bytes(b"x")
    encode.write_bytes(b"y")
    link.symlink_to(source)
    assert pairs_with(source, [source, encode, link]) == (Pair(source, encode),)
    assert pairs_with(source, [source]) == (Pair(source, source),)  # a check of the measurement


# ---- pairs.csv


def test_pairs_are_read_relative_to_their_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    odd = os.fsdecode(b"caf\xe9, \n.mp4")
    path.write_bytes(
        b"\xef\xbb\xbfencode,note,source,rung\r\n"
        b'"caf\xe9, \n.mp4",x,src/a.mov,low\r\n/abs/e.mp4,,/abs/s.mov,\r\n'
    )
    assert read_pairs(path, BytesIO()) == (
        Pair(tmp_path / "src/a.mov", tmp_path / odd, "low"),
        Pair(Path("/abs/s.mov"), Path("/abs/e.mp4")),
    )
    from_stdin = read_pairs(Path("-"), BytesIO(path.read_bytes()))
    assert from_stdin[0] == Pair(Path("src/a.mov"), Path(odd), "low")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"has the columns \(none\): write the columns source,encode"),
        ("source;encode\na;b\n", "has the columns source;encode"),
        ("source,encode\n", "has no pair"),
        ("source,encode\na.mov,b.mp4\na.mov,\n", "line 3 lacks a source or an encode"),
        ("source,encode\na.mov\n", "line 2 lacks a source or an encode"),
    ],
)
def test_a_csv_that_is_no_list_of_pairs_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(ListError, match=says):
        read_pairs(path, BytesIO())


# ---- rungs


@pytest.mark.parametrize(
    ("kbps", "rung"),
    [(1000.0, "841-1189k"), (1180.0, "841-1189k"), (1500.0, "1189-1682k"), (4500.0, "3364-4757k")],
)
def test_a_rung_by_bitrate_is_half_an_octave(kbps: float, rung: str) -> None:
    label = LabelRow(encode_path="e.mp4", source="s", rung="", bitrate_kbps=kbps)
    assert rung_of(label, Path("e.mp4"), RungBy.BITRATE) == rung


def test_a_rung_by_height_is_the_short_side_and_one_by_folder_its_name(tmp_path: Path) -> None:
    label = LabelRow(encode_path="e.mp4", source="s", rung="", width_px=720, height_px=1280)
    assert rung_of(label, Path("e.mp4"), RungBy.HEIGHT) == "720p"
    assert rung_of(label, tmp_path / "low" / "e.mp4", RungBy.FOLDER) == "low"
    assert rung_of(label, Path("e.mp4"), RungBy.BITRATE) == ""  # not known


# ---- where labels are kept


def test_a_path_is_relative_where_the_file_moves_with_the_table(tmp_path: Path) -> None:
    files = LabelFiles.of_table(tmp_path / "made" / "labels.csv")
    (tmp_path / "made").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "made")
    assert files.shown(tmp_path / "made" / "x" / "a.mp4") == "x/a.mp4"
    assert files.shown(tmp_path / "link" / ".." / "made" / "a.mp4") == "a.mp4"
    assert files.shown(tmp_path / "a.mp4") == str((tmp_path / "a.mp4").resolve())


def test_logs_are_beside_their_table_whatever_an_encode_is_called(tmp_path: Path) -> None:
    files = LabelFiles.of_table(tmp_path / "labels.csv")
    long = "ü" * 120 + ".mp4"  # 244 bytes
    logs = [files.log(name) for name in ("a/x.mp4", "/a/x.mp4", "/b/x.mp4", long)]
    assert len(set(logs)) == 4
    for log in logs:
        assert log.is_relative_to(tmp_path / "vmaf")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    assert LabelFiles.of_table(tmp_path / "x264.csv").logs == tmp_path / "x264-vmaf"
