"""Typed requests ↔ messages ↔ bytes.

pyiso8583 lays the fields out; this module checks what it does not (content classes, ranges, padding, mandatory fields
per message) in both directions, so that a message that was decoded is one that the tables allow. No error text carries
the content of a field, and ``repr`` that of a short list of harmless ones alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import iso8583

from gateway.adapters.iso8583.ascii_wire import read_ascii, write_ascii
from gateway.adapters.iso8583.config import NetworkConfig
from gateway.adapters.iso8583.dialect import RULES, Dialect
from gateway.domain.exchange import (
    Acceptor,
    Answered,
    FinancialRequest,
    InquiryRequest,
    NetworkRequest,
    Operation,
    ReversalRequest,
    TraceNumbers,
)
from schemas.primitives import AMOUNT_MINOR_MAX, NUMERIC_CODES

SIGN_ON: Final = "001"
SIGN_OFF: Final = "002"
KEY_CHANGE: Final = "161"
ECHO: Final = "301"

APPROVED: Final = "00"
FUNCTION_NOT_SUPPORTED: Final = "40"

PROCESSING_CODES: Final[Mapping[Operation, str]] = {Operation.PURCHASE: "000000", Operation.REFUND: "200000"}
INQUIRY_CODE: Final = "380000"

_SHOWN: Final = frozenset({3, 4, 7, 11, 12, 13, 18, 22, 25, 32, 37, 38, 39, 41, 42, 49, 50, 66, 70, 90})
_ECHOED: Final = (3, 4, 7, 11, 32, 37, 41, 42, 49, 70)
_BITMAP: Final = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
_ZERO_AMOUNT: Final = "0" * 12


class MatchKey(NamedTuple):
    """What ties a response to its request; fields the message lacks are empty."""

    mti_class: str
    stan: str
    terminal_id: str
    transmitted_at: str


class Iso8583Error(ValueError):
    """A message breaks the tables. The text names the field and the rule, never content.

    Attributes:
        field: ``"4"``, ``"mti"``, ``"bitmap"`` or ``"message"``.
        reason: what is wrong.
        match_key: of the message that could not be decoded, where those fields could be read; else None.
    """

    def __init__(self, field: str, reason: str, match_key: MatchKey | None = None) -> None:
        name = f"field {field}" if field.isdigit() else field
        super().__init__(f"{name}: {reason}")
        self.field = field
        self.reason = reason
        self.match_key = match_key


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One ISO 8583 message.

    Attributes:
        mti: four digits.
        fields: by number, none empty. Digits as they are, fixed text without its trailing spaces, binary as upper-case
            hexadecimal, x+n amounts with a leading C or D, track data with "=".
    """

    mti: str
    fields: Mapping[int, str]

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{number}={value!r}" if number in _SHOWN else f"{number}=***"
            for number, value in sorted(self.fields.items())
        )
        return f"Message({self.mti}, {shown})"

    def __getitem__(self, number: int) -> str:
        return self.fields[number]

    def get(self, number: int) -> str | None:
        """Return a field's value, or None where the message lacks it."""
        return self.fields.get(number)


class OriginalData(NamedTuple):
    """DE90: the message that is asked about or undone. Institutions are 11 digits, zero-filled."""

    mti: str
    stan: str
    transmitted_at: str
    acquirer_id: str
    forwarder_id: str = "0" * 11

    def __str__(self) -> str:
        return f"{self.mti}{self.stan}{self.transmitted_at}{self.acquirer_id:0>11}{self.forwarder_id:0>11}"


def original_data_of(message: Message) -> OriginalData | None:
    """Read DE90 of a decoded message; None where it has none."""
    value = message.get(90)
    if value is None:
        return None
    return OriginalData(value[:4], value[4:10], value[10:20], value[20:31], value[31:42])


def match_key(message: Message) -> MatchKey:
    """Return what ties request and response: class of the MTI, DE11, DE41 and DE7."""
    fields = message.fields
    return MatchKey(message.mti[:2], fields.get(11, ""), fields.get(41, ""), fields.get(7, ""))


def response_mti(mti: str) -> str | None:
    """Return the MTI that answers this one, or None where it is a response itself or unknown."""
    rule = RULES.get(mti)
    return rule.response if rule else None


def encode_message(message: Message, dialect: Dialect) -> bytes:
    """Write one message.

    Raises:
        Iso8583Error: a field is unknown, not allowed in this message, missing, or its value does not fit.
    """
    rule = RULES.get(message.mti)
    if rule is None:
        raise Iso8583Error("mti", "is not supported")
    fields = message.fields
    if not fields.keys() <= rule.allowed:
        raise Iso8583Error(str(min(fields.keys() - rule.allowed)), f"is not sent in {message.mti}")
    _check_presence(message.mti, fields)
    codecs = dialect.fields
    values: dict[int, str] = {}
    for number, value in fields.items():
        codec = codecs[number]
        if codec.check(value) is None:
            raise Iso8583Error(codec.key, "has a wrong length or character")
        values[number] = codec.to_wire(value) if codec.to_wire else value
    if dialect.name == "iso87-ascii":
        return write_ascii(message.mti, values)
    return _write_by_library(message.mti, values, dialect)


def _write_by_library(mti: str, values: Mapping[int, str], dialect: Dialect) -> bytes:
    document = {"t": mti, **{dialect.fields[number].key: value for number, value in values.items()}}
    data: bytearray | None = None
    where = "message"
    try:
        data, _ = iso8583.encode(document, dialect.specs[0])
    except iso8583.EncodeError as error:
        where = error.field
    if data is None:
        # Raised out here so that no traceback reaches the library's error, which holds the whole message.
        raise Iso8583Error(where, "cannot be encoded")
    return bytes(data)


def decode_message(data: bytes, dialect: Dialect) -> Message:
    """Read one message, without its frame header.

    Fields that the tables neither ask for nor forbid are accepted, as hosts add their own; blank ones are left out.

    Raises:
        Iso8583Error: the bytes are not exactly one message of this dialect, or it breaks the tables.
    """
    short = read_ascii(data) if dialect.name == "iso87-ascii" else None
    if short is None:
        mti, raw, key = _read_by_library(data, dialect)
    else:
        mti, raw = short
        key = _key_in(mti, raw.get(11), raw.get(41, ""), raw.get(7))
    rule = RULES.get(mti)
    if rule is None:
        raise Iso8583Error("mti", "is not supported", key)
    fields: dict[int, str] = {}
    codecs = dialect.fields
    for number, value in raw.items():
        codec = codecs[number]
        if codec.from_wire is not None:
            value = codec.from_wire(value)  # noqa: PLW2901  # the raw form is of no further use
        if not value:
            continue
        if codec.check(value) is None:
            raise Iso8583Error(codec.key, "has a wrong length or character", key)
        fields[number] = value
    if not rule.forbidden.isdisjoint(fields):
        raise Iso8583Error(str(min(rule.forbidden & fields.keys())), f"does not belong in {mti}", key)
    _check_presence(mti, fields, key)
    return Message(mti, fields)


def _read_by_library(data: bytes, dialect: Dialect) -> tuple[str, dict[int, str], MatchKey | None]:
    document, lengths = _take_apart(data, dialect)
    mti = document.pop("t")
    key = _key_of(document, mti)
    if mti not in RULES:
        raise Iso8583Error("mti", "is not supported", key)
    if not _BITMAP(document.pop("p")) or not _BITMAP(document.pop("1", _ZERO_AMOUNT + "0000")):
        raise Iso8583Error("bitmap", "is malformed", key)
    raw: dict[int, str] = {}
    for name, value in document.items():
        number = dialect.numbers[name]
        # int() inside the library takes "+5" and " 5" for a length.
        if dialect.fields[number].text_length and not lengths[name]["len"].isdigit():
            raise Iso8583Error(name, "length is not digits", key)
        raw[number] = value
    return mti, raw, key


def _take_apart(data: bytes, dialect: Dialect) -> tuple[dict[str, str], dict[str, dict[str, bytes]]]:
    where, partial = "message", None
    for spec in dialect.specs:
        try:
            document, lengths = iso8583.decode(data, spec)
        except iso8583.DecodeError as error:
            if partial is None:
                where, partial = error.field, error.doc_dec
        except KeyError:
            where = "bitmap"
            break
        else:
            return document, lengths
    # Raised out here so that no traceback reaches the library's error, which holds the whole message.
    named = {"t": "mti", "p": "bitmap", "1": "bitmap"}.get(where, where)
    raise Iso8583Error(named, "is malformed or cut short", _key_of(partial or {}, (partial or {}).get("t", "")))


_KEY_PARTS: Final = re.compile(r"(0[0-9])[0-9]{2}\n([0-9]{6})\n([!-~]{0,8}) *\n([0-9]{10})").fullmatch


def _key_of(document: Mapping[str, Any], mti: str) -> MatchKey | None:
    return _key_in(mti, document.get("11"), document.get("41", ""), document.get("7"))


def _key_in(mti: str, stan: str | None, terminal: str, transmitted_at: str | None) -> MatchKey | None:
    parts = _KEY_PARTS(f"{mti}\n{stan}\n{terminal}\n{transmitted_at}")
    return MatchKey(*parts.groups()) if parts else None


def _check_presence(mti: str, fields: Mapping[int, str], key: MatchKey | None = None) -> None:
    rule = RULES[mti]
    if not rule.mandatory <= fields.keys():
        raise Iso8583Error(str(min(rule.mandatory - fields.keys())), f"is missing in {mti}", key)
    if rule.response is not None and fields.get(4) == _ZERO_AMOUNT:
        raise Iso8583Error("4", "is zero", key)


def answer_of(message: Message, *, sent_at: float | None = None) -> Answered:
    """Return what a decoded 0110, 0210, 0230 or 0430 says, unjudged; ``sent_at`` of its request is handed on."""
    fields = message.fields
    return Answered(
        response_code=fields[39],
        approval_code=fields.get(38),
        amount_minor=int(fields[4]),
        currency_numeric=fields.get(49),
        rrn=fields.get(37),
        sent_at=sent_at,
    )


def response_to(request: Message, response_code: str, **extra: str) -> Message:
    """Build the response to a decoded request: the fields that responses echo, DE39, and ``de38="…"`` and the like.

    Raises:
        Iso8583Error: the message is not a request.
    """
    mti = response_mti(request.mti)
    if mti is None:
        raise Iso8583Error("mti", "is not a request")
    fields = {number: request.fields[number] for number in _ECHOED if number in request.fields}
    fields[39] = response_code
    for name, value in extra.items():
        fields[int(name.removeprefix("de"))] = value
    return Message(mti, fields)


def transmission_time(moment: datetime) -> str:
    """Spell an aware time as DE7: ``MMDDhhmmss`` in UTC."""
    if moment.tzinfo is None:
        raise Iso8583Error("7", "needs a time with an offset")
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return f"{utc.month:02d}{utc.day:02d}{utc.hour:02d}{utc.minute:02d}{utc.second:02d}"


def _stan(trace: TraceNumbers) -> str:
    if not 1 <= trace.stan <= 999_999:
        raise Iso8583Error("11", "is not 1 … 999999")
    return f"{trace.stan:06d}"


def _common(
    trace: TraceNumbers,
    amount_minor: int,
    currency: str,
    acceptor: Acceptor,
    config: NetworkConfig,
) -> dict[int, str]:
    if not 0 < amount_minor <= AMOUNT_MINOR_MAX:
        raise Iso8583Error("4", "is not 1 … 999999999999")
    if currency not in config.currencies:
        raise Iso8583Error("49", "is not a currency of this network")
    return {
        4: f"{amount_minor:012d}",
        7: transmission_time(trace.transmitted_at),
        11: _stan(trace),
        32: config.acquirer_id,
        37: trace.rrn,
        41: trace.terminal_id,
        42: acceptor.acceptor_id.rstrip(),
        49: NUMERIC_CODES[currency],
    }


def _local_time(moment: datetime, config: NetworkConfig) -> dict[int, str]:
    local = moment.astimezone(config.time_zone)
    return {12: f"{local.hour:02d}{local.minute:02d}{local.second:02d}", 13: f"{local.month:02d}{local.day:02d}"}


def _original(original: TraceNumbers, config: NetworkConfig) -> str:
    return str(OriginalData("0200", _stan(original), transmission_time(original.transmitted_at), config.acquirer_id))


def financial_message(request: FinancialRequest, config: NetworkConfig) -> Message:
    """Build the 0200 of a purchase or refund.

    Raises:
        Iso8583Error: a number is out of its range or the currency is not one of the network's.
    """
    fields = _common(request.trace, request.amount_minor, request.currency, request.acceptor, config)
    fields |= _local_time(request.trace.transmitted_at, config)
    fields[2] = request.card.pan
    fields[3] = PROCESSING_CODES[request.operation]
    if request.card.expiry is not None:
        fields[14] = request.card.expiry
    fields[18] = request.acceptor.mcc
    fields[22] = config.pos_entry_mode
    fields[25] = config.pos_condition_code
    fields[43] = request.acceptor.name_location.rstrip()
    return Message("0200", fields)


def reversal_message(request: ReversalRequest, config: NetworkConfig) -> Message:
    """Build the 0420, or the 0421 that repeats it and differs in the MTI alone.

    DE12 and DE13 are the original's, DE90 names it.

    Raises:
        Iso8583Error: as :func:`financial_message`.
    """
    fields = _common(request.trace, request.amount_minor, request.currency, request.acceptor, config)
    fields |= _local_time(request.original.transmitted_at, config)
    fields[2] = request.card.pan
    fields[3] = PROCESSING_CODES[request.operation]
    if request.card.expiry is not None:
        fields[14] = request.card.expiry
    fields[90] = _original(request.original, config)
    return Message("0421" if request.repeat else "0420", fields)


def inquiry_message(request: InquiryRequest, config: NetworkConfig) -> Message:
    """Build the 0100 that asks what became of an original 0200.

    Raises:
        Iso8583Error: as :func:`financial_message`.
    """
    fields = _common(request.trace, request.amount_minor, request.currency, request.acceptor, config)
    fields[3] = INQUIRY_CODE
    fields[90] = _original(request.original, config)
    return Message("0100", fields)


def request_message(request: NetworkRequest, config: NetworkConfig) -> Message:
    """Build the message of any request.

    Raises:
        Iso8583Error: as :func:`financial_message`.
    """
    match request:
        case FinancialRequest():
            return financial_message(request, config)
        case ReversalRequest():
            return reversal_message(request, config)
        case InquiryRequest():
            return inquiry_message(request, config)


def network_management(code: str, *, stan: int, at: datetime, acquirer_id: str | None = None) -> Message:
    """Build an 0800: DE70 ``code`` (:data:`SIGN_ON`, :data:`SIGN_OFF`, :data:`ECHO`), DE11 and DE7.

    Raises:
        Iso8583Error: ``stan`` is not 1 … 999999 or ``at`` has no offset.
    """
    if not 1 <= stan <= 999_999:
        raise Iso8583Error("11", "is not 1 … 999999")
    fields = {7: transmission_time(at), 11: f"{stan:06d}", 70: code}
    if acquirer_id is not None:
        fields[32] = acquirer_id
    return Message("0800", fields)
