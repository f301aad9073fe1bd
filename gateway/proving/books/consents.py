"""Checks of the customers' limits: what was used of each is what was paid under it, and never more than it allows."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from gateway.proving.books.evidence import (
    Checked,
    ConsentRow,
    Evidence,
    LimitCap,
    PaymentRow,
    TokenRow,
    UsageRow,
)
from gateway.proving.books.money import STANDS
from gateway.proving.books.report import Finding
from gateway.proving.books.windows import days_left, windows_of

_EXEMPT = "exempt/"
_ID_TAKEN = "AM05"
"""ISO 20022, duplication: an order whose id belongs to an earlier one."""

_Window = tuple[str, str, str]
"""(partner_id, consent_id, limit_key@epoch-second)"""


def consent_use_exact(evidence: Evidence) -> Checked:
    """Per consent and window: what is taken is the sum of the payments that stand. At the end none is in flight."""
    found = Finding("consent_use_exact", "Use of every consent's limits is the sum of its payments, to the unit")
    used: dict[_Window, list[int]] = defaultdict(lambda: [0, 0])
    for payment in evidence.payments.values():
        if payment.operation != "purchase" or payment.state not in STANDS:
            continue
        for key in payment.windows.split():
            sums = used[payment.partner_id, payment.consent_id, key]
            sums[0] += payment.amount_minor
            sums[1] += 1
    recorded: dict[_Window, list[int]] = {
        (row.partner_id, row.consent_id, f"{row.limit_key}@{row.starts_at}"): list(row[4:]) for row in evidence.usage
    }
    for window in used.keys() | recorded.keys():
        found.looked_at += 1
        if recorded.get(window, [0, 0]) != used.get(window, [0, 0]):
            found.wrong(f"consent {window[1]}, {window[2]}: use is not the sum of its payments")
    return found.result()


def limits_hold(evidence: Evidence) -> Checked:
    """Every payment counted in the windows that the terms name at its time, and no window holds more than its cap."""
    found = Finding("limits_hold", "Every payment counted in its right windows, and no limit was passed")
    for payment in evidence.payments.values():
        consent = evidence.consents.get((payment.partner_id, payment.consent_id))
        if payment.operation != "purchase" or payment.rrn is None:
            continue
        found.looked_at += 1
        if consent is None:
            found.wrong(f"payment {payment.payment_id} was sent without a consent")
        elif consent.version == payment.consent_version and not _counted_right(payment, consent):
            found.wrong(f"payment {payment.payment_id} counted in other windows than its consent's")
    for row in evidence.usage:
        consent = evidence.consents.get((row.partner_id, row.consent_id))
        cap = _cap_of(row, consent) if consent else None
        if cap is None:
            continue
        found.looked_at += 1
        # An exemption has both: a sum and a number.
        left, whole = days_left(cap, consent.valid_from_s, row.starts_at) if consent else (1, 1)
        minor, count = row.taken_minor, row.taken_count
        over_minor = cap.max_minor is not None and minor * whole > cap.max_minor * left
        # Of a count at least one is left, however short the window.
        over_count = cap.max_count is not None and count > 1 and count * whole > cap.max_count * left
        if over_minor or over_count:
            found.wrong(f"consent {row.consent_id}, {row.limit_key}@{row.starts_at}: more than the limit")
    return found.result()


def _counted_right(payment: PaymentRow, consent: ConsentRow) -> bool:
    windows = frozenset(w for w in payment.windows.split() if not w.startswith(_EXEMPT))
    return windows == windows_of(consent, payment.currency, payment.decided_at_s)


def _cap_of(row: UsageRow, consent: ConsentRow) -> LimitCap | None:
    exempt = consent.exemption
    if exempt is not None and row.limit_key == f"{_EXEMPT}{exempt.currency}":
        return LimitCap(row.limit_key, None, None, exempt.currency, exempt.max_sum_minor, exempt.max_count)
    return next((c for c in consent.caps if c.limit_key == row.limit_key), None)


def cards_are_their_customers(evidence: Evidence) -> Checked:
    """Whatever was sent names a card of its consent's customer, who let this partner use it then.

    A refund goes back to that card whoever may use it by now.
    """
    found = Finding("cards_are_their_customers", "Every payment was made with a card of its consent's own customer")
    for payment in evidence.payments.values():
        if payment.rrn is None:
            continue
        found.looked_at += 1
        consent = evidence.consents.get((payment.partner_id, payment.consent_id))
        token = evidence.tokens.get(payment.funding_token or "")
        if consent is None or token is None or token.customer_id != consent.customer_id:
            found.wrong(f"payment {payment.payment_id} was made with a card of somebody else")
        elif payment.operation == "purchase" and not _may_use(token, payment):
            found.wrong(f"payment {payment.payment_id} was made with a card that the partner may not use")
    return found.result()


def _may_use(token: TokenRow, payment: PaymentRow) -> bool:
    if payment.partner_id not in token.uses:
        return False
    until_s = token.uses[payment.partner_id]
    return until_s is None or payment.decided_at_s < until_s


def proofs_hold(evidence: Evidence) -> Checked:
    """Every payment that was sent and needed a proof has used one up, or counted in its consent's exemption.

    Exempt payments count from the consent's beginning or from a payment of it that had a proof. An order that was
    refused because its id was taken may have used its own proof up, under the id that it shares.
    """
    found = Finding("proofs_hold", "Every payment that needed a customer's proof had one of its own, or was exempt")
    taken = Counter((r.partner_id, r.order_id) for r in evidence.refusals if r.reason_code == _ID_TAKEN)
    proven_at: dict[tuple[str, str], set[str]] = defaultdict(set)
    sent = [p for p in evidence.payments.values() if p.operation == "purchase" and p.rrn is not None]
    for payment in sent:
        if evidence.proofs_used[payment.payment_id]:
            proven_at[payment.partner_id, payment.consent_id].add(f"{payment.decided_at_s:.6f}")
    for payment in sent:
        exempt = [w for w in payment.windows.split() if w.startswith(_EXEMPT)]
        proofs = evidence.proofs_used[payment.payment_id]
        free = evidence.proof_free is None or payment.amount_minor <= evidence.proof_free.get(payment.currency, 0)
        found.looked_at += not free
        if proofs + len(exempt) > 1 + taken[payment.partner_id, payment.order_id] or len(exempt) > 1:
            found.wrong(f"payment {payment.payment_id}: {proofs} proofs and {len(exempt)} exemptions")
        elif not (free or proofs or exempt):
            found.wrong(f"payment {payment.payment_id} was sent without a proof")
        consent = evidence.consents.get((payment.partner_id, payment.consent_id))
        if exempt and consent is not None and not _exempt_right(payment, exempt[0], consent, proven_at):
            found.wrong(f"payment {payment.payment_id} is exempt against its consent's terms")
    return found.result()


def _exempt_right(
    payment: PaymentRow, window: str, consent: ConsentRow, proven_at: Mapping[tuple[str, str], set[str]]
) -> bool:
    exempt = consent.exemption
    if exempt is None or payment.currency != exempt.currency or payment.amount_minor > exempt.max_minor:
        return False
    key, _, starts_at = window.partition("@")
    begun = {f"{consent.valid_from_s:.6f}", *proven_at.get((payment.partner_id, payment.consent_id), ())}
    return key == f"{_EXEMPT}{exempt.currency}" and f"{float(starts_at):.6f}" in begun
