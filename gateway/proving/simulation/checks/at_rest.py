"""What must be true of a world at rest: what was produced, the tables and the network's books, laid side by side."""

from collections import Counter, defaultdict

from gateway.base.errors import NotAuthenticatedError
from gateway.network.exchange import ReversalRequest
from gateway.proving.memory.host import EntryState
from gateway.proving.simulation.checks.disclosures import check_disclosures
from gateway.proving.simulation.checks.endings import check_endings
from gateway.proving.simulation.checks.exports import check_exports
from gateway.proving.simulation.checks.offers import check_offers
from gateway.proving.simulation.checks.shares import check_shares
from gateway.proving.simulation.checks.states import STANDING
from gateway.proving.simulation.checks.told import Remains, Told
from gateway.proving.simulation.outcome import UNEXPECTED
from gateway.proving.simulation.script.proofs import CAP, FREE_MINOR
from gateway.proving.simulation.script.scene import OWN_PANS
from gateway.proving.simulation.script.showing import Asked


def check_at_rest(remains: Remains) -> None:
    """Check everything; what is wrong is noted in the remains."""
    told = Told(remains)
    check_endings(remains, told)
    _nothing_parked(remains)
    _exempt_within_policy(remains)
    _network_agrees(remains)
    _reversed_by_message(remains)
    _ledger_balances(remains)
    _settled_by_one_record(remains)
    _events_in_order(remains, told)
    _nothing_waits(remains)
    _no_card_number(remains)
    check_disclosures(remains)
    check_shares(remains)
    if remains.data is not None:
        check_exports(remains, told, remains.exports, remains.data)
        check_offers(remains, remains.affiliates, remains.data)


def _exempt_within_policy(remains: Remains) -> None:
    """Where proofs are asked for, and nobody has one, no more passes than the policy says, whatever the terms do."""
    if remains.asked is not Asked.IMPOSSIBLE:
        return
    passed: dict[str, list[int]] = defaultdict(list)
    for payment in remains.database.payments.rows.values():
        bought = payment.operation.value == "purchase" and payment.amount_minor > FREE_MINOR
        if bought and payment.trace is not None and payment.amount_minor > CAP.max_amount_minor:
            remains.violated("the policy caps what needs no proof", f"{payment.order_id} of {payment.amount_minor}")
        if bought and payment.state.value in STANDING:
            passed[payment.consent_id].append(payment.amount_minor)
    for consent_id, amounts in passed.items():
        if len(amounts) > CAP.max_count or sum(amounts) > CAP.max_sum_minor:
            remains.violated("the policy caps what needs no proof", f"{consent_id}: {amounts}")


def _nothing_parked(remains: Remains) -> None:
    parked_at = {p.record.reference for p in remains.parked}
    for reference in remains.affiliates.forged - parked_at:
        remains.violated("nobody speaks for an affiliate", f"{reference} is parked nowhere")
    for parked in remains.parked:
        if parked.record.reference in remains.forged | remains.affiliates.forged:
            continue
        if parked.stage not in ("initiation", "consents", "portability") or not isinstance(
            parked.error, NotAuthenticatedError
        ):
            error = f"{type(parked.error).__name__}: {parked.error}"
            remains.violated(UNEXPECTED, f"{parked.stage} parked {parked.record.reference}: {error}")


def _network_agrees(remains: Remains) -> None:
    here = {p.trace.rrn: p for p in remains.database.payments.rows.values() if p.trace is not None}
    booked: Counter[str] = Counter()
    for entry in remains.host.entries.values():
        rrn = entry.trace.rrn
        booked[rrn] += 1
        payment = here.get(rrn)
        if payment is None:
            remains.violated("network and gateway agree", f"the network booked {rrn}, which no payment has")
            continue
        stands = entry.state is EntryState.APPROVED
        if stands != (payment.state.value in STANDING) or entry.amount_minor != payment.amount_minor:
            text = f"{payment.order_id} is {payment.state}, at the network {entry.state} {entry.amount_minor}"
            remains.violated("network and gateway agree", text)
        if entry.times_seen > 1 or booked[rrn] > 1:
            remains.violated("sent once", f"the network saw {payment.order_id} more than once")
    for rrn, payment in here.items():
        if payment.state.value in STANDING and rrn not in booked:
            text = f"{payment.order_id} is {payment.state}, the network has nothing"
            remains.violated("network and gateway agree", text)


def _reversed_by_message(remains: Remains) -> None:
    asked = {s.request.original.rrn for s in remains.sent if isinstance(s.request, ReversalRequest)}
    for payment in remains.database.payments.rows.values():
        if payment.state.value == "reversed" and payment.trace is not None and payment.trace.rrn not in asked:
            remains.violated("reversed is confirmed", f"{payment.order_id} is reversed, but no reversal was ever sent")


def _ledger_balances(remains: Remains) -> None:
    balances: Counter[str] = Counter()
    open_minor = 0
    for (key, *_), row in remains.database.transfers.rows.items():
        balances[row.transfer.debit] += row.transfer.amount_minor
        balances[row.transfer.credit] -= row.transfer.amount_minor
        if key not in remains.database.payments.rows:
            remains.violated("ledger follows the states", f"a transfer of {key[1]}, which does not exist")
    for payment in remains.database.payments.rows.values():
        if payment.state.value in {"approved", "reversing"}:
            open_minor += payment.amount_minor if payment.operation.value == "purchase" else -payment.amount_minor
    if sum(balances.values()) != 0 or sum(v for k, v in balances.items() if k.startswith("network:")) != open_minor:
        remains.violated("ledger follows the states", f"{dict(balances)}, open {open_minor}")


def _settled_by_one_record(remains: Remains) -> None:
    """Each settled payment stands in one clearing record that is no break, and no other payment does."""
    settling = Counter(row.payment for row in remains.database.clearing.rows.values() if row.found is None)
    for payment in remains.database.payments.rows.values():
        found = settling[payment.key]
        if found != (payment.state.value == "settled"):
            remains.violated("clearing settles", f"{payment.order_id} is {payment.state}, settled by {found} records")


def _events_in_order(remains: Remains, told: Told) -> None:
    for payment in remains.database.payments.rows.values():
        subject = str(payment.payment_id)
        want = list(enumerate(remains.states.get(subject, []), 1))
        if told.states.get(subject, []) != want:
            remains.violated(
                "events are transitions", f"{payment.order_id} went {want}, told was {told.states.get(subject)}"
            )
        if not want or want[-1] != (payment.version, payment.state.value):
            remains.violated(
                "events are transitions", f"{payment.order_id} is {payment.state}/{payment.version}: {want}"
            )
    for key, mark in remains.database.consent_marks.rows.items():
        if told.changes.get(key[1], []) != list(range(1, mark.changes + 1)):
            remains.violated(
                "events are transitions", f"{key[1]}: {mark.changes} changes, told {told.changes.get(key[1])}"
            )


def _nothing_waits(remains: Remains) -> None:
    if remains.database.locks.waiting:
        remains.violated("everything ends", "a transaction waits for a lock")


def _no_card_number(remains: Remains) -> None:
    secrets = [pan.encode() for pan in OWN_PANS]
    for topic in remains.kafka.topics():
        for record in remains.kafka.records(topic):
            texts = (record.value, *(value for _, value in record.headers))
            if any(secret in text for secret in secrets for text in texts):
                remains.violated("no card number leaves", f"in {record.reference}")
    for text in (*remains.notes, *(str(p.error) for p in remains.parked)):
        if any(pan in text for pan in OWN_PANS):
            remains.violated("no card number leaves", "in a note or an error")
