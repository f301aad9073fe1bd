"""The archive: which files there are, which payments stand in them, and what a record says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from gateway.database.queries import load
from gateway.payments.archive.postgres import file_of
from gateway.payments.archive.store import ArchiveFile, FileStatus
from gateway.payments.postgres import payment_of
from gateway.payments.rules.payment import Payment
from gateway.views.payments import PaymentFacts, StoredClearing, StoredFollowUp, StoredSchedule, StoredTransfer
from gateway.views.view import View

_SQL = load(__name__, "archived")

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class ArchivedPayment:
    """A payment as the database keeps it, and the file with the rest."""

    payment: Payment
    file: ArchiveFile


class ArchiveView(View):
    """What is known of the archive without its files."""

    async def files(self, limit: int) -> list[ArchiveFile]:
        """The last ones, the newest first."""
        return [file_of(row) for row in await self._fetch(_SQL.files, limit)]

    async def total(self) -> tuple[int, int]:
        """How many files are whole, and how many payments they have."""
        [row] = await self._fetch(_SQL.total)
        return row["files"], row["payments"]

    async def find(self, payment_id: UUID, *, partner_id: str | None = None) -> list[ArchivedPayment]:
        """Archived payments with this id; one at most, unless ids were made elsewhere."""
        if partner_id is None:
            rows = await self._fetch(_SQL.payment_of_any_partner, payment_id)
        else:
            rows = await self._fetch(_SQL.payment, partner_id, payment_id)
        return [
            ArchivedPayment(
                payment_of({**row, "funding_token": None, "traceparent": None, "sent_by": None}),
                ArchiveFile(row["file_id"], FileStatus(row["file_status"]), row["file_payments"], row["file_sha256"]),
            )
            for row in rows
        ]


def facts_of(record: str) -> PaymentFacts:
    """Read a record of a file: everything that the database knew of one payment, but its events.

    Raises:
        ValueError, KeyError: it is no record.
    """
    stored = json.loads(record)
    follow_ups = [(kind, stored[kind]) for kind in ("inquiry", "reversal") if stored[kind] is not None]
    return PaymentFacts(
        payment=payment_of({**_typed(stored["payment"]), "is_archived": True}),
        events=(),
        transfers=tuple([_row(StoredTransfer, t) for t in stored["transfers"]]),
        follow_ups=tuple([_row(StoredFollowUp, {"kind": kind, **row}) for kind, row in follow_ups]),
        clearing=tuple([_row(StoredClearing, c) for c in stored["clearing"]]),
        schedule=None if stored["schedule"] is None else _row(StoredSchedule, stored["schedule"]),
    )


def _row(kind: type[S], row: Mapping[str, Any]) -> S:
    typed = _typed(row)
    return kind(**{f.name: typed[f.name] for f in fields(kind) if f.name in typed})  # type: ignore[arg-type]


def _typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row out of PostgreSQL's JSON: times, ids and bytes are text there."""
    return {name: _value(name, value) for name, value in row.items()}


def _value(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name.endswith("_at"):
        return datetime.fromisoformat(value)
    if name in ("payment_id", "original_payment_id"):
        return UUID(value)
    return bytes.fromhex(value.removeprefix("\\x")) if name == "order_digest" else value
