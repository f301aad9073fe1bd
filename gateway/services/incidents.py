"""Telling operators what must not happen: answers with other numbers, and answers that contradict what is known."""

from collections.abc import Iterable

from gateway.domain.lifecycle import IGNORED
from gateway.domain.payment import Change
from gateway.ports import Observer
from gateway.services.transitions import Applied
from schemas.primitives import NetworkId


def report_incidents(
    observer: Observer, stage: str, network_id: NetworkId, changes: Iterable[Change], applied: Applied
) -> None:
    """Count and note every incident among ``changes`` and in what the lifecycle made of them."""
    found = [(c, c.incident) for c in changes if c.incident]
    for change, state in applied.ignored:
        ignored = IGNORED[state, change.kind]
        observer.count(stage, "ignored_result", reason=f"{state}+{change.kind}")
        if ignored.incident and not change.incident:
            found.append((change, ignored.why))
    observer.count(stage, "undone", n=len(applied.undone))
    for change, why in found:
        observer.count(stage, "incident")
        observer.note("network_incident", level="error", payment_id=change.key[1], network_id=network_id, reason=why)
