"""`python -m vqatool`."""

from vqatool.cli import cli

if __name__ == "__main__":
    cli(prog_name="vqatool")
