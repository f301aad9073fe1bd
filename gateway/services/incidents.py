"""Telling operators what must not happen: answers with other numbers, and answers that contradict what is known."""

from gateway.domain.lifecycle import IGNORED
from gateway.domain.payment import PaymentKey
from gateway.ports import Observer
from gateway.services.transitions import Applied
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


def report_unwritable(observer: Observer, stage: str, network_id: NetworkId, key: PaymentKey, error: Exception) -> None:
    """Note a payment that the database refuses to move: a bug. It stays open, and is looked at again after a pause."""
    observer.count(stage, "unwritable", reason=type(error).__name__)
    observer.note(
        "payment_unwritable", level="error", payment_id=key[1], network_id=network_id, error=type(error).__name__
    )
