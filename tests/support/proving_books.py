"""A small day whose books balance: one of every ending, told from all sides."""

import hashlib
from collections import Counter
from uuid import UUID

from gateway.proving.books.evidence import (
    ClearingRow,
    ConsentRow,
    DeadLetterRow,
    Ending,
    EventRow,
    Evidence,
    Exemption,
    LimitCap,
    NetworkEntry,
    OrderFacts,
    PaymentRow,
    Produced,
    ProducedCancellation,
    RefusalRow,
    ReversalRow,
    TokenRow,
    TransferRow,
    UsageRow,
)

PARTNER, CONSENT, SHOP, NETWORK = "bank", "c-1", "m-1", "bcard"
TOPIC = f"mypay.events.{PARTNER}"
TOKEN, CUSTOMER = "token-1", "customer-1"
# 2026-11-23T03:00:00Z, a Monday noon in Seoul; the consent began a day and a minute earlier.
NOW_S = 1_795_402_800
VALID_FROM_S = NOW_S - 86_460  # nine days of thirty before the month ends
DAY_S = NOW_S - 60
MONTH_S = 1_793_458_800
EXEMPT = f" exempt/KRW@{VALID_FROM_S}"
WINDOWS = f"month/calendar/KRW@{MONTH_S} day/consent/count@{DAY_S}"

WAYS = {
    "settled": ("sent", "approved", "settled"),
    "declined": ("sent", "declined"),
    "rejected": ("rejected",),
    "reversed": ("sent", "unknown", "reversed"),
    "undone": ("sent", "approved", "reversing", "reversed"),
}
AMOUNTS = {"settled": 12_500, "declined": 4_051, "rejected": 900_000, "reversed": 7_000, "undone": 3_300}
REFUNDED = 2_500
REASONS = {"declined": "AM04", "rejected": "TKVE", "reversed": "AB05"}
THERE = {"settled": "approved", "declined": "declined", "reversed": "reversed", "undone": "reversed"}
TRANSFERS = {"settled": ("authorised", "settled"), "undone": ("authorised", "authorisation_undone")}


def payment_id(name: str) -> UUID:
    return UUID(hashlib.md5(name.encode()).hexdigest())


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def order(name: str, amount: int | None = None) -> OrderFacts:
    return OrderFacts(PARTNER, f"o-{name}", payment_id(name), CONSENT, SHOP, amount or AMOUNTS[name], "KRW")


def produced(offset: int, name: str, ending: Ending, **changes: object) -> Produced:
    record = Produced(0, offset, NOW_S * 1000, digest(name), order(name), frozenset((ending,)), name)
    return record._replace(**changes)


def key(name: str) -> tuple[str, UUID]:
    return PARTNER, payment_id(name)


def balanced() -> Evidence:
    """One payment of each way, a repeated order, a reused id, a tampered one, and bytes that are no order.

    Above 5,000 KRW the settled one has a proof, the reversed one was exempt.
    """
    endings = {"undone": Ending.REVERSED}
    evidence = Evidence(
        produced=[produced(n, name, endings.get(name) or Ending(name)) for n, name in enumerate(WAYS)],
        usage=[
            UsageRow(PARTNER, CONSENT, "month/calendar/KRW", str(MONTH_S), AMOUNTS["settled"], 1),
            UsageRow(PARTNER, CONSENT, "day/consent/count", str(DAY_S), AMOUNTS["settled"], 1),
        ],
        consents={
            (PARTNER, CONSENT): ConsentRow(
                PARTNER,
                CONSENT,
                1,
                VALID_FROM_S,
                (
                    LimitCap("month/calendar/KRW", "month", "calendar", "KRW", 66_667, None),
                    LimitCap("month/calendar/USD", "month", "calendar", "USD", 20_000, None),
                    LimitCap("day/consent/count", "day", "consent", None, None, 5),
                ),
                Exemption("KRW", 8_000, 8_000, 1),
                CUSTOMER,
            )
        },
        tokens={TOKEN: TokenRow(TOKEN, CUSTOMER, {PARTNER: None})},
        clearing=[ClearingRow(NETWORK, "20261123-0001", 1, "RRNsettled", 12_500, "KRW", payment_id("settled"), None)],
        outbox_rows=20,
        consent_changes={(PARTNER, CONSENT): 2},
        proof_free={"KRW": 5_000},
        proofs_used=Counter((payment_id("settled"),)),
    )
    for name in WAYS:
        add_payment(evidence, name)
    add_side_ends(evidence)
    add_refund(evidence)
    add_cancellations(evidence)
    return evidence


def add_payment(evidence: Evidence, name: str) -> None:
    states = WAYS[name]
    sent = states[0] == "sent"
    evidence.payments[key(name)] = PaymentRow(
        PARTNER,
        payment_id(name),
        f"o-{name}",
        CONSENT,
        1,
        SHOP,
        "purchase",
        AMOUNTS[name],
        "KRW",
        digest(name),
        states[-1],
        len(states),
        REASONS.get(name),
        NETWORK if sent else None,
        f"RRN{name}" if sent else None,
        WINDOWS + EXEMPT * (name == "reversed") if sent else "",
        NOW_S * 1000,
        NOW_S,
        NOW_S + 5,
        funding_token=TOKEN if sent else None,
    )
    for version, state in enumerate(states, 1):
        reason = REASONS.get(name) if state != "sent" else None
        evidence.events.append(event(name, version, state, reason))
    if name in THERE:
        there = THERE[name]
        evidence.network.append(
            NetworkEntry(NETWORK, f"RRN{name}", AMOUNTS[name], "KRW", there, 1, there == "approved")
        )
    if states[-1] == "reversed":
        evidence.reversals.append(ReversalRow(PARTNER, payment_id(name), confirmed=True))
    for kind in TRANSFERS.get(name, ()):
        accounts = (f"network:{NETWORK}:receivable", f"merchant:{SHOP}:payable")
        debit, credit = accounts if kind == "authorised" else accounts[::-1]
        evidence.transfers.append(TransferRow(PARTNER, payment_id(name), kind, debit, credit, AMOUNTS[name], "KRW"))


def add_refund(evidence: Evidence) -> None:
    """A part of the settled payment, given back and cleared."""
    facts = order("settled", REFUNDED)._replace(
        order_id="o-refund", payment_id=payment_id("refund"), original_payment_id=payment_id("settled")
    )
    record = Produced(0, 20, NOW_S * 1000, digest("refund"), facts, frozenset((Ending.SETTLED,)), "refund")
    evidence.produced.append(record)
    evidence.payments[key("refund")] = evidence.payments[key("settled")]._replace(
        payment_id=payment_id("refund"),
        order_id="o-refund",
        operation="refund",
        amount_minor=REFUNDED,
        digest=digest("refund"),
        rrn="RRNrefund",
        windows="",
        original_payment_id=payment_id("settled"),
    )
    for version, state in enumerate(WAYS["settled"], 1):
        evidence.events.append(event("refund", version, state))
    evidence.network.append(NetworkEntry(NETWORK, "RRNrefund", REFUNDED, "KRW", "approved", 1, True, "refund"))
    evidence.clearing.append(
        ClearingRow(NETWORK, "20261123-0001", 2, "RRNrefund", REFUNDED, "KRW", payment_id("refund"), None, "refund")
    )
    accounts = (f"merchant:{SHOP}:payable", f"network:{NETWORK}:receivable")
    for kind, (debit, credit) in (("authorised", accounts), ("settled", accounts[::-1])):
        evidence.transfers.append(TransferRow(PARTNER, payment_id("refund"), kind, debit, credit, REFUNDED, "KRW"))


def add_cancellations(evidence: Evidence) -> None:
    """Of the undone payment, of the settled one too late, and of one that was settled before it could be undone."""
    undone, settled = payment_id("undone"), payment_id("settled")
    evidence.cancellations += [
        ProducedCancellation(0, 21, PARTNER, undone, frozenset(("reversing",))),
        ProducedCancellation(0, 22, PARTNER, settled, frozenset(("TM01",))),
        ProducedCancellation(0, 23, PARTNER, settled, frozenset(("once_known",))),
    ]
    refused, accepted = "cancellation.refused", "cancellation.accepted"
    evidence.events += [
        EventRow(TOPIC, "mypay.orders/0/21", accepted, str(undone), "reversing", None, None, 0),
        EventRow(TOPIC, "mypay.orders/0/22", refused, str(settled), None, None, "TM01", 0),
        EventRow(TOPIC, "mypay.orders/0/23", accepted, str(settled), "once_known", None, None, 0),
        EventRow(TOPIC, "mypay.orders/0/23:lapsed", refused, str(settled), None, None, "TM01", 0),
    ]


def event(name: str, version: int, state: str, reason: str | None = None) -> EventRow:
    payment = payment_id(name)
    return EventRow(
        TOPIC, f"{payment}:{version}", f"payment.{state}", str(payment), state, version, reason, NOW_S * 1000
    )


def add_side_ends(evidence: Evidence) -> None:
    """Records that end beside a payment or without one."""
    settled = payment_id("settled")
    evidence.produced += [
        produced(5, "settled", Ending.REJECTED, label="repeated"),
        produced(6, "settled", Ending.REJECTED, digest=digest("other"), order=order("settled", 99), label="id_reused"),
        produced(7, "settled", Ending.REJECTED, digest=digest("bad"), order=order("settled", 98), label="tampered"),
        produced(8, "settled", Ending.DEAD_LETTER, digest=digest("junk"), order=None, label="malformed"),
    ]
    evidence.events += [
        EventRow(TOPIC, f"{settled}:3:mypay.orders/0/5", "payment.reported", str(settled), "settled", 3, None, 0),
        EventRow(TOPIC, "mypay.dispatch.bcard/1/2", "order.refused", "mypay.dispatch.bcard/1/2", None, None, "AM05", 0),
        EventRow(TOPIC, "mypay.orders/0/7", "order.refused", "mypay.orders/0/7", None, None, "DS17", 0),
    ]
    for n, status in enumerate(("SUSP", "AUTH"), 1):
        evidence.events.append(EventRow(TOPIC, f"{CONSENT}:{n}", "consent.changed", CONSENT, status, n, None, 0))
    evidence.refusals += [
        RefusalRow(PARTNER, "mypay.dispatch.bcard/1/2", "o-settled", "AM05"),
        RefusalRow(PARTNER, "mypay.orders/0/7", "o-settled", "DS17"),
    ]
    evidence.dead_letters.append(DeadLetterRow("mypay.orders", 0, 8, "DecodeError", digest("junk")))
