"""A list that is cut at its `--limit` says so: whoever counts its rows would be wrong."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.cli import common, program

OTHERWISE: dict[tuple[str, ...], str] = {
    ("archive", "show"): "payments in",
    ("dead-letter", "list"): "older ones are not shown",
    ("merchant", "list"): "More: --after",
    ("token", "list"): "More: --after",
}
"""How those say it that do not so by :func:`gateway.cli.common.say_if_cut`."""


def lists(command: Any, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below this one that has a limit, with its function."""
    command = command._load() if hasattr(command, "_load") else command
    for noun, below in getattr(command, "commands", {}).items():
        yield from lists(below, (*name, noun))
    if any(p.name == "limit" for p in command.params):
        yield name, inspect.unwrap(command.callback)


LISTS = dict(lists(program(), ()))


@pytest.mark.parametrize("name", LISTS, ids=" ".join)
def test_every_list_with_a_limit_says_that_it_is_cut(name: tuple[str, ...]) -> None:
    said = OTHERWISE.get(name, f"{common.say_if_cut.__name__}(")
    assert said in inspect.getsource(LISTS[name])


def test_those_lists_are_found() -> None:
    assert set(OTHERWISE) < set(LISTS)


@pytest.mark.parametrize(("rows", "is_said"), [(0, False), (2, False), (3, True)])
def test_a_list_of_as_many_rows_as_were_asked_for_may_be_cut(
    capsys: pytest.CaptureFixture[str], rows: int, is_said: bool
) -> None:
    common.say_if_cut(range(rows), 3)
    told = capsys.readouterr()
    assert ("--limit" in told.err) is is_said
    assert not told.out
