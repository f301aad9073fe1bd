"""Bytes ↔ frozen strict models: the only JSON door.

Nothing else in the project parses or writes message bodies, so every message is bounded, strict and closed in the same
way, and no error text repeats what was in the message.
"""

import json
from functools import cache
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

BODY_BYTES_MAX: Final = 64 * 1024
"""No partner's message is near this size; larger ones are refused before they are parsed."""

T = TypeVar("T", bound=BaseModel)


class DecodeError(ValueError):
    """The bytes are not a message of the wanted type.

    Attributes:
        field: path of the first wrong field (``amount.value``), or ``""`` where the whole body is wrong.
        problem: what is wrong with it; contains no input.
    """

    def __init__(self, field: str, problem: str) -> None:
        """Take a field path, cleaned of anything that the sender chose, and a sentence about it."""
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


def decode(model: type[T], body: bytes, *, bytes_max: int = BODY_BYTES_MAX, trusted: bool = False) -> T:
    """Read one message.

    Args:
        model: what it should be.
        body: the bytes as they came.
        bytes_max: larger ones are refused unread.
        trusted: these bytes were decoded before, so no field is given twice; saves a third of the time.

    Raises:
        DecodeError: too large, not UTF-8 JSON, a NUL character, or a field that is missing, unknown, wrong or given
            twice; names it.
    """
    if len(body) > bytes_max:
        raise DecodeError("", f"body is larger than {bytes_max} bytes")
    # PostgreSQL text cannot hold NUL; JSON spells it \u0000.
    if b"\\u0000" in body or b"\x00" in body:
        raise DecodeError("", "body contains a NUL character")
    try:
        message: T = model.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        raise _decode_error(error, model) from None
    if not trusted and _gives_a_field_twice(message, body):
        raise DecodeError("", "a field is given twice")
    return message


def encode(message: BaseModel) -> bytes:
    """Write one message as compact JSON, leaving out what is None."""
    return message.__pydantic_serializer__.to_json(message, exclude_none=True)


def encode_json(value: object) -> bytes:
    """Write a plain JSON value."""
    return to_json(value)


def canonical(body: bytes, *, member: str | None = None) -> bytes:
    """Return the canonical form (RFC 8785) of a body that :func:`decode` has accepted, or of one of its members.

    Our messages hold texts, whole numbers below 2^53 and truth values only, of which each has one canonical spelling.
    """
    value = json.loads(body)
    if member is not None:
        value = value[member]
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _gives_a_field_twice(message: BaseModel, body: bytes) -> bool:
    # RFC 7493 §2.3: readers that differ on which one counts would differ on what was signed. The parser takes the last
    # and tells nothing, but every name and text has its quotes: a body with more of them than what was read has more.
    read = message.__pydantic_serializer__.to_json(message, exclude_unset=True)
    return body.count(b'"') > read.count(b'"')


def _decode_error(error: ValidationError, model: type[BaseModel]) -> DecodeError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    known = _field_names(model)
    # An unknown field's name is the sender's text: it is told, cut and stripped, only where it looks like a name.
    path = ".".join(_safe_part(part, known) for part in first["loc"])
    problem = {"extra_forbidden": "unknown field", "missing": "field is missing"}.get(
        first["type"], first["msg"].removeprefix("Value error, ")
    )
    return DecodeError(path, problem)


def _safe_part(part: int | str, known: frozenset[str]) -> str:
    if isinstance(part, int):
        return str(part)
    if part in known:
        return part
    # A card number or a secret may stand where a name should: only letters and underscores are repeated.
    cleaned = "".join(c for c in part[:40] if c.isascii() and (c.isalpha() or c == "_"))
    return cleaned if cleaned == part else f"{cleaned or '?'}…"


@cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    names: set[str] = set()
    pending, seen = [model], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        names.update(current.model_fields)
        for field in current.model_fields.values():
            pending.extend(_models_in(field.annotation))
    return frozenset(names)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in getattr(annotation, "__args__", ()) for m in _models_in(argument)]
