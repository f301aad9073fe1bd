"""Ways to spoil a good order: it ends as a dead letter, or its partner is told of it, or it is paid all the same.

Pure: a signed record in, the spoilt record out.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import structs

from gateway.messaging.records import Outgoing
from gateway.proving.traffic.cast import luhn_digit

Spoil = Callable[[Outgoing], Outgoing]

CARD_NUMBER: Final = "970000000000000" + luhn_digit("970000000000000")
"""A made-up card number that one way puts into a body: whoever parks it must seal it."""


def _value(value: bytes) -> Spoil:
    return lambda record: structs.replace(record, value=value)


def _fields(**changes: Any) -> Spoil:
    """Change fields of the body by path with ``__`` for the dot; None removes."""

    def spoil(record: Outgoing) -> Outgoing:
        body: dict[str, Any] = json.loads(record.value)
        for path, value in changes.items():
            *parents, name = path.split("__")
            place = body
            for parent in parents:
                place = place[parent]
            if value is None:
                del place[name]
            else:
                place[name] = value
        return structs.replace(record, value=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())

    return spoil


def _text(old: bytes, new: bytes) -> Spoil:
    return lambda record: structs.replace(record, value=record.value.replace(old, new, 1))


def _without(*names: str) -> Spoil:
    return lambda record: structs.replace(record, headers=[h for h in record.headers if h[0] not in names])


def _header(name: str, value: bytes) -> Spoil:
    return lambda record: structs.replace(record, headers=[(n, value if n == name else v) for n, v in record.headers])


def _twice(name: str) -> Spoil:
    return lambda record: structs.replace(
        record, headers=[*record.headers, *(h for h in record.headers if h[0] == name)]
    )


def _key(key: bytes | None) -> Spoil:
    return lambda record: structs.replace(record, key=key)


_BODIES: Final[Mapping[str, Spoil]] = {
    "empty": _value(b""),
    "not JSON": _value(b"please pay the coffee shop, thanks"),
    "cut off": lambda record: structs.replace(record, value=record.value[: len(record.value) // 2]),
    "a list": _value(b"[1,2,3]"),
    "nested too deep": _value(b"[" * 30_000 + b"]" * 30_000),
    "more than 64 KiB": _fields(note="x" * 70_000),
    "bad UTF-8": _text(b'"order_id":"', b'"order_id":"\xc3\x28'),
    "NUL character": _text(b'"order_id":"', b'"order_id":"\\u0000'),
    "unknown field": _fields(tip="1000"),
    "a card number": _fields(card_number=CARD_NUMBER),
    "amount as a number": _fields(amount__value=12500),
    "field missing": _fields(expires_at=None),
    "negative amount": _fields(amount__value="-100"),
    "zero amount": _fields(amount__value="0"),
    "amount too large": _fields(amount__value="1000000000000", amount__currency="KRW"),
    "unknown currency": _fields(amount__currency="XQX"),
    "wrong decimals": _fields(amount__currency="KRW", amount__value="100.00"),
    "time without zone": _fields(issued_at="2026-01-01T09:00:00"),
    "expires before issue": _fields(expires_at="2020-01-01T00:00:00Z"),
}

MALFORMED: Final[Mapping[str, Spoil]] = {
    **_BODIES,
    "unknown partner": _fields(partner_id="nobody-at-all"),
    "no headers": lambda record: structs.replace(record, headers=[]),
    "wrong type": _header("ce_type", b"kr.mypay.payment.refund.v9"),
}
"""What breaks the signature: nobody is told."""

FAULTY: Final[Mapping[str, Spoil]] = {
    **_BODIES,
    "wrong specversion": _header("ce_specversion", b"0.3"),
    "header twice": _twice("ce_type"),
    "wrong key": _key(b"somebody-else"),
    "no key": _key(None),
}
"""What is signed all the same: its partner is told of the fault."""

INDIFFERENT: Final[Mapping[str, Spoil]] = {
    "no ce_id": _without("ce_id"),
    "a blank in ce_id": _header("ce_id", b"order 1"),
    "header not ASCII": _header("ce_source", "한국".encode()),
    "time unreadable": _header("ce_time", b"yesterday"),
    "another header twice": _twice("ce_source"),
}
"""What decides nothing: it is paid."""

SPOILS: Final[Mapping[str, Mapping[str, Spoil]]] = {
    "malformed": MALFORMED,
    "faulty": FAULTY,
    "odd_headers": INDIFFERENT,
}
"""Kind of record → the ways to spoil it."""
