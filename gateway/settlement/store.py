"""Clearing records and breaks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import BinaryIO, Final, Protocol

from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.store import PaymentChangeUnit
from gateway.settlement.rules import Break, StoredRecord
from schemas.clearing import ClearingRecord
from schemas.primitives import MerchantId, NetworkId


class ClearingSealError(Exception):
    """A clearing file is not proved to be its network's. The text says why and holds nothing of its content."""


SEAL_SUFFIXES: Final = (".hmac", ".sig")
"""A seal is a file of its own beside the clearing file, whose name it has with one of these behind it."""


class ClearingSeals(Protocol):
    """What proves that a clearing file is its network's."""

    def required(self, network_id: NetworkId) -> bool:
        """True if files of the network must come with a seal."""

    def check(self, network_id: NetworkId, file: BinaryIO, seals: Mapping[str, bytes]) -> None:
        """Check the file from where it stands to its end. Blocking.

        Args:
            network_id: whose file it claims to be.
            file: read to its end.
            seals: those that came with it, by suffix.

        Raises:
            ClearingSealError: none of them is right, or one is required and none came.
        """


Outcome = tuple[PaymentKey | None, Break | None]
"""The payment that a record matched or names, and the break."""

NO_OUTCOMES: Final[Mapping[int, Outcome]] = MappingProxyType({})


class ClearingStore(Protocol):
    """Clearing records and breaks."""

    async def payments_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, Payment]:
        """Payments by the network's reference, locked until the transaction ends."""

    async def acceptors(self, merchant_ids: Sequence[MerchantId]) -> Mapping[MerchantId, frozenset[str]]:
        """Each merchant's acceptor ids, of now and of before; who is not in the directory is left out."""

    async def add(
        self,
        network_id: NetworkId,
        cycle_id: str,
        records: Sequence[ClearingRecord],
        *,
        created_at: datetime,
        outcomes: Mapping[int, Outcome] = NO_OUTCOMES,
    ) -> None:
        """Record what was not recorded yet, in the order of its numbers.

        ``created_at``: their file's time. ``outcomes``: by record number; those that are not there have none yet.

        Raises:
            StoreConflictError: one of them is recorded, or another transaction did so meanwhile: nothing is written.
        """

    async def lock(self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int]) -> Mapping[int, StoredRecord]:
        """Records that are there, by number, locked until the transaction ends."""

    async def earlier(
        self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int]
    ) -> Mapping[int, Sequence[ClearingRecord]]:
        """What records with these numbers superseded; a number without any may be left out."""

    async def supersede(
        self,
        network_id: NetworkId,
        cycle_id: str,
        records: Sequence[ClearingRecord],
        *,
        created_at: datetime,
        now: datetime,
    ) -> None:
        """Put locked records aside, outcomes included, and these in their places, without an outcome yet."""

    async def confirm(
        self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int], *, created_at: datetime
    ) -> None:
        """Note that locked records stand the same in a later file."""

    async def write_outcomes(
        self,
        network_id: NetworkId,
        cycle_id: str,
        outcomes: Sequence[tuple[int, PaymentKey | None, Break | None]],
    ) -> None:
        """Note for each record number the payment it matched, or the break."""

    async def moved_since(self, limit: int) -> Sequence[tuple[NetworkId, str, ClearingRecord]]:
        """Records (with network and cycle) whose payments have moved on since they became breaks.

        They are breaks as not approved, and an outcome was found; as cleared before, which a correction took back; or
        under another acceptor, which their merchant's directory entry has had since.
        Locked until the transaction ends; those that another holds are left out.
        """


class ClearingUnit(Protocol):
    """Clearing records."""

    @property
    def clearing(self) -> ClearingStore:
        """Clearing records and breaks."""


class SettlementUnit(PaymentChangeUnit, ClearingUnit, Protocol):
    """Matches clearing records with payments and settles these."""
