"""What partners send on ``mypay.orders`` besides plain orders: cancellations, refunds, standing orders, bulks.

Initiation reads and verifies every record the same way, and hands each kind to its one handler. Cancellations go to
theirs before the batch's plain orders are dispatched, so that an order finds one that came first; every other kind
after it, so that it never overtakes an order before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.messaging.records import Record
from schemas.envelope import Envelope
from schemas.primitives import PartnerId


class SignedInstruction(Protocol):
    """What every signed message on ``mypay.orders`` tells of itself."""

    @property
    def partner_id(self) -> PartnerId:
        """The partner that signs."""

    @property
    def record_key(self) -> str:
        """What the record's Kafka key must be."""

    @property
    def instruction_id(self) -> str:
        """The partner's own id of it, named when it is refused."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One verified instruction.

    Attributes:
        message: as decoded; of the model that the handler names for its type.
        digest: SHA-256 of the raw bytes; tells a redelivery from an id that is used again.
        ordered_at: Kafka timestamp of the record.
    """

    message: SignedInstruction
    record: Record
    envelope: Envelope
    digest: bytes
    ordered_at: datetime

    @property
    def reference(self) -> str:
        """Topic, partition and offset of the partner's record."""
        return self.record.reference


class InstructionHandler(Protocol):
    """Carries out one kind of instruction."""

    @property
    def models(self) -> Mapping[str, type[SignedInstruction]]:
        """CloudEvents type → body model (a :class:`schemas.primitives.Model`) of what it takes."""

    async def take(self, instructions: Sequence[Instruction], now: datetime) -> None:
        """Bring each to its end, durably. Must be safe to repeat: a record may come twice."""
