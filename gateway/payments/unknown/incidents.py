"""Telling operators what must not happen: answers with other numbers, and answers that contradict what is known."""

from collections import Counter
from collections.abc import Iterable, Sequence

from gateway.base.process import Observer
from gateway.directory.funding import CARD_NOT_OPENED
from gateway.directory.store import OpenedCards
from gateway.messaging.records import Record
from gateway.payments.dispatch import UntrustedRecordError
from gateway.payments.rules.lifecycle import IGNORED
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.telling import tell_outcomes, tell_steps
from gateway.payments.transitions import Applied
from schemas.primitives import NetworkId


def report_incidents(observer: Observer, stage: str, network_id: NetworkId, applied: Applied) -> None:
    """Count and note every incident that changes brought with them, or that the lifecycle sees in them."""
    found = [(c, c.incident) for c in applied.changes if c.incident]
    for change, state in applied.ignored:
        ignored = IGNORED[state, change.kind]
        observer.count(stage, "ignored_result", reason=f"{state}+{change.kind}")
        if ignored.incident and not change.incident:
            found.append((change, ignored.why))
    observer.count(stage, "undone", n=len(applied.undone))
    for change, why in found:
        observer.count(stage, "incident")
        observer.note("network_incident", level="error", payment_id=change.key[1], network_id=network_id, reason=why)


def report_settled(observer: Observer, stage: str, network_id: NetworkId, applied: Applied) -> None:
    """Count the states that changes of unknown outcomes led to, and what must not happen of them."""
    report_incidents(observer, stage, network_id, applied)
    tell_outcomes(observer, applied.outcomes)
    tell_steps(observer, applied.changed)
    for payment in applied.changed:
        observer.count(stage, payment.state.value)


def report_unopened(observer: Observer, stage: str, opened: OpenedCards) -> None:
    """Count the funding tokens that did not open, by what is wrong with them."""
    for cause, n in Counter(opened.unopened.values()).items():
        observer.count(stage, "card_not_opened", reason=cause.value, n=n)


def report_card_incidents(observer: Observer, stage: str, network_id: NetworkId, payments: Iterable[Payment]) -> None:
    """Count and note payments that were rejected because the card behind their token did not open."""
    for payment in payments:
        if payment.reason == CARD_NOT_OPENED:
            observer.count(stage, "incident")
            observer.note("card_not_opened", level="error", payment_id=payment.payment_id, network_id=network_id)


def report_untrusted(
    observer: Observer, stage: str, network_id: NetworkId, records: Sequence[tuple[Record, Exception]]
) -> None:
    """Count and note records that the gateway did not write on a topic that only it should write to."""
    for record, error in records:
        why = error.why if isinstance(error, UntrustedRecordError) else "unreadable"
        observer.count(stage, "untrusted", reason=why)
        observer.count(stage, "incident")
        observer.note("untrusted_record", level="error", network_id=network_id, reference=record.reference, reason=why)


def report_unwritable(observer: Observer, stage: str, network_id: NetworkId, key: PaymentKey, error: Exception) -> None:
    """Note a payment that the database refuses to move: a bug. It stays open, and is looked at again after a pause."""
    observer.count(stage, "unwritable", reason=type(error).__name__)
    observer.note(
        "payment_unwritable", level="error", payment_id=key[1], network_id=network_id, error=type(error).__name__
    )
