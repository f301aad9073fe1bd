"""What the tables of a world say is left to do."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from gateway.proving.memory import Database
from gateway.proving.memory.tables import FollowUpRow
from gateway.sharing.rules.records import Place
from schemas.consents import ConsentStatus

OPEN: Final = (ConsentStatus.AWAU, ConsentStatus.AUTH, ConsentStatus.SUSP)


def any_open(rows: Iterable[FollowUpRow]) -> bool:
    """True while a follow-up is to be sent."""
    return any(row.closed_at is None for row in rows)


def awaiting_match(database: Database) -> Iterator[str]:
    """Orders that are approved, and whose clearing came before that and was told as a break."""
    broken = {row.record.rrn for row in database.clearing.rows.values() if row.found is not None}
    for payment in database.payments.rows.values():
        if payment.state.value == "approved" and payment.trace is not None and payment.trace.rrn in broken:
            yield payment.order_id


def past_their_end(database: Database, now: datetime) -> Iterator[str]:
    """Consents that time has ended, and whose status does not say so."""
    for key, consent in database.consents.rows.items():
        if consent.status in OPEN and consent.terms.valid_until <= now:
            yield key[1]


def due_occurrences(database: Database, now: datetime) -> Iterator[str]:
    """Standing orders whose next day has come."""
    for key, standing in database.standing.rows.items():
        if standing.next_due_at is not None and standing.next_due_at <= now:
            yield key[1]


def open_cancellations(database: Database) -> Iterator[str]:
    """Orders whose cancellation is to be carried out."""
    for row in database.cancellations.rows.values():
        if row.is_open:
            yield row.order_id


def unshared(database: Database) -> bool:
    """True while something was told that sharing has not looked at."""
    place = database.sharing.place.rows.get("here", Place())
    return bool(database.outbox) and (place.tx, place.id) < ((last := database.outbox[-1]).tx, last.id)


def due_transmissions(database: Database, now: datetime) -> Iterator[str]:
    """Scheduled requests of which an export is due."""
    for key, row in database.transmissions.rows.items():
        if row.next_due_at is not None and row.next_due_at <= now:
            yield key[1]


def open_exports(database: Database) -> Iterator[str]:
    """Exports that are neither whole nor void."""
    for key, row in database.exports.rows.items():
        if row.state.value in ("waiting", "sending"):
            yield f"{key[1]}/{key[2]}"


def offers_due(database: Database, now: datetime) -> Iterator[str]:
    """Open offers that are past their end, or whose consent permits them no more."""
    for key, offer in database.marketing.offers.rows.items():
        if offer.state.value != "open":
            continue
        consent = database.consents.rows[offer.consent_key]
        purpose = consent.terms.marketing
        over = consent.status not in (ConsentStatus.AUTH, ConsentStatus.SUSP) or "marketing" in consent.ended
        if over or purpose is None or now >= min(offer.expires_at, purpose.until, consent.terms.valid_until):
            yield key[0]
