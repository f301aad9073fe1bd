"""Two people, whichever door they use: what one operator proposes, and another approves or rejects.

What may be proposed, and what carries it out: :mod:`gateway.app.operations`. Who may decide what:
:mod:`gateway.directory.approval`.
"""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import uuid_utils

from gateway.app.errors import OperationRefusedError
from gateway.app.operating import Actor
from gateway.app.operation import Doing, Payload
from gateway.app.operations import OPERATIONS
from gateway.app.registries import Registries, open_registries
from gateway.app.sending_again import CutOffError
from gateway.app.settings import Settings
from gateway.base.errors import StoreUnavailableError
from gateway.directory.approval import PROPOSAL_LIVES, Decision, Proposal, judge


async def propose(dsn: str, actor: Actor, kind: str, subject: str, payload: Payload) -> UUID:
    """Keep it as a proposal for another operator, bound to the state that it is about; return the proposal's id.

    Raises:
        OperationRefusedError: there is nothing of which it could be proposed.
    """
    now, bind = datetime.now(UTC), OPERATIONS[kind].bind
    async with open_registries(dsn) as registries, registries.transaction():
        proposal = Proposal(
            proposal_id=UUID(bytes=uuid_utils.uuid7().bytes),
            kind=kind,
            subject=subject,
            payload=dict(payload if bind is None else await bind(registries, payload)),
            operator=actor.operator,
            login="",
            why=actor.why,
            proposed_at=now,
            expires_at=now + PROPOSAL_LIVES,
            identity=actor.identity,
        )
        await registries.operators.propose(proposal)
    return proposal.proposal_id


async def decide(
    settings: Settings, dsn: str, proposal_id: UUID, decision: Decision, actor: Actor
) -> tuple[Proposal, str]:
    """Decide a proposal; what was approved is done in the same transaction, or neither is.

    But for dead letters: they are sent again step by step, and what was sent stays sent, and noted, if the decision
    cannot be kept. The proposal is open then, and approving it again sends the rest. Rejecting it stops a sending that
    is under way, before its next step.

    Raises:
        OperationRefusedError: there is none, this operator may not, somebody was faster, or it cannot be done any more.
        CutOffError: dead letters were sent in part; StoppedError where somebody has rejected it meanwhile.
    """
    try:
        return await _decide(settings, dsn, proposal_id, decision, actor)
    except StoreUnavailableError as error:
        # Whose session is gone cannot end its transaction in order either. What was sent is what people need to know.
        cut_off = error.__context__
        while cut_off is not None and not isinstance(cut_off, CutOffError):
            cut_off = cut_off.__context__
        if cut_off is None:
            raise
        raise cut_off from error


async def _decide(
    settings: Settings, dsn: str, proposal_id: UUID, decision: Decision, actor: Actor
) -> tuple[Proposal, str]:
    async with open_registries(dsn) as registries, registries.transaction():
        # A lock and no row: until the decision is written, this transaction has no number that others would wait for.
        # Whoever rejects waits for nobody: what lasts looks before each step whether it is open still.
        if decision is Decision.APPROVED and not await registries.operators.try_deciding(proposal_id):
            raise OperationRefusedError(
                f"Proposal {proposal_id}: another operator is approving it.", hint="Rejecting it stops that."
            )

        async def still() -> None:
            await _decidable(registries, proposal_id, decision, actor)

        found, told = await _decidable(registries, proposal_id, decision, actor), "Nothing was changed."
        operation = OPERATIONS[found.kind] if decision is Decision.APPROVED else None
        doing = Doing(settings, dsn, registries, actor, found.proposal_id, still)
        if operation is not None and operation.lasts:
            told = await operation.do(doing, found.payload)
        if not await registries.operators.decide(
            proposal_id, decision, operator=actor.operator, why=actor.why, identity=actor.identity
        ):
            done = f" By then: {told}" if operation is not None and operation.lasts else ""
            raise OperationRefusedError(f"Proposal {proposal_id}: another operator was faster.{done}")
        if operation is not None and not operation.lasts:
            told = await operation.do(doing, found.payload)
    return replace(found, decision=decision, decided_by=actor.operator), told


async def _decidable(registries: Registries, proposal_id: UUID, decision: Decision, actor: Actor) -> Proposal:
    """The proposal, if this operator may decide it so now."""
    found = await registries.operators.proposal(proposal_id)
    if found is None:
        raise OperationRefusedError(
            f"There is no proposal {proposal_id}.", hint="`mypay operators proposals`", missing=True
        )
    now = datetime.now(UTC)
    refused = judge(found, decision, operator=actor.operator, identity=actor.identity, now=now)
    if refused is not None:
        raise OperationRefusedError(f"Proposal {proposal_id}: {refused.value}.")
    return found
