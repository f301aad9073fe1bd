"""What was ever asked of one consent, and what became of it: for people, read-only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.consents.rules.records import Actor, CommandOutcome
from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.database.sessions import looking_settings, session

_SQL = load(__name__, "consent_history")

STATEMENT_TIMEOUT_S: Final = 20


@dataclass(frozen=True, slots=True)
class AskedOfConsent:
    """One command on a consent.

    Attributes:
        change: which of the consent's changes it made; None where it made none.
        status, version: the consent's afterwards; None where there was no such consent.
        reason: why it was refused, or an operator's word; code and sentence.
        reference: where it came from: topic/partition/offset of the record, or who did it.
    """

    at: datetime
    command_id: str
    command: str
    actor: Actor
    outcome: CommandOutcome
    change: int | None
    status: str | None
    version: int | None
    reason: str | None
    reference: str


async def read_consent_history(dsn: str, partner_id: str, consent_id: str, *, limit: int) -> list[AskedOfConsent]:
    """Every command that is remembered, the oldest first.

    Raises:
        StoreUnavailableError: the server cannot be reached, or it took too long.
    """
    settings = looking_settings("mypay-inspect", statement_timeout_s=STATEMENT_TIMEOUT_S)
    async with session(dsn, settings) as connection, translated():
        rows = await connection.fetch(_SQL.commands, partner_id, consent_id, limit)
    return [
        AskedOfConsent(
            at=r["handled_at"],
            command_id=r["command_id"],
            command=r["command"],
            actor=Actor(r["actor"]),
            outcome=CommandOutcome(r["outcome"]),
            change=r["change"],
            status=r["status"],
            version=r["version"],
            reason=" ".join(t for t in (r["reason_code"], r["reason_text"]) if t) or None,
            reference=r["reference"],
        )
        for r in rows
    ]
