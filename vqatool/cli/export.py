"""`vqatool export`: a model file of torch -> one for ONNX Runtime, which needs no torch."""

from pathlib import Path

import click

from vqatool.cli.options import HereType


@click.command()
@click.argument("model", type=HereType(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", type=HereType(dir_okay=False, path_type=Path),
              help="File to write.  [default: MODEL with the ending .onnx]")  # fmt: skip
def export(model: Path, out: Path | None) -> None:
    """Export a model file of any method.

    The exported file holds the same model and gives the same scores. `vqatool score` runs it
    without torch, on the CPU. It cannot be trained further: keep the original for that.

    \b
    Example:
        vqatool export model.safetensors
        vqatool score videos/ -m model.onnx
    """
    from vqatool.files import require_own_files
    from vqatool.inference.export import export as export_model
    from vqatool.inference.loading import EXPORTED_SUFFIX
    from vqatool.inference.model_file import load_checkpoint
    from vqatool.terminal import print_note

    target = out or model.with_suffix(EXPORTED_SUFFIX)
    if target.suffix.lower() != EXPORTED_SUFFIX:
        raise click.UsageError(f"{target} does not end in {EXPORTED_SUFFIX}: choose such a name")
    require_own_files(models=[target])
    checkpoint = load_checkpoint(model)
    export_model(checkpoint, target)
    print_note(f"{target}: {checkpoint.name}")
