"""PortabilityStore and Snapshots: requests, exports that one worker at a time makes, and data as of one moment."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from gateway.app.registries import open_registries, take_from_recipient
from gateway.base.errors import StoreUnfinishedError
from gateway.database import statements
from gateway.database.unit import Store
from gateway.network.exchange import Operation
from gateway.payments.rules.lifecycle import PaymentState
from gateway.portability.postgres import PostgresSnapshots
from gateway.portability.registry import PostgresRecipientRegistry
from gateway.portability.rules.records import (
    Export,
    ExportState,
    GoneRequest,
    Recipient,
    RecipientKey,
    RequestStatus,
    StoredRequest,
)
from gateway.proving.memory.portability import MemorySnapshots
from schemas.primitives import ConsentId, CustomerId, PartnerId
from schemas.reasons import Reason, ReasonCode
from tests.contract.conftest import Backend, MemoryBackend, PostgresBackend, postgres_backend
from tests.support.builders import NOW, later, payment
from tests.support.domain_samples import consent, merchant
from tests.support.messages import TRANSMISSION

P1 = PartnerId("partner-1")
ORG = "A1AAAA0000"
KEY = (P1, "request-1")
JWK = {"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}


def request(request_id: str = "request-1", *, org_code: str = ORG, **fields: Any) -> StoredRequest:
    asked = TRANSMISSION.model_copy(update={"partner_id": P1, "request_id": request_id, "rcv_org_code": org_code})
    defaults: dict[str, Any] = {
        "customer_id": CustomerId("customer-1"),
        "digest": b"digest",
        "status": RequestStatus.ACTIVE,
        "exports": 1,
        "next_due_at": later(70),
        "accessed_at": NOW,
        "reference": "mypay.portability.requests/0/1",
        "created_at": NOW,
    }
    return StoredRequest(asked, **(defaults | fields))


def export(number: int = 1, **fields: Any) -> Export:
    defaults: dict[str, Any] = {"created_at": later(number), "changed_at": later(number), "search_from": None}
    waiting = (P1, "request-1", number, "consent-1", ExportState.WAITING, 0)
    return Export(*waiting, **(defaults | fields))  # type: ignore[arg-type]


async def put_recipient(backend: Backend) -> None:
    if isinstance(backend, PostgresBackend):
        async with open_registries(backend.dsn) as registries:
            await registries.recipients.add(ORG, "A bank")


async def begun(store: Store, *exports: Export) -> None:
    async with store.transaction() as uow:
        assert await uow.portability.add([request()]) == {KEY}
        await uow.portability.add_exports(exports)


async def test_a_request_is_stored_once_and_without_its_proof(store: Store) -> None:
    proven = replace(request(), request=request().request.model_copy(update={"authentication": "a.b.c"}))
    async with store.transaction() as uow:
        assert await uow.portability.add([proven]) == {KEY}
        assert await uow.portability.add([proven]) == frozenset()
        assert await uow.portability.add([]) == frozenset()
    async with store.reading() as uow:
        assert await uow.portability.requests([KEY, (P1, "other")]) == {KEY: request()}
        assert await uow.portability.requests([]) == {}
        assert await uow.portability.recipients([]) == {}


async def test_an_export_is_claimed_by_one_worker_until_its_lease_runs_out(store: Store) -> None:
    await begun(store, export(2), export(1))
    async with store.transaction() as uow, store.transaction() as other:
        first = await uow.portability.claim(worker="a", now=later(10), until=later(60))
        second = await other.portability.claim(worker="b", now=later(10), until=later(60))
        assert [c and (c[0].number, c[0].attempt, c[1]) for c in (first, second)] == [
            (1, 1, request()),
            (2, 1, request()),
        ]
    async with store.transaction() as uow:
        assert await uow.portability.claim(worker="c", now=later(59), until=later(99)) is None
        again = await uow.portability.claim(worker="c", now=later(60), until=later(99))
        assert again is not None
        assert (again[0].attempt, again[0].state, again[0].leased_by) == (2, ExportState.SENDING, "c")


async def test_exports_are_claimed_in_turns_of_their_partners(store: Store) -> None:
    other = PartnerId("partner-2")
    await begun(store, *(export(n) for n in (1, 2, 3)))
    asked = request()
    theirs = replace(asked, request=asked.request.model_copy(update={"partner_id": other}))
    async with store.transaction() as uow:
        await uow.portability.add([theirs])
        await uow.portability.add_exports([replace(export(9), partner_id=other), replace(export(8), partner_id=other)])

    async def claim(after: str) -> tuple[str, int] | None:
        async with store.transaction() as uow:
            found = await uow.portability.claim(worker="a", now=later(10), until=later(60), after=after)
            return found and (found[0].partner_id, found[0].number)

    claims = [await claim(after) for after in ("", P1, other, other, P1, P1)]
    assert claims == [(P1, 1), (other, 8), (P1, 2), (P1, 3), (other, 9), None]


async def test_who_lost_an_export_cannot_go_on_with_it(store: Store) -> None:
    await begun(store, export())
    claims = []
    for n in (1, 2):
        async with store.transaction() as uow:
            claim = await uow.portability.claim(worker="a", now=later(60 * n), until=later(60 * n + 1))
            assert claim is not None
            claims.append(claim[0])
    async with store.transaction() as uow:
        assert not await uow.portability.hold(claims[0], later(500), chunks=9, consent_version=9)
        assert await uow.portability.hold(claims[1], later(500), chunks=2, consent_version=3)
        standing = await uow.portability.lock_export(claims[1])
        assert standing == replace(claims[1], leased_until=later(500), sent_chunks=2, sent_version=3)
        cleared = replace(standing, attempt=7, sent_chunks=0, sent_version=None)
        await uow.portability.update_export(cleared)
        assert await uow.portability.lock_export(claims[1]) == cleared
        assert await uow.portability.lock_export(export(9)) is None


async def test_an_export_ends_once_and_is_claimed_no_more(store: Store) -> None:
    await begun(store, export(1), export(2))
    async with store.transaction() as uow:
        claim = await uow.portability.claim(worker="a", now=later(10), until=later(60))
        assert claim is not None
        done = replace(
            claim[0],
            state=ExportState.COMPLETE,
            snapshot_at=later(11),
            receipt="a.b.c",
            leased_by=None,
            leased_until=None,
            changed_at=later(12),
        )
        await uow.portability.update_export(done)
    async with store.transaction() as uow:
        assert await uow.portability.last_snapshots([KEY]) == {KEY: later(11)}
        assert await uow.portability.last_snapshots([]) == {}
        other = await uow.portability.claim(worker="a", now=later(99), until=later(199))
        assert other is not None
        void = replace(
            other[0], state=ExportState.VOID, reason=Reason(code=ReasonCode.MD01, text="revoked"), leased_until=None
        )
        await uow.portability.update_export(void)
    async with store.transaction() as uow:
        assert await uow.portability.claim(worker="a", now=later(999), until=later(999)) is None
        assert await uow.portability.lock_export(void) == void


async def test_what_is_due_is_moved_on_and_what_is_asked_for_once_is_done(store: Store) -> None:
    once = request("once", next_due_at=None)
    async with store.transaction() as uow:
        await uow.portability.add([request(), once])
    async with store.transaction() as uow:
        assert await uow.portability.claim_due(now=later(69), limit=5) == []
        [due] = await uow.portability.claim_due(now=later(70), limit=5)
        async with store.transaction() as other:
            assert await other.portability.claim_due(now=later(70), limit=5) == []
        await uow.portability.update_requests([replace(due, exports=2, next_due_at=later(140))])
        await uow.portability.finish_request(KEY)
        await uow.portability.finish_request(once.key)
        await uow.portability.access([replace(due, accessed_at=later(5)), replace(due, accessed_at=later(5))][:1])
    async with store.reading() as uow:
        found = await uow.portability.requests([KEY, once.key])
        moved = found[KEY]
        assert (moved.exports, moved.next_due_at, moved.status) == (2, later(140), RequestStatus.ACTIVE)
        assert moved.accessed_at == later(5)
        assert found[once.key].status is RequestStatus.DONE


async def test_what_is_asked_for_one_recipient_is_no_access_of_another(backend: Backend) -> None:
    """Six months of silence stop what is scheduled: also of who has asked another recipient meanwhile."""
    await put_recipient(backend)
    consent_key, other = (P1, ConsentId("consent-1")), "B2BBBB0000"
    ours, theirs = (P1, "ours"), (P1, "theirs")
    async with backend.store.transaction() as uow:
        await uow.portability.add([request("ours"), request("theirs", org_code=other)])
    async with backend.store.transaction() as uow:
        await uow.pulls.access(consent_key, ORG, later(9))
    async with backend.store.reading() as uow:
        found = await uow.portability.requests([ours, theirs])
        assert [found[ours].accessed_at, found[theirs].accessed_at] == [later(9), NOW]
        assert await uow.pulls.accessed_at(consent_key, other) == NOW
    async with backend.store.transaction() as uow:
        await uow.portability.access([request("new", org_code=other, accessed_at=later(20))])
    async with backend.store.reading() as uow:
        found = await uow.portability.requests([ours, theirs])
        assert [found[ours].accessed_at, found[theirs].accessed_at] == [later(9), later(20)]
        assert await uow.pulls.accessed_at(consent_key, ORG) == later(9)
        assert await uow.pulls.accessed_at(consent_key, other) == later(20)


async def test_an_access_keeps_what_another_has_moved_on_meanwhile(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.portability.add([request()])

    async def access() -> None:
        async with store.transaction() as uow:
            await uow.portability.access([request(accessed_at=later(5))])

    async with store.transaction() as uow:
        [due] = await uow.portability.claim_due(now=later(70), limit=5)
        accessing = asyncio.create_task(access())
        await uow.portability.update_requests([replace(due, exports=2, next_due_at=later(140))])
        # It waits for the row where it has got so far; else it begins after the commit, which must end the same.
        await asyncio.sleep(0)
    await accessing
    async with store.reading() as uow:
        moved = (await uow.portability.requests([KEY]))[KEY]
    assert (moved.exports, moved.next_due_at, moved.accessed_at) == (2, later(140), later(5))


async def test_the_newest_key_that_counts_is_a_recipient_s(backend: Backend) -> None:
    org = "A1AAAA0000"
    match backend:
        case MemoryBackend():
            backend.database.recipients.rows[org] = Recipient(org, True, RecipientKey("key-2", JWK))
        case PostgresBackend():
            async with backend.store.transacting() as connection:
                registry = PostgresRecipientRegistry(connection)
                assert await registry.add(org, "A bank")
                assert not await registry.add(org, "Another")
                for n in (1, 2, 3):
                    assert await registry.add_key(
                        org, f"key-{n}", JWK if n == 2 else {**JWK, "x": f"{n}"}, now=later(n)
                    )
                assert await registry.disable_key(org, "key-3", now=later(9)) == later(9)
                assert await registry.disable_key(org, "key-4", now=later(9)) is None
    async with backend.store.reading() as uow:
        found = await uow.portability.recipients([org, "B2BBBB0000"])
    assert found == {org: Recipient(org, True, RecipientKey("key-2", json.loads(json.dumps(JWK))))}


def snapshots_of(backend: Backend) -> Any:
    if isinstance(backend, MemoryBackend):
        return MemorySnapshots(backend.database)
    return PostgresSnapshots(backend.store)  # type: ignore[arg-type]


async def test_a_snapshot_is_of_one_customer_at_one_moment(backend: Backend) -> None:
    await backend.put_consents(consent(), consent(consent_id="theirs", customer_id="customer-2"))
    await backend.put_merchants(merchant())
    mine = [payment(n, state=PaymentState.APPROVED, approval_code=f"A{n}", changed_at=later(n)) for n in range(1, 6)]
    others = [payment(91, consent_id="theirs"), payment(92, partner_id="partner-2")]
    async with backend.store.transaction() as uow:
        await uow.payments.insert([*mine, *others])
    snapshots = snapshots_of(backend)
    found = []
    async with snapshots.open(P1, CustomerId("customer-1"), since=None, size=2) as pieces:
        async for piece in pieces:
            assert len(piece) <= 2
            found.extend(piece)
            # What commits meanwhile is of another moment.
            async with backend.store.transaction() as uow:
                await uow.payments.insert([payment(100 + len(found), changed_at=later(99))])
    assert {f.approval_code for f in found} == {p.approval_code for p in mine}
    assert {f.changed_at for f in found} == {p.changed_at for p in mine}
    assert {f.mcc for f in found} == {"5411"}
    async with snapshots.open(P1, CustomerId("customer-1"), since=later(4), size=50) as pieces:
        late = [f async for piece in pieces for f in piece if f.approval_code is not None]
    assert [f.approval_code for f in late] == ["A5"]


async def test_a_purchase_that_a_refund_corrected_is_among_what_changed(backend: Backend) -> None:
    await backend.put_consents(consent())
    paid, other = (payment(n, state=PaymentState.SETTLED, changed_at=later(n)) for n in (1, 2))
    back = payment(
        3, operation=Operation.REFUND, original_payment_id=paid.payment_id, state=PaymentState.APPROVED,
        amount_minor=7, changed_at=later(9),
    )  # fmt: skip
    async with backend.store.transaction() as uow:
        await uow.payments.insert([paid, other, back])
    async with snapshots_of(backend).open(P1, CustomerId("customer-1"), since=later(8), size=50) as pieces:
        found = {f.payment_id: f.refunded_minor async for piece in pieces for f in piece}
    assert found == {str(paid.payment_id): 7, str(back.payment_id): 0}


async def test_what_nobody_asked_about_for_a_year_is_destroyed_with_evidence_and_its_id_stays(backend: Backend) -> None:
    store, last = backend.store, {"status": RequestStatus.STOPPED, "next_due_at": None}
    void, other = {"state": ExportState.VOID}, (P1, "other")
    async with store.transaction() as uow:
        await uow.portability.add(
            [
                request("silent", **last),
                request("other", **last, digest=b"another digest", reference="mypay.portability.requests/0/2"),
                # None of these goes: its transmission was not stopped yet, an export is on its way, it is too young.
                request("active", next_due_at=None),
                request("on-its-way", **last),
                request("younger", **last | {"accessed_at": later(1)}),
            ]
        )
        exports = [("silent", void), ("on-its-way", {}), ("on-its-way", void), ("younger", void)]
        await uow.portability.add_exports(
            [replace(export(n), request_id=name, **fields) for n, (name, fields) in enumerate(exports)]
        )
    await put_recipient(backend)
    async with store.transaction() as uow:
        await uow.pulls.access((P1, "consent-2"), ORG, NOW)  # type: ignore[arg-type]
        await uow.pulls.access((P1, "consent-3"), ORG, later(1))  # type: ignore[arg-type]
    async with store.transaction() as uow:
        requests, exported, accesses = await uow.portability.destroy_silent(before=NOW, limit=10)
    told = [(d.kind, d.rows, d.rule, d.before) for d in (requests, exported, accesses)]
    assert told == [
        ("transmission requests", 2, "a year without access", NOW),
        ("exports of transmission requests", 1, "a year without access", NOW),
        ("accesses through the API", 1, "a year without access", NOW),
    ]
    assert requests.number < exported.number < accesses.number
    # By partner and id.
    assert requests.digest == sha256(b"another digest" + b"digest").digest()
    async with store.transaction() as uow:
        assert await uow.portability.destroy_silent(before=NOW, limit=10) == []
    async with store.reading() as uow:
        names = [(P1, name) for name in ("silent", "other", "active", "on-its-way", "younger")]
        assert set(await uow.portability.requests(names)) == set(names[2:])
        gone = await uow.portability.gone([*names, (P1, "never")])
        assert set(gone) == set(names[:2])
        assert gone[other] == GoneRequest(b"another digest", "mypay.portability.requests/0/2")
        assert await uow.portability.gone([]) == {}
        assert await uow.pulls.accessed_at((P1, "consent-2"), ORG) is None  # type: ignore[arg-type]
        assert await uow.pulls.accessed_at((P1, "consent-3"), ORG) == later(1)  # type: ignore[arg-type]
    async with store.transaction() as uow:
        assert [d.rows for d in await uow.portability.destroy_silent(before=later(1), limit=1)] == [1, 1, 1]


async def test_the_database_holds_to_a_year_whatever_is_asked_for(backend: Backend) -> None:
    if isinstance(backend, MemoryBackend):
        pytest.skip("the fake believes its caller")
    now = datetime.now(UTC)
    younger = request("younger", status=RequestStatus.DONE, next_due_at=None, accessed_at=now - timedelta(days=364))
    async with backend.store.transaction() as uow:
        await uow.portability.add([younger])
        assert await uow.portability.destroy_silent(before=now + timedelta(days=999), limit=10) == []


taken_from_a_recipient = pytest.mark.parametrize(
    "write",
    [
        lambda r: r.set_active(ORG, active=False),
        lambda r: r.set_certificate(ORG, None),
        lambda r: r.disable_key(ORG, "key-1", now=later(1)),
    ],
    ids=["disabled", "certificate withdrawn", "key disabled"],
)


@pytest.mark.integration
@taken_from_a_recipient
async def test_what_was_being_decided_is_over_once_something_is_taken_from_a_recipient(
    contract_dsn: str, write: Any
) -> None:
    begun = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%snapshot_xmin%AS over'"
    async with postgres_backend(contract_dsn) as backend:
        async with open_registries(backend.dsn) as registries:
            assert await registries.recipients.add(ORG, "A bank")
            assert await registries.recipients.add_key(ORG, "key-1", JWK, now=NOW)
        await backend.put_consents(consent())
        async with backend.store.transaction() as deciding:
            assert await deciding.consents.lock([(P1, ConsentId("consent-1"))])
            assert (await deciding.portability.recipients([ORG]))[ORG].active
            taking = asyncio.create_task(take_from_recipient(backend.dsn, write))
            while not await backend.connection.fetchval(begun):
                assert not taking.done()
            assert not taking.done()
        assert await taking


async def _known_of_recipient(backend: PostgresBackend) -> object:
    async with open_registries(backend.dsn) as registries, backend.store.reading() as uow:
        return await uow.portability.recipients([ORG]), await registries.recipients.lock_certificate(ORG)


@pytest.mark.integration
@taken_from_a_recipient
async def test_what_is_not_over_in_time_is_told(contract_dsn: str, monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
    monkeypatch.setattr(statements, "DECIDED_WITHIN_S", 0.01)
    async with postgres_backend(contract_dsn) as backend:
        async with open_registries(backend.dsn) as registries:
            assert await registries.recipients.add(ORG, "A bank")
            assert await registries.recipients.set_certificate(ORG, "a" * 64)
            assert await registries.recipients.add_key(ORG, "key-1", JWK, now=NOW)
        await backend.put_consents(consent())
        before = await _known_of_recipient(backend)
        async with backend.store.transaction() as deciding:
            assert await deciding.consents.lock([(P1, ConsentId("consent-1"))])
            with pytest.raises(StoreUnfinishedError, match=r"not over after 0\.01 s"):
                await take_from_recipient(backend.dsn, write)
        assert await _known_of_recipient(backend) != before
        assert not await take_from_recipient(backend.dsn, lambda r: r.set_active("B2BBBB0000", active=False))
