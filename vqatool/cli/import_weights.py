"""`vqatool import`: published weights -> a model file."""

from pathlib import Path

import click

from vqatool.cli.options import HereType


@click.command("import")
@click.argument("file", type=HereType(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=HereType(dir_okay=False, path_type=Path),
              help="Model file to write.")  # fmt: skip
@click.option("--licence", default="", help="Licence of the weights, for the model's card.")
def import_weights(file: Path, out: Path, licence: str) -> None:
    """Convert published weights to a model file.

    InternVideo2 (arXiv 2403.15377) becomes a model of intern-vqa, VMamba's second version
    (arXiv 2401.10166) one of q-mamba. The model has not been trained on scores yet: use it with
    `vqatool train --init` or --teacher. FILE is read without running code in it.

    \b
    Example:
        vqatool import InternVideo2_S14.pth -o s14.safetensors
        vqatool train --method intern-vqa --init s14.safetensors
        vqatool train --method intern-vqa --init scratch --size small \\
            --teacher 1b.safetensors
        vqatool import vssm_base_0229_ckpt_epoch_237.pth -o vmamba.safetensors
    """
    from vqatool.files import require_own_files
    from vqatool.inference.model_file import save_checkpoint
    from vqatool.pretraining.published_weights import published_checkpoint
    from vqatool.terminal import print_note

    require_own_files(models=[out])
    checkpoint = published_checkpoint(file, licence=licence)
    save_checkpoint(checkpoint, out)
    card = checkpoint.card
    print_note(
        f"wrote {out}, size {card.shape['size']}; next: vqatool train --method {card.method} "
        f"--init {out}"
    )
