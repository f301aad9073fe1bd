"""Partners' commands through the service that takes them in, on the fakes and on PostgreSQL."""

import json
from typing import Any

import asyncpg
import pytest

from schemas.consents import ConsentStatus
from tests.contract.conftest import Backend
from tests.support.builders import later, payment
from tests.support.consents import ISSUER, SUBJECT, ConsentRig, digest, document, short
from tests.support.domain_samples import krw, purpose, terms
from tests.support.leading import led
from tests.support.stages import timers

KEY = ("partner-1", "consent-1")
AMENDED = terms(payment=purpose(max_per_payment=(krw(99_000),)))


@pytest.fixture
async def rig(backend: Backend, dsn: str | None) -> ConsentRig:
    """The consents stage on this backend, whose identity provider knows the customer."""
    rig = ConsentRig()
    if dsn is None:
        backend.database.identity_links.rows[ISSUER, SUBJECT] = "customer-1"  # type: ignore[attr-defined]
    else:
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "INSERT INTO identity_link VALUES ($1, $2, 'customer-1', now()) ON CONFLICT DO NOTHING", ISSUER, SUBJECT
        )
        await connection.close()
    rig.store = backend.store  # type: ignore[assignment]
    rig.service = rig.new_service()
    return rig


async def told(backend: Backend) -> list[tuple[str, dict[str, Any]]]:
    reader = await led(backend.reader())
    try:
        return [(short(row.event), json.loads(row.event.body)) for row in await reader.read(100)]
    finally:
        await reader.release()


async def test_a_whole_life_with_repetitions(backend: Backend, rig: ConsentRig) -> None:
    asked, amended = document(terms()), document(AMENDED)
    grant = rig.proof("grant", digest(asked))
    batches = [
        [rig.record("request", terms=asked), rig.record("grant", authentication=grant)],
        [rig.record("suspend"), rig.record("grant", command_id="again", authentication=grant)],
        [rig.record("resume", authentication=grant), rig.record("revoke", because="it has a fault")],
        [rig.record("resume", authentication=rig.proof("resume", digest(asked)))],
        [rig.record("amend", terms=amended, authentication=rig.proof("amend", digest(amended)))],
    ]
    for batch in batches:
        await rig.take(*batch)
        await rig.take(*batch)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([payment(1)])
    await rig.take(rig.record("revoke"))
    await rig.take(rig.record("grant", command_id="again", authentication="a.0.z", issued_at=later(1).isoformat()))

    found = await told(backend)
    assert [(kind, body.get("status"), body.get("change"), body.get("actor")) for kind, body in found] == [
        ("changed", "AWAU", 1, "partner"),
        ("changed", "AUTH", 2, "customer"),
        ("changed", "SUSP", 3, "partner"),
        ("refused", "SUSP", None, None),
        ("refused", "SUSP", None, None),
        ("refused", None, None, None),
        ("changed", "AUTH", 4, "customer"),
        ("changed", "AUTH", 5, "customer"),
        ("changed", "CANC", 6, "partner"),
        ("refused", "CANC", None, None),
    ]
    assert [body["reason"]["code"] for kind, body in found if kind == "refused"] == ["TKSP", "DS17", "FF01", "AM05"]
    assert found[8][1]["in_flight"] == [str(payment(1).payment_id)]
    async with backend.store.reading() as uow:
        first, second = await uow.consents.versions(KEY)  # type: ignore[arg-type]
        consent = (await uow.consents.read([KEY]))[KEY]  # type: ignore[list-item,index]
    assert (json.loads(first.canonical), json.loads(second.canonical)) == (asked, amended)
    assert [v.proof and (v.proof.issuer, v.proof.level) for v in (first, second)] == [(ISSUER, 2)] * 2
    assert (consent.terms, consent.version, consent.status) == (AMENDED, 2, ConsentStatus.CANC)


async def test_time_ends_what_is_left_open(backend: Backend, rig: ConsentRig) -> None:
    await rig.take(rig.request(terms(valid_until=later(5))))
    rig.clock.advance(5)
    expiry = timers(backend.store, rig.clock, rig.observer).expiry
    assert [await expiry.expire(), await expiry.expire()] == [1, 0]
    assert [(kind, body["status"]) for kind, body in await told(backend)] == [("changed", "AWAU"), ("changed", "EXPD")]


async def test_proofs_are_forgotten_when_nothing_can_replay_them(backend: Backend, rig: ConsentRig) -> None:
    await rig.take(rig.request())
    record = rig.record("grant", authentication=rig.proof("grant", digest(document(terms()))))
    await rig.take(record)
    purge = timers(backend.store, rig.clock, rig.observer).used_proofs
    rig.clock.set(rig.identities.made[0].keep_until)
    assert await purge.purge() == 0
    rig.clock.advance(0.001)
    assert [await purge.purge(), await purge.purge()] == [1, 0]
