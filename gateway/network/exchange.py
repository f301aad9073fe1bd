"""What is asked of a card network, and every way that asking can end.

An exchange ends in one of three ways and never in a fourth: the network **answered**, it is certain that the request
**never left** this machine, or neither is known. The last is its own case so that nobody can take it for a failure.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from msgspec import Struct

from schemas.primitives import NetworkId


@dataclass(frozen=True, slots=True)
class CardData:
    """A card as the network wants it; exists only between the vault and the encoder.

    Attributes:
        pan: primary account number, 12 to 19 digits (DE2). Hidden from ``repr``.
        expiry: ``YYMM`` (DE14) or None. Hidden from ``repr``.
    """

    pan: str = field(repr=False)
    expiry: str | None = field(default=None, repr=False)


class TraceNumbers(Struct, frozen=True, gc=False):
    """The numbers by which a network knows one message (REFERENCES: DE7, 11, 37, 41).

    Attributes:
        terminal_id: DE41, 8 characters.
        stan: DE11, 1 … 999999, unique per terminal and day.
        rrn: DE37, 12 characters, never used for another payment.
        transmitted_at: DE7, UTC, whole seconds. Unchanged in every repeat of the message.
    """

    terminal_id: str
    stan: int
    rrn: str
    transmitted_at: datetime


class Acceptor(Struct, frozen=True, gc=False):
    """The merchant as the network knows it.

    Attributes:
        acceptor_id: DE42, up to 15 characters.
        name_location: DE43, up to 40 characters (name, city, country).
        mcc: DE18, ISO 18245 category, 4 digits.
    """

    acceptor_id: str
    name_location: str
    mcc: str


@unique
class Operation(StrEnum):
    """What an original financial message (0200) does; its processing code is DE3."""

    PURCHASE = "purchase"
    REFUND = "refund"


class FinancialRequest(Struct, frozen=True, gc=False):
    """One 0200. Amount in minor units of ``currency`` (ISO 4217 alphabetic)."""

    trace: TraceNumbers
    operation: Operation
    amount_minor: int
    currency: str
    acceptor: Acceptor
    card: CardData


class ReversalRequest(Struct, frozen=True, gc=False):
    """One 0420, or its repeat 0421, which differs in the MTI alone.

    Attributes:
        trace: this reversal's own DE7 and DE11, with the original's terminal and RRN.
        original: the trace numbers of the 0200 that is to be undone (DE90, DE12, DE13).
        repeat: True sends 0421.
    """

    trace: TraceNumbers
    original: TraceNumbers
    operation: Operation
    amount_minor: int
    currency: str
    acceptor: Acceptor
    card: CardData
    repeat: bool = False


class InquiryRequest(Struct, frozen=True, gc=False):
    """One 0100 with DE3=380000: what became of the original 0200?"""

    trace: TraceNumbers
    original: TraceNumbers
    amount_minor: int
    currency: str
    acceptor: Acceptor


NetworkRequest = FinancialRequest | ReversalRequest | InquiryRequest


@dataclass(frozen=True, slots=True)
class Answered:
    """The network answered this very request, as decoded: nothing about it has been judged yet.

    Attributes:
        response_code: DE39, 2 characters, raw.
        approval_code: DE38 or None.
        amount_minor: DE4 of the response; zero where that of a reversal left it out. Compare with what was asked: a
            mismatch is an incident, not an approval.
        currency_numeric: DE49 of the response, 3 digits, or None where it was left out.
        rrn: DE37 of the response, or None where it was left out.
        sent_at: ``loop.time()`` at which the request was handed to the network; tells of the way, not of the answer.
    """

    response_code: str
    approval_code: str | None
    amount_minor: int
    currency_numeric: str | None
    rrn: str | None
    sent_at: float | None = field(default=None, compare=False)


@unique
class UnansweredCause(StrEnum):
    """Why no answer will be waited for any longer."""

    TIMEOUT = "timeout"
    LINK_LOST = "link_lost"
    GARBLED = "garbled"


@dataclass(frozen=True, slots=True)
class Unanswered:
    """At least one byte may have left: the outcome is unknown until an inquiry or a reversal settles it.

    Attributes:
        sent_at: as :attr:`Answered.sent_at`.
    """

    cause: UnansweredCause
    sent_at: float | None = field(default=None, compare=False)


@unique
class NotSentCause(StrEnum):
    """Why it is certain that no byte left."""

    NO_LINK = "no_link"
    TOO_LATE = "too_late"
    NOT_ENCODABLE = "not_encodable"


@dataclass(frozen=True, slots=True)
class NotSent:
    """It is certain that no byte of the request left this machine."""

    cause: NotSentCause
    detail: str = ""


ExchangeResult = Answered | Unanswered | NotSent


@dataclass(frozen=True, slots=True)
class Echoed:
    """What an answer carries of its request's numbers; None where it lacks one.

    Attributes:
        stan: DE11. terminal_id: DE41. rrn: DE37. transmitted_at: DE7, ``MMDDhhmmss``.
    """

    stan: int
    terminal_id: str | None = None
    rrn: str | None = None
    transmitted_at: str | None = None


@dataclass(frozen=True, slots=True)
class UnmatchedAnswer:
    """A response that belongs to no request in flight: late, repeated or unsolicited.

    Attributes:
        mti: four digits.
        terminal_id: DE41; stan: DE11; transmitted_at_raw: DE7 as received, ``MMDDhhmmss``. Empty where it lacks one.
    """

    network_id: NetworkId
    mti: str
    terminal_id: str
    stan: int
    transmitted_at_raw: str
    answer: Answered

    @property
    def echoed(self) -> Echoed:
        """What it carries of its request's numbers."""
        return Echoed(self.stan, self.terminal_id or None, self.answer.rrn, self.transmitted_at_raw or None)


_CITY: Final = slice(25, 38)


def city_of(name_location: str) -> str | None:
    """The city in DE43, which has 25 characters of name, 13 of city and 2 of country; None where it names none."""
    return name_location[_CITY].strip() or None
