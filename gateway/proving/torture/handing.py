"""Customers' data under torture: partners ask for exports all the while; at rest the receivers' books are laid open.

Shares, erase notices and offers follow from what is paid and revoked. While everything fails nobody reads them: at rest
the recipient and the affiliates read their topics from the beginning, erase, and confirm it under their signatures.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from gateway.client import signed
from gateway.proving.books import Checked, Evidence
from gateway.proving.books.receivers import check_handed
from gateway.proving.collect.handed import collect_handed
from gateway.proving.disclosing import check_disclosures
from gateway.proving.torture.load import AWAY, fetch
from gateway.proving.torture.rest import REST_TIMEOUT_S, NotAtRestError
from gateway.proving.traffic.cast import Cast, Customer
from gateway.proving.traffic.receivers import SENDER
from gateway.proving.traffic.sending import Sender
from gateway.proving.world.receiving import Receiving, open_receiving
from gateway.proving.world.world import World
from schemas.assertions import PortabilityLink
from schemas.codec import encode
from schemas.portability import PortabilityRequest, TargetInfo, request_digest
from schemas.sharing import ErasureConfirmed

_ASK_S: Final = 1.0
_POLL_S: Final = 0.5
_QUIET_POLLS: Final = 15
"""Longer than marketing takes from one look at who may have an offer to the next."""

_WAITS: Final = """
SELECT (SELECT count(*) FROM portability_export WHERE state IN ('waiting', 'sending')) AS exports,
       (SELECT count(*) FROM outbox o, sharing_place p WHERE (o.tx, o.id) > (p.tx, p.id)) AS unshared,
       (SELECT count(*) FROM outbox o, outbox_cursor c WHERE (o.tx, o.id) > (c.tx, c.id)) AS untold,
       (SELECT count(*) FROM share_holder WHERE notice_id IS NOT NULL AND confirmed_at IS NULL) AS unerased,
       (SELECT count(*) FROM offer) AS offers
"""


async def ask_for_exports(cast: Cast, sender: Sender, seed: int) -> None:
    """Ask for one customer's data after the other, whoever lets the recipient have them, until cancelled."""
    rng = Random(seed)  # noqa: S311 - which customer is no secret
    willing = [c for c in cast.customers if c.terms.portability is not None]
    number = 0
    while willing:
        number += 1
        customer = rng.choice(willing)
        partner = cast.partner(customer.terms.partner_id)
        request = _request(cast, customer, f"torture-{number}")
        link = PortabilityLink(
            partner_id=request.partner_id,
            request_id=request.request_id,
            consent_id=request.consent_id,
            rcv_org_code=request.rcv_org_code,
            request_digest=request_digest(encode(request)),
        )
        proof = cast.identities.prove(partner.home_group, customer.terms.customer_id, link)
        await sender.command(signed(partner.signer, request.model_copy(update={"authentication": proof})))
        await asyncio.sleep(_ASK_S)


def _request(cast: Cast, customer: Customer, request_id: str) -> PortabilityRequest:
    purpose, receivers = customer.terms.portability, cast.receivers
    if purpose is None or receivers is None:
        raise AssertionError("only who is willing is asked, and only where there is a recipient")
    return PortabilityRequest(
        partner_id=customer.terms.partner_id,
        consent_id=customer.terms.consent_id,
        request_id=request_id,
        issued_at=datetime.now(UTC),
        snd_org_code=SENDER,
        rcv_org_code=receivers.recipient.org_code,
        end_date=purpose.end_date,
        purpose=purpose.purpose,
        period=purpose.period,
        target_info=tuple(TargetInfo(scope=s) for s in purpose.scopes),
    )


async def judge_handed(
    world: World, sender: Sender, evidence: Evidence, *, tell: Callable[[str], None]
) -> list[Checked]:
    """Lay the receivers' books beside the gateway's and the disclosure log.

    Args:
        world: at rest, but for what affiliates have to erase.
        sender: sends affiliates' confirmations.
        evidence: of the same world.
        tell: told what is waited for.

    Raises:
        NotAtRestError: something is not handed over, told or erased in time.
    """
    await _until(world, "exports and shares", lambda r: not (r["exports"] or r["unshared"]), tell)
    await _until_quiet(world, tell)
    async with open_receiving(world) as receiving:
        await receiving.catch_up()
        await _erase(receiving, sender)
        await _until(world, "confirmations that shares are erased", lambda r: not r["unerased"], tell)
        logged, _ = await check_disclosures(
            world.postgres_dsn, world.disclosure_keys, world.directory / "disclosures.json"
        )
        handed = await collect_handed(world.postgres_dsn)
        receiving.enter(handed, datetime.now(UTC))
    return [*check_handed(handed, evidence), logged]


async def _erase(receiving: Receiving, sender: Sender) -> None:
    for affiliate_id, book in receiving.books.items():
        signer = receiving.receivers.affiliate(affiliate_id).signer
        for notice in book.notices.values():
            word = ErasureConfirmed(
                notice_id=notice.notice_id,
                affiliate_id=affiliate_id,
                erased=book.erase(notice.consent_ref),
                erased_at=datetime.now(UTC),
            )
            await sender.command(signed(signer, word))


async def _until(world: World, what: str, done: Callable[[Any], bool], tell: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + REST_TIMEOUT_S
    while True:
        with suppress(*AWAY):
            if done((await fetch(world.postgres_dsn, _WAITS))[0]):
                return
        tell(f"waiting for {what}")
        if loop.time() > deadline:
            raise NotAtRestError(f"after {REST_TIMEOUT_S:.0f} s still waiting for {what}")
        await asyncio.sleep(_POLL_S)


async def _until_quiet(world: World, tell: Callable[[str], None]) -> None:
    """Wait until no offer has been made for a while, and all is told."""
    seen: list[tuple[int, int]] = []

    def quiet(row: Any) -> bool:
        seen.append((row["offers"], row["untold"]))
        return len(seen) >= _QUIET_POLLS and set(seen[-_QUIET_POLLS:]) == {(row["offers"], 0)}

    await _until(world, "the last offers", quiet, tell)
