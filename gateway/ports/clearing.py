"""Clearing records and breaks."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.domain.payment import PaymentKey
from gateway.domain.settlement import Break, ClearedPayment
from schemas.clearing import ClearingRecord
from schemas.primitives import NetworkId


class ClearingStore(Protocol):
    """Clearing records and breaks."""

    async def payments_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, ClearedPayment]:
        """Payments by the network's reference, locked until the transaction ends."""

    async def insert(self, network_id: NetworkId, cycle_id: str, records: Sequence[ClearingRecord]) -> frozenset[int]:
        """Record what was not recorded yet; return the record numbers of these."""

    async def write_outcomes(
        self,
        network_id: NetworkId,
        cycle_id: str,
        outcomes: Sequence[tuple[int, PaymentKey | None, Break | None]],
    ) -> None:
        """Note for each record number the payment it matched, or the break."""

    async def approved_since(self, limit: int) -> Sequence[tuple[NetworkId, str, ClearingRecord]]:
        """Records (with network and cycle) that are breaks as not approved, and whose payments are approved now."""
