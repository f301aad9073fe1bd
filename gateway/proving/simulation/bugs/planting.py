"""Planting bugs: parts of the running program are changed for as long as a block lasts; no file ever is."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

_NO_VALUE = object()


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug.

    Attributes:
        breaks: what it does, in a few words.
        plant: makes the program have it while the context lasts.
        of_data: only worlds that hand data over can show it.
    """

    name: str
    breaks: str
    plant: Callable[[], AbstractContextManager[None]]
    of_data: bool = False


class NotPlantedError(Exception):
    """The program is not as the bug expects it: the bug must be written anew."""


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Put ``value`` in the place of an attribute of a class or module."""
    before = inspect.getattr_static(owner, name, _NO_VALUE)
    if before is _NO_VALUE:
        raise NotPlantedError(f"{owner} has no {name}")
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def swapped(table: Mapping[Any, Any], rows: Mapping[Any, Any]) -> Iterator[None]:
    """Write rows into a table, over what is there or beside it."""
    target = cast("dict[Any, Any]", table)
    before = {key: target.get(key, _NO_VALUE) for key in rows}
    target.update(rows)
    try:
        yield
    finally:
        for key, row in before.items():
            if row is _NO_VALUE:
                del target[key]
            else:
                target[key] = row


@contextmanager
def edited(owner: Any, name: str, *edits: tuple[str, str]) -> Iterator[None]:
    """Compile a function of a class or module anew, with pieces of its text replaced by others."""
    function = inspect.getattr_static(owner, name)
    text = textwrap.dedent(inspect.getsource(function))
    for old, new in edits:
        if text.count(old) != 1:
            raise NotPlantedError(f"{name} holds {text.count(old)} times: {old}")
        text = text.replace(old, new)
    module = function.__globals__
    made: dict[str, Any] = {}
    # A closure would lose what it closes over, ``super()`` included: none of the functions edited here has one.
    exec(compile(text, f"<planted in {name}>", "exec"), module, made)  # noqa: S102 - our own text, with our own edit
    with replaced(owner, name, made[name]):
        yield


@contextmanager
def together(*plants: AbstractContextManager[None]) -> Iterator[None]:
    """Plant several changes that are one bug."""
    with ExitStack() as stack:
        for plant in plants:
            stack.enter_context(plant)
        yield


class Instead:
    """Stands for an object, but for some of its attributes."""

    def __init__(self, real: object, **others: object) -> None:
        self._real = real
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
