"""What a card network says it cleared, on ``mypay.clearing.<network>``."""

from enum import StrEnum, unique
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from schemas.primitives import AMOUNT_MINOR_MAX, CurrencyCode, Model, NetworkIdField

CLEARING_TYPE: Final = "kr.mypay.clearing.batch.v1"
CLEARING_CHUNK_RECORDS: Final = 500
"""Records a message: about 90 KB of JSON, far below Kafka's 1 MiB, and one settlement transaction."""

CLEARING_BYTES_MAX: Final = 512 * 1024
"""A full chunk with every field at its longest is below 200 KB."""

RECORD_NO_MAX: Final = 2_000_000_000

CycleId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$", strict=True)]
Rrn = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{12}$", strict=True)]
TerminalId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{8}$", strict=True)]
AcceptorId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 ]{1,15}$", strict=True)]
ApprovalCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{6}$", strict=True)]


@unique
class ClearingKind(StrEnum):
    """Direction of a cleared transaction."""

    PURCHASE = "purchase"
    REFUND = "refund"


class ClearingRecord(Model):
    """One cleared transaction, in the network's own words.

    Attributes:
        record_no: position in the cycle, unique in it; makes importing twice harmless.
        rrn, stan, terminal_id: the payment's trace numbers (DE37, DE11, DE41).
    """

    record_no: Annotated[int, Field(ge=1, le=RECORD_NO_MAX)]
    kind: ClearingKind
    rrn: Rrn
    stan: Annotated[int, Field(ge=1, le=999_999)]
    terminal_id: TerminalId
    acceptor_id: AcceptorId
    amount_minor: Annotated[int, Field(ge=1, le=AMOUNT_MINOR_MAX)]
    currency: CurrencyCode
    approval_code: ApprovalCode | None = None


class ClearingBatch(Model):
    """A chunk of one clearing cycle. ``chunk`` counts from 1; the same (network, cycle, chunk) may come many times."""

    network_id: NetworkIdField
    cycle_id: CycleId
    chunk: Annotated[int, Field(ge=1)]
    records: Annotated[tuple[ClearingRecord, ...], Field(min_length=1, max_length=CLEARING_CHUNK_RECORDS)]


class LooseClearingBatch(Model):
    """A clearing batch whose records have not been looked at: lets one bad record be parked without its neighbours."""

    network_id: NetworkIdField
    cycle_id: CycleId
    chunk: Annotated[int, Field(ge=1)]
    records: Annotated[tuple[Any, ...], Field(min_length=1, max_length=CLEARING_CHUNK_RECORDS)]
