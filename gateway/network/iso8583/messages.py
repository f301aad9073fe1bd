"""Typed requests → messages, and answers → what they say. No error text holds the content of a field."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, assert_never

from gateway.network.exchange import (
    Acceptor,
    Answered,
    Echoed,
    FinancialRequest,
    InquiryRequest,
    NetworkRequest,
    ReversalRequest,
    TraceNumbers,
)
from gateway.network.iso8583.codec import ZERO_AMOUNT, Iso8583Error, Message
from gateway.network.iso8583.config import NetworkConfig
from gateway.network.iso8583.dialect import answering_mti
from schemas.primitives import AMOUNT_MINOR_MAX, NUMERIC_CODES

SIGN_ON: Final = "001"
SIGN_OFF: Final = "002"
KEY_CHANGE: Final = "161"
CUT_OVER: Final = "201"
ECHO: Final = "301"

NETWORK_MANAGEMENT_ANSWER: Final = "0810"

APPROVED: Final = "00"
FUNCTION_NOT_SUPPORTED: Final = "40"


HOST_MANAGEMENT: Final[Mapping[str, str]] = {
    SIGN_ON: APPROVED,
    SIGN_OFF: APPROVED,
    ECHO: APPROVED,
    KEY_CHANGE: FUNCTION_NOT_SUPPORTED,  # no keys are exchanged over this line
    CUT_OVER: APPROVED,  # taken note of: when the gateway's own day ends stands in the network's file
}
"""DE70 of a network management message that a host sends → DE39 of the answer; any other code is not supported."""

HOST_REFUSALS: Final[Mapping[str, str]] = {
    "1": FUNCTION_NOT_SUPPORTED,
    "2": FUNCTION_NOT_SUPPORTED,
    "3": FUNCTION_NOT_SUPPORTED,
    "4": FUNCTION_NOT_SUPPORTED,
    "5": FUNCTION_NOT_SUPPORTED,
    "6": APPROVED,  # administrative: a text for people, who are told of it
    "7": FUNCTION_NOT_SUPPORTED,
}
"""Class of a message of the host's own (second digit of its MTI) → DE39 of the answer. An authorisation, an advice or a
reversal that only a host knows of would move money that no order asked for: it is refused, and people are told."""

_ECHOED: Final = (3, 4, 7, 11, 32, 37, 41, 42, 49, 70)


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


class Answer(NamedTuple):
    """What a 0110, 0210, 0230 or 0430 says, unjudged.

    Attributes:
        echoed: the numbers of its request.
        response_code: DE39. approval_code: DE38 or None.
        amount_minor: DE4; zero where an 0430 leaves it out. currency_numeric: DE49 or None.
    """

    mti: str
    echoed: Echoed
    response_code: str
    approval_code: str | None
    amount_minor: int
    currency_numeric: str | None

    def answered(self, sent_at: float | None = None) -> Answered:
        """The same as the end of an exchange; ``sent_at`` of its request is handed on."""
        return Answered(
            response_code=self.response_code,
            approval_code=self.approval_code,
            amount_minor=self.amount_minor,
            currency_numeric=self.currency_numeric,
            rrn=self.echoed.rrn,
            sent_at=sent_at,
        )


def answer_of(message: Message) -> Answer:
    """Return what a decoded answer says."""
    fields = message.fields
    return Answer(
        mti=message.mti,
        echoed=Echoed(int(fields[11]), fields.get(41), fields.get(37), fields.get(7)),
        response_code=fields[39],
        approval_code=fields.get(38),
        amount_minor=int(fields.get(4, ZERO_AMOUNT)),
        currency_numeric=fields.get(49),
    )


def answer_to_host(request: Message) -> str:
    """Return the DE39 by which a request of the host's own is answered."""
    if request.mti[1] == "8":
        return HOST_MANAGEMENT.get(request.get(70) or "", FUNCTION_NOT_SUPPORTED)
    return HOST_REFUSALS[request.mti[1]]


def response_to(request: Message, response_code: str, **extra: str) -> Message:
    """Build the response to a decoded request: the fields that responses echo, DE39, and ``de38="…"`` and the like.

    Raises:
        Iso8583Error: the message is not a request.
    """
    mti = answering_mti(request.mti)
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
    fields[3] = config.processing_codes.of(request.operation)
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
    fields[3] = config.processing_codes.of(request.operation)
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
    fields[3] = config.processing_codes.inquiry
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


def answer_mti_of(request: NetworkRequest) -> str:
    """Return the MTI of the answer to a request."""
    match request:
        case FinancialRequest():
            return "0210"
        case ReversalRequest():
            return "0430"
        case InquiryRequest():
            return "0110"
        case _ as never:
            assert_never(never)


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
