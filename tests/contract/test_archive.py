"""The archive: payments that are final for long move into files, whole or not at all; their ids stay used for ever."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.app.archiving import archiving
from gateway.base.errors import StoreConflictError, StoreIntegrityError
from gateway.database.unit import Store
from gateway.identity.door import Authentic
from gateway.network.exchange import Operation
from gateway.payments.archive.service import Archived, ArchiveFileError, ArchiveSettings
from gateway.payments.archive.store import ArchiveRecord, ArchiveUnit, FileStatus
from gateway.payments.rules.ledger import Transfer, TransferKind
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.store import lock_or_find
from gateway.payments.unknown.store import FollowUp
from schemas.envelope import read_envelope
from schemas.events import EventType
from schemas.primitives import NetworkId, payment_id_of
from schemas.reasons import Reason, ReasonCode
from tests.contract.conftest import Backend
from tests.support.builders import (
    NETWORK,
    NOW,
    TERMINAL,
    dispatched_record,
    later,
    numbered_order,
    outbox_event,
    payment,
    trace,
)
from tests.support.domain_samples import consent, krw, merchant, purpose
from tests.support.instructions import cancellation, dispatched_refund, instruction_record, refund
from tests.support.leading import led
from tests.support.races import Crowd

AFTER = timedelta(days=30)
OLD = NOW - timedelta(days=60)
BOUNDS = ArchiveSettings(AFTER, file_payments=4, batch=2)
FINAL = (PaymentState.REJECTED, PaymentState.DECLINED, PaymentState.REVERSED, PaymentState.SETTLED)


class Clock:
    def now(self) -> Any:
        return NOW


class Files:
    """A folder in memory; what was written stays, as on a disk."""

    def __init__(self) -> None:
        self.content: dict[str, tuple[ArchiveRecord, ...]] = {}

    def write(self, name: str, records: Sequence[ArchiveRecord]) -> bytes:
        self.content[name] = tuple(records)
        return digest_of(records)

    def read(self, name: str, sha256: bytes) -> Sequence[ArchiveRecord]:
        if name not in self.content or digest_of(self.content[name]) != sha256:
            raise ArchiveFileError(name)
        return self.content[name]

    def discard(self, name: str) -> None:
        self.content.pop(name, None)


def digest_of(records: Sequence[ArchiveRecord]) -> bytes:
    return hashlib.sha256("".join(r.record for r in records).encode()).digest()


def old(number: int, *, state: PaymentState = PaymentState.SETTLED, **fields: Any) -> Payment:
    at = {"ordered_at": OLD, "decided_at": OLD, "changed_at": OLD + timedelta(seconds=2)}
    return payment(number, state=state, **(at | fields))


def refund_of(original: Payment, number: int, **fields: Any) -> Payment:
    return old(number, operation=Operation.REFUND, original_payment_id=original.payment_id, **fields)


def transfers(p: Payment, *kinds: TransferKind) -> list[tuple[PaymentKey, Transfer, Any]]:
    there, back = "network:net-a:receivable", "merchant:merchant-1:payable"
    sides = {TransferKind.AUTHORISED: (there, back), TransferKind.SETTLED: (back, there)}
    return [(p.key, Transfer(kind, *sides[kind], p.amount_minor, p.currency), OLD) for kind in kinds]


async def put(store: Store, *payments: Payment, even: bool = True) -> None:
    kinds = (TransferKind.AUTHORISED, TransferKind.SETTLED) if even else (TransferKind.AUTHORISED,)
    async with store.transaction() as uow:
        assert len(await uow.payments.insert(payments)) == len(payments)
        settled = [p for p in payments if p.state is PaymentState.SETTLED]
        await uow.payments.insert_transfers([t for p in settled for t in transfers(p, *kinds)])


async def archive(store: Store[ArchiveUnit], files: Files | None = None) -> Archived:
    return await archiving(store, files or Files(), Clock(), BOUNDS).run()


async def found(store: Store, *payments: Payment) -> list[Payment | None]:
    async with store.reading() as uow:
        stored = await uow.payments.find([p.key for p in payments])
    return [stored.get(p.key) for p in payments]


async def are_archived(store: Store, *payments: Payment) -> list[bool | None]:
    return [p and p.is_archived for p in await found(store, *payments)]


def as_archived(p: Payment) -> Payment:
    return replace(p, funding_token=None, windows=(), traceparent=None, sent_by=None, is_archived=True)


# --- what is told of it -----------------------------------------------------------------------------------------------


async def test_an_archived_payment_is_found_as_it_was_told(store: Store) -> None:
    reason = Reason(code=ReasonCode.AM04, text="insufficient funds", network_code="51")
    settled = old(1, approval_code="ABC123", version=3)
    declined = old(2, state=PaymentState.DECLINED, reason=reason, partner_id="partner-2")
    rejected = old(3, state=PaymentState.REJECTED, reason=Reason(code=ReasonCode.MD01, text="no consent"))
    refund = refund_of(settled, 4)
    await put(store, settled, declined, rejected, refund)
    assert (await archive(store)).payments == 4
    all_ = (settled, declined, rejected, refund)
    assert await found(store, *all_) == [as_archived(p) for p in all_]


async def test_the_file_holds_all_that_is_deleted(backend: Backend) -> None:
    files = Files()
    kept = old(1)
    await put(backend.store, kept)
    await archive(backend.store, files)
    [[record]] = files.content.values()
    assert record.key == kept.key
    stored = json.loads(record.record)
    assert stored["payment"]["order_id"] == kept.order_id
    assert sorted(t["kind"] for t in stored["transfers"]) == ["authorised", "settled"]
    assert {t["amount_minor"] for t in stored["transfers"]} == {kept.amount_minor}
    assert await backend.ledger() == []


# --- an id is used for ever -------------------------------------------------------------------------------------------


async def test_an_archived_id_is_never_inserted_again(store: Store) -> None:
    first = old(1)
    await put(store, first)
    await archive(store)
    again = payment(1, trace=trace(90))
    async with store.transaction() as uow:
        assert await uow.payments.insert([again, payment(2)]) == {payment(2).key}
    with pytest.raises(StoreConflictError):
        async with store.transaction() as uow:
            await uow.payments.add([payment(3), again])
    assert await found(store, payment(3)) == [None]
    assert await are_archived(store, first) == [True]


async def test_who_looked_before_and_inserts_after_is_refused(store: Store) -> None:
    async def look_and_insert() -> None:
        async with store.transaction() as uow:
            assert await uow.payments.find([payment(9).key]) == {}
            # It came, became final, and was archived meanwhile.
            await put(store, old(9))
            assert (await archive(store)).payments == 1
            await uow.payments.add([payment(9, trace=trace(91))])

    with pytest.raises(StoreConflictError):
        await look_and_insert()
    assert await are_archived(store, old(9)) == [True]


async def test_whoever_waited_for_a_payment_that_was_archived_finds_it_there(backend: Backend) -> None:
    first = old(1)
    await put(backend.store, first)
    files = Files()
    page = await page_of(backend.store)

    async def wait() -> Any:
        async with backend.store.transaction() as uow:
            return await lock_or_find(uow.payments, [first.key])

    file_id = await written(backend.store, page, files)
    async with backend.store.transaction() as uow:
        assert await uow.archive.move(file_id, page, before=NOW - AFTER) == {first.key}
        waiter = asyncio.create_task(wait())
        await backend.until_blocked(waiter)
    assert (await waiter)[first.key].is_archived


async def page_of(store: Store) -> Sequence[ArchiveRecord]:
    async with store.reading() as uow:
        return (await uow.archive.page(0, before=NOW - AFTER)).records


async def written(store: Store, records: Sequence[ArchiveRecord], files: Files) -> int:
    async with store.transaction() as uow:
        file = await uow.archive.begin(NOW)
    async with store.transaction() as uow:
        sha256 = files.write(file.name, records)
        await uow.archive.written(file.file_id, payments=len(records), sha256=sha256, now=NOW)
    return file.file_id


# --- what stays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [s for s in PaymentState if s not in FINAL])
async def test_what_is_not_final_stays(store: Store, state: PaymentState) -> None:
    await put(store, old(1, state=state))
    assert (await archive(store)).files == 0


@pytest.mark.parametrize("state", FINAL)
async def test_what_is_final_goes_when_it_is_old_enough(store: Store, state: PaymentState) -> None:
    young, due = (old(n, state=state, changed_at=NOW - AFTER - age) for n, age in enumerate(AGES))
    await put(store, young, due)
    assert (await archive(store)).payments == 1
    assert await are_archived(store, young, due) == [False, True]


AGES = (timedelta(0), timedelta(microseconds=1))


async def test_a_payment_whose_accounts_are_not_even_stays(store: Store) -> None:
    await put(store, old(1), even=False)
    assert (await archive(store)).files == 0


async def test_a_payment_and_its_refunds_go_together_or_stay_together(store: Store) -> None:
    young = old(1)
    young_refund = refund_of(young, 2, state=PaymentState.APPROVED)
    due = old(3)
    due_refunds = [refund_of(due, n) for n in (4, 5, 6)]
    alone = old(
        7,
        state=PaymentState.REJECTED,
        operation=Operation.REFUND,
        original_payment_id=payment_id_of("partner-1", "nothing"),
    )
    await put(store, young, young_refund, refund_of(young, 8), due, *due_refunds, alone)
    assert (await archive(store)).payments == 5
    assert await are_archived(store, young, young_refund, due, *due_refunds, alone) == [
        *(False, False),
        *(True, True, True, True, True),
    ]


async def test_a_payment_with_an_open_follow_up_stays(backend: Backend) -> None:
    one, two = old(1, state=PaymentState.REVERSED), old(2, state=PaymentState.DECLINED)
    await put(backend.store, one, two)
    async with backend.store.transaction() as uow:
        for queue, p, number in ((uow.reversals, one, 5), (uow.inquiries, two, 6)):
            await queue.queue([FollowUp(p.key, NetworkId(NETWORK), TERMINAL, number, OLD, queued_at=OLD)])
    assert (await archive(backend.store)).files == 0
    async with backend.store.transaction() as uow:
        await uow.reversals.claim(NetworkId(NETWORK), owner="w", now=OLD, lease_until=NOW, limit=9)
        assert await uow.reversals.close({one.key: "00"}, owner="w", now=OLD) == {one.key}
    assert (await archive(backend.store)).payments == 1


async def test_a_payment_with_an_event_that_somebody_is_still_to_read_stays(backend: Backend) -> None:
    told, untold = old(1), old(2)
    await put(backend.store, told, untold)
    async with backend.store.transaction() as uow:
        await uow.outbox.append([outbox_event("untold", key=str(untold.payment_id))])
    assert (await archive(backend.store)).payments == 1
    assert await are_archived(backend.store, told, untold) == [True, False]
    await read_all(backend)
    assert (await archive(backend.store)).payments == 1


async def read_all(backend: Backend) -> None:
    await backend.until_readable()
    reader = await led(backend.reader())
    rows = await reader.read(100)
    await reader.advance(rows[-1])
    await reader.release()
    await backend.disclose_all()
    await backend.share_all()


async def test_what_somebody_holds_or_has_changed_stays(backend: Backend) -> None:
    held, changed, free = old(1), old(2), old(3)
    await put(backend.store, held, changed, free)
    files = Files()
    page = await page_of(backend.store)
    file_id = await written(backend.store, page, files)
    async with backend.store.transaction() as uow:
        await uow.payments.lock([changed.key])
        await uow.payments.update([replace(changed, version=2)])
    async with backend.store.transaction() as uow:
        await uow.payments.lock([held.key])
        async with backend.store.transaction() as other:
            assert await other.archive.move(file_id, page, before=NOW - AFTER) == {free.key}


async def test_a_refund_that_came_meanwhile_keeps_its_original(store: Store) -> None:
    original = old(1)
    await put(store, original)
    page = await page_of(store)
    file_id = await written(store, page, Files())
    await put(store, refund_of(original, 2))
    async with store.transaction() as uow:
        assert await uow.archive.move(file_id, page, before=NOW - AFTER) == frozenset()


async def test_nothing_moves_for_a_file_that_is_not_written(store: Store) -> None:
    await put(store, old(1))
    page = await page_of(store)
    async with store.transaction() as uow:
        file = await uow.archive.begin(NOW)
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.archive.move(file.file_id, page, before=NOW - AFTER)
    async with store.transaction() as uow:
        await uow.archive.end(file.file_id, FileStatus.ABANDONED, NOW)
    with pytest.raises(StoreConflictError):
        async with store.transaction() as uow:
            await uow.archive.written(file.file_id, payments=1, sha256=b"x" * 32, now=NOW)


# --- crashes ----------------------------------------------------------------------------------------------------------


class Crash(Exception):  # noqa: N818 - a process ends
    pass


class Crashing:
    """A store and a folder behind which the process ends at its n-th step: before it, or when it has just been done."""

    def __init__(self, store: Store, files: Files, at: int) -> None:
        self._store, self._files = store, files
        self._left = at

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Crash

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._store.transaction() as uow:
            yield uow
            self.step()
        self.step()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        async with self._store.reading() as uow:
            yield uow

    def write(self, name: str, records: Sequence[ArchiveRecord]) -> bytes:
        self.step()
        sha256 = self._files.write(name, records)
        self.step()
        return sha256

    def read(self, name: str, sha256: bytes) -> Sequence[ArchiveRecord]:
        return self._files.read(name, sha256)

    def discard(self, name: str) -> None:
        self.step()
        self._files.discard(name)
        self.step()


STEPS = 14
"""Of a run: the file, its digest, three batches, the end."""


@pytest.mark.parametrize("at", range(1, STEPS + 1))
async def test_a_crash_between_any_two_steps_loses_and_doubles_nothing(backend: Backend, at: int) -> None:
    payments = [old(n) for n in range(1, 7)]
    await put(backend.store, *payments)
    files = Files()
    crashing = Crashing(backend.store, files, at)
    crashed = False
    try:
        await archiving(crashing, crashing, Clock(), BOUNDS).run()
    except Crash:
        crashed = True
    # Whatever is deleted stands in a file that is whole, and every id is known.
    await is_everywhere_once(backend.store, files, payments)
    # It crashes once more, somewhere in what makes up for it.
    again = Crashing(backend.store, files, 1 + at % 5)
    try:
        await archiving(again, again, Clock(), BOUNDS).run()
    except Crash:
        await is_everywhere_once(backend.store, files, payments)
    await archive(backend.store, files)
    assert await are_archived(backend.store, *payments) == [True] * len(payments)
    # Whoever abandons a file may end before it is deleted: then it stands there twice.
    assert {r.key for records in files.content.values() for r in records} == {p.key for p in payments}
    assert crashed
    async with backend.store.reading() as uow:
        assert list(await uow.archive.unfinished()) == []


class WrittenMeanwhile:
    """A store in which a file of a run that was killed is noted as written at last, before the first transaction."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store, self._files = store, files
        self._is_noted = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        if not self._is_noted:
            self._is_noted = True
            async with self._store.transaction() as uow:
                [file] = await uow.archive.unfinished()
                records = self._files.content[file.name]
                await uow.archive.written(file.file_id, payments=len(records), sha256=digest_of(records), now=NOW)
        async with self._store.transaction() as uow:
            yield uow

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        async with self._store.reading() as uow:
            yield uow


async def test_a_file_that_is_noted_as_written_after_all_is_not_deleted(backend: Backend) -> None:
    payments = [old(n) for n in range(1, 4)]
    await put(backend.store, *payments)
    files = Files()
    killed = Crashing(backend.store, files, 5)
    with pytest.raises(Crash):
        await archiving(killed, killed, Clock(), BOUNDS).run()
    [name] = files.content
    done = await archiving(WrittenMeanwhile(backend.store, files), files, Clock(), BOUNDS).run()
    assert done == Archived(files=1, payments=3)
    assert list(files.content) == [name]
    assert await are_archived(backend.store, *payments) == [True] * len(payments)


async def is_everywhere_once(store: Store, files: Files, payments: Sequence[Payment]) -> None:
    stored = await found(store, *payments)
    assert None not in stored
    recorded = {r.key for records in files.content.values() for r in records}
    assert {p.key for p in stored if p is not None and p.is_archived} <= recorded


async def test_a_file_that_is_lost_while_its_payments_move_stops_everything(backend: Backend) -> None:
    await put(backend.store, *[old(n) for n in range(1, 4)])
    files = Files()
    page = await page_of(backend.store)
    await written(backend.store, page, files)
    kept = dict(files.content)
    files.content.clear()
    with pytest.raises(ArchiveFileError):
        await archive(backend.store, files)
    assert await are_archived(backend.store, *[old(n) for n in range(1, 4)]) == [False] * 3
    files.content.update(kept)
    assert (await archive(backend.store, files)).payments == 3


async def test_what_is_young_is_left_alone_by_a_second_run(store: Store) -> None:
    await put(store, old(1), payment(2, state=PaymentState.SETTLED, changed_at=later(1)))
    assert (await archive(store)).payments == 1
    assert await archive(store) == Archived()


# --- orders that come again -------------------------------------------------------------------------------------------


async def paid_and_archived(backend: Backend) -> Crowd:
    """Order-1 is paid, settled long ago, and archived; all events are read."""
    await backend.put_consents(consent(payment=purpose()))
    await backend.put_merchants(merchant())
    world = Crowd(lambda: 0, backend.store, workers=1)
    await world.pay()
    stored = (await world.payments("order-1"))["order-1"]
    async with world.store.transaction() as uow:
        await uow.payments.lock([stored.key])
        then = replace(stored, state=PaymentState.SETTLED, version=3, changed_at=OLD)
        await uow.payments.update([then])
        await uow.payments.insert_transfers(transfers(then, TransferKind.SETTLED))
    await read_all(backend)
    assert (await archive(world.store)).payments == 1
    return world


async def told_since(backend: Backend) -> list[Any]:
    await backend.until_readable()
    reader = await led(backend.reader())
    rows = await reader.read(100)
    await reader.release()
    return [(row.event.event_type, json.loads(row.event.body)) for row in rows]


async def test_an_order_that_comes_again_is_told_where_its_archived_payment_stands(backend: Backend) -> None:
    world = await paid_and_archived(backend)
    standing = world.rig.host.standing_minor()
    async with world.results():
        await world.executions[0].take([dispatched_record(numbered_order(1, amount=krw(10_000)), offset=7)])
    [(kind, body)] = await told_since(backend)
    assert kind == EventType.PAYMENT_REPORTED
    stored = (await world.payments("order-1"))["order-1"]
    assert {k: body[k] for k in ("state", "version", "order_id", "rrn", "amount", "merchant_id")} == {
        "state": "settled",
        "version": 3,
        "order_id": "order-1",
        "rrn": stored.trace and stored.trace.rrn,
        "amount": {"currency": "KRW", "value": "10000"},
        "merchant_id": "merchant-1",
    }
    assert world.rig.host.standing_minor() == standing


async def test_another_order_under_an_archived_id_is_refused(backend: Backend) -> None:
    world = await paid_and_archived(backend)
    standing = world.rig.host.standing_minor()
    async with world.results():
        await world.executions[0].take([dispatched_record(numbered_order(1, amount=krw(20_000)), offset=7)])
    [(kind, body)] = await told_since(backend)
    assert (kind, body["reason"]["code"]) == (EventType.ORDER_REFUSED, ReasonCode.AM05)
    assert world.rig.host.standing_minor() == standing


async def test_an_archived_payment_is_neither_refunded_nor_cancelled(backend: Backend) -> None:
    world = await paid_and_archived(backend)
    standing = world.rig.host.standing_minor()
    async with world.results():
        await world.executions[0].take([dispatched_refund(refund(1, 4_000), 1)])
        record = instruction_record(cancellation(), 2)
        await world.cancel(Authentic(record, read_envelope(record.headers), cancellation(), b"c", NOW))
    told = {kind: body["reason"]["code"] for kind, body in await told_since(backend)}
    assert told == {
        EventType.PAYMENT_REJECTED: ReasonCode.TM01,
        EventType.CANCELLATION_REFUSED: ReasonCode.TM01,
    }
    assert world.rig.host.standing_minor() == standing
