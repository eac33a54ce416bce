"""The table of metrics: names, models for a source, columns, and trial runs of models."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ladder.errors import CapabilityError, VmafError
from ladder.label.libvmaf import VmafLog, probe_vmaf_model, require_vmaf_models
from ladder.label.metrics import (
    AUTO,
    METRICS,
    Metric,
    MetricRequest,
    Pooling,
    log_metric_name,
    model_names,
    models_for,
    vmaf_models,
)
from ladder.label.rows import LabelRow, label_row_type, labels_table, with_metrics
from ladder.label.run import LabelOptions, plan_labels
from ladder.media.ffmpeg import Ffmpeg, find_ffmpeg
from tests.conftest import EXACT, MakeVideo
from tests.ladder.conftest import X264, label, vmaf_by_hand, work_folder

FakeFfmpeg = Callable[..., Ffmpeg]
HD = ("vmaf_v0.6.1", "vmaf_v0.6.1neg")
UHD = ("vmaf_4k_v0.6.1", "vmaf_4k_v0.6.1neg")


@pytest.fixture
def fake_ffmpeg(tmp_path: Path) -> FakeFfmpeg:
    """`fake_ffmpeg(folder, body, filters)`: lists `filters`, and runs `body` for all else."""

    def make(folder: str, body: str = "exit 0", filters: str = "libvmaf") -> Ffmpeg:
        path = tmp_path / folder / "ffmpeg"
        path.parent.mkdir()
        path.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            '*-version*) echo "ffmpeg version 1.0 Copyright"; exit;;\n'
            f'*-filters*) echo " .. {filters}  VV->V  Calculate."; exit;;\n'
            "esac\n"
            f"{body}\n"
        )
        path.chmod(0o755)
        return find_ffmpeg(path)

    return make


def test_short_names_become_libvmafs_names_and_others_are_kept() -> None:
    assert model_names(["v0", "neg"]) == HD
    assert model_names(["v0", "vmaf_v0.6.1", "v0"]) == HD[:1]
    assert model_names(["vmaf_b_v0.6.3", "4k"]) == ("vmaf_b_v0.6.3", UHD[0])
    assert model_names([]) == ()


@pytest.mark.parametrize(
    ("size", "suited"),
    [
        ((1920, 1080), HD),
        ((320, 180), HD),
        ((2560, 1440), HD),
        ((3840, 1440), HD),  # the short side counts
        ((2562, 1442), UHD),
        ((3840, 2160), UHD),
        ((2160, 3840), UHD),
        ((0, 0), HD),  # of a table from before sizes were kept
    ],
)
def test_auto_is_the_model_for_the_size_of_the_source_and_its_neg_variant(
    size: tuple[int, int], suited: tuple[str, str]
) -> None:
    assert models_for(size, [AUTO]) == suited
    # beside others, in their order, none twice
    assert models_for(size, ["phone", AUTO, "neg", "4k"]) == tuple(
        dict.fromkeys([METRICS["phone"].libvmaf_name, *suited, HD[1], UHD[0]])
    )


def test_a_named_model_is_used_for_any_size() -> None:
    assert models_for((3840, 2160), ["v0"]) == HD[:1]
    assert models_for((320, 180), ["4k"]) == UHD[:1]


def test_every_model_has_its_own_log_name_without_special_characters() -> None:
    columns = [model.log_name for model in vmaf_models().values()]
    assert len(set(columns)) == len(vmaf_models())
    assert log_metric_name(METRICS["v0"].libvmaf_name) == "vmaf_v0_6_1"
    assert log_metric_name(METRICS["phone"].libvmaf_name) == "vmaf_v0_6_1_phone"
    assert not any(set(column) & set(".:=|'\\[],;") for column in columns)


def test_a_model_is_accepted_after_a_trial_run(ffmpeg: Ffmpeg) -> None:
    assert probe_vmaf_model(ffmpeg, "vmaf_v0.6.1") == ""
    assert probe_vmaf_model(ffmpeg, "vmaf_v9.9.9") != ""
    require_vmaf_models(ffmpeg, ["vmaf_v0.6.1"])
    with pytest.raises(CapabilityError, match=r"vmaf_v9\.9\.9"):
        require_vmaf_models(ffmpeg, ["vmaf_v0.6.1", "vmaf_v9.9.9"])


@pytest.mark.parametrize("name", list(vmaf_models()))
def test_the_bundled_ffmpeg_runs_every_model_that_libvmaf_carries(
    ffmpeg: Ffmpeg, name: str
) -> None:
    assert probe_vmaf_model(ffmpeg, METRICS[name].libvmaf_name) == ""


@pytest.mark.parametrize(
    ("body", "says"),
    [("echo could not load model >&2; exit 1", "could not load model"), ("exit 1", "vmaf_v0")],
    ids=["with a reason", "without a word"],
)
def test_a_model_that_is_listed_but_fails_is_refused(
    fake_ffmpeg: FakeFfmpeg, body: str, says: str
) -> None:
    with pytest.raises(CapabilityError, match=says) as error:
        require_vmaf_models(fake_ffmpeg("listing", body=body), ["vmaf_v0.6.1"])
    assert "--vmaf-model" in str(error.value)
    assert "pip install" in str(error.value)


def test_the_error_names_the_models_that_this_ffmpeg_runs(fake_ffmpeg: FakeFfmpeg) -> None:
    body = 'case "$*" in *vmaf_v1*) echo no such built-in model >&2; exit 1;; esac'
    with pytest.raises(CapabilityError) as error:
        require_vmaf_models(
            fake_ffmpeg("old", body=body), ["vmaf_v0.6.1", METRICS["v1-hfr"].libvmaf_name]
        )
    assert (
        "cannot run the VMAF model vmaf_v1.0.16_hfr_3d0h (no such built-in model); "
        "it runs v0, neg, phone, 4k, 4k-neg: choose one"
    ) in str(error.value)


def test_a_libvmaf_with_a_fault_that_is_used_all_the_same_is_logged(
    fake_ffmpeg: FakeFfmpeg, caplog: pytest.LogCaptureFixture
) -> None:
    body = """case "$*" in *log_path*) echo '{"version": "3.2.0"}' > vmaf.json;; esac"""
    require_vmaf_models(fake_ffmpeg("faulty", body=body), ["vmaf_v0.6.1"])
    assert "libvmaf 3.2.0, whose memory grows" in caplog.text


V1 = {
    "v1": "3d0h",
    "v1-phone": "5d0h",
    "v1-4k": "1d5h_2160",
    "v1-4k-3h": "3d0h_2160",
    "v1-hfr": "hfr_3d0h",
    "v1-phone-hfr": "hfr_5d0h",
    "v1-4k-hfr": "hfr_1d5h_2160",
    "v1-4k-3h-hfr": "hfr_3d0h_2160",
}


def test_every_variant_of_v1_gives_what_plain_ffmpeg_gives(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    scene = "mandelbrot=size=576x324:rate=50:start_scale=0.6:end_pts=60,format=yuv420p"
    source = make_video("v1-source.mp4", scene, ("-frames:v", "4", *EXACT))
    encode = make_video("v1-encode.mp4", source, ("-crf", "34", *X264))
    folder = work_folder(tmp_path / "work", source, {"one": encode})
    (row,) = label(folder, ffmpeg, LabelOptions(models=model_names(V1))).values()
    assert (row.error, row.pix_fmt, row.vmaf) == ("", "yuv420p10le", row.vmaf_v1)
    found = {}
    for name, variant in V1.items():
        deep = "[0:v]format=yuv420p10le[e];[1:v]format=yuv420p10le[s];[e][s]"
        model = f"libvmaf=log_fmt=json:log_path=hand.json:model='version=vmaf_v1.0.16_{variant}'"
        by_hand = vmaf_by_hand(encode, source, deep + model, ffmpeg, tmp_path)
        found[name] = getattr(row, f"vmaf_{name}".replace("-", "_"))
        assert found[name] == pytest.approx(by_hand, abs=0.01), name
    assert len({round(score, 3) for score in found.values()}) == len(V1)


def test_an_ffmpeg_without_libvmaf_is_refused_for_labels(fake_ffmpeg: FakeFfmpeg) -> None:
    with pytest.raises(CapabilityError, match="no libvmaf filter"):
        require_vmaf_models(fake_ffmpeg("blind", filters="ssim"), [])


# ---- the table

COLUMNS = (
    "encode_path,source,rung,vmaf,vmaf_hmean,vmaf_min,vmaf_p1,vmaf_p5,vmaf_std,vmaf_neg,vmaf_v1,"
    "psnr_y,frames_source,frames_encode,frames_compared,pairing,scale,pix_fmt,vmaf_model,"
    "libvmaf_version,warnings,label_s,status,error,vmaf_p10,vmaf_phone,vmaf_4k,ssim,cambi,"
    "offset_frames,subsample,codec,bitrate_kbps,width_px,height_px,display_width_px,"
    "display_height_px,fps,duration_s,size_bytes,modified,source_path,source_size_bytes,"
    "source_modified,vmaf_v1_phone,vmaf_v1_4k,vmaf_v1_4k_3h,vmaf_v1_hfr,vmaf_v1_phone_hfr,"
    "vmaf_v1_4k_hfr,vmaf_v1_4k_3h_hfr"
)


def test_the_columns_of_labels_stay_the_same(tmp_path: Path) -> None:
    assert ",".join(labels_table(tmp_path).columns) == COLUMNS
    assert label_row_type() is LabelRow


def test_a_new_metric_needs_one_entry_in_the_table(
    source_video: Path, poor: Path, ffmpeg: Ffmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"psnr_hvs": Pooling.MEAN, "psnr_hvs_p5": Pooling.P5}
    psnr_hvs = Metric(name="hvs", libvmaf_name="psnr_hvs", log_name="psnr_hvs", columns=columns)
    folder = work_folder(tmp_path / "work", source_video, {"poor": poor})
    label(folder, ffmpeg)  # a table without the new columns
    monkeypatch.setitem(METRICS, "hvs", psnr_hvs)
    options = LabelOptions(models=("vmaf_v0.6.1",), features=("hvs",))
    (row,) = label(folder, ffmpeg, options).values()
    assert (row.error, row.warnings) == ("", "")
    assert ",".join(labels_table(folder).columns) == COLUMNS + ",psnr_hvs,psnr_hvs_p5"
    mean, p5 = getattr(row, "psnr_hvs"), getattr(row, "psnr_hvs_p5")  # noqa: B009  # no field
    assert 10 < p5 <= mean < 60  # dB
    assert plan_labels(folder, options).jobs == ()
    (line,) = (folder / "labels.csv").read_text().splitlines()[1:]
    assert line.endswith(f",{mean:.4f},{p5:.4f}")


def test_a_log_without_the_label_is_an_error() -> None:
    log = VmafLog("3", {"psnr_y": [40.0]})
    row = LabelRow(encode_path="a/b.mp4", source="a", rung="b")
    with pytest.raises(VmafError, match=r"no values of vmaf_v0\.6\.1"):
        with_metrics(row, log, MetricRequest(models=("vmaf_v0.6.1",)), [])
