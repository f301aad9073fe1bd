"""Operators' actions and proposals in PostgreSQL: who changed what by hand, why, and who agreed."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any
from uuid import UUID

import asyncpg
from asyncpg import Connection

from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.database.sessions import PEOPLE_S, session, session_settings
from gateway.directory.approval import Decision, Proposal

_SQL = load(__name__, "operators")


@unique
class Phase(StrEnum):
    """Where an action stands. One that has only begun was cut off: look at what it was about."""

    BEGUN = "begun"
    DONE = "done"
    PROPOSED = "proposed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Action:
    """One action of one operator.

    Attributes:
        operator: who they said they were; login: whom the database let in.
        command: as ``token allow``; subject: whom or what it concerned.
        outcome: None while it runs, or where it was cut off.
    """

    action_id: UUID
    at: datetime
    operator: str
    login: str
    command: str
    subject: str
    why: str
    outcome: Phase | None


class PostgresOperators:
    """The record of operators' actions, on one connection; each call is a transaction unless the caller holds one.

    Every method raises StoreUnavailableError or StoreIntegrityError as the stores do.
    """

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def note(self, action_id: UUID, phase: Phase, *, operator: str, command: str, subject: str, why: str) -> None:
        """Write down that an action begins, or how it ended."""
        await self._fetch(_SQL.note_action, action_id, phase.value, operator, command, subject, why)

    async def actions(self, *, operator: str | None = None, limit: int = 100) -> list[Action]:
        """The newest actions first."""
        rows = await self._fetch(_SQL.actions, operator, limit)
        return [Action(**{**dict(r), "outcome": r["outcome"] and Phase(r["outcome"])}) for r in rows]

    async def propose(self, proposal: Proposal) -> None:
        """Keep a proposal until another operator decides it."""
        await self._fetch(
            _SQL.propose,
            proposal.proposal_id,
            proposal.kind,
            proposal.subject,
            json.dumps(proposal.payload),
            proposal.operator,
            proposal.why,
            proposal.expires_at,
        )

    async def proposals(self, *, every: bool = False, limit: int = 100) -> list[Proposal]:
        """Open proposals, the newest first; with ``every`` also those decided or past their time."""
        return [_proposal(r) for r in await self._fetch(_SQL.proposals, None, every, limit)]

    async def proposal(self, proposal_id: UUID) -> Proposal | None:
        """One proposal, however it stands."""
        rows = await self._fetch(_SQL.proposals, proposal_id, True, 1)  # noqa: FBT003 - a query's parameter
        return _proposal(rows[0]) if rows else None

    async def decide(self, proposal_id: UUID, decision: Decision, *, operator: str, why: str) -> bool:
        """Decide a proposal once; False if somebody else was faster."""
        return bool(await self._fetch(_SQL.decide, proposal_id, decision.value, operator, why))

    async def _fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with translated():
            rows: list[asyncpg.Record] = await self._connection.fetch(sql, *arguments)
            return rows


def _proposal(row: asyncpg.Record) -> Proposal:
    fields = dict(row)
    fields.pop("decided_at")
    fields["payload"] = json.loads(fields["payload"])
    fields["decision"] = fields["decision"] and Decision(fields["decision"])
    return Proposal(**fields)


@asynccontextmanager
async def open_operators(dsn: str) -> AsyncIterator[PostgresOperators]:
    """Connect for as long as the block lasts.

    Raises:
        StoreUnavailableError: the server cannot be reached.
    """
    async with session(dsn, session_settings("mypay-operators", idle_in_transaction_s=PEOPLE_S)) as connection:
        yield PostgresOperators(connection)
