"""Every parser of strangers' bytes takes steps in proportion to their number, and few before their owner is known."""

import gc
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import schemas
from gateway.identity import door as door_module
from gateway.identity.door import Door, Faulty, Nobodys
from gateway.identity.jose import base64url
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.jose.jwks import KeySetError, parse_jwks
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.no_providers import NoIdentityProviders
from gateway.messaging.records import Record
from gateway.proving.memory import MemoryKeySource, MemoryVerifier
from schemas.bulk import BULK_BYTES_MAX, BULK_TYPE, PaymentBulk
from schemas.codec import BODY_BYTES_MAX, DecodeError, decode, parse_strictly
from schemas.envelope import Envelope, EnvelopeError, read_envelope, read_loosely, read_signature, write_envelope
from schemas.orders import PaymentOrder
from schemas.primitives import PartnerId, holds_card_number, minor_of, read_time
from schemas.reasons import Reason, ReasonCode
from tests.unit.sealing.test_bounded_scans import backtracks

NOW = datetime(2026, 3, 2, tzinfo=UTC)
INSTEAD = Envelope("id", "/", "", NOW)
VERIFIER = JwsVerifier(MemoryKeySource(["acme"]))
ASSERTIONS = JwsAssertionVerifier(NoIdentityProviders())


def steps(call: Callable[[], object]) -> int:
    """Calls of functions, Python's and C's; what is refused is refused."""
    count = 0

    def profile(_: object, __: str, ___: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    # What else is collected just then has finalizers of its own.
    gc.disable()
    sys.setprofile(profile)
    try:
        with suppress(ValueError, KeySetError):
            call()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


Fill = Callable[[int], bytes]


def repeated(unit: bytes, head: bytes = b"", tail: bytes = b"") -> Fill:
    return lambda size: head + (unit * (size // len(unit) + 1))[: size - len(head) - len(tail)] + tail


def members(size: int) -> bytes:
    return b"{" + b",".join(b'"f%d":1' % n for n in range(size // 10)) + b"}"


def items(size: int) -> bytes:
    return b'{"items":[' + b",".join([b"{}"] * (size // 3)) + b"]}"


def escaped(size: int) -> bytes:
    fields = {"partner_id": "acme", "bulk_id": "b", "acceptance": "partial"}
    return json.dumps(fields).encode()[:-1] + b',"items":"' + b"\\u0022" * (size // 6) + b'"}'


BODIES: dict[str, Fill] = {
    "lists": repeated(b"["),
    "objects": repeated(b'{"a":'),
    "members": members,
    "items": items,
    "escapes": escaped,
    "quotes": repeated(b'"'),
    "backslashes": repeated(b"\\", b'{"partner_id":"', b'"}'),
    "digits": repeated(b"9"),
    "blanks": repeated(b" "),
    "one member, over and over": lambda size: b"{" + b",".join([b'"a":1'] * (size // 6)) + b"}",
    "no UTF-8": repeated(b"\xff"),
    "NUL": repeated(b"\\u0000", b'{"partner_id":"', b'"}'),
    "dots": repeated(b"."),
    "card numbers": repeated(b"4111111111111111-"),
    "letters": repeated(b"A"),
    "amounts": repeated(b"1."),
}

PARSERS: dict[str, Callable[[bytes], object]] = {
    "order": lambda data: decode(PaymentOrder, data),
    "order, however long": lambda data: decode(PaymentOrder, data, bytes_max=10**9),
    "bulk": lambda data: decode(PaymentBulk, data, bytes_max=10**9),
    "strict JSON": parse_strictly,
    "key set": lambda data: parse_jwks(data, "https://id.test"),
    "base64url": lambda data: base64url.decode(data.decode("latin-1")),
    "signature": lambda data: VERIFIER.authenticate(body=b"", signature=data.decode("latin-1"), type_="t", now=NOW),
    "signed header": lambda data: VERIFIER.authenticate(
        body=b"", signature=data.decode("latin-1") + "..AA", type_="t", now=NOW
    ),
    "assertion": lambda data: ASSERTIONS.verify(data.decode("latin-1"), NOW),
    "headers": lambda data: read_envelope([("ce_type", data), ("ce_id", data)]),
    "headers, loosely": lambda data: read_loosely([(n, data) for n in HEADERS], instead=INSTEAD),
    "many headers": lambda data: read_loosely([("signature", b"x")] * (len(data) // 16), instead=INSTEAD),
    "signature header": lambda data: read_signature([("signature", data)] * 3),
    "time": lambda data: read_time(data.decode("latin-1")),
    "amount": lambda data: minor_of(data.decode("latin-1"), "USD"),
    "card number": lambda data: holds_card_number(data.decode("latin-1")),
}
HEADERS = ("ce_specversion", "ce_type", "ce_id", "ce_source", "ce_time", "signature", "traceparent", "content-type")

SMALL = 64 * 1024


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("body", BODIES)
def test_twice_the_bytes_take_twice_the_steps(parser: str, body: str) -> None:
    parse, fill = PARSERS[parser], BODIES[body]
    small, large = (steps(lambda n=n: parse(fill(n))) for n in (SMALL, 2 * SMALL))  # type: ignore[misc]
    assert large <= 2.2 * small + 100


BOUNDED = sorted(
    PARSERS.keys() - {"strict JSON", "key set", "order, however long", "bulk", "many headers", "card number"}
)


@pytest.mark.parametrize("parser", BOUNDED)
@pytest.mark.parametrize("body", BODIES)
def test_a_megabyte_is_refused_by_its_length(parser: str, body: str) -> None:
    data = BODIES[body](1024 * 1024)
    assert steps(lambda: PARSERS[parser](data)) < 200


def read_by_the_door(value: bytes, *, signature: str | None, monkeypatch: pytest.MonkeyPatch) -> tuple[object, int]:
    decoded: list[Any] = []

    def spy(model: Any, body: bytes, **options: Any) -> Any:
        decoded.append(len(body))
        return decode(model, body, **options)

    monkeypatch.setattr(door_module, "decode", spy)
    forged = Reason(code=ReasonCode.DS17, text="signature does not match the body")
    door = Door(verifier=MemoryVerifier({"forged": forged}), models={BULK_TYPE: PaymentBulk})
    headers = tuple(write_envelope(Envelope("e", "/acme", BULK_TYPE, NOW, signature=signature)))
    record = Record("mypay.orders", 0, 1, int(NOW.timestamp() * 1000), b"b", value, headers)
    return door.read(record, NOW), len(decoded)


@pytest.mark.parametrize("signature", [None, "forged"])
def test_of_a_large_bulk_nothing_is_decoded_before_it_is_known_whose_it_is(
    signature: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = items(BULK_BYTES_MAX)
    read, decoded = read_by_the_door(bulk, signature=signature, monkeypatch=monkeypatch)
    assert (type(read), decoded) == (Nobodys, 0)
    read, decoded = read_by_the_door(bulk, signature="good", monkeypatch=monkeypatch)
    assert (type(read), decoded) == (Faulty, 1)


OWN_TEXT = ("schemas.publish", "schemas.compatibility")
"""What these search is our own."""


def test_no_pattern_of_the_contract_goes_back_again_and_again() -> None:
    found = {}
    for module in pkgutil.iter_modules(schemas.__path__, "schemas."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern) and module.name not in OWN_TEXT:
                found[f"{module.name}.{name}"] = value
    assert len(found) > 5
    assert [name for name, p in found.items() if backtracks(_parser.parse(p.pattern, p.flags))] == []


def test_the_counter_of_steps_counts() -> None:
    assert steps(lambda: [len("") for _ in range(1000)]) > 1000


def test_what_is_refused_is_refused_by_the_contract_s_errors() -> None:
    for fill in BODIES.values():
        for model in (PaymentOrder, PaymentBulk):
            with pytest.raises(DecodeError):
                decode(model, fill(SMALL), bytes_max=10**9)
        with pytest.raises(EnvelopeError):
            read_envelope([("ce_type", fill(SMALL))])


LARGE_BODIES = {
    "numbers": b'"x":[' + b"1," * 500_000 + b"1]",
    "objects": b'"x":[' + b"{}," * 330_000 + b"{}]",
    "lists in lists": b'"x":[' + (b"[" * 300 + b"]" * 300 + b",") * 1600 + b"0]",
}


@pytest.mark.parametrize("rest", LARGE_BODIES)
def test_of_a_large_body_with_a_fault_nothing_is_made_but_what_its_answer_names(
    rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read whole, a megabyte took half a second and twenty of memory, for a fault that its length has told already."""
    monkeypatch.setattr(door_module, "parse_strictly", lambda _: pytest.fail("it is read whole"))
    body = b'{"partner_id":"partner-1","bulk_id":"b","number_of_transactions":7,' + LARGE_BODIES[rest] + b"}"
    read, _ = read_by_the_door(body, signature="good", monkeypatch=monkeypatch)
    assert isinstance(read, Faulty)
    assert read.fields == {"partner_id": "partner-1", "bulk_id": "b", "number_of_transactions": 7}


@pytest.mark.parametrize(
    ("members", "fields"),
    [
        (b'"bulk_id":"b","n":12', {"bulk_id": "b", "n": 12}),
        (b'"bulk_id":"b","bulk_id":"c"', {}),
        (b'"bulk_id":"b","bulk_\\u0069d":"c"', {}),
        (b' "bulk_id" :\t"b" ', {"bulk_id": "b"}),
        (b'"bulk_id":"b","n":1,"bulk_id":"b"', {}),
        (b'"n":1,"n":1', {}),
        (b'"bulk_id":"b","' + b"n" * 600 + b'":1', {}),
        (b'"a\\"b":1,"bulk_id":"b\\"c"', {'a"b': 1, "bulk_id": 'b"c'}),
        (b'"bulk_id":"b","n":1.5,"m":-1,"t":true,"l":["b"],"o":{"b":1}', {"bulk_id": "b"}),
        (b'"bulk_id":"\\ud800"', {}),
        (b'"bulk_id":"' + b"b" * 600 + b'"', {}),
        (b",".join(b'"m%d":1' % n for n in range(200)), {}),
        (b'"bulk_id":', {}),
    ],
)
def test_what_is_read_of_a_large_body_is_read_strictly(members: bytes, fields: dict[str, object]) -> None:
    padding = b',"x":[' + b"1," * BODY_BYTES_MAX + b"1]"
    assert door_module._fields(b"{" + members + padding + b"}") == fields


def test_one_who_signs_a_large_body_in_anothers_name_is_nobody() -> None:
    body = b'{"partner_id":"partner-2","x":[' + b"1," * BODY_BYTES_MAX + b"1]}"
    door = Door(verifier=MemoryVerifier(owners={"good": PartnerId("partner-1")}), models={BULK_TYPE: PaymentBulk})
    headers = tuple(write_envelope(Envelope("e", "/acme", BULK_TYPE, NOW, signature="good")))
    read = door.read(Record("mypay.orders", 0, 1, int(NOW.timestamp() * 1000), b"b", body, headers), NOW)
    assert isinstance(read, Nobodys)
