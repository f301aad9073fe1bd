"""Money, ids and times."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID, uuid5

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.primitives import (
    AMOUNT_MINOR_MAX,
    EXPONENTS,
    NUMERIC_CODES,
    ConsentIdField,
    Money,
    PartnerIdField,
    UtcTime,
    decimal_of,
    holds_card_number,
    minor_of,
    payment_id_of,
)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (12_500, "KRW", "12500"),
        (1_250, "USD", "12.50"),
        (5, "USD", "0.05"),
        (0, "USD", "0.00"),
        (-5, "USD", "-0.05"),
        (-12_500, "KRW", "-12500"),
        (1_234, "KWD", "1.234"),
        (AMOUNT_MINOR_MAX, "KWD", "999999999.999"),
    ],
)
def test_amounts_are_spelt_with_their_currency_s_decimals(minor: int, currency: str, text: str) -> None:
    assert decimal_of(minor, currency) == text
    if minor >= 0:
        assert minor_of(text, currency) == minor


def test_currencies() -> None:
    assert (EXPONENTS["KRW"], EXPONENTS["USD"], EXPONENTS["JPY"], EXPONENTS["KWD"]) == (0, 2, 0, 3)
    assert (NUMERIC_CODES["KRW"], NUMERIC_CODES["USD"], NUMERIC_CODES["AUD"]) == ("410", "840", "036")
    assert not {"XAU", "XTS", "XXX"} & EXPONENTS.keys()
    assert EXPONENTS.keys() == NUMERIC_CODES.keys()
    assert all(len(code) == 3 and code.isdigit() for code in NUMERIC_CODES.values())


@pytest.mark.parametrize("minor", [0, -1, AMOUNT_MINOR_MAX + 1])
def test_money_is_above_zero_and_fits_the_network(minor: int) -> None:
    with pytest.raises(ValidationError):
        Money.of(minor, "KRW")


def test_money_is_a_value() -> None:
    assert Money.of(1_250, "USD") == Money(currency="USD", value="12.50")
    assert Money.of(AMOUNT_MINOR_MAX, "KRW").minor == AMOUNT_MINOR_MAX
    with pytest.raises(ValidationError):
        Money.of(1, "USD").value = "2.00"  # type: ignore[misc]


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_payment_id_is_the_name_based_uuid_of_partner_and_order(partner_id: str, order_id: str) -> None:
    namespace = UUID("5f6d7970-6179-4d65-9d65-6e742d696431")
    made = payment_id_of(partner_id, order_id)
    assert made == uuid5(namespace, f"{partner_id}/{order_id}")
    assert (made.version, made.variant) == (5, RFC_4122)


def test_one_order_has_one_payment_id_for_ever() -> None:
    # Written down: if this ever changes, a redelivered order of yesterday is paid twice.
    assert payment_id_of("acme", "order-1") == UUID("39ad7201-65b5-50b8-a77d-c4365762f0e6")
    assert payment_id_of("acme", "order-2") != payment_id_of("acme", "order-1")
    assert payment_id_of("acm", "eorder-1") != payment_id_of("acme", "order-1")


@pytest.mark.parametrize("text", ["a", "A-1_b.c", "9", "x" * 35])
def test_ids(text: str) -> None:
    assert TypeAdapter(PartnerIdField).validate_python(text) == text


CARDS = [
    "4111111111111111",
    "378282246310005",
    "6759649826438453",
    "501800000009",
    "order-4111111111111111",
    "4111111111111111x",
    "o4111111111111111",
    "4111-1111-1111-1111",
    "4111.1111.1111.1111",
    "4111_1111_1111_1111",
    "3782-822463-10005",
    "a.4111111111111111.b",
]
NO_CARDS = [
    "4111111111111112",
    "4111111111111111" * 2,
    "41111111111",
    "2026-11-23-000123",
    "20261123-000123",
    "2026.11.23.10.00.00",
    "4111-1111-1111-11-11",
    "a3f2b8c1e9a7d4e5f841111111111111111f"[:35],
    "3f2b8c1e-9a7d-4e5f-8a6b-411111111111",
    "00000000-0000-4000-8000-501800000009",
    "507f1f77bcf4501800000009",
]


@pytest.mark.parametrize("text", CARDS)
def test_ids_that_hold_a_card_number_are_refused(text: str) -> None:
    assert holds_card_number(text)
    with pytest.raises(ValidationError, match="card number"):
        TypeAdapter(ConsentIdField).validate_python(text)


@pytest.mark.parametrize("text", NO_CARDS)
def test_ids_with_many_digits_that_are_no_card_are_taken(text: str) -> None:
    assert not holds_card_number(text)
    assert TypeAdapter(ConsentIdField).validate_python(text) == text


@given(st.uuids(version=4), st.booleans())
def test_a_uuid_is_never_taken_for_a_card(uuid: UUID, bare: bool) -> None:
    # All of decimal digits, one in three million: such an id may be refused.
    assume(not uuid.hex.isdigit())
    assert not holds_card_number(uuid.hex if bare else str(uuid))


@pytest.mark.parametrize("text", ["", "x" * 36, ".a", "-a", "_a", "a b", "a/b", "a\n", "é", "a\x00"])
def test_texts_that_are_no_ids(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(PartnerIdField).validate_python(text)


def test_times_are_held_in_utc() -> None:
    adapter: TypeAdapter[datetime] = TypeAdapter(UtcTime)
    seoul = datetime(2026, 3, 2, 12, 0, tzinfo=timezone(timedelta(hours=9)))
    held = adapter.validate_python(seoul)
    assert (held, held.tzinfo) == (seoul, UTC)
    assert adapter.validate_json('"2026-03-02T12:00:00+09:00"') == seoul
    with pytest.raises(ValidationError, match="offset"):
        adapter.validate_python(datetime(2026, 3, 2, 12, 0))  # noqa: DTZ001
