"""Zoom-VQA as a whole: both branches and their fusion."""

import json
from dataclasses import asdict, replace
from typing import cast, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vqatool.inputs.clip import Clip, collate
from vqatool.inputs.zoom import run_fragments, still_crops
from vqatool.losses import batch_rank_loss, plcc_loss, quality_loss
from vqatool.metrics import srcc
from vqatool.models.backbones import ConvNeXtPyramid
from vqatool.models.quality import Quality
from vqatool.models.shapes import (
    CONVNEXT_SIZES,
    PUBLISHED_ZOOM,
    SWIN_SIZES,
    Activation,
    ZoomConfig,
)
from vqatool.models.swin3d import Swin3D
from vqatool.models.zoom import (
    PatchHeads,
    PatchScores,
    ScoreFusion,
    StillBranch,
    Zoom,
    hyper_columns,
)
from vqatool.reporting.attention import draw_attention_map

PICO = ZoomConfig(
    size="pico",
    crop_px=64,
    hidden=16,
    grid=2,
    patch=48,
)
CONFIGS = {
    "from scratch": PICO,
    "as published": replace(PICO, has_conv_stem=False, has_local_luma=False, activation="relu"),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ZoomConfig:
    return CONFIGS[request.param]


def built(config: ZoomConfig) -> Zoom:
    torch.manual_seed(0)
    return Zoom(config).eval()


def views(videos: int, *, stills: int = 2, run_frames: int = 8) -> list[Tensor]:
    chance = torch.Generator().manual_seed(5)
    return [
        torch.rand(videos, stills, 3, 64, 64, generator=chance),
        torch.rand(videos, run_frames, 3, 96, 96, generator=chance),
    ]


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("sides", [(32, 32), (96, 96), (100, 100), (64, 160)])
def test_the_grid_of_patches_is_a_32nd_of_the_crop(sides: tuple[int, int]) -> None:
    branch = StillBranch(PICO).eval()(torch.rand(1, 2, 3, *sides)).branch
    wanted = (1, 2, sides[0] // 32, sides[1] // 32)
    assert branch.score_map_BTHW.shape == wanted
    assert branch.weight_map_BTHW is not None
    assert branch.weight_map_BTHW.shape == wanted


def test_the_published_frame_branch_has_the_published_parameters() -> None:
    with torch.device("meta"):
        assert count(StillBranch(PUBLISHED_ZOOM)) == pytest.approx(28.926e6, abs=1e3)


@torch.no_grad()
@pytest.mark.parametrize(("token_px", "side"), [(6, 336), (4, 224)])
def test_patches_of_6_px_make_as_many_tokens_as_those_of_4_do(token_px: int, side: int) -> None:
    with torch.device("meta"):
        swin = Swin3D(SWIN_SIZES["tiny"], patch=(2, token_px, token_px)).eval()
        tokens: list[Tensor] = []
        stem = swin.get_submodule("_stem")
        stem.register_forward_hook(lambda module, given, made: tokens.append(made))
        found = swin(torch.empty(1, 32, 3, side, side))
    assert tokens[0].shape == (1, 16, 56, 56, 96)
    assert found.shape == (1, 768, 16, 7, 7)


def test_the_published_branch_of_runs_sees_mosaics_of_336_px_as_56_tokens_a_side() -> None:
    assert PUBLISHED_ZOOM.grid * PUBLISHED_ZOOM.patch == 336
    assert PUBLISHED_ZOOM.grid * PUBLISHED_ZOOM.patch / PUBLISHED_ZOOM.token_px == 56


@torch.no_grad()
def test_the_runs_of_a_video_are_averaged() -> None:
    model, (stills, runs) = built(PICO), views(2)
    both = model(stills, runs).branches[1].score_B
    each = [model(stills, run).branches[1].score_B for run in runs.split(PICO.burst_frames, dim=1)]
    assert torch.allclose(both, torch.stack(each).mean(0), atol=1e-5)


def test_frames_that_are_no_whole_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="7 frames are no whole runs of 4"):
        built(PICO)(*views(1, run_frames=7))


@torch.no_grad()
def test_a_picture_is_accepted_as_a_run_of_one_frame() -> None:
    stills, runs = views(1)
    quality = built(PICO).eval()(stills[:, :1], runs[:, :1])
    assert quality.frame_score_BT.shape == (1, 1)


@torch.no_grad()
def test_branch_scores_weights_and_the_curve_are_in_the_output(config: ZoomConfig) -> None:
    quality = built(config)(*views(2))
    stills, runs = quality.branches
    assert quality.score_B.shape == (2,)
    assert quality.features_BD.shape == (2, 16 + 128)
    assert quality.frame_score_BT.shape == (2, 2)
    assert stills.score_B.shape == runs.score_B.shape == (2,)
    assert (stills.frame_score_BT.shape, runs.frame_score_BT.shape) == ((2, 2), (2, 8))
    assert stills.score_map_BTHW.shape == (2, 2, 2, 2)
    assert stills.weight_map_BTHW is not None
    assert stills.weight_map_BTHW.shape == (2, 2, 2, 2)
    assert runs.score_map_BTHW.shape == (2, 4, 2, 2)  # 4 of 16 x 16 tokens, halved three times
    assert runs.weight_map_BTHW is None
    assert quality.score_B.isfinite().all()
    assert quality.score_B.dtype == torch.float32


@torch.no_grad()
def test_scores_of_branches_are_the_averages_of_their_maps() -> None:
    stills, runs = built(PICO)(*views(2)).branches
    assert stills.weight_map_BTHW is not None
    weighted = (stills.score_map_BTHW * stills.weight_map_BTHW).sum((2, 3))
    assert torch.allclose(stills.frame_score_BT, weighted / stills.weight_map_BTHW.sum((2, 3)))
    for branch in (stills, runs):
        assert torch.allclose(branch.score_B, branch.frame_score_BT.mean(1))
    assert torch.allclose(runs.score_B, runs.score_map_BTHW.mean((1, 2, 3)))


@torch.no_grad()
def test_weights_can_be_drawn_over_the_crop() -> None:
    stills, runs = views(1)
    weights = built(PICO)(stills, runs).branches[0].weight_map_BTHW
    assert weights is not None
    frame = (255 * stills[0, 1]).byte().permute(1, 2, 0).numpy()
    assert draw_attention_map(frame, weights[0, 1].numpy()).shape == (64, 64, 3)


@torch.no_grad()
def test_the_score_is_the_fusion_of_the_branches() -> None:
    model, seen = built(PICO), views(4)
    fusion = cast(ScoreFusion, model.get_submodule("_fusion"))
    fusion.update(torch.rand(9, 2, generator=torch.Generator().manual_seed(0)))
    quality = model(*seen)
    parts = torch.stack([branch.score_B for branch in quality.branches], dim=1)
    assert torch.allclose(quality.score_B, fusion(parts))


def test_the_fusion_is_updated_in_training_only() -> None:
    model, seen = built(PICO), views(4)
    before = model.get_buffer("_fusion.mean").clone()
    told = model(*seen).branches
    assert torch.equal(model.get_buffer("_fusion.mean"), before)
    model.train()(*seen)
    wanted = torch.stack([branch.score_B.mean() for branch in told])
    assert torch.allclose(model.get_buffer("_fusion.mean"), wanted, atol=0.1)


@torch.no_grad()
def test_a_frame_score_depends_on_both_branches_at_its_time() -> None:
    model, (stills, runs) = built(PICO), views(1, stills=4, run_frames=16)
    before = model(stills, runs).frame_score_BT
    stills[:, 3], runs[:, :4] = 0, 0
    change = (model(stills, runs).frame_score_BT - before).abs()[0]
    # the last still, and the run of the first
    assert (change > 1e-6).tolist() == [True, False, False, True]


@torch.no_grad()
@pytest.mark.parametrize("num_frame_groups", [1, 3, 20])
def test_a_model_takes_any_number_of_frame_groups(num_frame_groups: int) -> None:
    quality = built(PICO)(*views(1, stills=num_frame_groups, run_frames=4 * num_frame_groups))
    assert quality.frame_score_BT.shape == (1, num_frame_groups)
    assert quality.score_B.isfinite().all()


@torch.no_grad()
def test_a_score_does_not_depend_on_batch_mates(config: ZoomConfig) -> None:
    model, seen = built(config), views(3)
    together = model(*seen).score_B
    alone = torch.cat([model(*(view[i : i + 1] for view in seen)).score_B for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_every_parameter_learns_from_the_fused_score(config: ZoomConfig) -> None:
    model = built(config)
    quality_loss(model(*views(3)).score_B, torch.tensor([0.1, 0.9, 0.4])).backward()
    # the windows of so small a net are too narrow to reach across fragments
    learners = [(n, p.grad) for n, p in model.named_parameters() if not n.endswith("_across")]
    still = [name for name, gradient in learners if gradient is None or not gradient.any()]
    assert not still


def test_each_branch_learns_from_its_own_loss_alone() -> None:
    label = torch.tensor([0.1, 0.9, 0.4])
    for branch, name in enumerate(("_stills", "_runs")):
        model = built(PICO)
        quality_loss(model(*views(3)).branches[branch].score_B, label).backward()
        learners = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
        assert learners == {name}


@torch.no_grad()
def test_bfloat16_agrees_with_float32(config: ZoomConfig) -> None:
    model, seen = built(config), views(2)
    exact = model(*seen).score_B
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*seen).score_B
    assert torch.allclose(exact, rounded, atol=0.05)  # eight bits of mantissa, several layers


@torch.no_grad()
def test_weights_in_half_precision_score_as_before(config: ZoomConfig) -> None:
    model, seen = built(config), views(2)
    halves = {key: value.half().float() for key, value in model.state_dict().items()}
    loaded = built(replace(config))
    loaded.load_state_dict(halves)
    assert torch.allclose(model(*seen).score_B, loaded(*seen).score_B, atol=0.01)


@torch.no_grad()
def test_the_model_accepts_the_output_of_its_views() -> None:
    frames = np.random.default_rng(0).integers(256, size=(5 * 4, 3, 60, 90), dtype=np.uint8)
    clip = Clip(frames, group_size=4)
    stills = still_crops(clip, short_px=80, crop_px=PICO.crop_px)
    runs = run_fragments(clip, short_px=60, grid=PICO.grid, patch=PICO.patch)
    seen = [torch.from_numpy(collate([view])) for view in (stills, runs)]
    quality: Quality = built(PICO)(*seen)
    assert quality.frame_score_BT.shape == (1, 5)


def test_a_config_is_the_same_after_a_file() -> None:
    assert ZoomConfig(**json.loads(json.dumps(asdict(PUBLISHED_ZOOM)))) == PUBLISHED_ZOOM


@pytest.mark.parametrize("size", ["huge", "micro"])
def test_sizes_that_one_of_the_branches_does_not_have_are_refused(size: str) -> None:
    with pytest.raises(ValueError, match=f"size '{size}' is none of"):
        ZoomConfig(size=size)


def test_both_branches_are_trained_at_once() -> None:
    torch.manual_seed(0)
    model = Zoom(replace(PICO, has_conv_stem=False))
    label = torch.linspace(0.1, 0.9, 8)
    noise = (1 - label).view(-1, 1, 1, 1, 1) / 2
    seen = [
        0.5 + noise * (torch.rand_like(view) - 0.5) for view in views(8, stills=1, run_frames=4)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(20):
        stills, runs = model(*seen).branches
        loss = quality_loss(stills.score_B, label) + quality_loss(runs.score_B, label)
        loss = loss + plcc_loss(runs.score_B, label) + 0.3 * batch_rank_loss(runs.score_B, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        quality = model.eval()(*seen)
    score = quality.score_B
    for found in (score, *(branch.score_B for branch in quality.branches)):
        assert srcc(found.numpy(), label.numpy()) > 0.9
    assert (score - label).abs().mean() < 0.1


def test_the_first_batch_replaces_the_running_values_of_the_fusion() -> None:
    known, seen = built(PICO), views(4)
    for _ in range(3):
        known.train()(*(view / 10 for view in seen))
    model = built(PICO)
    model.load_weights(known.state_dict())
    assert torch.equal(model.eval()(*seen).score_B, known.eval()(*seen).score_B)
    for each in (model, fresh := built(PICO)):
        torch.manual_seed(1)
        each.train()(*seen)
    fusion = "_fusion.mean"
    assert not torch.equal(model.state_dict()[fusion], known.state_dict()[fusion])
    assert torch.equal(model.state_dict()[fusion], fresh.state_dict()[fusion])


def test_a_crop_of_320_has_100_hyper_columns_of_1440_channels() -> None:
    with torch.device("meta"):
        pyramid = ConvNeXtPyramid(CONVNEXT_SIZES["tiny"], in_channels=3, has_conv_stem=False)
        maps = pyramid(torch.empty(1, 3, 320, 320))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (96, 80, 80),
        (192, 40, 40),
        (384, 20, 20),
        (768, 10, 10),
    ]
    assert hyper_columns(maps, (10, 10)).shape == (1, 1440, 10, 10)


def test_hyper_columns_hold_the_mean_of_each_cell_of_each_stage() -> None:
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    coarse = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    columns = hyper_columns([fine, coarse], (2, 2))
    assert columns[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert torch.equal(columns[0, 1], coarse[0, 0])


@pytest.mark.parametrize(
    ("size", "parameters"),
    # tiny, small and base as published (arXiv 2201.03545), less their classifier of 1000 classes
    [
        ("tiny", 28.59e6 - 0.77e6),
        ("small", 50.22e6 - 0.77e6),
        ("base", 88.59e6 - 1.03e6),
        ("nano", 4.83e6),
        ("pico", 0.2323e6),
    ],
)
def test_convnext_has_the_parameters_of_its_size(size: str, parameters: float) -> None:
    with torch.device("meta"):
        pyramid = ConvNeXtPyramid(CONVNEXT_SIZES[size], in_channels=3, has_conv_stem=False)
    assert count(pyramid) == pytest.approx(parameters, rel=0.001)


@torch.no_grad()
@pytest.mark.parametrize("has_conv_stem", [True, False])
def test_convnext_gives_four_maps_finest_first(has_conv_stem: bool) -> None:
    pyramid = ConvNeXtPyramid(CONVNEXT_SIZES["pico"], in_channels=4, has_conv_stem=has_conv_stem)
    shapes = [tuple(m.shape) for m in pyramid(torch.rand(2, 4, 64, 96))]
    assert shapes == [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]


def test_equal_scores_give_that_score_for_any_weights() -> None:
    torch.manual_seed(0)
    weight = torch.rand(5, 3, 4)
    patches = PatchScores(torch.full((5, 3, 4), 0.37), weight, torch.zeros(5, 1, 3, 4))
    assert torch.allclose(patches.score_B, torch.full((5,), 0.37))


def test_a_score_is_the_weighted_mean_of_its_patches() -> None:
    score, weight = torch.tensor([[[0.2, 0.8]]]), torch.tensor([[[0.9, 0.3]]])
    # (0.2 * 0.9 + 0.8 * 0.3) / 1.2
    assert PatchScores(score, weight, score[:, None]).score_B.item() == pytest.approx(0.35)


@torch.no_grad()
def test_weights_are_between_0_and_1() -> None:
    torch.manual_seed(0)
    heads = PatchHeads(8, 4).eval()
    patches = heads(3 * torch.randn(2, 8, 5, 5))
    assert ((patches.weight_BHW > 0) & (patches.weight_BHW < 1)).all()
    assert patches.weight_BHW.std() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("activation", get_args(Activation))
def test_an_untrained_head_gives_a_typical_score(activation: Activation) -> None:
    heads = PatchHeads(8, 4, activation=activation).eval()
    nn.init.zeros_(heads.get_parameter("_score.weight"))
    found = heads(torch.rand(1, 8, 2, 2)).score_BHW
    assert torch.allclose(found, torch.tensor(0.6), atol=0.001)


def test_a_softplus_has_a_gradient_where_a_relu_has_none() -> None:
    gradients = {}
    for activation in get_args(Activation):
        torch.manual_seed(0)
        heads = PatchHeads(8, 4, activation=activation).eval()
        columns = torch.zeros(1, 8, 2, 2)
        bias = heads.get_parameter("_score.bias")
        nn.init.constant_(bias, -0.5)
        heads(columns).score_B.sum().backward()
        assert bias.grad is not None
        gradients[activation] = bias.grad.item()
    assert gradients["relu"] == 0
    assert gradients["softplus"] > 1e-3


@torch.no_grad()
def test_scores_of_patches_keep_fine_steps_in_bfloat16() -> None:
    torch.manual_seed(0)
    heads = PatchHeads(8, 4, activation="relu").eval()
    with torch.autocast("cpu", torch.bfloat16):
        score_BHW = heads(torch.randn(1, 8, 5, 5)).score_BHW
    assert not torch.equal(score_BHW, score_BHW.bfloat16().float())


def test_a_softplus_is_linear_over_the_labels() -> None:
    heads = PatchHeads(1, 1)
    nn.init.zeros_(heads.get_parameter("_score.weight"))
    told = []
    for label in (0.3, 0.6, 0.9):
        nn.init.constant_(heads.get_parameter("_score.bias"), label)
        told.append(heads(torch.zeros(1, 1, 1, 1)).score_B.item())
    assert told == pytest.approx([0.3, 0.6, 0.9], abs=0.01)


def scores(videos: int = 12) -> Tensor:
    chance = torch.Generator().manual_seed(3)
    label = 0.2 + 0.6 * torch.rand(videos, generator=chance)
    return label[:, None] + 0.05 * torch.randn(videos, 2, generator=chance)


def watched(score_NK: Tensor) -> ScoreFusion:
    fusion = ScoreFusion(branches=2)
    fusion.update(score_NK)
    return fusion


def test_fusion_orders_as_the_mean_of_the_sigmoids_of_standard_scores() -> None:
    score_NK = scores()
    standard = (score_NK - score_NK.mean(0)) / score_NK.std(0, unbiased=False)
    published = standard.sigmoid().mean(1)
    found = watched(score_NK)(score_NK)
    assert torch.equal(found.argsort(), published.argsort())
    spread = score_NK.std(0, unbiased=False).mean()
    assert torch.allclose((found - score_NK.mean()) / spread, published.logit(), atol=1e-4)


@pytest.mark.parametrize("branch", [0, 1])
def test_fusion_ignores_scale_and_offset_of_a_branch(branch: int) -> None:
    score_NK = scores()
    changed = score_NK.clone()
    changed[:, branch] = 30 * changed[:, branch] - 7
    found, before = watched(changed)(changed), watched(score_NK)(score_NK)
    # but for the scale of the result, which is the branches'
    assert torch.corrcoef(torch.stack([found, before]))[0, 1] == pytest.approx(1, abs=1e-5)


def test_fusion_of_one_video_is_that_in_a_batch() -> None:
    score_NK = scores()
    fusion = watched(score_NK)
    alone = torch.stack([fusion(score_K[None])[0] for score_K in score_NK])
    assert torch.equal(alone, fusion(score_NK))


def test_equal_branches_give_their_own_score() -> None:
    same = torch.linspace(0.1, 0.95, 9)[:, None].expand(9, 2)
    assert torch.allclose(watched(same)(same), same[:, 0], atol=1e-4)


def test_a_constant_branch_leaves_the_order_to_the_other() -> None:
    score_NK = scores()
    score_NK[:, 1] = 0.4
    found = watched(score_NK)(score_NK)
    assert found.isfinite().all()
    assert torch.equal(found.argsort(), score_NK[:, 0].argsort())


def test_running_values_are_those_of_all_batches() -> None:
    score_NK = scores(4000)
    fusion = ScoreFusion(branches=2)
    for batch in score_NK.split(40):
        fusion.update(batch)
    assert torch.allclose(fusion.mean, score_NK.mean(0), atol=0.01)
    assert torch.allclose(fusion.square.sqrt(), score_NK.std(0), atol=0.01)


def test_running_values_follow_a_branch_that_changes() -> None:
    fusion = ScoreFusion(branches=2)
    for shift in (0.0, 0.5):
        for _ in range(600):
            fusion.update(scores() + shift)
    assert torch.allclose(fusion.mean, scores().mean(0) + 0.5, atol=0.01)
