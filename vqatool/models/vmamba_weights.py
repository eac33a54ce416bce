"""VMamba's published weights for those who have the file: what Q-Mamba starts from.

Files of the project (arXiv 2401.10166, second version: one state a channel, no second branch) hold
a backbone with a classifier, or with the norms that a detector reads. Taken is the backbone, and
all of it has to be there; the head is new. Its sizes small and base (15 blocks in the third stage)
are those of Q-Mamba; its tiny ones have more blocks than Q-Mamba's 4 there, and are refused.
"""

import re
from collections.abc import Iterator

from torch import Tensor

from vqatool.errors import CheckpointError
from vqatool.models.q_mamba import QMamba, QMambaConfig
from vqatool.models.vmamba import VMAMBA_SIZES, VMambaSize
from vqatool.models.weight_files import WeightFile, fill

VMAMBA_STEM = "patch_embed.0.weight"
"""The backbone's first weight in the project's files."""

_STEM_LAYERS = {"0": "0._conv", "2": "0._norm", "5": "2._conv", "7": "2._norm"}
_BLOCK_LAYERS = {
    "norm": "_scan.0",
    "op.in_proj": "_scan.1._in",
    "op.conv2d": "_scan.1._conv",
    "op.x_proj_weight": "_scan.1._read",
    "op.dt_projs_weight": "_scan.1._step",
    "op.dt_projs_bias": "_scan.1._step_bias",
    "op.A_logs": "_scan.1._log_rate",
    "op.Ds": "_scan.1._skip",
    "op.out_norm": "_scan.1._norm",
    "op.out_proj": "_scan.1._out",
    "norm2": "_mlp.0",
    "mlp.fc1": "_mlp.1",
    "mlp.fc2": "_mlp.3",
}
_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")
_NOT_TAKEN = re.compile(r"classifier\.|outnorm\d\.")  # what reads the backbone's maps
_FLAT = re.compile(r".*\.op\.(dt_projs_bias|A_logs)$")  # of paths and channels apart


def published(size: str) -> QMambaConfig:
    """A size as its paper has it: the one that published weights fit."""
    return QMambaConfig(size=size, has_local_luma=False, has_local_scan=False, has_gate=False)


def q_mamba_of(file: WeightFile) -> QMamba:
    """Q-Mamba in the size of a file's backbone, with its weights and a head that knows nothing.

    Raises:
        CheckpointError: it does not hold one such backbone, or one of a size without a name.
    """
    found = file.net(VMAMBA_STEM, "VMamba")
    width = 2 * len(found[VMAMBA_STEM])  # the stem widens in two steps
    blocks = {match.groups() for name in found if (match := _BLOCK.match(name))}
    depths = tuple(sum(stage == str(index) for stage, _ in blocks) for index in range(4))
    for name, size in VMAMBA_SIZES.items():
        if (size.embed_dim, size.depths) == (width, depths):
            model = QMamba(published(name))
            fill(model, _ours(found, size), file.path, may_be_new=["_head."])
            return model
    known = ", ".join(f"{n} {s.depths} of {s.embed_dim}" for n, s in VMAMBA_SIZES.items())
    raise CheckpointError(
        f"{file.path} holds {depths} blocks, the first of width {width}, which no size of Q-Mamba "
        f"has: {known}"
    )


def _ours(weights: dict[str, Tensor], size: VMambaSize) -> dict[str, Tensor]:
    """The backbone's weights by the names and in the shapes that `QMamba` has them in."""
    layers = dict(_layers(size))
    taken = {}
    for name, value in weights.items():
        if _NOT_TAKEN.match(name):
            continue
        layer, _, kind = name.rpartition(".")
        ours = layers.get(name) or (f"{layers[layer]}.{kind}" if layer in layers else name)
        if value.ndim == 4 and value.shape[2:] == (1, 1):  # over one pixel: a linear layer
            value = value.flatten(1)
        taken[f"_backbone.{ours}"] = value.flatten() if _FLAT.match(name) else value
    return taken


def _layers(size: VMambaSize) -> Iterator[tuple[str, str]]:
    """Their name of each layer, or of a weight that is in none, and ours."""
    for theirs, ours in _STEM_LAYERS.items():
        yield f"patch_embed.{theirs}", f"_stem.{ours}"
    for stage, depth in enumerate(size.depths):
        if stage:  # theirs halves the map behind a stage's blocks, ours in front of the next's
            yield f"layers.{stage - 1}.downsample.1", f"_stages.{stage}.0._conv"
            yield f"layers.{stage - 1}.downsample.3", f"_stages.{stage}.0._norm"
        for block in range(depth):
            inside = f"_stages.{stage}.{block + 1}"  # in front of the first is what halves
            for theirs, ours in _BLOCK_LAYERS.items():
                yield f"layers.{stage}.blocks.{block}.{theirs}", f"{inside}.{ours}"
