"""What operators did by hand and why, and what waits for a second one."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.database.queries import load
from gateway.directory.approval import Phase, Proposal
from gateway.directory.operators import proposal_of
from gateway.views.view import View

_SQL = load(__name__, "operator_actions")


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


class OperatorActionsView(View):
    """Operators' actions and proposals."""

    async def actions(self, *, operator: str | None = None, limit: int = 100) -> list[Action]:
        """The newest actions first."""
        rows = await self._fetch(_SQL.actions, operator, limit)
        return [Action(**{**dict(r), "outcome": r["outcome"] and Phase(r["outcome"])}) for r in rows]

    async def proposal(self, proposal_id: UUID) -> Proposal | None:
        """One proposal, however it stands."""
        rows = await self._fetch(_SQL.proposal, proposal_id)
        return proposal_of(rows[0]) if rows else None

    async def proposals(self, *, every: bool = False, limit: int = 100) -> list[Proposal]:
        """Open proposals, the newest first; with ``every`` also those decided or past their time."""
        return [proposal_of(r) for r in await self._fetch(_SQL.proposals, every, limit)]

    async def waiting(self, *, limit: int) -> int:
        """How many proposals are open, ``limit`` at most: what is in them, which may be long, is not read."""
        [row] = await self._fetch(_SQL.waiting, limit)
        return int(row["count"])
