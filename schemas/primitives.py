"""Ids, money and time: the value types that every message and every rule is written in.

Money is a whole number of the currency's minor unit (won, cents) with its ISO 4217 code; on the wire it is a decimal
string with exactly the currency's number of decimals (``"12500"`` KRW, ``"12.50"`` USD): one amount has one spelling.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from hashlib import sha1
from typing import Annotated, Any, Final, NewType, Protocol, Self, TypeVar
from uuid import UUID

import iso4217
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from schemas.plain import PlainAmount, built

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

    @classmethod
    def of_stored(cls, **fields: object) -> Self:
        """Build one of what is stored already, perhaps since before today's rules for ids and times.

        Raises:
            ValidationError: a field is missing, unknown or of another type.
        """
        built: Self = cls.__pydantic_validator__.validate_python(fields, context=STORED)
        return built

    @classmethod
    def of_plain(cls, body: bytes) -> Self | None:  # noqa: ARG003 - the message's
        """Read a plain body the quick way (:mod:`schemas.plain`), for messages of which there are many.

        None: it is not plain, or has a fault, or there is no quick way; :func:`schemas.codec.decode` tells.
        """
        return None


class _Expiring(Protocol):
    @property
    def issued_at(self) -> datetime: ...

    @property
    def expires_at(self) -> datetime: ...


E = TypeVar("E", bound=_Expiring)


def expires_after_issue(message: E) -> E:
    """Check a message that a partner gives a time to live.

    Raises:
        ValueError: it expires before it is issued, or then.
    """
    if message.expires_at <= message.issued_at:
        raise ValueError("expires_at must be later than issued_at")
    return message


TIME_PATTERN: Final = (
    r"2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]"
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
"""RFC 3339 without leap seconds, in the years 2000 to 2999: far from both ends of the calendar, where offsets,
tolerances and months could be added no more."""

_TIME: Final = re.compile(TIME_PATTERN)


def read_time(text: str) -> datetime:
    """Read an RFC 3339 time with an offset, in a body or a header; returned in UTC.

    Raises:
        ValueError: it is not one, or its year is not one of 2000 to 2999.
    """
    if _TIME.fullmatch(text) is None:
        raise ValueError("must be an RFC 3339 time with an offset, in a year from 2000 to 2999")
    return time_of(text)


def time_of(text: str) -> datetime:
    """The moment of a text that has the form of a time (:data:`TIME_PATTERN`), in UTC.

    Raises:
        ValueError: there is no such day.
    """
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError("must be a day that its month has") from None
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


STORED: Final[Mapping[str, bool]] = {"stored": True}
"""Context of validation: the bytes passed an earlier version's rules, which were wider for ids and times."""


def _utc(value: object, info: ValidationInfo) -> datetime:
    if info.context is STORED and isinstance(value, str):
        return _stored_time(value)
    # A number, also one in quotes, would be taken for seconds since 1970 elsewhere: only one form is a time.
    if isinstance(value, str):
        return read_time(value)
    if not isinstance(value, datetime):
        raise ValueError("must be an RFC 3339 time")  # noqa: TRY004 - a validator's errors are ValueErrors
    if value.tzinfo is None:
        raise ValueError("a time needs a UTC offset")
    # One that was read may have come into the year beside them by its offset.
    if not 1999 <= value.year <= 3000:
        raise ValueError("the year must be from 2000 to 2999")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _stored_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be an RFC 3339 time") from None


UtcTime = Annotated[
    datetime,
    BeforeValidator(_utc),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{_TIME.pattern}$"}),
]
"""An RFC 3339 time with an offset, in the years 2000 to 2999, held in UTC."""


_DATE: Final = re.compile(r"2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")


def _date(value: object) -> date:
    # A number would be taken for days since 1970 elsewhere, and a time at midnight for its day.
    if isinstance(value, str):
        if _DATE.fullmatch(value) is None:
            raise ValueError("must be an ISO 8601 date of a year from 2000 to 2999")
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError("must be a day that its month has") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        if not 2000 <= value.year < 3000:
            raise ValueError("the year must be from 2000 to 2999")
        return value
    raise ValueError("must be an ISO 8601 date")


SeoulDate = Annotated[
    date,
    BeforeValidator(_date),
    WithJsonSchema({"type": "string", "format": "date", "pattern": f"^{_DATE.pattern}$"}),
]
"""An ISO 8601 calendar date, ``2026-12-01``, which begins and ends with the day in Asia/Seoul."""


_DIGITS: Final = re.compile(r"[0-9]{12,}")
_GROUPS: Final = re.compile(
    r"(?<![0-9])(?:[0-9]{4}([-._ ])[0-9]{4}\1[0-9]{4}\1[0-9]{4}|[0-9]{4}([-._ ])[0-9]{6}\2[0-9]{5})(?![0-9])"
)
_HEXADECIMAL: Final = re.compile(
    r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|(?<![0-9A-Za-z])(?![0-9]+(?![0-9A-Za-z]))[0-9A-Fa-f]{24,}(?![0-9A-Za-z])"
)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_CARD_DIGITS: Final = range(12, 20)


def holds_card_number(text: str) -> bool:
    """True if a text holds what may be a card number: 12 to 19 digits that pass the Luhn check (ISO/IEC 7812).

    Digits that stand together, with no digit beside them, or in the groups of a card. UUIDs, and words of 24 or more
    hexadecimal digits that are not all decimal, hold none: of random ones every few hundredth would.
    """
    cards = [
        match.start()
        for pattern in (_DIGITS, _GROUPS)
        for match in pattern.finditer(text)
        if _is_card_number([int(c) for c in match.group() if c.isdigit()])
    ]
    if not cards:
        return False
    hexadecimal = [word.span() for word in _HEXADECIMAL.finditer(text)]
    return any(not any(begin <= place < end for begin, end in hexadecimal) for place in cards)


# Of lines of ASCII: digits, and what stands between the groups of a card.
_PLACES: Final = bytes.maketrans(b"0123456789._ ", b"0000000000---")
_CARD_SHAPES: Final = (b"0" * _CARD_DIGITS.start, b"0000-0000-0000-0000", b"0000-000000-00000")


def lines_hold_card_number(lines: str) -> bool:
    """True if one of several lines of ASCII does: :func:`holds_card_number`, quicker where none could."""
    places = lines.encode().translate(_PLACES)
    if not any(shape in places for shape in _CARD_SHAPES):
        return False
    return any(map(holds_card_number, lines.split("\n")))


def _is_card_number(digits: list[int]) -> bool:
    return len(digits) in _CARD_DIGITS and _passes_luhn(digits)


def _passes_luhn(digits: list[int]) -> bool:
    return (sum(digits[-1::-2]) + sum(_DOUBLED[d] for d in digits[-2::-2])) % 10 == 0


def _no_card_number(text: str, info: ValidationInfo) -> str:
    if len(text) >= _CARD_DIGITS.start and info.context is not STORED and holds_card_number(text):
        raise ValueError("must not hold a card number: 12 to 19 digits in a row that pass the Luhn check")
    return text


NO_CARD_NUMBER: Final = AfterValidator(_no_card_number)
"""Texts of partners are written down, told and logged as they are: none of them may be a card number."""


def id_field(max_length: int, *, suffix: str = "") -> Any:
    """Constraints of an id: letters, digits and ``. _ -``, and no card number among them.

    The first character is not "." or "-": ids become parts of topic names and command-line arguments.
    """
    pattern = rf"^[A-Za-z0-9][A-Za-z0-9._-]*{suffix}$"
    return StringConstraints(min_length=1, max_length=max_length, pattern=pattern, strict=True)


PartnerIdField = Annotated[PartnerId, id_field(35), NO_CARD_NUMBER]
OrderIdField = Annotated[OrderId, id_field(35), NO_CARD_NUMBER]  # ISO 20022 Max35Text, as EndToEndIdentification
StandingOrderIdField = Annotated[StandingOrderId, id_field(26), NO_CARD_NUMBER]  # room for the occurrence's date in 35
PaidOrderIdField = Annotated[OrderId, id_field(35, suffix=r"(\+[0-9]{8})?"), NO_CARD_NUMBER]
"""A partner's order id, or that of a standing order's occurrence: ``rent+20261201``, which no partner can choose."""
ConsentIdField = Annotated[ConsentId, id_field(64), NO_CARD_NUMBER]
CustomerIdField = Annotated[CustomerId, id_field(64), NO_CARD_NUMBER]
MerchantIdField = Annotated[MerchantId, id_field(35), NO_CARD_NUMBER]
NetworkIdField = Annotated[NetworkId, id_field(35), NO_CARD_NUMBER]
FundingTokenField = Annotated[FundingToken, id_field(64), NO_CARD_NUMBER]
CurrencyCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", strict=True)]
MerchantCategoryCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}$", strict=True)]
"""ISO 18245 merchant category code."""

_AMOUNT: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
AmountText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=20, strict=True),
    Field(json_schema_extra={"pattern": f"^{_AMOUNT.pattern}$"}),
]
"""A decimal number, which has one spelling; how many decimals it has is the currency's."""


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
    if _AMOUNT.fullmatch(value) is None:
        raise ValueError("value must be a decimal number such as 12500 or 0.50: no sign, exponent or leading zeros")
    whole, _, fraction = value.partition(".")
    if len(fraction) != exponent:
        raise ValueError(f"{currency} amounts have exactly {exponent} decimals")
    return int(whole + fraction)


def _amount_pattern(exponent: int, *, digits: int, zero: bool) -> str:
    """Every spelling of an amount, of at most ``digits`` digits in minor units; ``zero``: nothing is an amount too."""
    if exponent == 0:
        return f"^(?:{'0|' if zero else ''}[1-9][0-9]{{0,{digits - 1}}})$"
    fraction = f"\\.[0-9]{{{exponent}}}"
    least = [f"0\\.{'0' * n}[1-9]{'[0-9]' * (exponent - n - 1)}" for n in range(exponent)]
    if zero:
        least.append(f"0\\.{'0' * exponent}")
    return f"^(?:[1-9][0-9]{{0,{digits - exponent - 1}}}{fraction}|{'|'.join(least)})$"


def amount_rules(*, digits: int, zero: bool) -> dict[str, Any]:
    """JSON Schema of amounts: which currencies there are, and how each one's amounts are spelt."""
    by_exponent = {e: sorted(c for c, of in EXPONENTS.items() if of == e) for e in sorted(set(EXPONENTS.values()))}
    return {
        "allOf": [
            {"properties": {"currency": {"enum": sorted(EXPONENTS)}}},
            *(
                {
                    "if": {"properties": {"currency": {"enum": currencies}}, "required": ["currency"]},
                    "then": {"properties": {"value": {"pattern": _amount_pattern(e, digits=digits, zero=zero)}}},
                }
                for e, currencies in by_exponent.items()
            ),
        ]
    }


def _payable_minor(value: str, currency: str) -> int:
    minor = minor_of(value, currency)
    if not 0 < minor <= AMOUNT_MINOR_MAX:
        raise ValueError(f"value must be above zero and at most {AMOUNT_MINOR_MAX} minor units")
    return minor


class Money(Model):
    """A positive amount: ``{"currency": "KRW", "value": "12500"}``; at most :data:`AMOUNT_MINOR_MAX` minor units."""

    model_config = ConfigDict(json_schema_extra=amount_rules(digits=len(str(AMOUNT_MINOR_MAX)), zero=False))

    currency: CurrencyCode
    value: AmountText

    @model_validator(mode="after")
    def _value_fits_currency(self) -> Self:
        # Where the property below keeps it.
        self.__dict__["minor"] = _payable_minor(self.value, self.currency)
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
    def of_plain_parts(cls, plain: PlainAmount) -> Self:
        """Build from what was read of a plain body; checks all that validation does.

        Raises:
            ValueError: not a positive amount of a known currency.
        """
        value, currency = plain.value, plain.currency
        minor = _payable_minor(value, currency)
        return built(cls, {"currency": currency, "value": value, "minor": minor}, _MONEY_GIVEN)

    @classmethod
    def trusted(cls, minor: int, currency: str) -> "Money":
        """Build from minor units that were validated when they came in; checks nothing, for the hot path."""
        return cls.model_construct(currency=currency, value=decimal_of(minor, currency))


_MONEY_GIVEN: Final = frozenset(Money.model_fields)
