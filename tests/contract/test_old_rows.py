"""What is needed no more goes with evidence, and what is still needed stays: on the fakes and on PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import asyncpg
import pytest

from gateway.app.unit import GatewayUnit
from gateway.consents.rules.consent import Consent
from gateway.database.migrate import migrate
from gateway.database.unit import Store
from gateway.disclosure.rules.destruction import Destruction, OldRows
from gateway.marketing.rules.aggregates import Contribution
from gateway.sharing.rules.records import Holder, Notice, ShareRow
from schemas.consents import ConsentStatus
from schemas.primitives import ConsentId, PartnerId, PaymentId
from schemas.sharing import EraseCause
from tests.contract.conftest import Backend, MemoryBackend
from tests.contract.test_sharing import approval
from tests.support.builders import NOW, payment
from tests.support.domain_samples import terms

P1 = PartnerId("partner-1")
SECOND = timedelta(seconds=1)
ERASED = NOW - timedelta(days=4 * 366)
"""Longer ago than what the database holds to."""


def payment_id(number: int) -> PaymentId:
    return payment(number).payment_id


def holder(consent: str, round_: int, notice: int | None = None) -> Holder:
    told = None
    if notice is not None:
        told = Notice(UUID(int=notice), EraseCause.ENDED, NOW, NOW + timedelta(days=7))
    return Holder(
        key=(P1, ConsentId(consent)),
        customer_id="customer-1",
        affiliate_id="points",
        round=round_,
        reference=f"{consent}-{round_}",
        key_ids=("k",),
        since=NOW,
        uses=("loyalty",),
        notice=told,
    )


def share(number: int, consent: str, round_: int) -> ShareRow:
    return ShareRow(
        key=(P1, payment_id(number), "points"),
        consent_key=(P1, ConsentId(consent)),
        consent_version=1,
        round=round_,
        share_id=f"s{number}",
        key_id="k",
        uses=("loyalty",),
        fields=("month",),
        use_until=NOW + timedelta(days=1),
        shared_at=ERASED - SECOND,
    )


async def destroy(
    store: Store[GatewayUnit], what: OldRows, *, before: datetime, limit: int = 10
) -> Sequence[Destruction]:
    async with store.transaction() as uow:
        return await uow.old_rows.destroy(what, before=before, limit=limit)


async def confirm(backend: Backend, *notices: int, at: datetime = ERASED) -> None:
    async with backend.store.transaction() as uow:
        ids = [UUID(int=n) for n in notices]
        await uow.sharing.lock_notices(ids)
        await uow.sharing.confirm([(i, "topic/0/1", 1) for i in ids], now=at)


async def test_rounds_that_were_erased_go_and_what_numbers_the_next_one_stays(backend: Backend) -> None:
    await backend.put_approval(approval("points"))
    for name, status in (("lives", ConsentStatus.AUTH), ("over", ConsentStatus.CANC), ("waits", ConsentStatus.CANC)):
        await backend.put_consents(Consent(terms(consent_id=name), 1, status))
    async with backend.store.transaction() as uow:
        held = [holder("lives", 1, 1), holder("lives", 2, 2), holder("over", 1, 3), holder("over", 2, 5)]
        # Told to erase, and not confirmed.
        await uow.sharing.write_holders([*held, holder("waits", 1, 4)])
        shares = [share(1, "lives", 1), share(2, "lives", 2), share(3, "over", 1), share(4, "over", 1)]
        await uow.sharing.add_shares([*shares, share(5, "waits", 1), share(6, "over", 2)])
    await confirm(backend, 1, 2, 3)
    await confirm(backend, 5, at=ERASED + SECOND)
    assert await destroy(backend.store, OldRows.SHARES, before=ERASED - SECOND) == []
    rounds, gone = await destroy(backend.store, OldRows.SHARES, before=ERASED)
    told = [(d.kind, d.rows, d.rule, d.before) for d in (rounds, gone)]
    rule = "three years after the erasure"
    assert told == [("rounds of sharing", 2, rule, ERASED), ("shares with affiliates", 3, rule, ERASED)]
    assert rounds.digest == sha256(UUID(int=1).bytes + UUID(int=3).bytes).digest()
    assert rounds.number < gone.number
    async with backend.store.reading() as uow:
        keys = [(P1, ConsentId(c)) for c in ("lives", "over", "waits")]
        assert [(h.key[1], h.round) for h in await uow.sharing.holders(keys)] == [
            ("lives", 2),
            ("over", 2),
            ("waits", 1),
        ]
    async with backend.store.transaction() as uow:
        # Those that are still there are not new.
        again = [share(n, c, r) for n, c, r in ((1, "lives", 1), (2, "lives", 2), (5, "waits", 1), (6, "over", 2))]
        assert await uow.sharing.add_shares(again) == {again[0].key}
    assert await destroy(backend.store, OldRows.SHARES, before=ERASED) == []
    [last, _] = await destroy(backend.store, OldRows.SHARES, before=ERASED + SECOND)
    assert last.digest == sha256(UUID(int=5).bytes).digest()


async def test_as_many_rounds_go_at_a_time_as_were_asked_for(backend: Backend) -> None:
    await backend.put_approval(approval("points"))
    async with backend.store.transaction() as uow:
        await uow.sharing.write_holders([holder(f"gone-{n}", 1, n) for n in (1, 2, 3)])
    await confirm(backend, 1, 2, 3)
    counts = [[d.rows for d in await destroy(backend.store, OldRows.SHARES, before=ERASED, limit=2)] for _ in range(3)]
    assert counts == [[2], [1], []]


def counted(number: int) -> Contribution:
    return Contribution(payment_id(number), f"customer-{number}", "5411", "Seoul", 100)


async def test_what_a_table_counted_goes_all_at_once_and_the_table_stays(backend: Backend) -> None:
    async with backend.store.transaction() as uow:
        for revision, numbers in ((1, (1, 2)), (2, (1, 2, 3))):
            rows, at = [counted(n) for n in numbers], NOW + timedelta(days=revision)
            assert await uow.marketing.add_table("2025-W19", "KRW", revision, rows, now=at)
    before = NOW + timedelta(days=1)
    [gone] = await destroy(backend.store, OldRows.CONTRIBUTIONS, before=before)
    assert (gone.kind, gone.rows, gone.rule) == ("payments of aggregates", 2, "sixty days after the table")
    assert gone.digest == sha256(b"".join(sorted(payment_id(n).bytes for n in (1, 2)))).digest()
    async with backend.store.reading() as uow:
        tables = await uow.marketing.published("2025-W19", "KRW")
    assert [sorted(c.customer_id for c in table) for table in tables] == [[], [f"customer-{n}" for n in (1, 2, 3)]]
    assert await destroy(backend.store, OldRows.CONTRIBUTIONS, before=before) == []
    [last] = await destroy(backend.store, OldRows.CONTRIBUTIONS, before=NOW + timedelta(days=9), limit=1)
    assert last.rows == 3


@pytest.mark.parametrize("what", OldRows)
async def test_the_database_holds_to_a_least_age_whatever_is_asked_for(backend: Backend, what: OldRows) -> None:
    if isinstance(backend, MemoryBackend):
        pytest.skip("the fake believes its caller")
    now = datetime.now(UTC)
    await backend.put_approval(approval("points"))
    async with backend.store.transaction() as uow:
        await uow.sharing.write_holders([holder("gone", 1, 1)])
        await uow.marketing.add_table("2025-W19", "KRW", 1, [counted(1)], now=now - timedelta(days=59))
    await confirm(backend, 1, at=now - timedelta(days=3 * 365 - 1))
    assert await destroy(backend.store, what, before=now + timedelta(days=999)) == []


@pytest.mark.integration
async def test_what_operators_did_goes_with_its_proposals_and_who_signed_in(contract_dsn: str) -> None:
    """Past their time alone: a proposal with its decision, and never a decision without it."""
    old, young = "now() - interval '3 years 1 day'", "now() - interval '2 years'"
    connection = await asyncpg.connect(contract_dsn)
    try:
        await migrate(contract_dsn)
        transaction = connection.transaction()
        await transaction.start()
        # Whose login wrote a row, and when, is stamped by triggers: they are put aside to write what is old.
        await connection.execute("SET LOCAL session_replication_role = replica")
        for n, at in ((1, old), (2, young)):
            await connection.execute(
                f"INSERT INTO operator_action (action_id, phase, operator, command, subject, why, at)"
                f" SELECT '{UUID(int=n)}'::uuid, phase, 'kim', 'token add', 'customer-1', 'asked', {at}"
                f" FROM unnest('{{begun,done}}'::text[]) p (phase);"
                f"INSERT INTO console_sign_in (at, name, peer, outcome) VALUES ({at}, 'kim', 'p', 'let_in')"
            )
        for n, expires, decided in ((1, old, old), (2, old, young), (3, young, None), (4, old, None)):
            await connection.execute(
                f"INSERT INTO operator_proposal (proposal_id, kind, subject, payload, operator, why, expires_at)"
                f" VALUES ('{UUID(int=n)}', 'k', 'customer-1', '{{}}', 'kim', 'asked', {expires})"
            )
            if decided is not None:
                await connection.execute(
                    f"INSERT INTO operator_decision (proposal_id, decision, operator, why, decided_at)"
                    f" VALUES ('{UUID(int=n)}', 'approved', 'lee', 'fine', {decided})"
                )
        await connection.execute("SET LOCAL session_replication_role = origin")
        rows = await connection.fetch("SELECT kind, rows FROM destroy_old_operating(now(), 100)")
        assert {r["kind"]: r["rows"] for r in rows} == {
            "operators' actions": 2,
            "operators' proposals": 2,
            "decisions on proposals": 1,
            "attempts to sign in": 1,
        }
        left = await connection.fetch("SELECT proposal_id FROM operator_proposal ORDER BY proposal_id")
        assert [r[0].int for r in left] == [2, 3]
        assert await connection.fetch("SELECT kind FROM destroy_old_operating(now(), 100)") == []
        await transaction.rollback()
    finally:
        await connection.close()


@pytest.mark.parametrize("table", ["share", "marketing_table_payment", "operator_action", "console_sign_in"])
@pytest.mark.integration
async def test_what_is_young_cannot_be_deleted_by_anybody(contract_dsn: str, table: str) -> None:
    rows = {
        "share": "('p', gen_random_uuid(), 'points', 'c', 1, 1, 's', 'k', '{}', '{}', now() + interval '1 day', now())",
        "marketing_table_payment": "('2026-W01', 'KRW', 1, gen_random_uuid(), 'c', '5411', 'Seoul', 1)",
        "operator_action": "(gen_random_uuid(), 'done', 'kim', 'kim', 'token add', 'customer-1', 'asked', now())",
        "console_sign_in": "(now(), 'kim', 'p', 'let_in')",
    }
    connection = await asyncpg.connect(contract_dsn)
    try:
        await migrate(contract_dsn)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO marketing_table VALUES ('2026-W01', 'KRW', 1, now())")
        await connection.execute(f"INSERT INTO {table} VALUES {rows[table]}")
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await connection.execute(f"DELETE FROM {table}")
        await transaction.rollback()
    finally:
        await connection.close()


@pytest.mark.integration
async def test_what_a_table_counted_is_looked_at_once_however_much_it_is(contract_dsn: str) -> None:
    """A call for each row would take longer than a statement may: it would be begun again for ever."""
    connection = await asyncpg.connect(contract_dsn)
    try:
        await migrate(contract_dsn)
        asked = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'marketing_table_payment'::regclass AND tgtype & 9 = 9"
        assert await connection.fetch(asked) == []
    finally:
        await connection.close()
