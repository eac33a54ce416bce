"""Labelled encodes: those of a ladder and those made elsewhere are the same to a training."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ladder import Ffmpeg, LabelOptions, make_labels, model_names, probe
from ladder.encode.plan import encodes_table
from ladder.label.elsewhere import plan_pairs
from ladder.label.files import LabelFiles
from ladder.label.libvmaf import read_log
from ladder.label.pairs import Pair, RungBy
from ladder.label.rows import labels_table
from ladder.treatments import TREATMENTS_FILE, Kind, Treatment, draw_treatment
from vqatool.data.labels import read_labelled_encodes
from vqatool.errors import TrainingDataError


@pytest.fixture
def elsewhere(tmp_path: Path, labelled: Path, ffmpeg: Ffmpeg) -> Path:
    """A table of three of the ladder's encodes, labelled as if they were made elsewhere."""
    rows = encodes_table(labelled).rows()[:3]
    pairs = [Pair(Path(row.source_path), labelled / row.encode_path, row.rung) for row in rows]
    files = LabelFiles.of_table(tmp_path / "labels.csv")
    options = LabelOptions(models=model_names(["v0"]))
    made = list(make_labels(plan_pairs(pairs, files, options), files, ffmpeg))
    assert {row.error for row in made} == {""}
    return tmp_path


def test_encodes_made_elsewhere_are_labelled_encodes_like_those_of_a_ladder(
    elsewhere: Path, labelled: Path
) -> None:
    theirs = {encode.path: encode for encode in read_labelled_encodes(labelled)}
    ours = read_labelled_encodes(elsewhere)
    assert len(ours) == 3
    for encode in ours:
        ladders = theirs[encode.path]
        assert read_log(encode.log).metrics[encode.metric] == pytest.approx(
            read_log(ladders.log).metrics[ladders.metric], abs=1e-4
        )
        assert encode.codec == probe(encode.path).codec
        assert 0.3 < encode.bitrate_kbps / ladders.bitrate_kbps < 1  # without the container
        known = ("codec", "bitrate_kbps", "rate_mode", "log")  # by the ladder alone, or elsewhere
        assert replace(encode, **{name: getattr(ladders, name) for name in known}) == ladders


def test_a_shifted_encode_is_not_compared_with_its_source_frame_by_frame(elsewhere: Path) -> None:
    table = labels_table(elsewhere)
    first = table.rows()[0]
    table.append(replace(first, offset_frames=-1))
    shifted = {encode.path: encode for encode in read_labelled_encodes(elsewhere)}
    assert shifted.pop(Path(first.encode_path)).source_path == Path()
    assert all(encode.source_path.is_file() for encode in shifted.values())


@pytest.mark.parametrize("warning", ["shifted:-2", "unaligned", "other_content"])
def test_a_label_of_frames_that_do_not_belong_together_trains_nothing(
    elsewhere: Path, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = labels_table(elsewhere)
    first, *others = table.rows()
    table.append(replace(first, warnings=f"vfr;{warning}"))
    found = read_labelled_encodes(elsewhere)
    assert {encode.path for encode in found} == {Path(row.encode_path) for row in others}
    assert f"({warning.partition(':')[0]}): {first.encode_path}" in caplog.text
    table.append(replace(first, warnings="vfr;synced:-2"))
    assert len(read_labelled_encodes(elsewhere)) == 3


def test_a_label_of_the_ladder_without_its_encode_trains_nothing(work_folder: Path) -> None:
    before = read_labelled_encodes(work_folder)
    table = encodes_table(work_folder)
    table.rewrite(table.rows()[1:])
    assert len(read_labelled_encodes(work_folder)) == len(before) - 1
    table.rewrite([])
    with pytest.raises(
        TrainingDataError, match=r"vqatool label --source SRC ENC... -o .*labels.csv"
    ):
        read_labelled_encodes(work_folder)


def test_a_treatment_says_how_often_an_encode_was_coded_and_whether_it_was_filtered(
    work_folder: Path,
) -> None:
    plain = replace(draw_treatment("film", 1).generations[0], filter="")
    sharp = replace(plain, filter="unsharp=5:5:1.6")
    kinds = {
        "coded once": (plain,),
        "filtered, coded once": (sharp,),
        "coded twice": (plain, sharp),
    }
    paths = [row.encode_path for row in encodes_table(work_folder).rows()]
    with (work_folder / TREATMENTS_FILE).open("w") as file:
        for path, generations in zip(paths, kinds.values(), strict=False):
            treatment = asdict(Treatment(Kind.SINGLE, generations))
            file.write(json.dumps({"encode_path": path, **treatment}) + "\n")
    found = {encode.path: encode for encode in read_labelled_encodes(work_folder)}
    told = [found[work_folder / path] for path in paths[:4]]
    assert [encode.kind for encode in told] == [*kinds, ""]
    assert [encode.is_coded_twice for encode in told] == [False, False, True, False]


def test_the_rung_of_an_encode_made_elsewhere_is_what_groups_it(
    elsewhere: Path, labelled: Path, ffmpeg: Ffmpeg
) -> None:
    files = LabelFiles.of_folder(elsewhere)
    pairs = [Pair(Path(row.source_path), elsewhere / row.encode_path) for row in files.table.rows()]
    options = LabelOptions(models=model_names(["v0"]))
    list(make_labels(plan_pairs(pairs, files, options, rung_by=RungBy.HEIGHT), files, ffmpeg))
    found = read_labelled_encodes(elsewhere)
    assert {encode.rung for encode in found} == {f"{encode.height_px}p" for encode in found}


@pytest.mark.parametrize(
    ("vmaf", "model", "is_on_scale"),
    [
        (100.0, "vmaf_v0.6.1", True),
        (100.1, "vmaf_of_mine", False),
        (70.0, "vmaf_v1.0.16_3d0h_2160", False),
        (70.0, "vmaf_v1.0.16_hfr_3d0h_2160", False),
        (70.0, "vmaf_v1.0.16_1d5h_2160", True),
    ],
)
def test_labels_whose_scale_goes_beyond_100_train_nothing(
    work_folder: Path, vmaf: float, model: str, is_on_scale: bool
) -> None:
    table = labels_table(work_folder)
    table.append(replace(table.rows()[0], vmaf=vmaf, vmaf_model=model))
    if is_on_scale:
        assert vmaf in {encode.vmaf for encode in read_labelled_encodes(work_folder)}
        return
    with pytest.raises(TrainingDataError, match=rf"VMAF of {vmaf} by .* --vmaf-model v0"):
        read_labelled_encodes(work_folder)
