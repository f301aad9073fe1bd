"""Operators' actions and proposals in PostgreSQL: who changed what by hand, why, and who agreed."""

import json
from uuid import UUID

import asyncpg

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.directory.approval import Decision, Phase, Proposal

_SQL = load(__name__, "operators")


class PostgresOperators(OnConnection):
    """The record of operators' actions, on one connection; each call is a transaction unless the caller holds one.

    Every method raises StoreUnavailableError or StoreIntegrityError as the stores do.
    """

    async def note(self, action_id: UUID, phase: Phase, *, operator: str, command: str, subject: str, why: str) -> None:
        """Write down that an action begins, or how it ended."""
        await self._fetch(_SQL.note_action, action_id, phase.value, operator, command, subject, why)

    async def latest_action(self, command: str, subject: str, phase: Phase = Phase.BEGUN) -> UUID | None:
        """The latest action of this command on this subject that came to this phase; None if there is none.

        Every action has begun, however it ended.
        """
        rows = await self._fetch(_SQL.latest_action, command, subject, phase.value)
        return rows[0]["action_id"] if rows else None

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
            proposal.identity,
        )

    async def proposal(self, proposal_id: UUID) -> Proposal | None:
        """One proposal, however it stands."""
        rows = await self._fetch(_SQL.proposal, proposal_id)
        return proposal_of(rows[0]) if rows else None

    async def try_deciding(self, proposal_id: UUID) -> bool:
        """Keep others from deciding it until the caller's transaction ends; False if somebody does so now."""
        return bool((await self._fetch(_SQL.try_deciding, str(proposal_id)))[0]["ours"])

    async def decide(
        self, proposal_id: UUID, decision: Decision, *, operator: str, why: str, identity: str | None
    ) -> bool:
        """Decide a proposal once; False if somebody else was faster."""
        return bool(await self._fetch(_SQL.decide, proposal_id, decision.value, operator, why, identity))


def proposal_of(row: asyncpg.Record) -> Proposal:
    """Build a proposal from a row with its decision."""
    fields = dict(row)
    fields["payload"] = json.loads(fields["payload"])
    fields["decision"] = fields["decision"] and Decision(fields["decision"])
    return Proposal(**fields)
