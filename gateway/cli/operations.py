"""What may need two people: operations that give somebody a right, proposed by one and approved by another.

Taking a right away (disabling a key, ending a link) is never here: one person must be able to do it at once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import typer
import uuid_utils

from gateway.app.registries import Registries, open_registries
from gateway.app.settings import Settings
from gateway.cli.common import CliError, ExitCode, postgres_dsn, run
from gateway.cli.operating import Actor, current_actor, note_proposed
from gateway.directory.approval import PROPOSAL_LIVES, Decision, Proposal, judge
from gateway.directory.partners import PartnerKey
from gateway.identity.store import IdentityLink
from schemas.primitives import FundingToken, PartnerId
from schemas.sharing import SharingUse

Payload = Mapping[str, Any]

Propose = Annotated[bool, typer.Option("--propose", help="Only propose it: another operator must approve it.")]


def _key_of(payload: Payload) -> PartnerKey:
    return PartnerKey(
        **{
            **payload,
            # What is approved today is no older than today.
            "valid_from": datetime.now(UTC),
            "valid_until": payload["valid_until"] and datetime.fromisoformat(payload["valid_until"]),
            "disabled_at": None,
        }
    )


async def _add_key(registries: Registries, payload: Payload) -> str:
    key = _key_of(payload)
    if not await registries.directory.add_keys([key]):
        raise CliError(f"Key id {key.kid} is already in use.", hint="Give another one with --kid.")
    return f"Key {key.kid} ({key.algorithm}) is registered."


async def _add_link(registries: Registries, payload: Payload) -> str:
    link = IdentityLink(payload["issuer"], payload["subject"], payload["customer_id"], datetime.now(UTC))
    if not await registries.identities.link([link]):
        raise CliError("This identity is linked already.", hint="`mypay auth links remove` ends that link first.")
    return f"The identity is linked to customer {link.customer_id}."


async def _allow_token(registries: Registries, payload: Payload) -> str:
    token, partners = FundingToken(payload["token"]), payload["partners"]
    await registries.tokens.allow([(token, PartnerId(p)) for p in partners], now=datetime.now(UTC))
    return f"{', '.join(partners)} may pay with token {token}."


async def _add_affiliate_key(registries: Registries, payload: Payload) -> str:
    key = _key_of(payload)
    if not await registries.affiliates.add_keys([key]):
        raise CliError(f"Key id {key.kid} is already in use.", hint="Give another one with --kid.")
    return f"Key {key.kid} ({key.algorithm}) is registered."


async def _approve_affiliate(registries: Registries, payload: Payload) -> str:
    # Whoever lets it happen: where two people are asked for, the second.
    affiliate, use = payload["affiliate_id"], SharingUse(payload["use"])
    await registries.affiliates.approve(
        affiliate, use, payload["legal_basis"], approved_by=current_actor().operator, now=datetime.now(UTC)
    )
    return f"{affiliate} may be given data for {use}, of customers who agree."


OPERATIONS: Final[Mapping[str, Callable[[Registries, Payload], Awaitable[str]]]] = {
    "partner.key.add": _add_key,
    "auth.link.add": _add_link,
    "token.allow": _allow_token,
    "affiliate.key.add": _add_affiliate_key,
    "affiliate.approve": _approve_affiliate,
}
"""Kind → what writes it; each returns a sentence for people. A payload holds public data alone."""


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
    actor = current_actor()
    if not needs_two(settings, propose=propose):

        async def write() -> str:
            async with open_registries(postgres_dsn(settings)) as registries, registries.transaction():
                return await OPERATIONS[kind](registries, payload)

        return run(write()), None
    proposal_id = run(_propose(settings, kind, subject, payload, actor))
    note_proposed(proposal_id)
    return f"Proposed as {proposal_id}: another operator must `mypay operators approve {proposal_id}`.", proposal_id


async def _propose(settings: Settings, kind: str, subject: str, payload: Payload, actor: Actor) -> UUID:
    now = datetime.now(UTC)
    proposal = Proposal(
        proposal_id=UUID(bytes=uuid_utils.uuid7().bytes),
        kind=kind,
        subject=subject,
        payload=dict(payload),
        operator=actor.operator,
        login="",
        why=actor.why,
        proposed_at=now,
        expires_at=now + PROPOSAL_LIVES,
    )
    async with open_registries(postgres_dsn(settings)) as registries:
        await registries.operators.propose(proposal)
    return proposal.proposal_id


async def decide(settings: Settings, proposal_id: UUID, decision: Decision, actor: Actor) -> tuple[Proposal, str]:
    """Decide a proposal; what was approved is done in the same transaction, or neither is.

    Raises:
        CliError: there is none, this operator may not, or somebody was faster.
    """
    async with open_registries(postgres_dsn(settings)) as registries, registries.transaction():
        found = await registries.operators.proposal(proposal_id)
        if found is None:
            raise CliError(
                f"There is no proposal {proposal_id}.", ExitCode.NOT_FOUND, hint="`mypay operators proposals`"
            )
        refused = judge(found, decision, operator=actor.operator, now=datetime.now(UTC))
        if refused is not None:
            raise CliError(f"Proposal {proposal_id}: {refused.value}.")
        if not await registries.operators.decide(proposal_id, decision, operator=actor.operator, why=actor.why):
            raise CliError(f"Proposal {proposal_id}: another operator was faster.")
        told = "Nothing was changed."
        if decision is Decision.APPROVED:
            told = await OPERATIONS[found.kind](registries, found.payload)
    return replace(found, decision=decision, decided_by=actor.operator), told
