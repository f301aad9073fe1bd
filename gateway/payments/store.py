"""Payments, the ledger, and answers that came too late."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gateway.base.keys import ConsentKey
from gateway.consents.store import ConsentUnit
from gateway.directory.store import DirectoryUnit
from gateway.identity.refusals import RefusingUnit
from gateway.identity.store import AuthenticationUnit
from gateway.outbox.store import OutboxUnit
from gateway.payments.cancellations.store import CancellationUnit
from gateway.payments.rules.ledger import Transfer
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.unknown.store import FollowUpUnit, LateAnswer
from schemas.primitives import NetworkId, PaymentId


class PaymentStore(Protocol):
    """Payments."""

    async def find(self, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, Payment]:
        """Payments that exist, without a lock; also those in the archive, of one moment with the others."""

    async def lock(
        self, keys: Sequence[PaymentKey], *, known: Mapping[PaymentKey, Payment] | None = None
    ) -> Mapping[PaymentKey, Payment]:
        """Payments that can still move, locked in key order until the transaction ends: none of the archive.

        ``known``: payments as the caller last wrote them. Where the stored version is still the same, that very object
        is returned and the row is not read: nothing of a payment changes without its version.
        """

    async def insert(self, payments: Sequence[Payment]) -> frozenset[PaymentKey]:
        """Insert those that do not exist yet; return the keys of these.

        An existing payment is left as it is, and an archived one exists.
        """

    async def add(self, payments: Sequence[Payment]) -> None:
        """Insert payments that are new.

        Raises:
            StoreConflictError: one of them exists, also in the archive, or another transaction made it meanwhile:
                nothing is written.
        """

    async def update(self, payments: Sequence[Payment]) -> None:
        """Write state, version, reason, approval code and time of payments that this transaction has locked."""

    async def begin_scheduled(self, payments: Sequence[Payment]) -> None:
        """Write what was decided of SCHEDULED payments that this transaction has locked: SENT or REJECTED, in full."""

    async def in_flight(self, consents: Sequence[ConsentKey]) -> Mapping[ConsentKey, Sequence[PaymentId]]:
        """Payments that were sent and whose outcome is open: SENT, UNKNOWN or REVERSING; by id. No entry for none."""

    async def refunded(self, originals: Sequence[PaymentKey]) -> Mapping[PaymentKey, int]:
        """Minor units of each payment's refunds that were sent and did not fail; no entry for none.

        Exact while the caller holds the originals' locks: nobody sends a refund without them.
        """

    async def next_payment_numbers(self, count: int) -> Sequence[int]:
        """``count`` numbers, from 1, that were never given out before and never will be again, also after a crash."""

    async def next_follow_up_numbers(self, count: int) -> Sequence[int]:
        """The same for reversals and inquiries, which count apart."""

    async def insert_transfers(self, transfers: Sequence[tuple[PaymentKey, Transfer, datetime]]) -> None:
        """Append to the ledger. One transfer of a kind per payment: a second one is a bug and fails.

        A settlement, and its being undone, there are once a round; one that may be ``repeated`` is of the next one.
        """

    async def abandoned(
        self, network_id: NetworkId, *, alive_since: datetime, sent_before: datetime, limit: int
    ) -> Sequence[PaymentKey]:
        """Payments that are still SENT although nobody will tell how they ended.

        Their worker has not reported (:meth:`Directory.report_network`) since ``alive_since``, or they were sent before
        ``sent_before``: longer ago than a live worker holds one.
        """

    async def open_since(self) -> Mapping[tuple[PaymentState, NetworkId], tuple[int, datetime]]:
        """By state with an open outcome (SENT, UNKNOWN, REVERSING) and network: how many, since when."""

    async def keys_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, PaymentKey]:
        """Payments by the reference that they were sent under."""

    async def note_late_answers(self, answers: Sequence[LateAnswer]) -> None:
        """Keep answers that belonged to no exchange in flight."""


async def lock_or_find(payments: PaymentStore, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, Payment]:
    """Payments that exist: locked where they can still move.

    Looked for in the archive after the locks were waited for: whoever archives takes them, too. What is found where it
    can move has come meanwhile, and is locked as well.
    """
    locked = await payments.lock(keys)
    missing = [key for key in keys if key not in locked]
    found = await payments.find(missing) if missing else {}
    come = sorted(key for key, payment in found.items() if not payment.is_archived)
    return {**locked, **found, **(await payments.lock(come) if come else {})}


class PaymentUnit(Protocol):
    """Payments."""

    @property
    def payments(self) -> PaymentStore:
        """Payments and the ledger."""


class PaymentChangeUnit(PaymentUnit, ConsentUnit, FollowUpUnit, OutboxUnit, Protocol):
    """Moves payments, with every effect that it has."""


class UnknownUnit(PaymentChangeUnit, DirectoryUnit, Protocol):
    """Settles what is not known: inquiries, reversals, recovery."""


class ExecutionUnit(PaymentChangeUnit, RefusingUnit, DirectoryUnit, AuthenticationUnit, CancellationUnit, Protocol):
    """Decides under the locks of consents which orders and refunds are sent."""
