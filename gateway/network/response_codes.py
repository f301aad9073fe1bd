"""What DE39 says, by the message that it answers: one row a code, and nothing guessed for a code without a row.

A code that is in no row may stand for anything, for a capture too: it is *unknown*, asked about or undone. A network
may define its own codes and narrow the standard's (:func:`codes_of`); whoever approves says so by the very word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from schemas.reasons import ReasonCode


@unique
class FinancialMeaning(StrEnum):
    """What the answer to a 0200 says of the payment."""

    APPROVED = "approved"
    DECLINED = "declined"
    UNKNOWN = "unknown"  # the network does not know either
    UNDO = "undo"  # approved otherwise than asked: to be reversed


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """Meaning of one DE39 value in the answer to a 0200.

    Attributes:
        reason_code: ISO 20022; None when approved.
        text: one sentence for the partner.
        incident: True: also for the operators' eyes.
    """

    meaning: FinancialMeaning
    reason_code: ReasonCode | None
    text: str
    incident: bool = False


@unique
class InquiryUse(StrEnum):
    """What a code does as the answer to an inquiry."""

    SETTLES = "settles"  # it is the original's own outcome
    ASK_AGAIN = "ask_again"  # the host does not know yet, or cannot look now
    NOT_SEEN = "not_seen"  # the host never saw the original
    NOTHING = "nothing"  # it may refuse the inquiry itself, or say anything: the reversal settles it


@unique
class ReversalOutcome(StrEnum):
    """What follows from one attempt at a reversal."""

    CONFIRMED = "confirmed"  # nothing of the original stands at the network
    RETRY = "retry"  # repeat it (0421)
    ALERT = "alert"  # repeat it too, for a reversal is never dropped, but repeating alone may never help: tell people


def _approved() -> ResponseCode:
    return ResponseCode(FinancialMeaning.APPROVED, None, "approved")


def _declined(code: ReasonCode, text: str) -> ResponseCode:
    return ResponseCode(FinancialMeaning.DECLINED, code, text)


def _unknown(code: ReasonCode, text: str) -> ResponseCode:
    return ResponseCode(FinancialMeaning.UNKNOWN, code, text)


def _undo(code: ReasonCode, text: str, *, incident: bool = False) -> ResponseCode:
    return ResponseCode(FinancialMeaning.UNDO, code, text, incident)


_R = ReasonCode
RESPONSE_CODES: Final[Mapping[str, ResponseCode]] = {
    "00": _approved(),
    "11": _approved(),  # approved (VIP)
    "16": _approved(),  # approved, update track 3
    # Approved, but not as asked: undone, for neither a plain approval nor a decline would be true.
    "08": _undo(_R.MS03, "approved on a condition (identification) that cannot be met"),
    "10": _undo(_R.AM12, "approved for a part of the amount only"),
    "32": _undo(_R.AM12, "completed in part only"),
    # We send a 0200 once: a duplicate is another message with its numbers, or a copy whose first answer is lost.
    "94": _undo(_R.DUPL, "the network takes it for a duplicate", incident=True),
    "09": _unknown(_R.AB05, "the network is still working on it"),
    "68": _unknown(_R.AB05, "the network got its answer too late"),
    # A host in trouble may have booked before it was.
    "22": _unknown(_R.AB05, "suspected malfunction at the network"),
    "90": _unknown(_R.AB05, "the network is changing its business day"),
    "96": _unknown(_R.AB05, "system malfunction at the network"),
    "01": _declined(_R.MS03, "refer to the card issuer"),
    "02": _declined(_R.MS03, "refer to the card issuer, special condition"),
    "03": _declined(_R.AG01, "merchant not valid"),
    "04": _declined(_R.AC06, "card to be kept"),
    "05": _declined(_R.MS03, "not honoured by the issuer"),
    "07": _declined(_R.AC06, "card to be kept, special condition"),
    "12": _declined(_R.AG01, "transaction not valid"),
    "13": _declined(_R.AM12, "amount not valid"),
    "14": _declined(_R.AC16, "card number not valid"),
    "15": _declined(_R.AGNT, "no such issuer"),
    "26": _declined(_R.DUPL, "duplicate record"),
    "30": _declined(_R.FF02, "the network could not read the request"),
    "31": _declined(_R.AGNT, "issuer not supported by the network"),
    "33": _declined(_R.AC06, "card expired, to be kept"),
    "34": _declined(_R.FRAD, "suspected fraud"),
    "35": _declined(_R.AC06, "card to be kept, the merchant calls the acquirer"),
    "36": _declined(_R.AC06, "restricted card, to be kept"),
    "37": _declined(_R.FRAD, "card to be kept, the merchant calls the acquirer's security"),
    "38": _declined(_R.AC06, "PIN tried too often, card to be kept"),
    "39": _declined(_R.MS03, "no credit account"),
    "40": _declined(_R.AG01, "function not supported"),
    "41": _declined(_R.AC06, "card reported lost"),
    "42": _declined(_R.MS03, "no universal account"),
    "43": _declined(_R.AC06, "card reported stolen"),
    "44": _declined(_R.MS03, "no investment account"),
    "51": _declined(_R.AM04, "insufficient funds"),
    "52": _declined(_R.MS03, "no checking account"),
    "53": _declined(_R.MS03, "no savings account"),
    "54": _declined(_R.AC06, "card expired"),
    "55": _declined(_R.MS03, "PIN not right"),
    "56": _declined(_R.AC16, "no such card at the issuer"),
    "57": _declined(_R.AG01, "transaction not permitted to this card"),
    "58": _declined(_R.AG01, "transaction not permitted to this terminal"),
    "59": _declined(_R.FRAD, "suspected fraud"),
    "60": _declined(_R.MS03, "the merchant calls the acquirer"),
    "61": _declined(_R.AM14, "over the card's amount limit"),
    "62": _declined(_R.AC06, "restricted card"),
    "63": _declined(_R.FRAD, "security violation"),
    "65": _declined(_R.AM21, "over the card's number of payments"),
    "66": _declined(_R.FRAD, "the merchant calls the acquirer's security"),
    "67": _declined(_R.AC06, "card to be kept by the terminal"),
    "75": _declined(_R.MS03, "PIN tried too often"),
    "91": _declined(_R.AB08, "issuer not available"),
    "92": _declined(_R.AGNT, "the network cannot reach the issuer"),
    "93": _declined(_R.AG01, "it would break the law"),
}
"""ISO 8583:1987 DE39 of an 0210."""

UNLISTED: Final = _unknown(_R.MS03, "the network answered with a code of no known meaning")
"""A code without a row. Also an incident: the network's manual says what it means, and its file can."""

INQUIRY_SETTLES: Final = frozenset(
    [
        "00",
        "11",
        "16",
        "01",
        "02",
        "04",
        "05",
        "07",
        "33",
        "34",
        "35",
        "36",
        "37",
        "38",
        "39",
        "41",
        "42",
        "43",
        "44",
        "51",
        "52",
        "53",
        "54",
        "55",
        "56",
        "59",
        "61",
        "62",
        "65",
        "67",
        "75",
    ]
)
"""What only an original can have ended with. By every other decline a host may refuse the inquiry itself: not valid
(12), not readable (30), not supported (40), not permitted (57, 58), no card number in it (14), and so on."""

INQUIRY_ASK_AGAIN: Final = frozenset(["09", "19", "22", "68", "90", "91", "96"])
"""A host that does not know yet, or cannot look now: asked again until the deadline."""

NOT_SEEN: Final = "25"

REVERSAL_CODES: Final[Mapping[str, tuple[ReversalOutcome, str]]] = {
    "00": (ReversalOutcome.CONFIRMED, "reversed"),
    NOT_SEEN: (ReversalOutcome.CONFIRMED, "the network holds no such original: nothing to undo"),
    "94": (ReversalOutcome.CONFIRMED, "reversed by an earlier attempt"),
    "09": (ReversalOutcome.RETRY, "the network is still working on it"),
    "19": (ReversalOutcome.RETRY, "the network asks to repeat it"),
    "22": (ReversalOutcome.RETRY, "suspected malfunction"),
    "68": (ReversalOutcome.RETRY, "the network got its answer too late"),
    "90": (ReversalOutcome.RETRY, "cut-over in progress"),
    "91": (ReversalOutcome.RETRY, "issuer not available"),
    "96": (ReversalOutcome.RETRY, "system malfunction"),
}
"""ISO 8583:1987 DE39 of an 0430. Any other code refuses the reversal: ALERT."""


@unique
class CodeClass(StrEnum):
    """What a network's own definition makes of a code."""

    DECLINE = "decline"  # final, in the answer to a 0200
    UNKNOWN = "unknown"  # asked about or undone
    RETRY = "retry"  # unknown as well; an inquiry or a reversal that is answered so is repeated
    APPROVE = "approve"  # a plain approval of exactly what was asked


@dataclass(frozen=True, slots=True)
class CodeDefinition:
    """One code as a network's participant manual defines it.

    Attributes:
        reason: ISO 20022, for the partner; not with APPROVE.
        settles_inquiry: with DECLINE: as the answer to an inquiry it can only be the original's own outcome.
    """

    meaning: CodeClass
    reason: ReasonCode = ReasonCode.MS03
    text: str = ""
    settles_inquiry: bool = False


class CodeDefinitionError(ValueError):
    """A network must not define a code so; the text says why."""


@dataclass(frozen=True, slots=True)
class ResponseCodes:
    """The three tables of one network."""

    financial: Mapping[str, ResponseCode] = field(default_factory=lambda: RESPONSE_CODES)
    inquiry: Mapping[str, InquiryUse] = field(default_factory=lambda: _INQUIRY)
    reversal: Mapping[str, tuple[ReversalOutcome, str]] = field(default_factory=lambda: REVERSAL_CODES)

    def of_financial(self, raw: str) -> ResponseCode | None:
        """What DE39 of an 0210 means; None when it is none at all (not two ASCII letters or digits)."""
        return self.financial.get(raw, UNLISTED) if is_response_code(raw) else None

    def of_inquiry(self, raw: str) -> InquiryUse:
        """What DE39 of an 0110 does."""
        return self.inquiry.get(raw, InquiryUse.NOTHING)

    def of_reversal(self, raw: str) -> tuple[ReversalOutcome, str]:
        """What DE39 of an 0430 does, and why in words."""
        return self.reversal.get(raw, (ReversalOutcome.ALERT, "the network refuses the reversal"))


def is_response_code(raw: str) -> bool:
    """Tell whether a value can be a DE39: two ASCII letters or digits."""
    return len(raw) == 2 and raw.isascii() and raw.isalnum()


_INQUIRY: Final[Mapping[str, InquiryUse]] = MappingProxyType(
    {
        **dict.fromkeys(INQUIRY_SETTLES, InquiryUse.SETTLES),
        **dict.fromkeys(INQUIRY_ASK_AGAIN, InquiryUse.ASK_AGAIN),
        NOT_SEEN: InquiryUse.NOT_SEEN,
    }
)

STANDARD: Final = ResponseCodes()
"""ISO 8583:1987 without a network's own definitions."""


def codes_of(definitions: Mapping[str, CodeDefinition]) -> ResponseCodes:
    """The standard's tables with a network's own definitions over them.

    Raises:
        CodeDefinitionError: of 00 and 25, whose meaning the gateway stands on; or an approval under a code that the
            standard gives another meaning.
    """
    financial, inquiry, reversal = dict(RESPONSE_CODES), dict(_INQUIRY), dict(REVERSAL_CODES)
    for code, defined in definitions.items():
        if code in {"00", NOT_SEEN}:
            raise CodeDefinitionError(f"{code} cannot be defined anew")
        standard = RESPONSE_CODES.get(code)
        approves = standard is not None and standard.meaning is FinancialMeaning.APPROVED
        if defined.meaning is CodeClass.APPROVE and standard is not None and not approves:
            raise CodeDefinitionError(f"{code} is no approval in ISO 8583 and cannot be defined as one")
        financial[code], inquiry[code] = _defined(defined)
        if defined.meaning is CodeClass.RETRY:
            reversal[code] = (ReversalOutcome.RETRY, defined.text or "the network asks to repeat it")
    return ResponseCodes(MappingProxyType(financial), MappingProxyType(inquiry), MappingProxyType(reversal))


def _defined(defined: CodeDefinition) -> tuple[ResponseCode, InquiryUse]:
    match defined.meaning:
        case CodeClass.APPROVE:
            return _approved(), InquiryUse.SETTLES
        case CodeClass.DECLINE:
            use = InquiryUse.SETTLES if defined.settles_inquiry else InquiryUse.NOTHING
            return _declined(defined.reason, defined.text or "declined by the network"), use
        case CodeClass.UNKNOWN | CodeClass.RETRY:
            text = f"{defined.text or 'the network does not know the outcome'}"
            again = defined.meaning is CodeClass.RETRY
            return _unknown(defined.reason, text), InquiryUse.ASK_AGAIN if again else InquiryUse.NOTHING
