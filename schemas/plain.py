"""The quick way through the JSON door: plain bodies, which nearly all are, read with msgspec in a quarter of the time.

A body is plain if nothing in it needs a second look: no escape, every member known and given once, no null. What is
read so is checked by the constraints of the contract's own models, and built without their validators. Whatever is not
plain, and whatever breaks any rule, is left to pydantic, which accepts it or tells the fault: so the quick way decides
nothing, and may only accept what the slow one accepts, with the same value. A property test holds the two together.
"""

import re
from typing import Any, TypeVar, get_args

from msgspec import Struct
from pydantic import BaseModel, StringConstraints

B = TypeVar("B", bound=BaseModel)

_set = object.__setattr__


class PlainAmount(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """``Money`` as it is written."""

    currency: str
    value: str


def whole(field: Any) -> str:
    """A regular expression, for one line, of the texts that the constraints of a contract's field let pass."""
    [rules] = [a for a in get_args(field) if isinstance(a, StringConstraints)]
    pattern = str(rules.pattern).removeprefix("^").removesuffix("$")
    if rules.max_length is None:
        return rf"(?:{pattern})"
    return rf"(?=[^\n]{{{rules.min_length or 0},{rules.max_length}}}(?:\n|\Z))(?:{pattern})"


def within(model: type[BaseModel], name: str) -> range:
    """The whole numbers that the bounds of a contract's field let pass."""
    bounds = model.model_fields[name].metadata
    [low], [high] = ([getattr(b, end) for b in bounds if hasattr(b, end)] for end in ("ge", "le"))
    return range(low, high + 1)


def lines(*patterns: str) -> "re.Pattern[str]":
    """Texts are checked in one go, joined by line feeds: no text that a contract lets pass has one."""
    return re.compile("\n".join(patterns))


def is_spelt_once(body: bytes, quotes: int) -> bool:
    """True if a body holds what was read of it and nothing else.

    Every name and every text has two quotes, and without an escape there are no others. So a member that is given
    twice, of which a parser keeps one and tells nothing, gives itself away.
    """
    return body.count(b'"') == quotes and b"\\" not in body


def built(model: type[B], values: dict[str, Any], given: frozenset[str]) -> B:
    """A frozen model of values that were checked, as its own validation would build it.

    Args:
        model: what to build.
        values: of all its fields, and what its validators keep beside them.
        given: the fields that the body had.
    """
    message = model.__new__(model)
    _set(message, "__dict__", values)
    _set(message, "__pydantic_fields_set__", set(given))
    _set(message, "__pydantic_extra__", None)
    _set(message, "__pydantic_private__", None)
    return message
