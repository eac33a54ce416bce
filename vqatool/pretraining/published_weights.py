"""Published weights of other projects -> model files of ours, to start from or to learn from."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vqatool.errors import CheckpointError
from vqatool.inference.model_file import UNTRAINED, Checkpoint, ModelCard
from vqatool.inputs.clip import DEFAULT_FRAME_GROUPS
from vqatool.methods import Method, recipe_for
from vqatool.models.internvideo import InternVideo
from vqatool.models.internvideo_weights import INTERNVIDEO_STEM, internvideo_of
from vqatool.models.q_mamba import QMamba
from vqatool.models.vmamba_weights import VMAMBA_STEM, q_mamba_of
from vqatool.models.weight_files import WeightFile, read_weights

_NETS: dict[str, tuple[Method, Callable[[WeightFile], InternVideo | QMamba]]] = {
    INTERNVIDEO_STEM: (Method.INTERN_VQA, internvideo_of),
    VMAMBA_STEM: (Method.Q_MAMBA, q_mamba_of),
}


def published_checkpoint(path: Path, *, licence: str = "") -> Checkpoint:
    """A published net in its published size, with a head that says nothing yet.

    Args:
        path: .pth, .bin, .pt or .safetensors with InternVideo2's video transformer
            (arXiv 2403.15377) or the backbone of VMamba's second version (arXiv 2401.10166).
        licence: of the weights, for the card.

    Raises:
        CheckpointError: no such file, none of these nets, or of a size without a name.
    """
    file = read_weights(path)
    for stem, (method, read) in _NETS.items():
        if file.prefixes(stem):
            return _untaught(method, read(file), path, licence)
    raise CheckpointError(
        f"{path} has no {' and no '.join(_NETS)}: it is no file of InternVideo2 or VMamba"
    )


def _untaught(method: Method, model: InternVideo | QMamba, path: Path, licence: str) -> Checkpoint:
    recipe = recipe_for(method, asdict(model.config))
    card = ModelCard(
        method=method.value,
        shape=recipe.shape,
        clip_frames=DEFAULT_FRAME_GROUPS,
        label=UNTRAINED,
        preprocessing=recipe.preprocessing,
        data={"published": path.name},
        licence=licence,
    )
    return Checkpoint(card, model.state_dict())
