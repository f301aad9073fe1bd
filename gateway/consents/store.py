"""Consents and what is used of their limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import Usage, UsageKey
from gateway.consents.rules.purposes import PurposeEnd
from gateway.consents.rules.records import CommandKey, ConsentRecord, ConsentVersion, HandledCommand, Proof
from gateway.directory.store import DirectoryUnit
from gateway.identity.refusals import RefusingUnit
from gateway.identity.store import AuthenticationUnit
from schemas.consents import Purpose
from schemas.primitives import PaymentId


class UsageChange(Struct, frozen=True, gc=False):
    """What to add to one window's usage (both negative to give back)."""

    key: UsageKey
    minor: int
    count: int


@dataclass(frozen=True, slots=True)
class PurposeEndRow:
    """A purpose that a change of a consent ended, as it is kept: under which version of the terms, how and when."""

    key: ConsentKey
    change: int
    purpose: Purpose
    how: PurposeEnd
    version: int
    ended_at: datetime


class ConsentStore(Protocol):
    """Consents and the usage of their limits."""

    async def read(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        """Current versions, without a lock: good for advice, never for the decision."""

    async def lock(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        """Current versions, locked in key order until the transaction ends: the instant of truth."""

    async def hold(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        """Current versions, in key order, that nobody changes until the transaction ends; payments under them go on."""

    async def lock_records(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, ConsentRecord]:
        """The same, with what commands on consents need besides."""

    async def lock_past_end(self, *, now: datetime, limit: int) -> Sequence[ConsentRecord]:
        """Open consents past their ends, or a purpose past its own, earliest first, locked; held ones are left."""

    async def insert(self, records: Sequence[ConsentRecord], *, now: datetime) -> frozenset[ConsentKey]:
        """Store new consents; return the keys of those that did not exist. An existing one is left as it is."""

    async def update(self, records: Sequence[ConsentRecord], *, now: datetime) -> None:
        """Write status, terms, version and changes of consents that this transaction has locked."""

    async def add_versions(self, versions: Sequence[ConsentVersion]) -> None:
        """Add versions of terms. One that exists is a bug and fails."""

    async def add_proofs(self, proofs: Sequence[tuple[ConsentKey, int, Proof]]) -> None:
        """Note who authenticated versions that nobody has authenticated yet."""

    async def versions(self, key: ConsentKey) -> Sequence[ConsentVersion]:
        """Every version of a consent's terms, the first one first."""

    async def handled(self, keys: Sequence[CommandKey]) -> Mapping[CommandKey, HandledCommand]:
        """Commands that were handled before."""

    async def remember(self, handled: Sequence[HandledCommand]) -> frozenset[CommandKey]:
        """Remember commands that are not remembered yet; return the keys of these."""

    async def add_purpose_ends(self, ended: Sequence[PurposeEndRow]) -> None:
        """Note purposes that are over. One change of a consent ends a purpose once: twice is a bug and fails."""

    async def purpose_ends(self, key: ConsentKey) -> Sequence[PurposeEndRow]:
        """Every purpose of a consent that was ever ended, in the order of its changes."""

    async def ended_since(self, since: datetime, purpose: Purpose = Purpose.PAYMENT) -> Mapping[ConsentKey, datetime]:
        """Consents of which a purpose was revoked, or expired, at or after ``since``, with the moment."""

    async def last_ends(self, keys: Sequence[ConsentKey], purpose: Purpose) -> Mapping[ConsentKey, int]:
        """The last version of the terms under which a purpose was over, of the consents where it ever was.

        An amendment that brings it back makes the next version.
        """

    async def usage(self, keys: Sequence[UsageKey]) -> Mapping[UsageKey, Usage]:
        """Usage of the windows that have any."""

    async def add_usage(self, changes: Sequence[UsageChange]) -> None:
        """Add to usages, making rows as needed. Fails (a bug, not a race) where a number would fall below zero.

        A window is named once at most. Rows are locked in the order of their keys: those that are added to, then those
        that are taken from; the caller does not do both.
        """


class ConsentUnit(Protocol):
    """Consents."""

    @property
    def consents(self) -> ConsentStore:
        """Consents and the usage of their limits."""


class PaymentsInFlight(Protocol):
    """What a change of a consent asks of payments."""

    async def in_flight(self, consents: Sequence[ConsentKey]) -> Mapping[ConsentKey, Sequence[PaymentId]]:
        """Payments that were sent and whose outcome is open, by id. No entry for none."""


class ConsentChangeUnit(ConsentUnit, DirectoryUnit, RefusingUnit, Protocol):
    """Changes consents and tells what was in flight."""

    @property
    def payments(self) -> PaymentsInFlight:
        """Payments, as far as a change tells of them."""


class ConsentCommandUnit(ConsentChangeUnit, AuthenticationUnit, Protocol):
    """Does what partners' commands on consents ask."""
