"""``mypay completion SHELL``: the script by which a shell completes nouns, commands and options."""

from enum import StrEnum, unique
from typing import Annotated, Final

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # documented as typer.completion's

_PROGRAM: Final = "mypay"


@unique
class Shell(StrEnum):
    """A shell that can be told."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def command(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Complete commands and options in your shell.

    Prints the script; your shell reads it at its start: `eval "$(mypay completion bash)"` in ~/.bashrc.
    """
    typer.echo(get_completion_script(prog_name=_PROGRAM, complete_var=f"_{_PROGRAM.upper()}_COMPLETE", shell=shell))
