"""DisclosureLog: every use once, in one chain, whoever writes and whenever it is cut off."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from gateway.app.disclosure import DisclosureConnections, disclosure
from gateway.app.runtime import Runtime
from gateway.base.errors import StoreConflictError, StoreUnavailableError
from gateway.base.process import SilentObserver
from gateway.consents.rules.consent import Consent
from gateway.disclosure.keeping import DisclosureKeepingService
from gateway.disclosure.rules import sequence
from gateway.disclosure.rules.entry import SALT_BYTES, Kind, Use
from gateway.disclosure.rules.sequence import Head, append, close_due
from gateway.disclosure.sequencer import SequencerService, SequencerSettings
from gateway.disclosure.store import DisclosureLog
from gateway.network.exchange import Operation
from gateway.outbox.bundles import bundle_type
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, event_type_of
from gateway.payments.transitions import payment_events
from gateway.proving.memory import Database, MemoryClock, MemoryStore
from schemas.codec import decode, encode_json
from schemas.consents import ConsentStatus
from schemas.disclosure import DisclosureNotice
from schemas.events import EventType
from schemas.topics import events_topic
from tests.contract.conftest import Backend
from tests.support.builders import NOW, later, payment
from tests.support.domain_samples import terms
from tests.support.leading import led, tell
from tests.support.roots import ROOT_SIGNER
from tests.support.stages import timers

HOUR = timedelta(hours=1)


def told(of: Payment, *, at: float = 0.0) -> OutboxEvent:
    """An event that says nothing of its payment itself: what it was is asked of the payment's row."""
    return OutboxEvent(
        topic=events_topic(of.partner_id),
        key=str(of.payment_id),
        event_id=f"{of.payment_id}:{of.version}",
        event_type=event_type_of(of),
        occurred_at=later(at),
        body=b"{}",
    )


async def pay(backend: Backend, *payments: Payment) -> None:
    """Payments as execution writes them: each with its event, in one transaction; returned once they can be read."""
    async with backend.store.transaction() as uow:
        await uow.payments.insert(payments)
        await uow.outbox.append([told(p) for p in payments])
    await backend.until_readable()


@pytest.fixture(autouse=True)
async def consent(backend: Backend) -> None:
    await backend.put_consents(Consent(terms(), 1, ConsentStatus.AUTH))


def sequencer(log: DisclosureLog, clock: MemoryClock | None = None, *, batch: int = 100) -> SequencerService:
    runtime = Runtime(
        store=MemoryStore(Database()), observer=SilentObserver(), clock=clock or MemoryClock(NOW), worker="w"
    )
    connections = DisclosureConnections(log=log, sign=ROOT_SIGNER.sign, random=bytes)
    return disclosure(runtime, connections, SequencerSettings(batch=batch, period=HOUR)).service


async def leading(backend: Backend) -> DisclosureLog:
    return await led(backend.disclosure_log())


async def drain(log: DisclosureLog, clock: MemoryClock | None = None, *, batch: int = 100) -> Head:
    """Everything that waits, written."""
    service = sequencer(log, clock, batch=batch)
    head, more = await log.head(), True
    while more:
        before = head
        head, more = await service.step(head)
        more = more or head != before
    return head


async def references(backend: Backend) -> list[tuple[Kind, str]]:
    return [(u.kind, u.reference) for u in await backend.uses()]


async def test_a_use_is_told_with_all_that_its_payment_and_consent_say(backend: Backend) -> None:
    refund = payment(2, operation=Operation.REFUND, amount_minor=7, original_payment_id=payment(1).payment_id)
    await pay(backend, payment(1), refund)
    await drain(await leading(backend))
    first, second = await backend.uses()
    assert first == Use(
        kind=Kind.PAYMENT,
        customer_id=terms().customer_id,
        partner_id="partner-1",
        consent_id="consent-1",
        consent_version=1,
        recipient="merchant-1",
        purpose="payment",
        legal_basis="consent",
        what="purchase of 10000 KRW by net-a",
        reference=str(payment(1).payment_id),
        occurred_at=NOW,
    )
    assert (second.kind, second.what) == (Kind.REFUND, "refund of 7 KRW by net-a")
    assert await backend.findings() == (2, [])


async def test_what_the_event_itself_says_is_told_as_its_payments_row_would_be(backend: Backend) -> None:
    """Events of earlier releases lack the consent's version; both are the same entry."""
    original = payment(1).payment_id
    sent = [
        payment(1, consent_version=3),
        payment(2, operation=Operation.REFUND, amount_minor=705, currency="USD", original_payment_id=original),
        payment(3, amount_minor=1, currency="USD", merchant_id="가게"),
    ]
    async with backend.store.transaction() as uow:
        await uow.payments.insert(sent)
        await uow.outbox.append([told(p) for p in sent] + payment_events(sent))
    await backend.until_readable()
    await drain(await leading(backend))
    uses = await backend.uses()
    assert uses[:3] == uses[3:]
    assert [(u.consent_version, u.what, u.recipient) for u in uses[3:]] == [
        (3, "purchase of 10000 KRW by net-a", "merchant-1"),
        (1, "refund of 7.05 USD by net-a", "merchant-1"),
        (1, "purchase of 0.01 USD by net-a", "가게"),
    ]
    assert await backend.findings() == (6, [])


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
async def test_every_use_is_one_entry_whatever_the_batches(backend: Backend, batch: int) -> None:
    paid = [payment(n) for n in range(1, 8)]
    for one in paid[:4]:
        await pay(backend, one)
    await pay(backend, *paid[4:])
    await drain(await leading(backend), batch=batch)
    assert await references(backend) == [(Kind.PAYMENT, str(p.payment_id)) for p in paid]
    assert await backend.findings() == (7, [])


def shared(number: int) -> OutboxEvent:
    """A share, as sharing tells the consent's partner of it."""
    body = {
        "partner_id": "partner-1",
        "consent_id": "consent-1",
        "consent_version": 1,
        "payment_id": str(payment(number).payment_id),
        "affiliate_id": "points",
        "purposes": "loyalty",
        "legal_basis": "the customer's consent",
        "fields": "category",
        "use_until": "2027-01-01T00:00:00Z",
        "occurred_at": NOW.isoformat(),
    }
    name = f"{body['payment_id']}:points"
    return OutboxEvent(events_topic("partner-1"), "consent-1", name, EventType.CONSENT_SHARED, NOW, encode_json(body))


@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_each_use_of_a_bundle_is_an_entry_with_a_source_of_its_own(backend: Backend, batch: int) -> None:
    async with backend.store.transaction() as uow:
        await uow.outbox.append_bundled([shared(n) for n in range(1, 6)])
        await uow.outbox.append([shared(6)])
    await backend.until_readable()
    log = await leading(backend)
    assert len({number for _, number, _ in (await log.read((0, 0), 100)).uses}) == 6
    await drain(log, batch=batch)
    assert await references(backend) == [(Kind.SHARE, str(payment(n).payment_id)) for n in range(1, 7)]
    assert await backend.findings() == (6, [])


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [5, 1, 4]), (3, [5, 1, 4]), (5, [5, 5]), (6, [6, 4]), (9, [6, 4]), (10, [10])]
)
async def test_no_more_is_read_than_asked_for_but_of_one_row(backend: Backend, limit: int, sizes: list[int]) -> None:
    """Else every look would read bundles by the thousand, and use the first few."""
    async with backend.store.transaction() as uow:
        await uow.outbox.append_bundled([shared(n) for n in range(1, 6)])
        await uow.outbox.append([shared(6)])
        await uow.outbox.append_bundled([shared(n) for n in range(7, 11)])
    await backend.until_readable()
    log = await leading(backend)
    place, found = (0, 0), []
    while (read := await log.read(place, limit)).uses:
        found.append(read.uses)
        place = read.to
        assert read.is_full or len(found) == len(sizes)
    assert [len(uses) for uses in found] == sizes
    told = [use.reference for uses in found for _, _, use in uses]
    assert told == [str(payment(n).payment_id) for n in range(1, 11)]


async def test_a_bundle_that_does_not_fit_under_a_root_closes_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All uses of a row become entries in one step, for the cursor passes rows."""
    monkeypatch.setattr(sequence, "ROOT_ENTRIES_MAX", 4)
    sizes = (3, 2, 1, 4, 5, 1)
    numbers = iter(range(1, 100))
    for size in sizes:
        async with backend.store.transaction() as uow:
            await uow.outbox.append_bundled([shared(next(numbers)) for _ in range(size)])
    await backend.until_readable()
    head = await drain(await leading(backend))
    assert await references(backend) == [(Kind.SHARE, str(payment(n).payment_id)) for n in range(1, 17)]
    # 3 | 2 and 1 | 4 | 5, which no root has room for, has one of its own | 1 is under none yet.
    assert (head.seq, head.root_number, head.root_seq) == (16, 4, 15)
    assert await backend.findings() == (16, [])


async def test_what_is_no_use_is_passed_over(backend: Backend) -> None:
    approved = payment(1, state=PaymentState.APPROVED, version=2)
    async with backend.store.transaction() as uow:
        await uow.outbox.append([told(approved), told(replace(approved, state=PaymentState.SETTLED))])
    head = await drain(await leading(backend))
    assert (await backend.uses(), head.seq) == ([], 0)
    assert head.id > 0


async def test_a_rejected_payment_is_told_as_withdrawn_only_if_it_was_an_intent(backend: Backend) -> None:
    never = payment(1, state=PaymentState.REJECTED)
    withdrawn = payment(2)
    await pay(backend, never, withdrawn, payment(3, state=PaymentState.REJECTED, consent_id="no-such-consent"))
    async with backend.store.transaction() as uow:
        await uow.payments.lock([withdrawn.key])
        gone = replace(withdrawn, state=PaymentState.REJECTED, version=2)
        await uow.payments.update([gone])
        await uow.outbox.append([told(gone)])
    await drain(await leading(backend))
    reference = str(withdrawn.payment_id)
    assert await references(backend) == [(Kind.PAYMENT, reference), (Kind.WITHDRAWN, reference)]


async def test_a_use_that_tells_nothing_is_an_entry_and_stops_nobody(backend: Backend) -> None:
    lost = OutboxEvent(events_topic("partner-1"), "no id", "lost", EventType.PAYMENT_SENT, NOW, b"{}")
    async with backend.store.transaction() as uow:
        await uow.outbox.append([lost, told(payment(9))])
    await pay(backend, payment(1))
    await drain(await leading(backend))
    assert await references(backend) == [
        (Kind.UNREADABLE, "lost"),
        (Kind.UNREADABLE, told(payment(9)).event_id),
        (Kind.PAYMENT, str(payment(1).payment_id)),
    ]
    assert await backend.findings() == (3, [])


@pytest.mark.parametrize("key", ["-" * 36, "0" * 36, "no id", ""])
async def test_a_payment_s_event_with_a_key_that_is_no_id_stops_nobody(backend: Backend, key: str) -> None:
    lost = OutboxEvent(events_topic("partner-1"), key, "lost", EventType.PAYMENT_SENT, NOW, b"{}")
    async with backend.store.transaction() as uow:
        await uow.outbox.append([lost])
    await pay(backend, payment(1))
    await drain(await leading(backend))
    assert await references(backend) == [(Kind.UNREADABLE, "lost"), (Kind.PAYMENT, str(payment(1).payment_id))]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff",
        b"[]",
        b"{}",
        b'{"partner_id": "partner-1", "consent_id": null}',
        b'{"partner_id": "partner-1", "consent_id": "consent-1\\u0000"}',
        b'{"partner_id": "partner-1", "consent_id": "consent-1", "consent_id": "consent-1"}',
    ],
)
async def test_a_body_that_tells_of_no_use_is_an_entry_and_stops_nobody(backend: Backend, body: bytes) -> None:
    lost = OutboxEvent(events_topic("partner-1"), "r", "lost", EventType.CONSENT_SHARED, NOW, body)
    async with backend.store.transaction() as uow:
        await uow.outbox.append([lost])
    await pay(backend, payment(1))
    await drain(await leading(backend))
    assert await references(backend) == [(Kind.UNREADABLE, "lost"), (Kind.PAYMENT, str(payment(1).payment_id))]
    assert await backend.findings() == (2, [])


async def test_a_row_that_cannot_be_read_is_an_entry_and_stops_nobody(backend: Backend) -> None:
    lost = shared(1)
    damaged = replace(lost, key="", event_type=bundle_type(lost.event_type), body=b"?")
    async with backend.store.transaction() as uow:
        await uow.outbox.append([damaged])
    await pay(backend, payment(1))
    await drain(await leading(backend))
    assert await references(backend) == [(Kind.UNREADABLE, lost.event_id), (Kind.PAYMENT, str(payment(1).payment_id))]
    assert await backend.findings() == (2, [])


async def test_whose_consent_it_is_is_found_once_there_is_one(backend: Backend) -> None:
    """Customers of consents are kept in memory: that there was none is not."""
    under = {"consent_id": "consent-2"}
    log = await leading(backend)
    await pay(backend, payment(1, **under))
    await drain(log)
    await backend.put_consents(Consent(terms(consent_id="consent-2", customer_id="customer-2"), 1, ConsentStatus.AUTH))
    for number in (2, 3):
        await pay(backend, payment(number, **under), payment(number + 10))
        await drain(log)
    assert [u.customer_id for u in await backend.uses()] == [None, *["customer-2", terms().customer_id] * 2]


async def test_an_export_is_told_by_its_own_event(backend: Backend) -> None:
    body = encode_json(
        {
            "partner_id": "partner-1",
            "consent_id": "consent-1",
            "rcv_org_code": "ORG7",
            "export_id": "export-1",
            "records": 12,
            "chunks": 2,
        }
    )
    delivered = OutboxEvent(events_topic("partner-1"), "r", "e", EventType.PORTABILITY_DELIVERED, NOW, body)
    async with backend.store.transaction() as uow:
        await uow.outbox.append([delivered])
    await drain(await leading(backend))
    (told_use,) = await backend.uses()
    assert (told_use.kind, told_use.recipient, told_use.customer_id) == (Kind.EXPORT, "ORG7", "customer-1")
    assert (told_use.what, told_use.reference, told_use.consent_version) == ("12 records in 2 chunks", "export-1", None)
    assert await backend.findings() == (1, [])


EXPORTED = b'{"partner_id":"partner-1","consent_id":"consent-1","consent_version":1,"rcv_org_code":"ORG7"'
STRANGE = {
    "a NUL in a text": b'"export_id":"x\\u0000y","records":1,"chunks":1}',
    "half of a surrogate pair": b'"export_id":"x\\ud800","records":1,"chunks":1}',
    "half of one in a number's place": b'"export_id":"x","records":"\\udfff","chunks":1}',
}
STRANGE_VERSIONS = [b"0", b"-1", b"2147483648", b"9223372036854775808", b"1" + b"0" * 400, b"1e400", b"1.5", b"true"]


def exported(number: int, body: bytes) -> OutboxEvent:
    return OutboxEvent(events_topic("partner-1"), "r", f"strange-{number}", EventType.PORTABILITY_DELIVERED, NOW, body)


async def test_what_no_table_can_hold_is_an_entry_that_says_so_and_stops_nothing(backend: Backend) -> None:
    """A sequencer that cannot write what it reads would come back to the same event for ever."""
    bodies = [
        *(EXPORTED + b"," + rest for rest in STRANGE.values()),
        *(
            EXPORTED.replace(b'"consent_version":1', b'"consent_version":' + v)
            + b',"export_id":"x","records":1,"chunks":1}'
            for v in STRANGE_VERSIONS
        ),
        *(EXPORTED.replace(b"consent-1", c) + b',"export_id":"x"}' for c in (b"c\\u0000", b"c\\udc00")),
    ]
    async with backend.store.transaction() as uow:
        await uow.outbox.append([exported(n, body) for n, body in enumerate(bodies)])
    await pay(backend, payment(1))
    await drain(await leading(backend))
    strange = [(Kind.UNREADABLE, f"strange-{n}") for n in range(len(bodies))]
    assert await references(backend) == [*strange, (Kind.PAYMENT, str(payment(1).payment_id))]
    # Whose customer it was is known where the consent is.
    named = [u.customer_id for u in await backend.uses()][len(STRANGE) : len(STRANGE) + len(STRANGE_VERSIONS)]
    assert named == ["customer-1"] * len(STRANGE_VERSIONS)
    assert await backend.findings() == (len(bodies) + 1, [])


async def test_what_other_alphabets_spell_is_hashed_as_it_stands(backend: Backend) -> None:
    texts = ["한글", "\U0001f600", "\u2028", "\ufffd", "\x7f", "\t", "\\\\u0000", "\ufdd0", "1" * 5000]
    bodies = [EXPORTED + b',"records":1,"chunks":1,"export_id":' + encode_json(text) + b"}" for text in texts]
    async with backend.store.transaction() as uow:
        await uow.outbox.append([exported(n, body) for n, body in enumerate(bodies)])
    await drain(await leading(backend))
    assert await references(backend) == [(Kind.EXPORT, text) for text in texts]
    assert await backend.findings() == (len(texts), [])


async def test_the_chain_goes_on_with_another_sequencer(backend: Backend) -> None:
    await pay(backend, payment(1))
    first = await leading(backend)
    await drain(first)
    assert not await backend.disclosure_log().acquire()
    await first.release()
    await pay(backend, payment(2))
    await drain(await leading(backend))
    assert await backend.findings() == (2, [])


async def test_nothing_is_written_once_the_head_has_moved(backend: Backend) -> None:
    await pay(backend, payment(1), payment(2))
    log = await leading(backend)
    before = await log.head()
    await drain(log)
    late = await _step(log, before)
    with pytest.raises(StoreConflictError):
        await log.write(late)
    assert len(await backend.uses()) == 2
    assert await backend.findings() == (2, [])


async def test_a_released_log_writes_nothing(backend: Backend) -> None:
    await pay(backend, payment(1))
    log = await leading(backend)
    step = await _step(log, await log.head())
    await log.release()
    with pytest.raises(StoreUnavailableError):
        await log.write(step)
    assert await backend.uses() == []


async def _step(log: DisclosureLog, head: Head) -> object:
    read = await log.read((head.tx, head.id), 100)
    return append(head, read.uses, read.to, bytes(SALT_BYTES * len(read.uses)), NOW, HOUR)


async def test_a_period_ends_with_a_signed_root_that_is_told(backend: Backend) -> None:
    clock = MemoryClock(NOW)
    log = await leading(backend)
    await pay(backend, payment(1), payment(2))
    await drain(log, clock)
    assert await told_roots(backend) == []
    clock.advance(3600)
    await pay(backend, payment(3))
    await drain(log, clock)
    clock.advance(3600)
    head = await drain(log, clock)
    assert (head.root_number, head.root_seq, head.period_start) == (2, 3, None)
    assert await told_roots(backend) == ["disclosure-root:1", "disclosure-root:2"]
    assert await backend.findings() == (3, [])
    # A period without a use has no root, and a clock that goes back closes nothing.
    clock.advance(7200)
    assert await drain(log, clock) == await log.head()
    assert (await log.head()).root_number == 2


async def told_roots(backend: Backend) -> Sequence[str]:
    reader = await led(backend.reader())
    try:
        return [r.event.event_id for r in await reader.read(1000) if r.event.event_type == EventType.DISCLOSURE_ROOT]
    finally:
        await reader.release()


def test_an_early_clock_closes_nothing() -> None:
    head = Head(seq=1, period_start=NOW)
    assert close_due(head, NOW - HOUR, HOUR) is None


async def test_what_the_log_has_not_read_is_not_forgotten(backend: Backend) -> None:
    await backend.partition_outbox(ending=False)
    await pay(backend, payment(1))
    reader = await led(backend.reader())
    await tell(reader, (await reader.read(10))[-1])
    await backend.share_all()
    async with backend.store.transaction() as uow:
        assert await uow.outbox.purge(before=later(60), limit=10) == 0
    await drain(await leading(backend))
    async with backend.store.transaction() as uow:
        assert await uow.outbox.purge(before=later(60), limit=10) == 1


async def test_what_sharing_has_not_read_is_not_forgotten_where_it_runs(backend: Backend) -> None:
    await backend.partition_outbox(ending=False)
    await pay(backend, payment(1))
    reader = await led(backend.reader())
    await tell(reader, (await reader.read(10))[-1])
    await drain(await leading(backend))
    async with backend.store.transaction() as uow:
        await uow.sharing.follow()
        await uow.sharing.follow()
    async with backend.store.transaction() as uow:
        assert await uow.outbox.purge(before=later(60), limit=10) == 0
    await backend.share_all()
    async with backend.store.transaction() as uow:
        assert await uow.outbox.purge(before=later(60), limit=10) == 1


async def test_sharing_that_was_retired_while_it_runs_is_waited_for_again(backend: Backend) -> None:
    await backend.partition_outbox(ending=False)
    await pay(backend, payment(1), payment(2))
    reader = await led(backend.reader())
    await tell(reader, (await reader.read(10))[-1])
    await drain(await leading(backend))
    async with backend.store.transaction() as uow:
        await uow.sharing.follow()
    await backend.retire_sharing()
    async with backend.store.transaction() as uow:
        # It goes on reading, whatever was said of it.
        before = await uow.sharing.place()
        assert await uow.sharing.advance(before, before)
    async with backend.store.transaction() as uow:
        assert await uow.outbox.purge(before=later(60), limit=10) == 0


async def test_a_stage_that_runs_nowhere_keeps_no_events(backend: Backend) -> None:
    await backend.partition_outbox(ending=False)
    await pay(backend, payment(1))
    reader = await led(backend.reader())
    await tell(reader, (await reader.read(10))[-1])
    await drain(await leading(backend))
    async with backend.store.transaction() as uow:
        assert await uow.outbox.purge(before=later(60), limit=10) == 1


def keeping(backend: Backend, clock: MemoryClock) -> DisclosureKeepingService:
    runtime = Runtime(store=backend.store, observer=SilentObserver(), clock=clock, worker="w")
    return timers(runtime.store, clock, runtime.observer).disclosures


YEAR_S = 365 * 24 * 3600.0


async def pay_at(backend: Backend, seconds: float, *payments: Payment) -> None:
    async with backend.store.transaction() as uow:
        await uow.payments.insert(payments)
        await uow.outbox.append([told(p, at=seconds) for p in payments])
    await backend.until_readable()


async def test_contents_past_their_time_are_destroyed_with_evidence_and_the_chain_verifies(backend: Backend) -> None:
    log = await leading(backend)
    await pay_at(backend, -4 * YEAR_S, payment(1), payment(2))
    await pay_at(backend, -2 * YEAR_S, payment(3))
    await pay_at(backend, -4 * YEAR_S, payment(4))
    await drain(log)
    keep = keeping(backend, MemoryClock(NOW))
    assert [await keep.destroy(), await keep.destroy()] == [2, 0]
    assert await backend.findings() == (4, [])
    head = await drain(log)
    # What was destroyed is an entry itself.
    assert (head.seq, (await backend.uses())[-1].kind) == (5, Kind.DESTRUCTION)
    assert await backend.findings() == (5, [])


async def test_a_customer_is_told_once_a_year_of_that_year(backend: Backend) -> None:
    log = await leading(backend)
    await pay_at(backend, 0, payment(1), payment(2), payment(3, merchant_id="merchant-2"))
    await drain(log)
    clock = MemoryClock(NOW)
    keep = keeping(backend, clock)
    assert [await keep.notify(), await keep.notify()] == [3, 0]
    clock.advance(YEAR_S - 1)
    assert await keep.notify() == 0
    await pay_at(backend, YEAR_S, payment(4))
    await drain(log)
    clock.advance(2)
    assert await keep.notify() == 2
    first = await notices(backend)
    assert [(n.customer_id, n.since, n.until) for n in first] == [("customer-1", NOW, later(YEAR_S))]
    assert [(d.recipient, d.kind, d.count) for d in first[0].disclosed] == [
        ("merchant-1", "payment", 2),
        ("merchant-2", "payment", 1),
    ]
    clock.advance(YEAR_S)
    assert await keep.notify() == 1
    assert [[d.count for d in n.disclosed] for n in await notices(backend)] == [[2, 1], [1]]
    # A year without a use: nothing is told.
    clock.advance(YEAR_S)
    assert await keep.notify() == 0


async def notices(backend: Backend) -> list[DisclosureNotice]:
    reader = await led(backend.reader())
    try:
        rows = [r.event for r in await reader.read(1000)]
    finally:
        await reader.release()
    return [decode(DisclosureNotice, e.body) for e in rows if e.event_type == EventType.DISCLOSURE_NOTICE]
