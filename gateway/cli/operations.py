"""Operations that may need two people, from the command line: see :mod:`gateway.app.proposals`."""

from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer

from gateway.app import operations, proposals
from gateway.app.errors import OperationRefusedError
from gateway.app.operation import Payload
from gateway.app.settings import Settings
from gateway.cli.common import CliError, ExitCode, postgres_dsn, run
from gateway.cli.operating import current_actor, note_proposed
from gateway.directory.approval import Decision, Proposal
from gateway.directory.partners import PartnerKey

T = TypeVar("T")

Propose = Annotated[bool, typer.Option("--propose", help="Only propose it: another operator must approve it.")]


def key_payload(key: PartnerKey) -> dict[str, Any]:
    """The payload of ``partner.key.add``."""
    return {
        "kid": key.kid,
        "partner_id": key.partner_id,
        "algorithm": key.algorithm,
        "jwk": dict(key.jwk),
        "valid_until": key.valid_until and key.valid_until.isoformat(),
    }


def needs_two(settings: Settings, *, propose: bool) -> bool:
    """True if what gives a right is only proposed: asked so, or required."""
    return propose or settings.operator_two_people


def carry_out(
    settings: Settings, kind: str, subject: str, payload: Payload, *, propose: bool
) -> tuple[str, UUID | None]:
    """Do it, or propose it where it was asked to be, or where two people are required.

    Returns:
        A sentence for people, and the proposal's id if it was only proposed.
    """
    actor, dsn = current_actor(), postgres_dsn(settings)
    if not needs_two(settings, propose=propose):
        return told(operations.carry_out(settings, dsn, actor, kind, payload)), None
    proposal_id = told(proposals.propose(dsn, actor, kind, subject, payload))
    note_proposed(proposal_id)
    return f"Proposed as {proposal_id}: another operator must `mypay operators approve {proposal_id}`.", proposal_id


def decide(settings: Settings, proposal_id: UUID, decision: Decision) -> tuple[Proposal, str]:
    """Decide a proposal; what was approved is done in the same transaction, or neither is.

    Raises:
        CliError: there is none, this operator may not, or somebody was faster.
    """
    return told(proposals.decide(settings, postgres_dsn(settings), proposal_id, decision, current_actor()))


def told(doing: Coroutine[Any, Any, T]) -> T:
    """Do it; what was refused is told as commands tell it."""
    try:
        return run(doing)
    except OperationRefusedError as error:
        code = ExitCode.NOT_FOUND if error.missing else ExitCode.FAILED
        raise CliError(str(error), code, hint=error.hint) from None
