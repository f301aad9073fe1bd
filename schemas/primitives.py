"""Ids, money and time: the value types that every message and every rule is written in.

Money is a whole number of the currency's minor unit (won, cents) with its ISO 4217 code; on the wire it is a decimal
string with exactly the currency's number of decimals (``"12500"`` KRW, ``"12.50"`` USD): one amount has one spelling.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from hashlib import sha1
from typing import Annotated, Final, NewType, Self
from uuid import UUID

import iso4217
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

PartnerId = NewType("PartnerId", str)
OrderId = NewType("OrderId", str)
StandingOrderId = NewType("StandingOrderId", str)
ConsentId = NewType("ConsentId", str)
CustomerId = NewType("CustomerId", str)
MerchantId = NewType("MerchantId", str)
NetworkId = NewType("NetworkId", str)
FundingToken = NewType("FundingToken", str)
PaymentId = NewType("PaymentId", UUID)

AMOUNT_MINOR_MAX: Final = 999_999_999_999
"""ISO 8583 DE4 is n12: a larger amount cannot be sent to a card network."""

EXPONENTS: Final[Mapping[str, int]] = {c.code: c.exponent for c in iso4217.Currency if c.exponent is not None}
"""Decimals of every ISO 4217 currency that has a minor unit or is its own (metals and test codes have none)."""

NUMERIC_CODES: Final[Mapping[str, str]] = {
    c.code: f"{c.number:03d}" for c in iso4217.Currency if c.exponent is not None
}
"""ISO 4217 numeric codes, three digits, as ISO 8583 DE49 carries them."""

_PAYMENT_NAMESPACE: Final = UUID("5f6d7970-6179-4d65-9d65-6e742d696431")

# uuid.uuid5 (RFC 9562 §5.5) in half of its time, for every order has one: the hash has taken in the namespace already.
_PAYMENT_NAMES: Final = sha1(_PAYMENT_NAMESPACE.bytes, usedforsecurity=False)
_UUID5_SET: Final = 5 << 76 | 0b10 << 62
_UUID5_FREE: Final = ~(0xF << 76 | 0b11 << 62) & (1 << 128) - 1


def payment_id_of(partner_id: str, order_id: str) -> PaymentId:
    """Return the one payment id that an order can ever have, so that redelivery cannot invent a second payment.

    The ids' alphabets exclude "/", so no two pairs share a name.
    """
    name = _PAYMENT_NAMES.copy()
    name.update(f"{partner_id}/{order_id}".encode())
    return PaymentId(UUID(int=int.from_bytes(name.digest()[:16], "big") & _UUID5_FREE | _UUID5_SET))


class Model(BaseModel):
    """Base of every message: frozen, strict, closed, and silent about its input when it refuses it."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
        ser_json_timedelta="iso8601",
    )


_TIME: Final = re.compile(
    r"2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]"
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
"""RFC 3339 without leap seconds, in the years 2000 to 2999: far from both ends of the calendar, where offsets,
tolerances and months could be added no more."""


def read_time(text: str) -> datetime:
    """Read an RFC 3339 time with an offset, in a body or a header; returned in UTC.

    Raises:
        ValueError: it is not one, or its year is not one of 2000 to 2999.
    """
    if _TIME.fullmatch(text) is None:
        raise ValueError("must be an RFC 3339 time with an offset, in a year from 2000 to 2999")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except ValueError:
        raise ValueError("must be a day that its month has") from None


def _utc(value: object) -> datetime:
    # A number, also one in quotes, would be taken for seconds since 1970 elsewhere: only one form is a time.
    if isinstance(value, str):
        return read_time(value)
    if not isinstance(value, datetime):
        raise ValueError("must be an RFC 3339 time")  # noqa: TRY004 - a validator's errors are ValueErrors
    if value.tzinfo is None:
        raise ValueError("a time needs a UTC offset")
    if not 2000 <= value.year < 3000:
        raise ValueError("the year must be from 2000 to 2999")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


UtcTime = Annotated[
    datetime,
    BeforeValidator(_utc),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{_TIME.pattern}$"}),
]
"""An RFC 3339 time with an offset, in the years 2000 to 2999, held in UTC."""


def _date_or_its_text(value: object) -> object:
    # The parser would take a number for days since 1970, and a time at midnight for its day.
    if isinstance(value, str) and len(value) == 10 and value[4] == "-":
        return value
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("must be an ISO 8601 date")


def _within_our_times(day: date) -> date:
    # Far from both ends of the calendar, where offsets and months could be added no more.
    if not 2000 <= day.year < 3000:
        raise ValueError("the year must be from 2000 to 2999")
    return day


SeoulDate = Annotated[date, Field(strict=False), BeforeValidator(_date_or_its_text), AfterValidator(_within_our_times)]
"""An ISO 8601 calendar date, ``2026-12-01``, which begins and ends with the day in Asia/Seoul."""


def _id(max_length: int) -> StringConstraints:
    # The first character is not "." or "-": ids become parts of topic names and command-line arguments.
    return StringConstraints(min_length=1, max_length=max_length, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", strict=True)


PartnerIdField = Annotated[PartnerId, _id(35)]
OrderIdField = Annotated[OrderId, _id(35)]  # ISO 20022 Max35Text, as EndToEndIdentification
StandingOrderIdField = Annotated[StandingOrderId, _id(26)]  # room for the occurrence's date in 35 characters
PaidOrderIdField = Annotated[
    OrderId,
    StringConstraints(min_length=1, max_length=35, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(\+[0-9]{8})?$", strict=True),
]
"""A partner's order id, or that of a standing order's occurrence: ``rent+20261201``, which no partner can choose."""
ConsentIdField = Annotated[ConsentId, _id(64)]
CustomerIdField = Annotated[CustomerId, _id(64)]
MerchantIdField = Annotated[MerchantId, _id(35)]
NetworkIdField = Annotated[NetworkId, _id(35)]
FundingTokenField = Annotated[FundingToken, _id(64)]
CurrencyCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", strict=True)]
MerchantCategoryCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}$", strict=True)]
"""ISO 18245 merchant category code."""


def decimal_of(minor: int, currency: str) -> str:
    """Spell an amount with exactly the decimals of its currency: ``(1250, "USD")`` → ``"12.50"``."""
    exponent = EXPONENTS[currency]
    if exponent == 0:
        return str(minor)
    sign, digits = ("-", -minor) if minor < 0 else ("", minor)
    whole, fraction = divmod(digits, 10**exponent)
    return f"{sign}{whole}.{fraction:0{exponent}d}"


def minor_of(value: str, currency: str) -> int:
    """Read a decimal string as minor units.

    Raises:
        ValueError: the currency is unknown, or the value does not have exactly that currency's decimals.
    """
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise ValueError("currency is not an ISO 4217 currency with a minor unit")
    whole, point, fraction = value.partition(".")
    if len(fraction) != exponent or bool(point) != bool(exponent):
        raise ValueError(f"{currency} amounts have exactly {exponent} decimals")
    if not (whole + fraction).isascii() or not (whole + fraction).isdigit():
        raise ValueError("value must be a decimal number")
    if len(whole) > 1 and whole[0] == "0":
        raise ValueError("value must not have leading zeros")
    return int(whole + fraction)


class Money(Model):
    """A positive amount: ``{"currency": "KRW", "value": "12500"}``; at most :data:`AMOUNT_MINOR_MAX` minor units."""

    currency: CurrencyCode
    value: Annotated[str, StringConstraints(min_length=1, max_length=16, strict=True)]

    @model_validator(mode="after")
    def _value_fits_currency(self) -> Self:
        minor = minor_of(self.value, self.currency)
        if not 0 < minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"value must be above zero and at most {AMOUNT_MINOR_MAX} minor units")
        # Where the property below keeps it.
        self.__dict__["minor"] = minor
        return self

    @cached_property
    def minor(self) -> int:
        """The amount in minor units."""
        return minor_of(self.value, self.currency)

    @classmethod
    def of(cls, minor: int, currency: str) -> Self:
        """Build from minor units.

        Raises:
            ValidationError: not a positive amount of a known currency.
        """
        return cls(currency=currency, value=decimal_of(minor, currency))

    @classmethod
    def trusted(cls, minor: int, currency: str) -> "Money":
        """Build from minor units that were validated when they came in; checks nothing, for the hot path."""
        return cls.model_construct(currency=currency, value=decimal_of(minor, currency))
