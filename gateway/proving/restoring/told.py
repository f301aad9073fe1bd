"""What partners were told of payments that a restore has set back."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from gateway.proving.books.evidence import Checked, EventRow, Evidence
from gateway.proving.books.report import Finding
from schemas.topics import events_topic

_OF_NO_STEP: Final = frozenset(("payment.reported",))


def told_onwards(evidence: Evidence) -> Checked:
    """Versions go on after those that were told before the restore; none is told twice with another state."""
    found = Finding("told_onwards", "Partners were told how each payment stands; no version was told with two states")
    told: dict[str, list[EventRow]] = defaultdict(list)
    for event in evidence.events:
        if event.kind.startswith("payment.") and event.kind not in _OF_NO_STEP:
            told[event.subject].append(event)
    for payment in evidence.payments.values():
        found.looked_at += 1
        events = told.pop(str(payment.payment_id), [])
        states: dict[int, str | None] = {}
        for event in events:
            if event.topic != events_topic(payment.partner_id):
                found.wrong(f"payment {payment.payment_id} was told on {event.topic}")
            if states.setdefault(event.version or 0, event.state) != event.state:
                found.wrong(f"payment {payment.payment_id}: version {event.version} was told as two states")
        if sorted(states) != list(range(1, len(states) + 1)):
            found.wrong(f"payment {payment.payment_id}: versions {sorted(states)} were told")
        last = max(states, default=0)
        if (last, states.get(last)) != (payment.version, payment.state):
            found.wrong(f"payment {payment.payment_id}: told {last} ({states.get(last)}), is {payment.state}")
    for subject in told:
        found.wrong(f"events of payment {subject}, which does not exist")
    return found.result()


def log_goes_on(stored: Mapping[str, Any], published: Mapping[str, Any]) -> Checked:
    """The disclosure log is whole, and against what was published differs by roots of the log that was lost alone.

    ``stored`` and ``published``: what ``mypay audit verify`` says of the log by itself, and beside the roots on Kafka.
    """
    found = Finding("log_goes_on", "The disclosure log is whole; only roots that were published and lost differ")
    found.looked_at = stored["entries"]
    for one in stored["findings"]:
        found.wrong(f"{one['place']}: {one['what']}")
    for one in published["findings"]:
        if not one["place"].startswith("root"):
            found.wrong(f"{one['place']}: {one['what']}")
    return found.result()
