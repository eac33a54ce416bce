"""`vqatool completion`: a script with which a shell completes commands, options and names."""

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_VQATOOL_COMPLETE"  # where click looks for what a script asks


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example:
        vqatool completion bash \\
            > ~/.local/share/bash-completion/completions/vqatool
        vqatool completion zsh > ~/.zfunc/_vqatool
        vqatool completion fish > ~/.config/fish/completions/vqatool.fish
    """
    found = get_completion_class(shell)
    assert found  # click has all three
    click.echo(found(ctx.find_root().command, {}, "vqatool", _VARIABLE).source())
