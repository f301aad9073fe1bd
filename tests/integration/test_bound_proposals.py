"""What another operator approves is what was proposed, of the state that it was proposed in: on a real PostgreSQL."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from gateway.app import operations, proposals
from gateway.app.environment import read_settings
from gateway.app.errors import OperationRefusedError
from gateway.app.operating import Actor
from gateway.app.operation import Doing
from gateway.app.registries import Registries, open_registries
from gateway.cli.common import ExitCode
from gateway.directory.approval import Decision
from gateway.identity.jose.jwk import generate_key
from schemas.primitives import FundingToken, PartnerId
from tests.integration.test_operators import PARTNER, database
from tests.support.cli import mypay
from tests.support.marketing import campaign

__all__ = ["database"]

ORG = "A1AAAA0000"
ISSUER = "https://idp.example"
KIM, LEE = Actor("kim", "ticket 1"), Actor("lee", "ticket 1")

LINK = {"issuer": ISSUER, "subject": "s-1", "customer_id": "cust-1"}
TOKEN = {"token": "tok-1", "partners": ["shop-pay"]}
APPROVAL = {"affiliate_id": "points", "use": "loyalty", "legal_basis": "the consent"}
CERTIFICATE = {"org_code": ORG, "certificate_sha256": "ab" * 32}


def spring(**fields: Any) -> dict[str, Any]:
    return {"campaign": campaign(**fields).model_dump(mode="json", exclude_none=True)}


@pytest.fixture
def registered(database: str) -> str:
    """With whom proposals may be about."""

    async def register() -> None:
        connection = await asyncpg.connect(database)
        await connection.execute(
            "INSERT INTO funding_token (token, customer_id, key_id, nonce, ciphertext)"
            " VALUES ('tok-1', 'cust-1', 'k', '123456789012', '1234567890123456789012345678901234567890')"
        )
        await connection.close()
        async with open_registries(database) as registries:
            await registries.affiliates.add("points", "Points", "telecom")
            await registries.recipients.add(ORG, "A bank")

    mypay("partner", "add", *PARTNER).expect()
    asyncio.run(register())
    return database


def propose(dsn: str, kind: str, payload: dict[str, Any]) -> Any:
    return asyncio.run(proposals.propose(dsn, KIM, kind, "it", payload))


def approve(dsn: str, proposal: Any) -> None:
    asyncio.run(proposals.decide(read_settings(), dsn, proposal, Decision.APPROVED, LEE))


def refused(dsn: str, proposal: Any) -> bool:
    with pytest.raises(OperationRefusedError, match="propose again"):
        approve(dsn, proposal)
    return True


def alone(dsn: str, kind: str, payload: dict[str, Any]) -> None:
    """One operator does it."""
    asyncio.run(operations.carry_out(read_settings(), dsn, KIM, kind, payload))


def written(dsn: str, write: Callable[[Registries], Any]) -> None:
    async def run() -> None:
        async with open_registries(dsn) as registries:
            await write(registries)

    asyncio.run(run())


def disallow(*_: object) -> None:
    mypay("token", "disallow", "tok-1", "--partner", "shop-pay")


def withdraw(*_: object) -> None:
    mypay("affiliate", "withdraw", "points", "loyalty")


def stop(*_: object) -> None:
    mypay("campaign", "stop", "spring")


def no_certificate(*_: object) -> None:
    mypay("recipient", "certificate", ORG, "--withdraw").expect()


def unlink(dsn: str) -> None:
    written(dsn, lambda r: r.identities.unlink(ISSUER, "s-1", now=datetime.now(UTC)))


@pytest.mark.parametrize(
    ("kind", "payload", "takes_away"),
    [
        ("token.allow", TOKEN, disallow),
        ("auth.link.add", LINK, unlink),
        ("affiliate.approve", APPROVAL, withdraw),
        ("campaign.apply", spring(), stop),
        ("recipient.certificate", CERTIFICATE, no_certificate),
        ("recipient.add", CERTIFICATE, no_certificate),
    ],
)
def test_what_was_taken_away_since_it_was_proposed_is_not_given_back_by_the_proposal(
    registered: str, kind: str, payload: dict[str, Any], takes_away: Callable[[str], None]
) -> None:
    first, second = (propose(registered, kind, payload) for _ in range(2))
    approve(registered, first)
    takes_away(registered)
    assert refused(registered, second)
    # What is proposed of the present state can be approved.
    approve(registered, propose(registered, kind, payload))


@pytest.mark.parametrize(
    ("kind", "payload", "takes_away"),
    [
        ("token.allow", TOKEN, disallow),
        ("affiliate.approve", APPROVAL, withdraw),
        ("campaign.apply", spring(), stop),
        ("recipient.certificate", CERTIFICATE, no_certificate),
    ],
)
def test_who_takes_away_what_is_only_proposed_has_the_last_word(
    registered: str, kind: str, payload: dict[str, Any], takes_away: Callable[[str], None]
) -> None:
    proposal = propose(registered, kind, payload)
    takes_away(registered)
    assert refused(registered, proposal)


@pytest.mark.parametrize(
    ("kind", "payload", "other"),
    [
        ("affiliate.approve", APPROVAL, {**APPROVAL, "legal_basis": "a law"}),
        ("campaign.apply", spring(), spring(valid_days=7)),
        ("recipient.certificate", CERTIFICATE, {**CERTIFICATE, "certificate_sha256": "cd" * 32}),
    ],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_what_was_written_since_is_not_overwritten_by_who_has_not_seen_it(
    registered: str, kind: str, payload: dict[str, Any], other: dict[str, Any], is_new: bool
) -> None:
    if not is_new:
        alone(registered, kind, payload)
    proposal = propose(registered, kind, payload)
    alone(registered, kind, other)
    assert refused(registered, proposal)


OWNERS = ("partner", "affiliate", "recipient")


def key_of(owner: str, kid: str, jwk: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What adding a public key is proposed or done with: kind and payload."""
    if owner == "recipient":
        return "recipient.key.add", {"org_code": ORG, "kid": kid, "jwk": jwk}
    whose = {"partner": "shop-pay", "affiliate": "points"}[owner]
    more = {"partner_id": whose, "algorithm": "ES256", "valid_until": None}
    return f"{owner}.key.add", {"kid": kid, "jwk": jwk, **more}


def public() -> dict[str, Any]:
    return generate_key("ES256")[1]


def disable(owner: str, kid: str) -> Any:
    return mypay(owner, "key", "disable", {"partner": "shop-pay", "affiliate": "points", "recipient": ORG}[owner], kid)


@pytest.mark.parametrize("owner", OWNERS)
def test_a_key_that_was_disabled_comes_back_under_no_id(registered: str, owner: str) -> None:
    jwk = public()
    first, second = (propose(registered, *key_of(owner, kid, jwk)) for kid in ("k-1", "k-2"))
    approve(registered, first)
    disable(owner, "k-1").expect()
    assert refused(registered, second)
    # Nor of today's state, nor at once, nor for anybody else.
    for whose in OWNERS:
        kind, payload = key_of(whose, "k-3", jwk)
        anew = propose(registered, kind, payload)
        for add in (lambda a=anew: approve(registered, a), lambda k=kind, p=payload: alone(registered, k, p)):
            with pytest.raises(OperationRefusedError, match="was disabled, as k-1"):
                add()
    alone(registered, *key_of(owner, "k-4", public()))


@pytest.mark.parametrize("owner", OWNERS)
def test_a_key_of_somebody_else_is_refused(registered: str, owner: str) -> None:
    jwk = public()
    alone(registered, *key_of(owner, "k-1", jwk))
    for whose in set(OWNERS) - {owner}:
        with pytest.raises(OperationRefusedError, match=f"is registered, as k-1 of {owner}"):
            alone(registered, *key_of(whose, "k-2", jwk))
    # Its own may have a second id.
    alone(registered, *key_of(owner, "k-2", jwk))


@pytest.mark.parametrize("owner", OWNERS)
def test_a_key_is_added_to_those_that_its_owner_had_when_it_was_proposed(registered: str, owner: str) -> None:
    proposals_ = [propose(registered, *key_of(owner, kid, public())) for kid in ("k-1", "k-2")]
    approve(registered, proposals_[0])
    assert refused(registered, proposals_[1])
    stopped = propose(registered, *key_of(owner, "k-3", public()))
    # There is none such yet; whoever says so means the one that is proposed.
    disable(owner, "k-3").expect(ExitCode.NOT_FOUND)
    assert refused(registered, stopped)
    for kid in ("k-4", "k-5"):
        approve(registered, propose(registered, *key_of(owner, kid, public())))


def test_a_recipient_that_is_proposed_with_a_key_is_bound_to_both(registered: str) -> None:
    payload = key_of("recipient", "k-1", public())[1]
    proposal = propose(registered, "recipient.add", {**payload, **CERTIFICATE})
    alone(registered, *key_of("recipient", "k-2", public()))
    assert refused(registered, proposal)
    # A certificate alone has nothing to do with keys.
    proposal = propose(registered, "recipient.add", CERTIFICATE)
    alone(registered, *key_of("recipient", "k-3", public()))
    approve(registered, proposal)


def test_who_disables_a_key_while_it_gets_a_second_id_waits_and_stops_both(registered: str) -> None:
    jwk = public()
    alone(registered, *key_of("partner", "k-1", jwk))
    kind, payload = key_of("partner", "k-2", jwk)

    async def run() -> list[bool]:
        async with open_registries(registered) as one, open_registries(registered) as two:
            async with one.transaction():
                await operations.OPERATIONS[kind].do(Doing(read_settings(), registered, one, LEE), payload)
                now = datetime.now(UTC)
                taken = asyncio.create_task(two.directory.disable_key(PartnerId("shop-pay"), "k-1", now=now))
                watching = await asyncpg.connect(registered)
                while not await watching.fetchval(_WAITS):
                    assert not taken.done()
                await watching.close()
            assert await taken == now
            async with one.transaction():
                return [k.disabled_at == now for k in await one.public_keys.lock()]

    assert asyncio.run(run()) == [True, True]


def test_of_proposals_that_concern_others_each_can_be_approved(registered: str) -> None:
    for kind, payload, other in (
        ("token.allow", TOKEN, {**TOKEN, "token": "tok-2"}),
        ("auth.link.add", LINK, {**LINK, "subject": "s-2"}),
        ("affiliate.approve", APPROVAL, {**APPROVAL, "use": "fraud-prevention"}),
        ("campaign.apply", spring(), spring(campaign_id="autumn")),
    ):
        if kind == "token.allow":
            written(registered, _another_token)
        proposals_ = [propose(registered, kind, p) for p in (payload, other)]
        for proposal in proposals_:
            approve(registered, proposal)


async def _another_token(registries: Registries) -> None:
    await registries._connection.execute(
        "INSERT INTO funding_token (token, customer_id, key_id, nonce, ciphertext)"
        " SELECT 'tok-2', customer_id, key_id, nonce, ciphertext FROM funding_token WHERE token = 'tok-1'"
    )


def test_a_proposal_from_before_proposals_were_bound_can_be_approved(registered: str) -> None:
    proposal = propose(registered, "affiliate.approve", APPROVAL)

    async def as_it_was() -> None:
        connection = await asyncpg.connect(registered)
        await connection.execute("ALTER TABLE operator_proposal DISABLE TRIGGER operator_proposal_append_only")
        await connection.execute("UPDATE operator_proposal SET payload = $1::jsonb", json.dumps(APPROVAL))
        await connection.close()

    asyncio.run(as_it_was())
    approve(registered, proposal)


def test_who_takes_a_token_away_while_it_is_being_allowed_waits_and_has_the_last_word(registered: str) -> None:
    """Seen on two connections: what is bound is locked until the decision is kept."""
    alone(registered, "token.allow", TOKEN)
    proposal, token, partner = propose(registered, "token.allow", TOKEN), FundingToken("tok-1"), PartnerId("shop-pay")

    async def run() -> tuple[bool, bool]:
        async with open_registries(registered) as one, open_registries(registered) as two:
            async with one.transaction():
                found = await one.operators.proposal(proposal)
                assert found is not None
                doing = Doing(read_settings(), registered, one, LEE, proposal)
                await operations.OPERATIONS["token.allow"].do(doing, found.payload)
                taken = asyncio.create_task(two.tokens.withdraw(token, partner, now=datetime.now(UTC)))
                watching = await asyncpg.connect(registered)
                while not await watching.fetchval(_WAITS):
                    assert not taken.done()
                await watching.close()
            return await taken, not await _may_use(registered)

    assert asyncio.run(run()) == (True, True)


_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted"


async def _may_use(dsn: str) -> bool:
    connection = await asyncpg.connect(dsn)
    found = await connection.fetchval("SELECT count(*) FROM funding_token_partner WHERE withdrawn_at IS NULL")
    await connection.close()
    return bool(found)
