"""What the published schemas say is what the gateway does, both ways, but for the rules of one table.

A partner that validates its messages against the schemas learns every rule but those: a message that the schema takes
and the gateway refuses breaks one of the table's, and nothing that the schema refuses is taken.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from schemas.bulk import BULK_BYTES_MAX
from schemas.codec import DecodeError, decode, encode
from schemas.publish import Direction, directions, render, schema_file
from tests.support.messages import EXAMPLES

FILES = render()
SENT = [e for e in EXAMPLES if directions()[schema_file(type(e))] is Direction.SENT]

INEXPRESSIBLE: dict[str, Callable[[DecodeError], bool]] = {
    "one time must be later than another": lambda e: (
        "must be later than" in e.problem or "must not be before" in e.problem
    ),
    "a day that its month has (format date and date-time)": lambda e: "must be a day that its month has" in e.problem,
    "no card number, by the Luhn check": lambda e: "card number" in e.problem,
    "a whole number has no fraction, not even .0": lambda e: e.problem == "must be a whole number",
    "no NUL character": lambda e: "NUL" in e.problem,
    "a limit is named once": lambda e: "names the same limit twice" in e.problem,
    "a consent has a purpose": lambda e: "needs at least one purpose" in e.problem,
    "one of two members, and not both": lambda e: "exactly one of" in e.problem,
    "currencies that must be one": lambda e: "must share one currency" in e.problem,
    "a refund's own id": lambda e: "must be the refund's own" in e.problem,
    "a day rule for months and years": lambda e: "is for monthly and yearly orders" in e.problem,
    "a control sum above all that a bulk can hold": lambda e: "more than any bulk can hold" in e.problem,
}
"""What JSON Schema (draft 7) cannot say of a message, and README says in words."""


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    # JSON Schema's regular expressions are ECMA 262's, in which "$" is the very end; Python's lets a line end follow.
    if isinstance(value, str) and re.search(pattern.replace("$", r"\Z"), value) is None:
        yield jsonschema.ValidationError("does not match")


_Validator = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": _pattern})


@cache
def validator(model: type[BaseModel]) -> Any:
    return _Validator(json.loads(FILES[schema_file(model)]))


def refusal(model: type[BaseModel], body: bytes) -> DecodeError | None:
    try:
        decode(model, body, bytes_max=BULK_BYTES_MAX)
    except DecodeError as error:
        return error
    return None


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from places(value[number], (*path, number))


# fmt: off
AMOUNTS = [
    ".50", "0.50", "0.05", "0.00", "00.50", "01.00", "1.", "1.0", "12.50", "12.500", "1e3", "1E3", "+1", "-1", "1,000",
    "1_0", " 1", "1 ", "0", "00", "1", "12500", "١٢", "１２", "0x10", "999999999999", "1000000000000", "9999999999.99",
    "10000000000.00", "999999999.999", "0.001", "1.2345", "99999999.9999", "9" * 16, "9" * 21, "", "NaN", "Infinity",
    "1\n",
]
TIMES = [
    "2026-03-02T03:04:05Z", "2026-03-02t03:04:05z", "2026-03-02T03:04:05+09:00", "2026-03-02T03:04:05.1Z",
    "2026-03-02T03:04:05.123456789Z", "2026-03-02T03:04:05.1234567890Z", "2026-03-02T03:04:05.Z",
    "2026-03-02T03:04:60Z",
    "2026-03-02T24:00:00Z", "2026-03-02T03:04Z", "2026-03-02 03:04:05Z", "2026-03-02_03:04:05Z", "2026-03-02T03:04:05",
    "2026-03-02T03:04:05+0900", "2026-03-02T03:04:05+09", "2026-03-02T03:04:05+24:00", "2026-03-02T03:04:05-23:59",
    "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "1999-12-31T23:59:59Z", "2000-01-01T00:00:00+14:00",
    "2999-12-31T23:59:59-14:00", "3000-01-01T00:00:00Z", "9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00",
    "now",
    "1772420645", "2026-03-02", "2026-3-2", "2026-W10-1", "20260302", "2026-04-31", "２０２６-03-02", "2026-03-02\n",
]
IDS = [
    "a",
    "a.b_c-D9",
    "-a",
    ".a",
    "_a",
    "a/b",
    "a b",
    "a\n",
    "",
    "é",
    "카페",
    "x" * 26,
    "x" * 36,
    "x" * 65,
    "4111111111111111",
]
OTHERS = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.0,
    1.5,
    10**6,
    10**6 + 1,
    10**20,
    [],
    {},
    "x" * 141,
    "a.b.c",
    "a\u0000b",
    [None],
    ["a"],
]
CURRENCIES = ["KRW", "USD", "KWD", "CLF", "XAU", "XXX", "KRX", "krw", "410", "KRW\n"]
VALUES = (
    st.sampled_from([*AMOUNTS, *TIMES, *IDS, *OTHERS, *CURRENCIES]) | st.text(max_size=20) | st.integers() | st.floats()
)


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy: Any = dict(body) if isinstance(body, dict) else list(body)
    if value is _GONE and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(body[path[0]], path[1:], value)
    return copy


_GONE = object()


def check(model: type[BaseModel], body: Any) -> None:
    text = json.dumps(body)
    # As a partner's validator reads the same bytes.
    taken_by_schema = validator(model).is_valid(json.loads(text))
    error = refusal(model, text.encode())
    if error is None:
        assert taken_by_schema, f"the gateway takes what the schema of {model.__name__} refuses: {text}"
    elif taken_by_schema:
        told = [rule for rule, is_it in INEXPRESSIBLE.items() if is_it(error)]
        assert told, f"the schema of {model.__name__} takes {text}, and the gateway refuses it: {error}"


@settings(max_examples=500)
@given(st.data())
def test_schema_and_gateway_agree_on_every_changed_message(data: st.DataObject) -> None:
    example = data.draw(st.sampled_from(SENT))
    body = json.loads(encode(example))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(sorted(places(body), key=repr)))
        if path and data.draw(st.integers(0, 9)) == 0:
            body = changed(body, path, _GONE)
        else:
            body = changed(body, path, data.draw(VALUES))
        if not isinstance(body, dict):
            break
    check(type(example), body)


@pytest.mark.parametrize("example", SENT, ids=lambda e: type(e).__name__)
def test_schema_and_gateway_agree_on_every_field_and_every_odd_value(example: BaseModel) -> None:
    body = json.loads(encode(example))
    odd = [*AMOUNTS, *TIMES, *IDS, *OTHERS, *CURRENCIES]
    for path in places(body):
        # The terms of a request and an amendment are those of ConsentTerms.
        if path and path[0] != "terms":
            for value in (*odd, _GONE):
                check(type(example), changed(body, path, value))


@pytest.mark.parametrize("currency", CURRENCIES)
@pytest.mark.parametrize("value", AMOUNTS)
def test_schema_and_gateway_agree_on_every_amount(currency: str, value: str) -> None:
    example = next(e for e in SENT if type(e).__name__ == "PaymentOrder")
    check(type(example), changed(json.loads(encode(example)), ("amount",), {"currency": currency, "value": value}))
