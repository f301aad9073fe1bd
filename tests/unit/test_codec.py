"""The only JSON door: what is not exactly a message is refused, named, and never repeated."""

import json
from typing import Any

import pytest

from schemas.clearing import ClearingBatch
from schemas.codec import BODY_BYTES_MAX, DecodeError, decode, encode, encode_json
from schemas.consents import ConsentTerms
from schemas.orders import PaymentOrder
from schemas.primitives import Model
from tests.unit.messages import CONSENT, EXAMPLES, ORDER, RECORD

BODY = encode(ORDER)
FIELDS: dict[str, Any] = json.loads(BODY)


def order(**fields: Any) -> bytes:
    return json.dumps({**FIELDS, **fields}).encode()


def money(value: object, currency: object = "KRW") -> bytes:
    return order(amount={"currency": currency, "value": value})


def refused(body: bytes, model: type[Model] = PaymentOrder) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(model, body)
    return caught.value


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_what_is_written_is_read_back(message: Model) -> None:
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_null_is_never_written(message: Model) -> None:
    assert b"null" not in encode(message)


BODIES = {
    "empty": b"",
    "not JSON": b"<order/>",
    "broken off": BODY[:-1],
    "two documents": BODY + BODY,
    "something behind it": BODY + b" x",
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "bad UTF-8": BODY.replace(b"acme", b"ac\xff"),
    "overlong UTF-8": BODY.replace(b"acme", b"ac\xc0\x80"),
    "a lone surrogate": BODY.replace(b"acme", rb"ac\ud800"),
    "a NUL": BODY.replace(b"acme", b"ac\x00me"),
    "an escaped NUL": BODY.replace(b"acme", rb"ac\u0000me"),
    "null": b"null",
    "a list": b"[]",
    "a text": b'"order"',
    "a number": b"1",
    "lists without end": b"[" * 10_000,
    "objects without end": b'{"amount":' * 5_000,
    "NaN": BODY.replace(b'"12500"', b"NaN"),
    "Infinity": BODY.replace(b'"12500"', b"Infinity"),
    "a number without end": BODY.replace(b'"12500"', b"9" * 20_000),
    "a field given twice": BODY[:-1] + b',"order_id":"other"}',
    "the same value twice": BODY[:-1] + b',"order_id":"order-1"}',
    "twice, one spelt otherwise": BODY[:-1] + rb',"\u006frder_id":"other"}',
    "a nested field given twice": BODY.replace(b'"value"', b'"value":"1","value"'),
    "larger than allowed": BODY[:-1] + b" " * BODY_BYTES_MAX + b"}",
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_message(name: str) -> None:
    error = refused(BODIES[name])
    assert error.field in ("", "amount.value", "partner_id")
    assert error.problem


def test_the_largest_body_is_still_read() -> None:
    assert decode(PaymentOrder, BODY[:-1] + b" " * (BODY_BYTES_MAX - len(BODY)) + b"}") == ORDER


def test_escapes_are_not_taken_for_repeats() -> None:
    assert decode(PaymentOrder, BODY.replace(b'"acme"', rb'"\u0061cme"')) == ORDER
    assert decode(ConsentTerms, encode(CONSENT).replace(b'"sharing"', b'"portability":null,"sharing"')) == CONSENT


def test_bytes_that_were_decoded_before_are_not_looked_at_for_repeats() -> None:
    assert decode(PaymentOrder, BODIES["the same value twice"], trusted=True) == ORDER


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named(name: str) -> None:
    error = refused(json.dumps({k: v for k, v in FIELDS.items() if k != name}).encode())
    assert (error.field, error.problem) == (name, "field is missing")


WRONG_FIELDS = {
    "unknown": (order(memo="x"), "memo"),
    "unknown, nested": (order(amount={"currency": "KRW", "value": "1", "scale": 2}), "amount.scale"),
    "number for text": (order(partner_id=1), "partner_id"),
    "boolean for text": (order(partner_id=True), "partner_id"),
    "null for text": (order(partner_id=None), "partner_id"),
    "list for text": (order(partner_id=["acme"]), "partner_id"),
    "empty id": (order(order_id=""), "order_id"),
    "long id": (order(order_id="x" * 36), "order_id"),
    "slash in an id": (order(partner_id="a/b"), "partner_id"),
    "dot first in an id": (order(partner_id=".a"), "partner_id"),
    "newline behind an id": (order(partner_id="acme\n"), "partner_id"),
    "Korean in an id": (order(merchant_id="카페"), "merchant_id"),
    "text for an object": (order(amount="12500"), "amount"),
    "seconds": (order(issued_at=1772420645), "issued_at"),
    "seconds in quotes": (order(issued_at="1772420645"), "issued_at"),
    "no time of day": (order(issued_at="2026-03-02"), "issued_at"),
    "no offset": (order(issued_at="2026-03-02T03:04:05"), "issued_at"),
    "month 13": (order(issued_at="2026-13-02T03:04:05Z"), "issued_at"),
    "before year 1": (order(issued_at="0001-01-01T00:00:00+10:00"), "issued_at"),
    "after year 9999": (order(expires_at="9999-12-31T23:59:59-10:00"), "expires_at"),
    "expiry at issue": (order(expires_at=FIELDS["issued_at"]), ""),
    "expiry before issue": (order(expires_at="2020-01-01T00:00:00Z"), ""),
    "amount as number": (money(12_500), "amount.value"),
    "amount as decimal number": (money(12.5, "USD"), "amount.value"),
    "amount empty": (money(""), "amount.value"),
    "amount zero": (money("0"), "amount"),
    "amount zero dollars": (money("0.00", "USD"), "amount"),
    "amount negative": (money("-1"), "amount"),
    "amount with plus": (money("+1"), "amount"),
    "amount too large": (money("1000000000000"), "amount"),
    "amount too large in cents": (money("10000000000.00", "USD"), "amount"),
    "amount without end": (money("9" * 1_000), "amount.value"),
    "decimals of won": (money("12.00"), "amount"),
    "no decimals of dollars": (money("12", "USD"), "amount"),
    "one decimal of dollars": (money("12.5", "USD"), "amount"),
    "three decimals of dollars": (money("12.500", "USD"), "amount"),
    "two decimals of dinar": (money("12.50", "KWD"), "amount"),
    "a bare point": (money("12.", "USD"), "amount"),
    "leading zeros": (money("012"), "amount"),
    "exponent": (money("1e3"), "amount"),
    "thousands": (money("12,500"), "amount"),
    "blanks": (money(" 12500"), "amount"),
    "underscore": (money("12_500"), "amount"),
    "Arabic digits": (money("١٢"), "amount"),
    "full-width digits": (money("１２"), "amount"),
    "hexadecimal": (money("0x10"), "amount"),
    "unknown currency": (money("1", "KRX"), "amount"),
    "gold": (money("1", "XAU"), "amount"),
    "lower case currency": (money("1", "krw"), "amount.currency"),
    "currency number": (money("1", "410"), "amount.currency"),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_a_wrong_field_is_named(name: str) -> None:
    body, field = WRONG_FIELDS[name]
    assert refused(body).field == field


AMOUNTS = {("1", "KRW"): 1, ("999999999999", "KRW"): 999_999_999_999, ("0.01", "USD"): 1, ("0.001", "KWD"): 1}


@pytest.mark.parametrize("spelt", AMOUNTS)
def test_amounts_at_the_edge_are_read(spelt: tuple[str, str]) -> None:
    assert decode(PaymentOrder, money(*spelt)).amount.minor == AMOUNTS[spelt]


def test_a_field_name_that_could_be_a_secret_is_not_told() -> None:
    assert refused(order(**{"4111111111111111": "x"})).field == "?…"
    assert refused(order(**{"pan 4111 1111": "x"})).field == "pan…"
    assert len(refused(order(**{"x" * 5_000: 1})).field) <= 41


@pytest.mark.parametrize(
    "change",
    [
        {"payment": None, "sharing": None},
        {"valid_until": "2020-01-01T00:00:00Z"},
        {"payment": {**json.loads(encode(CONSENT))["payment"], "max_per_payment": []}},
        {"payment": {**json.loads(encode(CONSENT))["payment"], "single_use": "yes"}},
        {"payment": {**json.loads(encode(CONSENT))["payment"], "period_limits": [{"period": "day"}]}},
        {"payment": {**json.loads(encode(CONSENT))["payment"], "period_limits": [{"period": "hour", "max_count": 1}]}},
        {
            "payment": {
                **json.loads(encode(CONSENT))["payment"],
                "period_limits": [{"period": "day", "max_count": 1}, {"period": "day", "max_count": 2}],
            }
        },
    ],
    ids=["no purpose", "over before it begins", "no maximum", "yes for true", "no limit", "unknown period", "twice"],
)
def test_terms_that_make_no_sense(change: dict[str, Any]) -> None:
    body = {k: v for k, v in {**json.loads(encode(CONSENT)), **change}.items() if v is not None}
    refused(encode_json(body), ConsentTerms)


def test_a_clearing_batch_names_the_record() -> None:
    good = json.loads(encode(RECORD))
    records = [good, {**good, "record_no": 2, "amount_minor": 0}]
    body = encode_json({"network_id": "bcard", "cycle_id": "c", "chunk": 1, "records": records})
    assert refused(body, ClearingBatch).field == "records.1.amount_minor"
