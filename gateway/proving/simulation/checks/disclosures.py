"""The disclosure log at rest: every use once, as the world's own books know them, in a chain that verifies."""

from collections import Counter

from gateway.proving.memory.disclosure import ROOT_MARKS, verified
from gateway.proving.simulation.checks.told import Remains

PROMISE = "every use is logged once"


def check_disclosures(remains: Remains) -> None:
    """Compare the log with the states that payments went through, and verify it."""
    database = remains.database
    used: Counter[tuple[str, ...]] = Counter()
    for payment in database.payments.rows.values():
        reference = str(payment.payment_id)
        states = remains.states.get(reference, [])
        if "sent" not in states:
            continue
        consent = database.consents.rows[payment.partner_id, payment.consent_id]
        whose = (payment.consent_id, str(payment.consent_version), consent.terms.customer_id, payment.merchant_id)
        used["payment" if payment.operation.value == "purchase" else "refund", reference, *whose] += 1
        if "rejected" in states:
            used["withdrawn", reference, *whose] += 1
    logged: Counter[tuple[str, ...]] = Counter(
        (u.kind.value, u.reference, str(u.consent_id), str(u.consent_version), str(u.customer_id), u.recipient)
        for u in (e.use for e in database.disclosure_entries)
        if u.purpose in ("payment", "")
    )
    for what in used.keys() | logged.keys():
        if used[what] != logged[what]:
            remains.violated(PROMISE, f"{' '.join(what)}: used {used[what]} times, logged {logged[what]} times")
    shared: Counter[tuple[str, str, int | None]] = Counter(
        (str(r.key[1]), r.key[2], r.consent_version) for r in database.sharing.shares.rows.values()
    )
    told = Counter(
        (e.use.reference, e.use.recipient, e.use.consent_version)
        for e in database.disclosure_entries
        if e.use.kind.value == "share"
    )
    if shared != told:
        remains.violated(PROMISE, f"shares {dict(shared - told)} are not logged, {dict(told - shared)} were never made")
    entries, findings = verified(database, ROOT_MARKS)
    if entries != len(database.disclosure_entries):
        remains.violated(PROMISE, f"{len(database.disclosure_entries)} entries, of which {entries} can be verified")
    for finding in findings:
        remains.violated(PROMISE, f"{finding.place}: {finding.what}")
