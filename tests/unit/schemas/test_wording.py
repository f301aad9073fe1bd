"""What is wrong is said in words: no pattern of any model is shown to whoever broke it."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings

import gateway
import schemas
from schemas.codec import DecodeError, decode
from schemas.consent_commands import ConsentInstruction
from schemas.wording import PATTERNS, plain, told


def models() -> Iterator[type[BaseModel]]:
    for package in (schemas, gateway):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            loaded = importlib.import_module(module.name)
            for value in vars(loaded).values():
                if isinstance(value, type) and issubclass(value, BaseModel) and value not in (BaseModel, BaseSettings):
                    yield value


def enforced(schema: Any) -> Iterator[str]:
    """Patterns that pydantic itself holds values against, in a model's core schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "str" and (pattern := schema.get("pattern")):
            yield pattern.pattern if isinstance(pattern, re.Pattern) else pattern
        for value in schema.values():
            yield from enforced(value)
    elif isinstance(schema, (list, tuple)):
        for value in schema:
            yield from enforced(value)


def test_every_pattern_has_words() -> None:
    found = {p for m in set(models()) for p in enforced(m.__pydantic_core_schema__)}
    assert len(found) > 15
    assert found - PATTERNS.keys() == set()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_words_are_no_pattern(pattern: str) -> None:
    assert not re.search(r"[\\\[\]^$*{}]", PATTERNS[pattern])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"partner_id": "a/b"}, "partner_id: must be letters, digits, dots"),
        ({"partner_id": ""}, "partner_id: must not be empty"),
        ({"partner_id": "a" * 36}, "partner_id: must have at most 35 characters"),
        ({"more": 1}, "more: unknown field"),
        ({}, "field is missing"),
    ],
)
def test_a_body_is_told_what_was_expected(body: dict[str, Any], said: str) -> None:
    good = {"partner_id": "p", "consent_id": "c", "command_id": "x", "issued_at": "2026-03-02T12:00:00+09:00"}
    given = {**good, **body} if body else {k: v for k, v in good.items() if k != "command_id"}
    with pytest.raises(DecodeError) as refused:
        decode(ConsentInstruction, TypeAdapter(dict[str, Any]).dump_json(given))
    assert said in str(refused.value)


class Kinds(BaseModel):
    """One member of each kind that pydantic has a manner of its own for."""

    whole: int = 1
    number: float = 1.0
    switch: bool = True
    choice: Literal["a", "b", "c"] = "a"
    day: date = date(2026, 1, 1)
    share: Annotated[float, Field(ge=1, le=5)] = 1.0
    more: Annotated[int, Field(gt=0)] = 1


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("whole", "abc", "must be a whole number"),
        ("whole", 1.5, "must be a whole number"),
        ("whole", [], "must be a whole number"),
        ("number", "abc", "must be a number"),
        ("switch", "perhaps", "must be true or false"),
        ("choice", "d", "must be 'a', 'b' or 'c'"),
        ("day", "2026-13", "must be a valid date or datetime"),
        ("share", 0, "must be at least 1.0"),
        ("share", 6, "must be at most 5.0"),
        ("more", 0, "must be greater than 0"),
    ],
)
def test_what_a_value_must_be_is_said_without_what_it_was(member: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        Kinds.model_validate({member: value})
    assert told(wrong.value.errors()[0]) == said


def test_a_message_in_another_manner_stays_as_it_is() -> None:
    assert plain("Value error, the day lies before") == "the day lies before"


def test_a_pattern_without_words_is_not_shown_either() -> None:
    class Odd(BaseModel):
        name: str

    with pytest.raises(ValidationError) as wrong:
        Odd.model_validate({})
    problem = {**wrong.value.errors()[0], "type": "string_pattern_mismatch", "ctx": {"pattern": "^odd$"}}
    assert told(problem) == "must be of another form"
