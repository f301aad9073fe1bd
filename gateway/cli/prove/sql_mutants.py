"""``mypay prove sql-mutants``: planted bugs in the SQL that the tests must find."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

_RUNNER: Final = Path("tests/support/sql_mutants.py")


def command(
    only: Annotated[str, typer.Option(help="Bugs whose names hold this text.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="Tell them, and run nothing.")] = False,
) -> None:
    """Drop a lock, an order, a condition, or turn a comparison in the SQL, one by one: a test must fail.

    Runs in a checkout, with its tests, on a PostgreSQL of its own: some seconds a bug.
    """
    if not _RUNNER.is_file():
        raise typer.BadParameter(f"{_RUNNER} is not here: run it in a checkout of the sources")
    arguments = ["--only", only, *(["--list"] if list_ else [])]
    module = ".".join(_RUNNER.with_suffix("").parts)
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)  # noqa: S603 - ours
    raise typer.Exit(done.returncode)
