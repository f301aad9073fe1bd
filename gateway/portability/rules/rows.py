"""What leaves: payments and consents as records of the standard API, cut to the scopes and flags of the consent.

======================== ==================================== =====================================================
list                     shaped as                            needs scope
======================== ==================================== =====================================================
``consent_list``         공통-002, transmission requests      none: it is the recipient's own
``card_list``            카드-001, cards                      ``card.list``
``approved_list``        카드-008, approvals                  ``card.approval``
``trans_list``           전금-103, transactions               ``paid.transaction``
======================== ==================================== =====================================================

Merchants' names need ``is_consent_merchant_name_regno``, categories ``is_consent_trans_category``. Memos need
``is_consent_trans_memo``; orders have none, and the merchant directory no business numbers, so neither is ever sent.
A member without a value is left out. Cards are named by an id that is each recipient's own, never by their token.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.base.calendar import SEOUL
from gateway.portability.rules.records import PaymentFacts
from schemas.consents import PortabilityPurpose, PortabilityScope
from schemas.primitives import decimal_of

Row = dict[str, object]

APPROVAL_STATUS: Final[Mapping[str, str]] = {
    "approved": "01",
    "settled": "01",
    "reversing": "01",
    "reversed": "02",
}
"""Where a purchase stands → ``status`` of 카드-008: 01 approved, 02 cancelled; 03, corrected, is one refunded in part.
States that are not here were never approved for certain, and are not told."""

TRANS_TYPE: Final[Mapping[str, str]] = {"purchase": "01", "refund": "02"}
"""Operation → ``trans_type`` of 전금-103: 01 paid, 02 given back."""

CREDIT: Final = "01"
"""``pay_type``: paid by card."""

LISTS: Final[Mapping[PortabilityScope, str]] = {
    PortabilityScope.CARD_LIST: "card_list",
    PortabilityScope.CARD_APPROVAL: "approved_list",
    PortabilityScope.PAID_TRANSACTION: "trans_list",
}


@dataclass(frozen=True, slots=True)
class Extract:
    """What one export may tell: the scopes that were asked for, of those that the consent has, and its flags."""

    scopes: frozenset[PortabilityScope]
    org_code: str
    with_merchant: bool
    with_category: bool

    @staticmethod
    def of(purpose: PortabilityPurpose, asked: Iterable[PortabilityScope], org_code: str) -> "Extract":
        """Nothing beyond the consent, whatever is asked for."""
        return Extract(
            frozenset(asked) & frozenset(purpose.scopes),
            org_code,
            purpose.is_consent_merchant_name_regno,
            purpose.is_consent_trans_category,
        )


@dataclass(slots=True)
class Lists:
    """Records by the name of their list."""

    rows: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, name: str, row: Row | None) -> None:
        """Add a record, if it is one."""
        if row is not None:
            self.rows.setdefault(name, []).append(row)

    def counts(self) -> dict[str, int]:
        """How many there are, by list."""
        return {name: len(rows) for name, rows in self.rows.items()}


def lists_of(payments: Iterable[PaymentFacts], extract: Extract) -> Lists:
    """The records of payments that the extract may hold."""
    found = Lists()
    approvals = PortabilityScope.CARD_APPROVAL in extract.scopes
    transactions = PortabilityScope.PAID_TRANSACTION in extract.scopes
    for payment in payments:
        if approvals:
            found.add("approved_list", approval_row(payment, extract))
        if transactions:
            found.add("trans_list", transaction_row(payment, extract))
    return found


def approval_row(payment: PaymentFacts, extract: Extract) -> Row | None:
    """An approval as 카드-008 tells it; None of what was never approved, and of refunds: these correct theirs."""
    status = APPROVAL_STATUS.get(payment.state)
    if status is None or payment.operation != "purchase" or payment.funding_token is None:
        return None
    if payment.approval_code is None:
        return None
    row: Row = {
        "card_id": card_id(payment.funding_token, extract.org_code),
        "approved_num": payment.approval_code,
        "approved_dtime": _time(payment.decided_at),
        "status": "03" if status == "01" and payment.refunded_minor else status,
        "pay_type": CREDIT,
        "approved_amt": decimal_of(payment.amount_minor, payment.currency),
        "currency_code": payment.currency,
        "total_install_cnt": 0,
    }
    if row["status"] != "01":
        row["trans_dtime"] = _time(payment.changed_at)
    if row["status"] == "03":
        row["modified_amt"] = _amount(payment.amount_minor - payment.refunded_minor, payment.currency)
    if extract.with_merchant and payment.merchant_name:
        row["merchant_name"] = payment.merchant_name
    return row


def transaction_row(payment: PaymentFacts, extract: Extract) -> Row | None:
    """A payment or a refund as 전금-103 tells it; None of what has had no effect, or is not known to have any."""
    if payment.state not in ("approved", "settled"):
        return None
    row: Row = {
        "trans_num": payment.payment_id,
        "trans_type": TRANS_TYPE[payment.operation],
        "trans_dtime": _time(payment.decided_at),
        "trans_amt": decimal_of(payment.amount_minor, payment.currency),
        "currency_code": payment.currency,
        "pay_method": CREDIT,
    }
    if extract.with_merchant and payment.merchant_name:
        row["merchant_name"] = payment.merchant_name
    if extract.with_category and payment.mcc:
        row["trans_category"] = payment.mcc
    return row


def consent_row(purpose: PortabilityPurpose, consent_id: str) -> Row:
    """A consent's purpose as 공통-002 tells of a transmission request."""
    row: Row = {
        "consent_id": consent_id,
        "is_scheduled": purpose.is_scheduled,
        "end_date": f"{purpose.end_date:%Y%m%d}",
        "purpose": purpose.purpose,
        "period": f"{purpose.period:%Y%m%d}",
        "is_consent_merchant_name_regno": purpose.is_consent_merchant_name_regno,
        "is_consent_trans_memo": purpose.is_consent_trans_memo,
        "is_consent_trans_category": purpose.is_consent_trans_category,
        "target_info": [{"scope": s.value} for s in purpose.scopes],
    }
    for name, cycle in (("fnd_cycle", purpose.fnd_cycle), ("add_cycle", purpose.add_cycle)):
        if cycle is not None:
            row[name] = cycle.value
    return row


def card_row(token: str, org_code: str) -> Row:
    """A card that was paid with."""
    return {"card_id": card_id(token, org_code)}


def card_id(token: str, org_code: str) -> str:
    """A card's id for one recipient: two recipients cannot join theirs, and nobody gets from one to the token.

    A token holds 131 random bits, so no key is needed.
    """
    return hashlib.sha256(f"mypay.card-id/{org_code}/{token}".encode()).hexdigest()[:32]


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(SEOUL):%Y%m%d%H%M%S}"


def _amount(minor: int, currency: str) -> str:
    return decimal_of(minor, currency)
