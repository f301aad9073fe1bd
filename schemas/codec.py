"""Bytes ↔ frozen strict models: the only JSON door.

Nothing else in the project parses or writes message bodies, so every message is bounded, strict and closed in the same
way, and no error text repeats what was in the message.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeVar

from msgspec.json import Encoder
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from schemas.primitives import STORED, Model
from schemas.wording import told

BODY_BYTES_MAX: Final = 64 * 1024
"""No partner's message is near this size; larger ones are refused before they are parsed."""

FAULTS_TOLD_MAX: Final = 1000

T = TypeVar("T", bound=Model)

_fields_encoder = Encoder()


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
        trusted: these bytes were decoded before, perhaps by an older version with wider rules for ids and times, so no
            field is given twice; saves a third of the time.

    Raises:
        DecodeError: too large, not UTF-8 JSON, a NUL character, or a field that is missing, unknown, wrong or given
            twice; names it.
    """
    if len(body) > bytes_max:
        raise DecodeError("", f"body is larger than {bytes_max} bytes")
    plain: T | None = model.of_plain(body)
    return validate(model, body, trusted=trusted) if plain is None else plain


def validate(model: type[T], body: bytes, *, trusted: bool = False) -> T:
    """As :func:`decode`, by pydantic alone: the long way, which also tells what is wrong."""
    try:
        message: T = model.__pydantic_validator__.validate_json(body, context=STORED if trusted else None)
    except ValidationError as error:
        raise _decode_error(error, model) from None
    if not trusted:
        _check_spelling(message, body)
    return message


def encode(message: BaseModel) -> bytes:
    """Write one message as compact JSON, leaving out what is None."""
    return message.__pydantic_serializer__.to_json(message, exclude_none=True)


def encode_json(value: object) -> bytes:
    """Write a plain JSON value."""
    return to_json(value)


def encode_fields(fields: Mapping[str, object]) -> bytes:
    """Write the members of an event of ours (texts, whole numbers, ids, codes, times) as :func:`encode_json`, faster.

    Raises:
        TypeError: a member is something else.
    """
    return _fields_encoder.encode(fields)


def canonical(body: bytes, *, member: str | None = None) -> bytes:
    """Return the canonical form (RFC 8785) of a body that :func:`decode` has accepted, or of one of its members.

    Our messages hold texts, whole numbers below 2^53 and truth values only, of which each has one canonical spelling.
    """
    value = json.loads(body)
    if member is not None:
        value = value[member]
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_strictly(data: bytes) -> Any:
    """Read JSON that is no message of ours: keys, headers of signatures, claims.

    UTF-8 alone (given bytes, the parser would take UTF-16 and UTF-32 too, which others do not), each member once
    (readers that differ on which of two counts would differ on what was signed: RFC 7493 §2.3, RFC 7515 §4), no NaN.

    Raises:
        ValueError: not such JSON, or nested too deep.
    """
    try:
        return _STRICT.decode(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DecodeError("", "a field is given twice")
    return members


def _no_constant(_name: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_no_constant)


def _check_spelling(message: BaseModel, body: bytes) -> None:
    # RFC 7493 §2.3: readers that differ on which of two members counts would differ on what was signed. The parser
    # takes the last and tells nothing. Every name and every text has two quotes, and without an escape there are no
    # others: a body with as many as what was read holds nothing else. Of any other body a parser that tells is asked.
    if b"\\" not in body:
        read = message.__pydantic_serializer__.to_json(message, exclude_unset=True)
        if body.count(b'"') == read.count(b'"'):
            return
    json.loads(body, object_pairs_hook=_plain_members)


def _plain_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = _unique_members(pairs)
    for name, value in pairs:
        # PostgreSQL text cannot hold NUL, which JSON spells as an escape.
        texts = value if isinstance(value, list) else (value,)
        if any(isinstance(text, str) and "\x00" in text for text in texts):
            raise DecodeError(name, "holds a NUL character")
    return members


def _decode_error(error: ValidationError, model: type[BaseModel]) -> DecodeError:
    if error.error_count() > FAULTS_TOLD_MAX:
        # To name the first, all would be listed: of a large body, for longer than it took to read it.
        return DecodeError("", f"body has more than {FAULTS_TOLD_MAX} faults")
    first = error.errors(include_url=False, include_input=False)[0]
    known = _field_names(model)
    # An unknown field's name is the sender's text: it is told, cut and stripped, only where it looks like a name.
    path = ".".join(_safe_part(part, known) for part in first["loc"])
    return DecodeError(path, told(first))


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
