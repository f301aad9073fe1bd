"""Options that several commands have alike: written once, as the fields of a dataclass."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

R = TypeVar("R")


def grouped(function: Callable[..., R]) -> Callable[..., R]:
    """Let a command take dataclasses: each of their fields is an option of the command's own.

    The fields are annotated as the parameters of a command are. They stand in the command's help where the dataclass
    stands among its parameters, and it is given one made of them.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: Mapping[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    own = inspect.signature(function)

    @functools.wraps(function)
    def wrapped(**given: Any) -> R:
        made = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        return function(**given, **made)

    def parameters() -> Iterator[inspect.Parameter]:
        for name, parameter in own.parameters.items():
            if (group := groups.get(name)) is None:
                yield _option(name, parameter.default, hints[name])
                continue
            options = get_type_hints(group, include_extras=True)
            for field in fields(group):
                default = inspect.Parameter.empty if field.default is MISSING else field.default
                yield _option(field.name, default, options[field.name])

    signature = own.replace(parameters=list(parameters()))
    wrapped.__signature__ = signature  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return wrapped


def _option(name: str, default: object, annotation: Any) -> inspect.Parameter:
    # By name alone: what has no default may stand behind what has one.
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
