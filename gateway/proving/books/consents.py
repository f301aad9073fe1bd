"""Checks of the customers' limits: what was used of each is what was paid under it, and never more than it allows."""

from collections import defaultdict

from gateway.proving.books.evidence import Checked, ConsentRow, Evidence, PaymentRow
from gateway.proving.books.money import STANDS
from gateway.proving.books.report import Finding
from gateway.proving.books.windows import windows_of

_IN_FLIGHT = frozenset(("sent", "unknown"))

_Window = tuple[str, str, str]
"""(partner_id, consent_id, limit_key@epoch-second)"""


def consent_use_exact(evidence: Evidence) -> Checked:
    """Per consent and window: consumed equals the payments that stand, reserved those in flight: none, at the end."""
    found = Finding("consent_use_exact", "Use of every consent's limits is the sum of its payments, to the unit")
    used: dict[_Window, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for payment in evidence.payments.values():
        if payment.operation != "purchase" or payment.state not in STANDS | _IN_FLIGHT:
            continue
        at = 2 if payment.state in STANDS else 0
        for key in payment.windows.split():
            sums = used[payment.partner_id, payment.consent_id, key]
            sums[at] += payment.amount_minor
            sums[at + 1] += 1
    recorded: dict[_Window, list[int]] = {
        (row.partner_id, row.consent_id, f"{row.limit_key}@{row.starts_at_s}"): list(row[4:]) for row in evidence.usage
    }
    for window in used.keys() | recorded.keys():
        found.looked_at += 1
        have = recorded.get(window, [0, 0, 0, 0])
        if have != used.get(window, [0, 0, 0, 0]):
            found.wrong(f"consent {window[1]}, {window[2]}: use is not the sum of its payments")
        if have[0] or have[1]:
            found.wrong(f"consent {window[1]}, {window[2]}: something is still reserved")
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
        cap = next((c for c in consent.caps if c.limit_key == row.limit_key), None) if consent else None
        if cap is None:
            continue
        found.looked_at += 1
        over_minor = cap.max_minor is not None and row.reserved_minor + row.consumed_minor > cap.max_minor
        over_count = cap.max_count is not None and row.reserved_count + row.consumed_count > cap.max_count
        if over_minor or over_count:
            found.wrong(f"consent {row.consent_id}, {row.limit_key}@{row.starts_at_s}: more than the limit")
    return found.result()


def _counted_right(payment: PaymentRow, consent: ConsentRow) -> bool:
    return frozenset(payment.windows.split()) == windows_of(consent, payment.currency, payment.decided_at_s)
