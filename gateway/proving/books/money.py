"""Checks between the gateway and the network, and of the gateway's own accounts."""

from collections import Counter, defaultdict
from functools import lru_cache
from typing import Final

from gateway.proving.books.evidence import (
    Checked,
    ClearingRow,
    Evidence,
    NetworkEntry,
    PaymentKey,
    PaymentRow,
    TransferRow,
)
from gateway.proving.books.report import Finding

STANDS: Final = frozenset(("approved", "reversing", "settled"))
"""Payment states in which the network's capture stands, as far as the gateway knows."""

_Place = tuple[str, str]
"""(network_id, RRN)"""

_ABSENT: Final = "absent"
_NETWORK_STATES: Final[dict[str, frozenset[str]]] = {
    "settled": frozenset(("approved",)),
    "approved": frozenset(("approved",)),
    "declined": frozenset(("declined",)),
    # Captured less reversed is nothing in each of these.
    "reversed": frozenset(("reversed", "declined", _ABSENT)),
    "rejected": frozenset((_ABSENT,)),
    "scheduled": frozenset((_ABSENT,)),
}
"""What the network's books may say of a payment by its state here. States in doubt are told by nothing_open."""


def network_agrees(evidence: Evidence) -> Checked:
    """Per payment: captured less reversed at the network equals approved less reversed at the gateway."""
    found = Finding("network_agrees", "Payment by payment, captured less reversed is the same in both books")
    entries: dict[_Place, NetworkEntry] = {(e.network_id, e.rrn): e for e in evidence.network}
    known: set[_Place] = set()
    for payment in evidence.payments.values():
        found.looked_at += 1
        place = (payment.network_id or "", payment.rrn or "")
        entry = entries.get(place)
        if entry is not None:
            known.add(place)
        allowed = _NETWORK_STATES.get(payment.state)
        there = entry.state if entry else _ABSENT
        if allowed is not None and there not in allowed:
            found.wrong(f"payment {payment.payment_id}: {payment.state} here, {there} there")
        elif entry is not None and (entry.amount_minor, entry.currency) != (payment.amount_minor, payment.currency):
            found.wrong(f"payment {payment.payment_id}: another amount there")
        elif entry is not None and entry.operation != payment.operation:
            found.wrong(f"payment {payment.payment_id}: a {payment.operation} here, a {entry.operation} there")
    for place in entries.keys() - known:
        found.wrong(f"{place[0]} booked RRN {place[1]}, which the gateway never sent")
    return found.result()


_OPEN: Final = frozenset(("sent", "unknown"))
"""Payment states in which the network may have captured it or not."""


def refunds_fit(evidence: Evidence) -> Checked:
    """Of no payment was more given back than was taken: by the gateway's amounts, the network's, and the sender's."""
    found = Finding("refunds_fit", "No payment was refunded for more than was captured, in any of the three books")
    here: Counter[PaymentKey] = Counter()
    there: Counter[PaymentKey] = Counter()
    sent: Counter[PaymentKey] = Counter()
    captured = {(e.network_id, e.rrn): e.amount_minor for e in evidence.network if e.state == "approved"}
    asked = {r.digest: r.order.amount_minor for r in evidence.produced if r.order is not None}
    for refund in evidence.payments.values():
        if refund.original_payment_id is None:
            continue
        found.looked_at += 1
        original = refund.partner_id, refund.original_payment_id
        if original not in evidence.payments:
            found.wrong(f"refund {refund.payment_id} has no original")
        minor = captured.get((refund.network_id or "", refund.rrn or ""), 0)
        there[original] += minor
        if refund.state in STANDS | _OPEN:
            here[original] += refund.amount_minor
        if refund.state in STANDS or minor:
            sent[original] += asked.get(refund.digest, 0)
    for key in here.keys() | there.keys() | sent.keys():
        payment = evidence.payments.get(key)
        if payment is None:
            continue
        stands = payment.state in STANDS
        taken = captured.get((payment.network_id or "", payment.rrn or ""), 0)
        for book, given, most in (
            ("the gateway's", here[key], payment.amount_minor if stands else 0),
            ("the network's", there[key], taken),
            ("the sender's", sent[key], asked.get(payment.digest, 0) if stands else 0),
        ):
            if given > most:
                found.wrong(f"payment {payment.payment_id}: more was given back than taken, by {book} amounts")
    return found.result()


def nothing_sent_twice(evidence: Evidence) -> Checked:
    """The network saw every request once, and no RRN belongs to two transactions."""
    found = Finding("nothing_sent_twice", "No request reached the network twice, no RRN was used twice")
    found.looked_at = len(evidence.network)
    for (network, rrn), n in Counter((e.network_id, e.rrn) for e in evidence.network).items():
        if n > 1:
            found.wrong(f"{network} RRN {rrn}: {n} transactions")
    for entry in evidence.network:
        if entry.times_seen != 1:
            found.wrong(f"{entry.network_id} RRN {entry.rrn}: seen {entry.times_seen} times")
    for name in ("duplicates_that_differ", "duplicates_seen"):
        if evidence.network_counters.get(name):
            found.wrong(f"the network counted {evidence.network_counters[name]} {name}")
    return found.result()


_KINDS: Final[dict[str, frozenset[frozenset[str]]]] = {
    "settled": frozenset((frozenset(("authorised", "settled")),)),
    "approved": frozenset((frozenset(("authorised",)),)),
    "reversing": frozenset((frozenset(("authorised",)),)),
    "reversed": frozenset((frozenset(), frozenset(("authorised", "authorisation_undone")))),
}
"""Which transfers a payment in each state has; in any other, none."""


def ledger_fits(evidence: Evidence) -> Checked:
    """Each payment has exactly the transfers of its state, between the right accounts."""
    found = Finding("ledger_fits", "Each payment has exactly the ledger transfers of its state")
    kinds: dict[tuple[str, object], list[str]] = defaultdict(list)
    for transfer in evidence.transfers:
        found.looked_at += 1
        kinds[transfer.partner_id, transfer.payment_id].append(transfer.kind)
        payment = evidence.payments.get((transfer.partner_id, transfer.payment_id))
        if payment is None:
            found.wrong(f"a transfer of payment {transfer.payment_id}, which does not exist")
        elif not _fits(transfer, payment):
            found.wrong(f"payment {transfer.payment_id}: transfer {transfer.kind} has other accounts or amount")
    for payment in evidence.payments.values():
        have = kinds.get(payment.key, [])
        allowed = _KINDS.get(payment.state, frozenset((frozenset(),)))
        if _without_corrections(have) not in allowed:
            found.wrong(f"payment {payment.payment_id} is {payment.state} with transfers {sorted(have)}")
    return found.result()


def _without_corrections(kinds: list[str]) -> frozenset[str] | None:
    """The kinds that are left when each settlement that was undone is taken away with what undid it; None: doubled."""
    left = Counter(kinds)
    undone = left.pop("settlement_undone", 0)
    left["settled"] -= undone
    if any(n not in {0, 1} for n in left.values()):
        return None
    return frozenset(kind for kind, n in left.items() if n)


def _fits(transfer: TransferRow, payment: PaymentRow) -> bool:
    receivable, payable = _accounts(payment.network_id, payment.merchant_id)
    grows = (transfer.kind in {"authorised", "settlement_undone"}) == (payment.operation == "purchase")
    accounts = (receivable, payable) if grows else (payable, receivable)
    return (transfer.debit, transfer.credit) == accounts and (transfer.amount_minor, transfer.currency) == (
        payment.amount_minor,
        payment.currency,
    )


@lru_cache(maxsize=65_536)
def _accounts(network_id: str | None, merchant_id: str) -> tuple[str, str]:
    return f"network:{network_id}:receivable", f"merchant:{merchant_id}:payable"


def obligations_fit(evidence: Evidence) -> Checked:
    """What the ledger says is owed is exactly what was approved and not settled, account by account."""
    found = Finding("obligations_fit", "The ledger sums to zero; open obligations are what is approved and not settled")
    balances: Counter[tuple[str, str]] = Counter()
    for transfer in evidence.transfers:
        balances[transfer.debit, transfer.currency] += transfer.amount_minor
        balances[transfer.credit, transfer.currency] -= transfer.amount_minor
    owed: Counter[tuple[str, str]] = Counter()
    for payment in evidence.payments.values():
        if payment.state in {"approved", "reversing"}:
            signed = payment.amount_minor if payment.operation == "purchase" else -payment.amount_minor
            receivable, payable = _accounts(payment.network_id, payment.merchant_id)
            owed[receivable, payment.currency] += signed
            owed[payable, payment.currency] -= signed
    for place in balances.keys() | owed.keys():
        found.looked_at += 1
        if balances[place] != owed[place]:
            found.wrong(f"account {place[0]} in {place[1]}")
    for currency in {c for _, c in balances}:
        if sum(n for (_, c), n in balances.items() if c == currency):
            found.wrong(f"all accounts in {currency} do not sum to zero")
    return found.result()


def clearing_fits(evidence: Evidence, *, breaks_allowed: bool) -> Checked:
    """What the network cleared is what the gateway settled, record by record; no breaks unless they were planted."""
    found = Finding("clearing_fits", "What the network cleared is what was settled, record by record")
    settled = {(p.network_id or "", p.rrn or ""): p for p in evidence.payments.values() if p.state == "settled"}
    matched: Counter[_Place] = Counter()
    for record in evidence.clearing:
        found.looked_at += 1
        if record.break_kind is None:
            matched[record.network_id, record.rrn] += 1
            _check_match(record, settled.get((record.network_id, record.rrn)), found)
        elif not breaks_allowed:
            found.wrong(f"cycle {record.cycle_id} record {record.record_no}: {record.break_kind}")
    cleared = {(e.network_id, e.rrn) for e in evidence.network if e.cleared and e.state == "approved"}
    for place, payment in settled.items():
        if matched[place] != 1:
            found.wrong(f"payment {payment.payment_id} is settled by {matched[place]} clearing records")
        if place not in cleared:
            found.wrong(f"payment {payment.payment_id} is settled, and not cleared by the network")
    if not breaks_allowed:
        for network, rrn in cleared - settled.keys():
            found.wrong(f"{network} cleared RRN {rrn}, which is not settled here")
    return found.result()


def _check_match(record: ClearingRow, payment: PaymentRow | None, found: Finding) -> None:
    if payment is None:
        found.wrong(f"cycle {record.cycle_id} record {record.record_no} matched a payment that is not settled")
    elif (record.amount_minor, record.currency) != (payment.amount_minor, payment.currency):
        found.wrong(f"payment {payment.payment_id}: another amount was cleared")


def reversals_closed(evidence: Evidence) -> Checked:
    """Every reversal was confirmed, and exactly the reversed payments have one; no inquiry is open."""
    found = Finding("reversals_closed", "Every reversal was confirmed by the network, every inquiry closed")
    for inquiry in evidence.inquiries:
        found.looked_at += 1
        if not inquiry.closed:
            found.wrong(f"inquiry about payment {inquiry.payment_id} is open")
    confirmed = set()
    for reversal in evidence.reversals:
        found.looked_at += 1
        key = (reversal.partner_id, reversal.payment_id)
        if not reversal.confirmed:
            found.wrong(f"reversal of payment {reversal.payment_id} is open")
            continue
        confirmed.add(key)
        payment = evidence.payments.get(key)
        if payment is None or payment.state != "reversed":
            found.wrong(f"payment {reversal.payment_id} is {payment.state if payment else 'missing'} after a reversal")
    for payment in evidence.payments.values():
        if payment.state == "reversed" and payment.rrn is not None and payment.key not in confirmed:
            found.wrong(f"payment {payment.payment_id} is reversed without a confirmed reversal")
    return found.result()
