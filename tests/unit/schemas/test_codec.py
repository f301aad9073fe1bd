"""The only JSON door: what is not exactly a message is refused, named, and never repeated."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from schemas import codec
from schemas.bulk import ControlSum
from schemas.cancellation import PaymentCancellation
from schemas.clearing import ClearingBatch
from schemas.codec import BODY_BYTES_MAX, DecodeError, decode, encode, encode_json
from schemas.consents import ConsentTerms
from schemas.orders import PaymentOrder
from schemas.primitives import Model, Money
from schemas.topics import CONSENT_COMMANDS, ORDERS, TOPICS
from tests.support.messages import CONSENT, EXAMPLES, ORDER, RECORD

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


CANCEL = PaymentCancellation(
    partner_id="acme",  # type: ignore[arg-type]
    cancellation_id="k-1",
    consent_id="c-1",  # type: ignore[arg-type]
    order_id="A",  # type: ignore[arg-type]
    issued_at=ORDER.issued_at,
    expires_at=ORDER.expires_at,
    reason_text="x",
)


def cancel(reason: str, *, twice: str = "") -> bytes:
    """A cancellation with its reason spelt so, and before it more members."""
    return encode(CANCEL).replace(b'"order_id"', twice.encode() + b'"order_id"').replace(b'"x"', f'"{reason}"'.encode())


DOUBLED = {
    "in plain sight": cancel("x", twice='"order_id":"B",'),
    "behind escaped quotes": cancel(r"\u0022x\u0022 \u0022y\u0022", twice='"order_id":"B",'),
    "behind the other escape": cancel(r"\"x\" \"y\"", twice='"order_id":"B",'),
    "by an escaped name": cancel("x", twice=r'"\u006frder_id":"B",'),
    "by an escaped name, behind quotes": cancel(r"\u0022\u0022\u0022\u0022", twice=r'"\u006frder_\u0069d":"B",'),
    "with a text of backslashes": cancel(r"C:\\temp\\", twice='"order_id":"B",'),
    "nested": BODY.replace(b'"value"', rb'"\u0076alue":"1","value"'),
    "nested, behind quotes": rb'{"reason_text":"\u0022\u0022","amount":{"value":"1","value":"2"}}',
}


@pytest.mark.parametrize("name", DOUBLED)
def test_a_doubled_member_is_found_whatever_its_spelling(name: str) -> None:
    model = PaymentOrder if b"amount" in DOUBLED[name] else PaymentCancellation
    if name == "nested, behind quotes":
        with pytest.raises(DecodeError, match="given twice"):
            codec._check_spelling(ORDER, DOUBLED[name])
        return
    assert refused(DOUBLED[name], model).problem == "a field is given twice"


HONEST = {
    r"C:\\u0000": r"C:\u0000",
    r"C:\\u0022": r"C:\u0022",
    r"say \"x\" \u0022y\u0022": 'say "x" "y"',
    r"\ud55c\uae00 \\\" ": '한글 \\" ',
    r"\\\\u0000": r"\\u0000",
}


@pytest.mark.parametrize("spelt", HONEST)
def test_honest_texts_are_read_whatever_their_spelling(spelt: str) -> None:
    assert decode(PaymentCancellation, cancel(spelt)).reason_text == HONEST[spelt]


@pytest.mark.parametrize("spelt", [r"a\u0000b", r"\\\u0000", r"\u0000\\u0000"])
def test_a_nul_is_found_behind_backslashes(spelt: str) -> None:
    error = refused(cancel(spelt), PaymentCancellation)
    assert (error.field, error.problem) == ("reason_text", "holds a NUL character")


def test_a_body_of_faults_alone_is_refused_without_listing_them() -> None:
    assert refused(order(**{f"x{n}": 1 for n in range(1001)})).problem == "body has more than 1000 faults"


CARD = "4111111111111111"
CARDS = {
    "order_id": (PaymentOrder, BODY),
    "consent_id": (PaymentOrder, BODY),
    "merchant_id": (PaymentOrder, BODY),
    "partner_id": (PaymentOrder, BODY),
    "cancellation_id": (PaymentCancellation, encode(CANCEL)),
    "reason_text": (PaymentCancellation, encode(CANCEL)),
}


@pytest.mark.parametrize("field", CARDS)
def test_an_id_that_is_a_card_number_is_refused_by_name(field: str) -> None:
    model, body = CARDS[field]
    error = refused(json.dumps({**json.loads(body), field: f"k-{CARD}"}).encode(), model)
    assert error.field == field
    assert error.problem.startswith("must not hold a card number")
    assert CARD not in str(error)


def test_every_id_of_a_partner_is_looked_at_for_a_card_number() -> None:
    """Wherever a model has a text of the ids' alphabet, a card number in it is refused."""
    unchecked, texts = [], list(partner_texts())
    assert {name for _, name, _ in texts} >= {"order_id", "bulk_id", "command_id", "standing_order_id", "funding_token"}
    for model, name, field in texts:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, *field.metadata])  # type: ignore[valid-type]
        with suppress(ValidationError):
            adapter.validate_python(CARD)
            unchecked.append(f"{model.__name__}.{name}")
    assert unchecked == []


def partner_texts() -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    sent = [m for t in TOPICS if t.name in (ORDERS, CONSENT_COMMANDS) for m in t.messages.values()]
    pending, seen = list(sent), set[type[BaseModel]]()
    while pending:
        model = pending.pop()
        if model in seen:
            continue
        seen.add(model)
        if model in (Money, ControlSum):
            # Digits they have, and too few for a card: an amount has at most twelve.
            continue
        for name, field in model.model_fields.items():
            pending += codec._models_in(field.annotation)
            if field.annotation is str or getattr(field.annotation, "__supertype__", None) is str:
                yield model, name, field


@pytest.mark.parametrize("edge", ["2000-01-01T00:00:00+14:00", "2999-12-31T23:59:59-23:59"])
def test_a_time_at_the_edge_of_our_years_can_be_written_and_read_by_us(edge: str) -> None:
    read = decode(PaymentOrder, order(issued_at="2000-01-01T00:00:00+15:00", expires_at=edge))
    assert PaymentOrder.model_validate(dict(read)) == read
    assert decode(PaymentOrder, encode(read), trusted=True) == read


def test_stored_bytes_of_an_older_version_are_read_by_its_wider_rules() -> None:
    old = order(order_id=CARD, expires_at="9999-12-31T00:00:00Z")
    assert decode(PaymentOrder, old, trusted=True).order_id == CARD
    assert refused(old).field in ("order_id", "expires_at")


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
    "a fraction without whole": (money(".50", "USD"), "amount"),
    "leading zeros before a fraction": (money("01.00", "USD"), "amount"),
    "exponent with a fraction": (money("1.0e3", "USD"), "amount"),
    "a year before ours": (order(issued_at="1999-12-31T23:59:59Z"), "issued_at"),
    "the end of all years": (order(expires_at="9999-12-31T23:59:59Z"), "expires_at"),
    "the year 3000": (order(expires_at="3000-01-01T00:00:00Z"), "expires_at"),
    "a blank in a time": (order(issued_at="2026-03-02 03:04:05Z"), "issued_at"),
    "no seconds": (order(issued_at="2026-03-02T03:04Z"), "issued_at"),
    "an offset of a day": (order(issued_at="2026-03-02T03:04:05+24:00"), "issued_at"),
    "an offset without colon": (order(issued_at="2026-03-02T03:04:05+0900"), "issued_at"),
    "30 February": (order(issued_at="2026-02-30T03:04:05Z"), "issued_at"),
    "a day without dashes": (order(requested_execution_date="2026/03/02"), "requested_execution_date"),
    "31 April": (order(requested_execution_date="2026-04-31"), "requested_execution_date"),
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
        {"payment": None, "sharing": None, "marketing": None},
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
