"""The VMAF models: short names, the ones that suit a source, and whether this ffmpeg runs them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ladder.errors import CapabilityError
from ladder.label.libvmaf import probe_vmaf_model, require_vmaf_models
from ladder.label.metrics import AUTO, VMAF_MODELS, log_metric_name, model_names, models_for
from ladder.media.ffmpeg import Ffmpeg, find_ffmpeg

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


def test_short_names_become_libvmafs_words_once_and_others_are_passed_on() -> None:
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
def test_auto_is_the_model_and_its_neg_variant_that_suit_the_source(
    size: tuple[int, int], suited: tuple[str, str]
) -> None:
    assert models_for(size, [AUTO]) == suited
    # beside others, in their order, none twice
    assert models_for(size, ["phone", AUTO, "neg", "4k"]) == tuple(
        dict.fromkeys([VMAF_MODELS["phone"], *suited, HD[1], UHD[0]])
    )


def test_a_model_that_is_named_is_taken_whatever_the_size() -> None:
    assert models_for((3840, 2160), ["v0"]) == HD[:1]
    assert models_for((320, 180), ["4k"]) == UHD[:1]


def test_every_model_has_a_column_of_its_own_without_signs_of_the_graph() -> None:
    columns = [log_metric_name(model) for model in VMAF_MODELS.values()]
    assert len(set(columns)) == len(VMAF_MODELS)
    assert log_metric_name(VMAF_MODELS["v0"]) == "vmaf_v0_6_1"
    assert log_metric_name(VMAF_MODELS["phone"]) == "vmaf_v0_6_1_phone"
    assert not any(set(column) & set(".:=|'\\[],;") for column in columns)


def test_a_model_is_believed_only_after_it_ran(ffmpeg: Ffmpeg) -> None:
    assert probe_vmaf_model(ffmpeg, "vmaf_v0.6.1") == ""
    assert probe_vmaf_model(ffmpeg, "vmaf_v9.9.9") != ""
    require_vmaf_models(ffmpeg, ["vmaf_v0.6.1"])
    with pytest.raises(CapabilityError, match=r"vmaf_v9\.9\.9"):
        require_vmaf_models(ffmpeg, ["vmaf_v0.6.1", "vmaf_v9.9.9"])


@pytest.mark.parametrize("name", [name for name in VMAF_MODELS if name != "v1"])
def test_the_bundled_ffmpeg_runs_every_model_that_libvmaf_carries(
    ffmpeg: Ffmpeg, name: str
) -> None:
    assert probe_vmaf_model(ffmpeg, VMAF_MODELS[name]) == ""


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


def test_an_ffmpeg_without_libvmaf_is_refused_for_labels(fake_ffmpeg: FakeFfmpeg) -> None:
    with pytest.raises(CapabilityError, match="no libvmaf filter"):
        require_vmaf_models(fake_ffmpeg("blind", filters="ssim"), [])
