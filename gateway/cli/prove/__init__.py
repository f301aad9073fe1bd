"""``mypay prove``: the gateway's promises, checked against every fault that can be caused. One file a subcommand."""

import importlib
import importlib.util
from typing import Final

import typer

app = typer.Typer(no_args_is_help=True)

_SUBCOMMANDS: Final = ("simulate", "torture", "restore", "mutants", "sql_mutants", "seed", "console")
"""Modules of this package, in the order in which help lists them; each has a function ``command``."""

for _name in _SUBCOMMANDS:
    if importlib.util.find_spec(f"{__name__}.{_name}"):
        app.command(_name.replace("_", "-"))(importlib.import_module(f"{__name__}.{_name}").command)
