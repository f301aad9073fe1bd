"""The published contract: it says what the code does, and it may not change in a way that breaks others."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import schemas
from schemas.codec import encode
from schemas.compatibility import breaking_changes
from schemas.primitives import Model
from schemas.publish import ASYNCAPI, Direction, directions, render, schema_file, to_yaml
from schemas.topics import TOPICS
from tests.support.messages import EXAMPLES, ORDER

PUBLISHED = Path(schemas.__path__[0]) / "published"
FILES = render()


def schema_of(model: type[Model]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FILES[schema_file(model)])
    return loaded


def test_the_committed_files_are_what_the_code_says() -> None:
    assert {p.name: p.read_text(encoding="utf-8") for p in PUBLISHED.iterdir()} == FILES


def test_every_message_of_the_topic_table_is_published() -> None:
    wanted = {schema_file(model) for topic in TOPICS for model in topic.messages.values()}
    assert wanted <= FILES.keys()
    assert {schema_file(type(e)) for e in EXAMPLES} == FILES.keys() - {ASYNCAPI}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_encoded_messages_fit_their_published_schema(example: Model) -> None:
    schema = schema_of(type(example))
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker()).validate(json.loads(encode(example)))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_what_others_send_is_closed_and_what_is_emitted_is_open(example: Model) -> None:
    closed = directions()[schema_file(type(example))] is Direction.SENT
    body = {**json.loads(encode(example)), "added_later": 1}
    errors = list(jsonschema.Draft7Validator(schema_of(type(example))).iter_errors(body))
    assert bool(errors) is closed


def test_the_schemas_find_what_is_wrong() -> None:
    body = json.loads(encode(ORDER))
    validator = jsonschema.Draft7Validator(schema_of(type(ORDER)))
    for field in body:
        assert list(validator.iter_errors({k: v for k, v in body.items() if k != field})), field
    assert list(validator.iter_errors({**body, "partner_id": "no/slash"}))
    assert list(validator.iter_errors({**body, "amount": {"currency": "krw", "value": "1"}}))


def test_fields_carry_the_text_of_their_docstrings() -> None:
    fields = schema_of(type(ORDER))["properties"]
    assert fields["expires_at"]["description"] == "past this moment the order is refused, never sent late."
    assert not re.search(r":\w+:`|``", "".join(FILES.values()))


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    text = FILES[ASYNCAPI]
    files = set(re.findall(r'\$ref: "?\./([\w.-]+)', text))
    assert files <= FILES.keys()
    messages = set(re.findall(r"#/components/messages/(\w+)", text))
    channels = set(re.findall(r"#/channels/(\w+)", text))
    assert messages
    assert channels
    assert all(re.search(rf"^    {name}:$", text, re.MULTILINE) for name in messages)
    assert all(re.search(rf"^  {name}:$", text, re.MULTILINE) for name in channels)
    for topic in TOPICS:
        assert topic.name in text
        assert all(f"name: {type_}\n" in text for type_ in topic.messages)


# --- compatibility ----------------------------------------------------------------------------------------------------

OLD = {
    "type": "object",
    "required": ["id", "amount"],
    "properties": {
        "id": {"type": "string", "maxLength": 35, "pattern": "^[a-z]+$"},
        "amount": {"$ref": "#/definitions/Money"},
        "note": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
        "kind": {"enum": ["a", "b"], "type": "string"},
        "code": {"x-extensible-enum": ["x", "y"], "type": "string"},
        "maybe": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
    },
    "definitions": {"Money": {"type": "object", "required": [], "properties": {"minor": {"type": "integer"}}}},
}

# change: (path, new value or None to remove) → does it break what is sent, what is emitted
CHANGES = {
    "an optional field is added": (("properties", "more"), {"type": "string"}, False, False),
    "a field is removed": (("properties", "note"), None, True, True),
    "a nested field is removed": (("definitions", "Money", "properties", "minor"), None, True, True),
    "a field becomes required": (("required",), ["id", "amount", "note"], True, False),
    "a field may be missing": (("required",), ["id"], False, True),
    "another type": (("properties", "note", "type"), "integer", True, True),
    "another type inside a list": (("properties", "tags", "items", "type"), "integer", True, True),
    "shorter": (("properties", "id", "maxLength"), 20, True, False),
    "longer": (("properties", "id", "maxLength"), 64, False, True),
    "no length any more": (("properties", "id", "maxLength"), None, False, True),
    "another pattern": (("properties", "id", "pattern"), "^[0-9]+$", True, True),
    "no pattern any more": (("properties", "id", "pattern"), None, False, True),
    "a pattern is added": (("properties", "note", "pattern"), "^.$", True, False),
    "fewer items": (("properties", "tags", "maxItems"), 4, True, False),
    "a minimum rises": (
        ("properties", "maybe", "anyOf"),
        [{"type": "integer", "minimum": 2}, {"type": "null"}],
        True,
        False,
    ),
    "null is no longer accepted": (("properties", "maybe", "anyOf"), [{"type": "integer", "minimum": 1}], True, True),
    "a value is no longer accepted": (("properties", "kind", "enum"), ["a"], True, True),
    "a value is accepted too": (("properties", "kind", "enum"), ["a", "b", "c"], False, False),
    "a code disappears": (("properties", "code", "x-extensible-enum"), ["x"], True, True),
    "a code is added": (("properties", "code", "x-extensible-enum"), ["x", "y", "z"], False, False),
    "a description": (("properties", "id", "description"), "the id", False, False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_that_break(change: str) -> None:
    path, value, sent, emitted = CHANGES[change]
    new = copy.deepcopy(OLD)
    place: Any = new
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    assert bool(breaking_changes(OLD, new, Direction.SENT)) is sent
    assert bool(breaking_changes(OLD, new, Direction.EMITTED)) is emitted


def test_the_field_is_named() -> None:
    new = copy.deepcopy(OLD)
    del new["definitions"]["Money"]["properties"]["minor"]  # type: ignore[index]
    assert breaking_changes(OLD, new, Direction.SENT) == ["amount.minor: field was removed"]


@pytest.mark.parametrize("name", sorted(FILES.keys() - {ASYNCAPI}))
def test_nothing_breaks_without_a_change(name: str) -> None:
    schema = json.loads(FILES[name])
    assert breaking_changes(schema, copy.deepcopy(schema), directions()[name]) == []


# --- YAML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [True, None]}, "a: 1\nb:\n  - true\n  - null\n"),
        ({"a": {}, "b": []}, "a: {}\nb: []\n"),
        ([{"a": 1, "b": 2}, [3]], "- a: 1\n  b: 2\n- - 3\n"),
        ({"k": "plain text"}, "k: plain text\n"),
        ({"k": "first\n  second"}, "k: |-\n  first\n    second\n"),
        # Whatever a reader could take for something else is quoted.
        ({"k": "no"}, 'k: "no"\n'),
        ({"k": "1.0"}, 'k: "1.0"\n'),
        ({"k": "a: b"}, 'k: "a: b"\n'),
        ({"k": "a #b"}, 'k: "a #b"\n'),
        ({"k": "- a"}, 'k: "- a"\n'),
        ({"k": ""}, 'k: ""\n'),
        ({"k": "a\n"}, "k: |\n  a\n"),
        ({"k": "o'clock: 한국"}, 'k: "o\'clock: 한국"\n'),
        ({"k": "long " * 100}, 'k: "' + "long " * 100 + '"\n'),
        ({"k": "tab\there"}, 'k: "tab\\there"\n'),
        ({"yes": 1}, '"yes": 1\n'),
    ],
)
def test_yaml(value: object, text: str) -> None:
    assert to_yaml(value) == text
    assert yaml.safe_load(text) == value


def test_yaml_refuses_what_it_cannot_say() -> None:
    with pytest.raises(yaml.YAMLError):
        to_yaml({"k": object()})
