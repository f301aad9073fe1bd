"""Bugs in the disclosure log."""

from contextlib import AbstractContextManager
from typing import Final

from gateway.disclosure import sequencer
from gateway.disclosure.rules import sequence, uses
from gateway.outbox.bundles import logged_of
from gateway.outbox.store import OutboxEvent
from gateway.proving.memory import MemoryDisclosureLog
from gateway.proving.memory import disclosure as memory
from gateway.proving.simulation.bugs.planting import Mutant, edited, replaced, swapped
from schemas.events import EventType


def _skips() -> AbstractContextManager[None]:
    return edited(sequencer.SequencerService, "step", ("uses = read.uses", "uses = read.uses[:2]"))


def _doubles() -> AbstractContextManager[None]:
    return swapped(uses.USES, {EventType.PAYMENT_REJECTED: uses.OfPayment()})


def _forks() -> AbstractContextManager[None]:
    """The head is moved from wherever it is, not from where the step began."""
    return edited(MemoryDisclosureLog, "write", ("if db.disclosure_head != step.before:", "if False:"))


def _first_version() -> AbstractContextManager[None]:
    return edited(uses, "_paid", ("consent_version=payment.consent_version", "consent_version=1"))


def _root_short() -> AbstractContextManager[None]:
    return edited(sequence, "_closed", ("first_seq=head.root_seq + 1", "first_seq=head.root_seq + 2"))


def _unread(type_: EventType) -> AbstractContextManager[None]:
    return replaced(memory, "BODY_TYPES", [t for t in uses.BODY_TYPES if t != type_])


def _void_unlogged() -> AbstractContextManager[None]:
    return _unread(EventType.PORTABILITY_ABANDONED)


def _share_unlogged() -> AbstractContextManager[None]:
    return _unread(EventType.CONSENT_SHARED)


def _offer_unlogged() -> AbstractContextManager[None]:
    return _unread(EventType.CONSENT_OFFERED)


def _first_of(number: int, event: OutboxEvent) -> list[tuple[int, OutboxEvent]]:
    return logged_of(number, event)[:1]


def _bundle_half_logged() -> AbstractContextManager[None]:
    return replaced(memory, "logged_of", _first_of)


LOGGING: Final = (
    Mutant("use-unlogged", "the disclosure log reads two uses of a batch, and passes over the others", _skips),
    Mutant("rejected-logged-as-paid", "a payment that was refused is logged as a use", _doubles),
    Mutant("log-forks", "two sequencers write after the same entry", _forks),
    Mutant("log-names-first-version", "a use is logged under the consent's first version", _first_version),
    Mutant("root-leaves-one-out", "a root does not cover its first entry", _root_short),
    Mutant("void-export-unlogged", "chunks of which nothing whole became are not logged", _void_unlogged, of_data=True),
    Mutant("share-unlogged", "shares are not logged", _share_unlogged),
    Mutant("bundle-half-logged", "of shares that stand in one row the first is logged", _bundle_half_logged),
    Mutant("offer-unlogged", "offers are not logged", _offer_unlogged, of_data=True),
)
