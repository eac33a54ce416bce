"""The network of deep features, trained on patches of labelled encodes.

    python -m vqatool.pretraining.patches WORK dist_5.0.0.ckpt -o resnet18-patches.onnx

It starts from the ResNet-18 of FDIM (`vqatool.pretraining.fdim`); from random weights it learned
far less. Every step takes a few encodes of each of a few contents and some patches of each encode,
and learns four things at once: the VIF of tiles of 16 px against the source (a label for every part
of a patch), VMAF of the clip, the order of the encodes of one content, and whether a clip was coded
twice. What is learned besides the stem and two stages is thrown away: the figure network of a model
is fitted to what they give. With a weight of 0 for tiles, SRCC on the validation side by pixels
alone fell from 0.880 to 0.848 (30 epochs), and ten times as many epochs raised it to 0.928.

Shapes: N encodes, B of them in a step, P patches of each, C figures of a patch.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladder.storage import atomic_write
from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.labels import LabelledEncode
from vqatool.data.splits import encodes_of_split
from vqatool.errors import TrainingDataError
from vqatool.inputs.clip import FrameGroup, GroupedView
from vqatool.inputs.deep_features import CHANNELS, PATCH_PX, patches
from vqatool.losses import quality_loss, rank_loss, tile_quality_loss
from vqatool.methods import Method, recipe_for
from vqatool.methods.recipe import Input
from vqatool.metrics import raw_errors, srcc
from vqatool.pretraining.fdim import PatchFigures, folded_weights, network_file
from vqatool.training.step import averaged_model, lr_factor

CACHE_FOLDER = "cached-patches"

_TILES = 8  # a side of a patch
_NUM_FRAMES = 8
_FIGURES = 4 * sum(CHANNELS)
_EMA_DECAY, _WARMUP_STEPS = 0.998, 100
_TYPICAL_SCORE, _SPREAD = 0.75, 0.25  # what an untrained head gives

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PatchTraining:
    """How the network is trained.

    Attributes:
        epochs: an epoch is as many steps as all encodes would take once.
        batch: encodes in a step.
        per_content: of one content among them, at most.
        patches: of each encode in a step.
        lr: of the stages; of the head `head_lr`.
        head_lr: see `lr`.
        weight_decay: of AdamW.
        dropout: of the head.
        light: deviation of brightness and contrast, which are changed at random.
        tile_weight: of the VIF of tiles in the loss; VMAF has 1.
        rank_weight: of the order inside contents.
        twice_weight: of whether a clip was coded twice.
        seed: of all that is random.
    """

    epochs: int = 300
    batch: int = 32
    per_content: int = 4
    patches: int = 16
    lr: float = 3e-4
    head_lr: float = 2e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    light: float = 0.06
    tile_weight: float = 8.0
    rank_weight: float = 0.5
    twice_weight: float = 0.1
    seed: int = 0


class PatchSet(NamedTuple):
    """Patches and labels of N encodes.

    Attributes:
        patches_NPHW: luma, uint8, P patches of each.
        tiles_NPTT: VIF of tiles against the source, 1 (worst) to 255; 0 unknown.
        encodes: N of them.
    """

    patches_NPHW: Tensor
    tiles_NPTT: Tensor
    encodes: Sequence[LabelledEncode]

    @property
    def label_N(self) -> Tensor:
        """VMAF over 100."""
        return torch.tensor([encode.vmaf / 100 for encode in self.encodes])

    @property
    def twice_N(self) -> Tensor:
        """1 where an encode was coded twice, else 0."""
        return torch.tensor([float(encode.is_coded_twice) for encode in self.encodes])


class PatchQuality(NamedTuple):
    """Scores (B,) of clips, about 0 to 1; logit of coded twice; logits of the VIF of tiles."""

    score_B: Tensor
    twice_B: Tensor
    tiles_BPTT: Tensor


class PatchNetwork(nn.Module):
    """Patches (B, P, H, W) in [0, 1] -> PatchQuality; the stages are `PatchFigures`.

    Args:
        weights: what the stages start from, as `folded_weights` gives them.
        dropout: of the head.
    """

    def __init__(self, weights: dict[str, Tensor], dropout: float) -> None:
        super().__init__()
        self.figures = PatchFigures(weights)
        self.tiles = nn.Sequential(nn.Conv2d(CHANNELS[-1], 64, 1), nn.GELU(), nn.Conv2d(64, 1, 1))
        self.head = nn.Sequential(
            nn.BatchNorm1d(_FIGURES),
            nn.Dropout(dropout),
            nn.Linear(_FIGURES, 128),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(128, 2),
        )

    def forward(self, patches_BPHW: Tensor) -> PatchQuality:
        """The quality of B clips of P patches, at least two."""
        clips, count = patches_BPHW.shape[:2]
        maps = self.figures.maps(patches_BPHW.flatten(0, 1)[:, None])
        tile_side = maps[-1].shape[-1] // _TILES
        tiles = self.tiles(F.avg_pool2d(maps[-1], tile_side)).float()
        figures_BPC = self.figures.pooled(maps).view(clips, count, -1)
        spread_BC = figures_BPC.std(1, unbiased=False)
        output_B2 = self.head(torch.cat([figures_BPC.mean(1), spread_BC], dim=1)).float()
        return PatchQuality(
            _TYPICAL_SCORE + _SPREAD * output_B2[:, 0],
            output_B2[:, 1],
            tiles.view(clips, count, _TILES, _TILES),
        )


def read_patches(work: Path, encodes: Sequence[LabelledEncode]) -> PatchSet:
    """The patches that scoring sees of each encode; decoded once, into `cached-patches`.

    Raises:
        TrainingDataError: an encode cannot be decoded, or its source not be read.
    """
    recipe = replace(
        recipe_for(Method.COARSE_TO_FINE, {}),
        inputs=(Input(GroupedView(patches), is_random=False, has_tiles=True),),
        frame_group=FrameGroup(2),
        reads_stream=False,
    )
    cached = CachedInputs(encodes, work / CACHE_FOLDER, recipe, _NUM_FRAMES, has_tiles=True)
    missing = len(cached.missing())
    for number, _ in enumerate(cached.decode_missing(), 1):
        if number % 100 == 0:
            _log.info("decoded %d of %d", number, missing)
    lumas, tiles = [], []
    for index in range(len(encodes)):
        (view_P2HW,) = cached.unaugmented_views(index)
        lumas.append(torch.from_numpy(view_P2HW[:, 0].copy()))
        # the quality has steps of 16 px that do not begin where a patch does
        quality_P1HW = torch.from_numpy(view_P2HW[:, 1:]).float()
        if not view_P2HW[:, 1].any():
            source = encodes[index].source_path
            raise TrainingDataError(f"{source} is gone or unreadable: its patches have no labels")
        tiles.append(F.avg_pool2d(quality_P1HW, PATCH_PX // _TILES)[:, 0].round().byte())
    return PatchSet(torch.stack(lumas), torch.stack(tiles), encodes)


def train_patch_network(
    train: PatchSet,
    validation: PatchSet,
    start: dict[str, Tensor],
    how: PatchTraining,
    device: torch.device,
) -> PatchNetwork:
    """The mean of the networks of the last steps; logs the validation side ten times."""
    torch.manual_seed(how.seed)
    generator = np.random.default_rng(how.seed)
    network = PatchNetwork(start, how.dropout).to(device)
    mean_network = averaged_model(network, _EMA_DECAY, device)
    stages = list(network.figures.parameters())
    others = [*network.tiles.parameters(), *network.head.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": stages, "lr": how.lr}, {"params": others, "lr": how.head_lr}],
        weight_decay=how.weight_decay,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    on_device = train._replace(
        patches_NPHW=train.patches_NPHW.to(device), tiles_NPTT=train.tiles_NPTT.to(device)
    )
    steps = how.epochs * max(1, len(train.encodes) // how.batch)
    for step in range(1, steps + 1):
        factor = lr_factor(step - 1, steps, min(_WARMUP_STEPS, steps // 10) / steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        network.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = _loss(network, on_device, how, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        mean_network.update_parameters(network)
        if step % max(1, steps // 10) == 0:
            _log.info(
                "step %d of %d: %s", step, steps, _judged(mean_network.module, validation, device)
            )
    return cast(PatchNetwork, mean_network.module.eval())


def _loss(
    network: PatchNetwork, train: PatchSet, how: PatchTraining, generator: np.random.Generator
) -> Tensor:
    chosen = _drawn([encode.source for encode in train.encodes], how, generator)
    count = train.patches_NPHW.shape[1]
    places = torch.from_numpy(generator.permutation(count)[: how.patches])
    device = train.patches_NPHW.device
    patches_BPHW = train.patches_NPHW[chosen][:, places].float() / 255
    tiles_BPTT = train.tiles_NPTT[chosen][:, places].float()
    patches_BPHW, tiles_BPTT = _turned(patches_BPHW, tiles_BPTT, int(generator.integers(8)))
    # the same for all encodes: their order must stay
    light = how.light * torch.randn(2, 1, len(places), 1, 1, device=device)
    patches_BPHW = ((patches_BPHW - 0.5) * (1 + light[0]) + 0.5 + light[1]).clamp(0, 1)
    output = network(patches_BPHW)
    label_B, twice_B = (each[chosen].to(device) for each in (train.label_N, train.twice_N))
    sources = [train.encodes[index].source for index in chosen]
    content_B = torch.tensor([sources.index(source) for source in sources], device=device)
    is_known = tiles_BPTT > 0
    labels_BPTT = ((tiles_BPTT - 1) / 254).masked_fill(~is_known, torch.nan)
    tile_loss = tile_quality_loss(output.tiles_BPTT.sigmoid(), labels_BPTT, beta=0.1)
    rank = rank_loss(output.score_B, label_B, content_B, margin="label", tolerance=0.02)
    return (
        quality_loss(output.score_B, label_B, beta=0.05)
        + how.rank_weight * rank
        + how.twice_weight * F.binary_cross_entropy_with_logits(output.twice_B, twice_B)
        + how.tile_weight * tile_loss
    )


def _drawn(sources: Sequence[str], how: PatchTraining, generator: np.random.Generator) -> list[int]:
    """Indices of the encodes of a step: some of each of a few contents."""
    by_source: dict[str, list[int]] = {}
    for index, source in enumerate(sources):
        by_source.setdefault(source, []).append(index)
    contents = list(by_source.values())
    chosen: list[int] = []
    while len(chosen) < how.batch:
        members = contents[int(generator.integers(len(contents)))]
        chosen += generator.permutation(members)[: how.per_content].tolist()
    return chosen[: how.batch]


def _turned(patches: Tensor, tiles: Tensor, turn: int) -> tuple[Tensor, Tensor]:
    """Both mirrored and transposed in one of eight ways."""
    for bit, axes in ((1, (-1,)), (2, (-2,))):
        if turn & bit:
            patches, tiles = patches.flip(axes), tiles.flip(axes)
    return (patches.mT, tiles.mT) if turn & 4 else (patches, tiles)


@torch.no_grad()
def _judged(network: nn.Module, judged: PatchSet, device: torch.device) -> str:
    network.eval()
    scores = [
        network(judged.patches_NPHW[start : start + 16].to(device).float() / 255).score_B.cpu()
        for start in range(0, len(judged.encodes), 16)
    ]
    score_N = 100 * torch.cat(scores).clamp(0, 1).numpy()
    label_N = 100 * judged.label_N.numpy()
    errors = raw_errors(score_N, label_N, [encode.source for encode in judged.encodes])
    return f"SRCC {srcc(score_N, label_N):.3f}, RMSE {errors.rmse:.2f}"


def main() -> None:
    """Train the network and write its file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("work", type=Path, help="work folder with labels and splits")
    parser.add_argument("checkpoint", type=Path, help="of FDIM, to start from")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=PatchTraining.epochs)
    parser.add_argument("--batch", type=int, default=PatchTraining.batch)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train, validation = (
        read_patches(options.work, encodes_of_split(options.work, side))
        for side in ("train", "val")
    )
    known = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    start = folded_weights(known.get("state_dict", known))
    how = PatchTraining(epochs=options.epochs, batch=options.batch)
    network = train_patch_network(train, validation, start, how, torch.device(options.device))
    origin = "ResNet-18 of FDIM 0.2.1, stem and stages 1 and 2, trained on; MIT, FDIM-LICENSE.txt"
    with atomic_write(options.output) as file:
        file.write(network_file(network.figures.weights(), origin))


if __name__ == "__main__":
    main()
