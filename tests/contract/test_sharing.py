"""Sharing on both stores: each payment once, under the consents' locks, and an erase notice for all that was shared."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.app.registries import open_registries
from gateway.app.runtime import Runtime
from gateway.app.sharing import SharingConnections, SharingTerms, sharing
from gateway.base.calendar import SEOUL
from gateway.base.process import SilentObserver
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.purposes import PurposeEnd
from gateway.consents.store import PurposeEndRow
from gateway.disclosure.rules.sequence import Step
from gateway.network.exchange import Operation
from gateway.outbox.bundles import members_of
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, event_type_of
from gateway.payments.transitions import payment_events
from gateway.proving.memory import (
    MemoryClock,
    MemoryConsumer,
    MemoryDeadLetters,
    MemoryKafka,
    MemoryKeySource,
    MemoryVerifier,
)
from gateway.sealing.sealing import MasterKeys
from gateway.sharing.pseudonyms import Named, Pseudonyms
from gateway.sharing.rules.records import Approval, ShareRow
from gateway.sharing.service import SharingSettings
from schemas.codec import decode
from schemas.consents import ConsentStatus, Purpose, SharingField, SharingPurpose
from schemas.events import ConsentShared, EventType
from schemas.primitives import ConsentId, PartnerId
from schemas.sharing import EraseCause, EraseNotice, PaymentShared, SharingUse
from schemas.topics import ERASURES, events_topic
from tests.contract.conftest import Backend, postgres_backend
from tests.support.builders import NOW, later, payment
from tests.support.domain_samples import merchant, terms
from tests.support.leading import led

KEY = (PartnerId("partner-1"), ConsentId("consent-1"))
RING = {"20260101-a": bytes(32)}
COARSE = (SharingField.CATEGORY, SharingField.AMOUNT_BAND, SharingField.MONTH)
ALL = {PaymentShared: EventType.PAYMENT_SHARED, EraseNotice: EventType.ERASE_NOTICE}


def approval(affiliate: str = "points", use: SharingUse = SharingUse.LOYALTY) -> Approval:
    return Approval(affiliate, use, "the customer's consent", "kim")


def permits(version: int = 1, *, status: ConsentStatus = ConsentStatus.AUTH, **fields: Any) -> Consent:
    defaults: dict[str, Any] = {
        "affiliates": ("points", "mobile"),
        "purposes": ("loyalty",),
        "fields": COARSE,
        "use_until": NOW + timedelta(days=30),
    }
    return Consent(terms(sharing=SharingPurpose(**(defaults | fields))), version, status)


class Counted(SilentObserver):
    """How many items of the stage ended how."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:
        self.of[outcome] += n


class Sharing:
    """A stage over one backend, and all that it told."""

    def __init__(self, backend: Backend, ring: dict[str, bytes] | None = None, *, batch: int = 100) -> None:
        self.backend = backend
        self.clock = MemoryClock(NOW)
        self.counted = Counted()
        runtime = Runtime(store=backend.store, observer=self.counted, clock=self.clock, worker="w")
        kafka = MemoryKafka(self.clock)
        connections = SharingConnections(
            confirmations=MemoryConsumer(kafka, topics=[ERASURES], group_id="mypay-sharing"),
            keys=MemoryKeySource(),
            signatures=MemoryVerifier(),
            dead_letters=MemoryDeadLetters(),
            pseudonyms=Pseudonyms(MasterKeys(ring or RING)),
        )
        self.service = sharing(runtime, connections, SharingTerms(sharing=SharingSettings(batch=batch))).service

    async def drain(self) -> None:
        await self.backend.until_readable()
        await self.work()

    async def work(self) -> None:
        while await self.service.share():
            pass

    async def events(self) -> list[OutboxEvent]:
        reader = await led(self.backend.reader())
        await self.backend.until_readable()
        rows = await reader.read(10_000)
        await reader.release()
        return [event for r in rows for _, event in members_of(r.id, r.event)]

    async def told(self, model: type[Any]) -> list[Any]:
        wanted = ALL.get(model, EventType.CONSENT_SHARED)
        return [decode(model, e.body) for e in await self.events() if e.event_type == wanted]


def settled_event(of: Payment) -> OutboxEvent:
    """An event that says nothing of its payment itself, as one of an earlier release: its row is asked."""
    return OutboxEvent(
        topic=events_topic(of.partner_id),
        key=str(of.payment_id),
        event_id=f"{of.payment_id}:{of.version}",
        event_type=event_type_of(of),
        occurred_at=NOW,
        body=b"{}",
    )


async def settle(backend: Backend, *numbers: int, **fields: Any) -> list[Payment]:
    payments = [payment(n, state=PaymentState.SETTLED, version=3, **fields) for n in numbers]
    async with backend.store.transaction() as uow:
        await uow.payments.insert(payments)
        await uow.outbox.append([settled_event(p) for p in payments])
    return payments


async def change(backend: Backend, consent: Consent) -> None:
    """Change the consent as a command does: row and event in one transaction."""
    async with backend.store.transaction() as uow:
        [record] = (await uow.consents.lock_records([KEY])).values()
        await uow.consents.update([replace(record, consent=consent, changes=record.changes + 1)], now=NOW)
        event = OutboxEvent(events_topic(KEY[0]), KEY[1], "change", EventType.CONSENT_CHANGED, NOW, b"{}")
        await uow.outbox.append([event])


@pytest.fixture
async def stage(backend: Backend) -> Sharing:
    await backend.put_merchants(merchant())
    await backend.put_consents(permits())
    for affiliate in ("points", "mobile"):
        await backend.put_approval(approval(affiliate))
    return Sharing(backend)


async def test_a_settled_payment_goes_to_each_affiliate_in_its_own_names(stage: Sharing) -> None:
    [paid] = await settle(stage.backend, 1)
    await stage.drain()
    one, other = sorted(await stage.told(PaymentShared), key=lambda s: s.affiliate_id)
    assert (one.affiliate_id, other.affiliate_id) == ("mobile", "points")
    [use] = one.uses
    assert (use.purpose, use.legal_basis, use.approved_by) == (SharingUse.LOYALTY, "the customer's consent", "kim")
    data = use.data.model_dump(exclude_none=True)
    assert data == {"category": "5411", "amount_band": "KRW 10000-50000", "month": f"{NOW:%Y-%m}"}
    assert one.use_until == NOW + timedelta(days=30)
    for name in ("share_id", "customer", "consent_ref"):
        assert getattr(one, name) != getattr(other, name)
    [told, _] = sorted(await stage.told(ConsentShared), key=lambda s: s.affiliate_id)
    assert (told.payment_id, told.affiliate_id, told.fields) == (
        paid.payment_id,
        "mobile",
        "amount_band category month",
    )


async def tell(backend: Backend, *payments: Payment) -> None:
    """Payments, each with the event that it is settled, as settlement writes them."""
    async with backend.store.transaction() as uow:
        await uow.payments.insert(payments)
        await uow.outbox.append(payment_events(payments))


async def test_what_the_event_itself_says_is_shared_as_its_payments_row_would_be(stage: Sharing) -> None:
    """One fact a payment, in either order of the two kinds of event, and none twice."""
    backend = stage.backend
    fields: dict[str, Any] = {"state": PaymentState.SETTLED, "version": 3, "amount_minor": 70_000}
    paid_at = NOW - timedelta(days=40)
    silent = payment(1, decided_at=paid_at, **fields)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([silent])
        await uow.outbox.append([settled_event(silent)])
    said = payment(2, decided_at=paid_at, **fields)
    lost = payment(3, decided_at=paid_at, merchant_id="lost", **fields)
    nobodys = payment(4, consent_id="another", **fields)
    refund = payment(5, operation=Operation.REFUND, original_payment_id=said.payment_id, **fields)
    await tell(backend, nobodys, refund, lost, said)
    async with backend.store.transaction() as uow:
        await uow.outbox.append([*payment_events([silent]), settled_event(said)])
    await stage.drain()
    told = await stage.told(ConsentShared)
    assert Counter(t.payment_id for t in told) == {p.payment_id: 2 for p in (silent, said, lost)}
    data = [s.uses[0].data.model_dump(exclude_none=True) for s in await stage.told(PaymentShared)]
    whole = {"category": "5411", "amount_band": "KRW 50000-100000", "month": f"{paid_at.astimezone(SEOUL):%Y-%m}"}
    unplaced = {name: value for name, value in whole.items() if name != "category"}
    assert [data.count(d) for d in (whole, unplaced)] == [4, 2]


async def test_a_token_is_named_to_whom_it_may_be_and_to_nobody_else(backend: Backend) -> None:
    await backend.put_merchants(merchant())
    fields = (SharingField.CATEGORY, SharingField.TOKEN)
    await backend.put_consents(permits(purposes=("loyalty", "fraud-prevention"), fields=fields))
    await backend.put_approval(approval("points"))
    await backend.put_approval(approval("mobile", SharingUse.FRAUD_PREVENTION))
    stage = Sharing(backend)
    defaults: dict[str, Any] = {"state": PaymentState.SETTLED, "version": 3}
    await tell(backend, payment(1, **defaults), payment(2, funding_token=None, **defaults))
    await stage.drain()
    shares = await stage.told(PaymentShared)
    names = Pseudonyms(MasterKeys(RING))
    assert {(s.affiliate_id, s.uses[0].data.token) for s in shares} == {
        ("points", None),
        ("mobile", None),
        ("mobile", names.name("mobile", Named.TOKEN, "token-1")),
    }
    assert len(shares) == 4


async def read_all(backend: Backend) -> None:
    """As relay and sequencer of this release do: they move on, and say so."""
    relay, log = await led(backend.reader()), await led(backend.disclosure_log())
    while rows := await relay.read(1_000):
        await relay.advance(rows[-1])
    await relay.release()
    head = await log.head()
    read = await log.read((head.tx, head.id), 1_000)
    await log.write(Step(head, replace(head, tx=read.to[0], id=read.to[1])))
    await log.release()


@pytest.mark.parametrize("before", ["nobody has moved", "relay", "disclosure"])
async def test_shares_are_told_in_bundles_once_all_who_read_them_take_them_apart(stage: Sharing, before: str) -> None:
    """A relay of the release before would publish a bundle as it stands, a sequencer pass over it."""
    backend = stage.backend
    if before != "nobody has moved":
        await read_all(backend)
        await (backend.move_cursor_as_before() if before == "relay" else backend.move_head_as_before())
    await settle(backend, 1, 2)
    await stage.drain()
    assert len(await backend.outbox_events()) == 2 + 2 * 4
    await read_all(backend)
    await settle(backend, 3, 4)
    await stage.drain()
    # One row for each affiliate, and one for their partner.
    assert len(await backend.outbox_events()) == 2 + 2 * 4 + 2 + 3


async def test_a_payment_is_shared_once_however_often_it_is_settled(stage: Sharing) -> None:
    [paid] = await settle(stage.backend, 1)
    await stage.drain()
    async with stage.backend.store.transaction() as uow:
        await uow.outbox.append([settled_event(paid)])
    await stage.drain()
    assert len(await stage.told(PaymentShared)) == 2


async def test_what_was_shared_before_holds_up_nothing_beside_it(stage: Sharing) -> None:
    [paid] = await settle(stage.backend, 2)
    await stage.drain()
    async with stage.backend.store.transaction() as uow:
        await uow.outbox.append([settled_event(paid)])
    others = await settle(stage.backend, 1, 3)
    await stage.drain()
    told = Counter(t.payment_id for t in await stage.told(ConsentShared))
    assert told == {p.payment_id: 2 for p in (paid, *others)}
    assert stage.counted.of["shared"] == 6


@pytest.mark.parametrize("consent_id", ["a\\N", "a\tb", "a\nb", "a\rb", "a"])
async def test_a_share_is_recorded_once_whatever_stands_in_it(backend: Backend, consent_id: str) -> None:
    def share(number: int) -> ShareRow:
        key = (PartnerId("partner-1"), payment(number).payment_id, "points")
        under = (PartnerId("partner-1"), ConsentId(consent_id))
        until = NOW + timedelta(days=1)
        return ShareRow(key, under, 1, 1, f"s{number}", "k", ("loyalty",), ("category", "month"), until, NOW)

    rows = [share(n) for n in (1, 2, 3)]
    for given, new in ((rows[:2], rows[:2]), (rows[:2], []), (rows, rows[2:]), (rows, []), ([], [])):
        async with backend.store.transaction() as uow:
            assert await uow.sharing.add_shares(given) == {r.key for r in new}


async def test_a_settled_event_without_a_payment_s_id_shares_nothing_and_stops_nobody(stage: Sharing) -> None:
    topic = events_topic("partner-1")
    names = [(topic, "no id"), (topic, "-" * 36), (f"{topic} x", str(payment(1).payment_id))]
    async with stage.backend.store.transaction() as uow:
        await uow.outbox.append([OutboxEvent(t, k, "e", EventType.PAYMENT_SETTLED, NOW, b"{}") for t, k in names])
    await settle(stage.backend, 1)
    await stage.drain()
    assert len(await stage.told(PaymentShared)) == 2


async def test_two_workers_at_once_share_once(stage: Sharing) -> None:
    await settle(stage.backend, *range(1, 9))
    others = [Sharing(stage.backend, batch=3) for _ in range(3)]
    await asyncio.gather(*(s.work() for s in others))
    await stage.drain()
    shares = await stage.told(PaymentShared)
    assert len(shares) == len({s.share_id for s in shares}) == 16


REFUSED: dict[str, Sequence[Consent]] = {
    "suspended": [permits(2, status=ConsentStatus.SUSP)],
    "revoked": [permits(2, status=ConsentStatus.CANC)],
    "purpose revoked": [replace(permits(2), ended=frozenset({Purpose.SHARING}))],
    "past its use": [permits(2, use_until=NOW)],
    "other affiliates": [permits(2, affiliates=("strangers",))],
    "another use": [permits(2, purposes=("credit-assessment",))],
    "a use that no table knows": [permits(2, purposes=("anything",))],
    "no field that the use may see": [permits(2, fields=(SharingField.EXACT_TIME, SharingField.TOKEN))],
}


@pytest.mark.parametrize("why", REFUSED)
async def test_nothing_leaves_where_the_consent_does_not_permit_it(backend: Backend, why: str) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(*(replace(c, version=1) for c in REFUSED[why]))
    async with backend.store.transaction() as uow:
        records = await uow.consents.lock_records([KEY])
        await uow.consents.update(
            [replace(r, consent=replace(REFUSED[why][0], version=1)) for r in records.values()], now=NOW
        )
    await backend.put_approval(approval())
    stage = Sharing(backend)
    await settle(backend, 1)
    await stage.drain()
    assert await stage.told(PaymentShared) == []


async def test_nothing_leaves_without_approval_and_no_refund_ever(backend: Backend) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(permits())
    stage = Sharing(backend)
    [paid] = await settle(backend, 1)
    await stage.drain()
    await backend.put_approval(approval("points"))
    await settle(backend, 2, operation=Operation.REFUND, original_payment_id=paid.payment_id)
    await stage.drain()
    assert await stage.told(PaymentShared) == []


async def test_a_revocation_that_commits_first_stops_the_share(stage: Sharing) -> None:
    """The revocation holds the lock as the stage asks for it: whoever comes later sees what it wrote."""
    backend = stage.backend
    await settle(backend, 1)
    async with backend.store.transaction() as uow:
        [record] = (await uow.consents.lock_records([KEY])).values()
        sharing_task = asyncio.create_task(stage.service.share())
        await backend.until_blocked(sharing_task)
        ended = replace(record.consent, status=ConsentStatus.CANC)
        await uow.consents.update([replace(record, consent=ended)], now=NOW)
    await sharing_task
    assert await stage.told(PaymentShared) == []


async def test_a_revocation_that_is_written_and_not_committed_yet_is_waited_for(stage: Sharing) -> None:
    """Shares hold consents by the weakest of locks: nobody who has written one may be passed by."""
    backend = stage.backend
    await settle(backend, 1)
    async with backend.store.transaction() as uow:
        [record] = (await uow.consents.lock_records([KEY])).values()
        ended = replace(record.consent, status=ConsentStatus.CANC)
        await uow.consents.update([replace(record, consent=ended)], now=NOW)
        sharing_task = asyncio.create_task(stage.service.share())
        await backend.until_blocked(sharing_task)
    await sharing_task
    assert await stage.told(PaymentShared) == []


async def test_a_revocation_waits_for_a_share_that_is_decided(stage: Sharing) -> None:
    backend = stage.backend

    async def revoke() -> None:
        await change(backend, permits(status=ConsentStatus.CANC))

    async with backend.store.transaction() as uow:
        # As the stage holds what it has judged.
        assert set(await uow.consents.hold([KEY])) == {KEY}
        revocation = asyncio.create_task(revoke())
        await backend.until_blocked(revocation)
    await revocation


async def test_who_must_erase_is_told_once_a_share_under_way_has_ended(stage: Sharing) -> None:
    """Both write holders, and neither changes a consent: the place keeps them apart. So no share follows its notice."""
    backend = stage.backend
    await settle(backend, 1)
    await stage.drain()
    await backend.withdraw_approval(approval("points"))
    async with backend.store.transaction() as uow:
        place = await uow.sharing.place()
        assert await uow.sharing.advance(place, place)
        sweep = asyncio.create_task(stage.service.sweep())
        await backend.until_blocked(sweep)
    assert await sweep == 1


@pytest.mark.integration
@pytest.mark.parametrize("what", ["approval", "affiliate"])
async def test_nothing_is_shared_once_its_approval_or_affiliate_was_taken_away(contract_dsn: str, what: str) -> None:
    """What is being shared was decided by it, and is waited for: whoever takes it away knows that nothing follows."""
    async with postgres_backend(contract_dsn) as backend:
        await backend.put_merchants(merchant())
        await backend.put_consents(permits())
        await backend.put_approval(approval("points"))
        stage = Sharing(backend)
        async with open_registries(backend.dsn) as registries:
            affiliates = registries.affiliates
            async with backend.store.transaction() as uow:
                place = await uow.sharing.place()
                assert await uow.sharing.advance(place, place)
                assert len(await uow.sharing.approvals()) == 1
                withdrawing = affiliates.withdraw("points", SharingUse.LOYALTY, now=NOW)
                disabling = affiliates.set_active("points", active=False)
                taking = asyncio.create_task(withdrawing if what == "approval" else disabling)
                (disabling if what == "approval" else withdrawing).close()
                await backend.until_blocked(taking)
            assert await taking
        await settle(backend, 1)
        await stage.drain()
        assert await stage.told(PaymentShared) == []


@pytest.mark.integration
async def test_payments_go_on_beside_a_share_and_a_share_beside_payments(contract_dsn: str) -> None:
    """On the real database: in memory there is one kind of lock."""
    async with postgres_backend(contract_dsn) as backend:
        await backend.put_merchants(merchant())
        await backend.put_consents(permits())
        await backend.put_approval(approval("points"))
        stage = Sharing(backend)
        await settle(backend, 1)
        await backend.until_readable()
        async with backend.store.transaction() as paying:
            # As execution locks it. Where the share waited for it, this test would hang.
            assert set(await paying.consents.lock([KEY])) == {KEY}
            await asyncio.wait_for(stage.work(), 60)
            assert stage.counted.of["shared"] == 1


async def test_each_affiliate_that_got_something_is_told_to_erase_it_once(stage: Sharing) -> None:
    backend = stage.backend
    await settle(backend, 1, 2)
    await stage.drain()
    await change(backend, permits(status=ConsentStatus.CANC))
    await change(backend, permits(status=ConsentStatus.CANC))
    await stage.drain()
    assert await stage.service.sweep() == 0
    shares, notices = await stage.told(PaymentShared), await stage.told(EraseNotice)
    assert len(notices) == 2
    held = {(s.affiliate_id, s.consent_ref, s.customer) for s in shares}
    assert held == {(n.affiliate_id, n.consent_ref, n.customers[0].customer) for n in notices}
    assert {n.cause for n in notices} == {EraseCause.ENDED}


async def test_an_affiliate_that_new_terms_drop_must_erase_and_the_other_goes_on(stage: Sharing) -> None:
    backend = stage.backend
    await settle(backend, 1)
    await stage.drain()
    await change(backend, permits(2, affiliates=("points",)))
    await settle(backend, 2)
    await stage.drain()
    [notice] = await stage.told(EraseNotice)
    assert (notice.affiliate_id, notice.cause) == ("mobile", EraseCause.DROPPED)
    assert sorted(s.affiliate_id for s in await stage.told(PaymentShared)) == ["mobile", "points", "points"]


async def test_what_was_given_for_a_use_that_is_approved_no_more_must_be_erased(stage: Sharing) -> None:
    backend = stage.backend
    await change(backend, permits(2, purposes=("loyalty", "spending-analysis")))
    await backend.put_approval(approval("points", SharingUse.SPENDING_ANALYSIS))
    await settle(backend, 1)
    await stage.drain()
    assert await stage.service.sweep() == 0
    await backend.withdraw_approval(approval("points", SharingUse.SPENDING_ANALYSIS))
    assert [await stage.service.sweep(), await stage.service.sweep()] == [1, 0]
    [notice] = await stage.told(EraseNotice)
    assert (notice.affiliate_id, notice.cause) == ("points", EraseCause.WITHDRAWN)
    # What is approved still goes on, under another reference.
    await settle(backend, 2)
    await stage.drain()
    [later_] = [s for s in await stage.told(PaymentShared) if s.affiliate_id == "points"][1:]
    assert later_.consent_ref != notice.consent_ref
    assert [u.purpose for u in later_.uses] == [SharingUse.LOYALTY]
    assert await stage.service.sweep() == 0


@pytest.mark.parametrize(("fields", "erased"), [(COARSE[1:], True), ((*COARSE, SharingField.PAYEE), False)])
async def test_what_holds_a_field_that_new_terms_drop_must_be_erased(
    stage: Sharing, fields: tuple[SharingField, ...], erased: bool
) -> None:
    backend = stage.backend
    await settle(backend, 1)
    await stage.drain()
    [first, _] = await stage.told(PaymentShared)
    await change(backend, permits(2, fields=fields))
    # Also where its event is forgotten before it is read.
    async with backend.store.reading() as uow:
        assert bool(await uow.sharing.must_erase(NOW, 9)) is erased
    await settle(backend, 2)
    await stage.drain()
    notices = await stage.told(EraseNotice)
    assert [(n.affiliate_id, n.cause) for n in notices] == [
        (affiliate, EraseCause.DROPPED) for affiliate in ("mobile", "points") if erased
    ]
    assert await stage.service.sweep() == 0
    # What follows is under another reference, and holds less.
    await settle(backend, 3)
    await stage.drain()
    last = [s for s in await stage.told(PaymentShared) if s.affiliate_id == first.affiliate_id][-1]
    assert (last.consent_ref != first.consent_ref) is erased


async def test_what_was_given_for_a_use_that_new_terms_drop_must_be_erased(backend: Backend) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(permits(purposes=("loyalty", "spending-analysis")))
    for one in (approval("points"), approval("mobile"), approval("points", SharingUse.SPENDING_ANALYSIS)):
        await backend.put_approval(one)
    stage = Sharing(backend)
    await settle(backend, 1)
    await stage.drain()
    await change(backend, permits(2))
    await stage.drain()
    # ``mobile`` was given it for loyalty alone.
    assert [(n.affiliate_id, n.cause) for n in await stage.told(EraseNotice)] == [("points", EraseCause.DROPPED)]
    assert await stage.service.sweep() == 0


async def test_a_suspension_stops_shares_and_takes_nothing_back(stage: Sharing) -> None:
    await settle(stage.backend, 1)
    await stage.drain()
    await change(stage.backend, permits(status=ConsentStatus.SUSP))
    await settle(stage.backend, 2)
    await stage.drain()
    assert len(await stage.told(PaymentShared)) == 2
    assert await stage.told(EraseNotice) == []


async def test_a_payment_that_is_settled_twice_before_anybody_looks_is_shared_once(stage: Sharing) -> None:
    [paid] = await settle(stage.backend, 1)
    async with stage.backend.store.transaction() as uow:
        await uow.outbox.append([settled_event(paid)])
    await stage.drain()
    shares = Counter(s.affiliate_id for s in await stage.told(PaymentShared))
    assert shares == {"points": 1, "mobile": 1}
    assert len(await stage.told(ConsentShared)) == 2


async def test_what_is_permitted_again_comes_under_another_reference(stage: Sharing) -> None:
    backend = stage.backend
    await settle(backend, 1)
    await stage.drain()
    await change(backend, replace(permits(), ended=frozenset({Purpose.SHARING})))
    await stage.drain()
    await change(backend, permits())
    await settle(backend, 2)
    await stage.drain()
    notices = {n.consent_ref for n in await stage.told(EraseNotice)}
    shares = await stage.told(PaymentShared)
    assert len(notices) == 2
    assert [s.consent_ref in notices for s in shares] == [True, True, False, False]
    assert len({s.customer for s in shares}) == 2


async def test_what_was_given_before_an_end_must_be_erased_though_it_is_permitted_again_by_now(stage: Sharing) -> None:
    """The stage stood still meanwhile: it sees the consent as it is, and both changes at once."""
    backend = stage.backend
    await settle(backend, 1)
    await stage.drain()
    stage.clock.advance(2)
    end = PurposeEndRow(KEY, 2, Purpose.SHARING, PurposeEnd.REVOKED, 1, later(1))
    async with backend.store.transaction() as uow:
        await uow.consents.add_purpose_ends([end])
    await change(backend, replace(permits(), ended=frozenset({Purpose.SHARING})))
    await change(backend, permits())
    await settle(backend, 2)
    await stage.drain()
    notices = await stage.told(EraseNotice)
    assert [n.cause for n in notices] == [EraseCause.ENDED] * 2
    old = {n.consent_ref for n in notices}
    assert [s.consent_ref in old for s in await stage.told(PaymentShared)] == [True, True, False, False]
    # And no more than once.
    await change(backend, permits())
    await stage.drain()
    assert len(await stage.told(EraseNotice)) == 2


async def test_the_sweep_finds_what_no_event_told(stage: Sharing) -> None:
    await settle(stage.backend, 1)
    await stage.drain()
    await stage.backend.set_status(KEY, ConsentStatus.EXPD)
    assert await stage.service.sweep() == 2
    assert await stage.service.sweep() == 0
    assert len(await stage.told(EraseNotice)) == 2


async def test_a_notice_names_the_customer_under_every_key_that_was_used(stage: Sharing) -> None:
    backend = stage.backend
    await settle(backend, 1)
    await stage.drain()
    newer = Sharing(backend, {**RING, "20260301-b": bytes([1]) * 32})
    await settle(backend, 2)
    await newer.drain()
    await change(backend, permits(status=ConsentStatus.CANC))
    await newer.drain()
    shares = await newer.told(PaymentShared)
    for notice in await newer.told(EraseNotice):
        names = {(n.key_id, n.customer) for n in notice.customers}
        assert len(names) == 2
        assert names == {(s.key_id, s.customer) for s in shares if s.affiliate_id == notice.affiliate_id}


async def test_where_nobody_shares_all_is_passed_over_at_once(backend: Backend) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(Consent(terms(), 1, ConsentStatus.AUTH))
    await settle(backend, *range(1, 30))
    stage = Sharing(backend, batch=2)
    assert await stage.service.share() == 1
    assert await stage.service.share() == 0


async def test_a_notice_is_confirmed_once_and_is_overdue_until_then(stage: Sharing) -> None:
    store = stage.backend.store
    await settle(stage.backend, 1)
    await stage.drain()
    await change(stage.backend, permits(status=ConsentStatus.CANC))
    await stage.drain()
    one, other = await stage.told(EraseNotice)
    async with store.reading() as uow:
        assert await uow.sharing.overdue(NOW) == (0, None)
        assert await uow.sharing.overdue(one.erase_by) == (2, one.erase_by)
    async with store.transaction() as uow:
        [held] = (await uow.sharing.lock_notices([one.notice_id])).values()
        assert (held.affiliate_id, held.reference) == (one.affiliate_id, one.consent_ref)
        await uow.sharing.confirm([(one.notice_id, "mypay.sharing-confirmations/0/1", 1)], now=later(5))
        await uow.sharing.confirm([(one.notice_id, "mypay.sharing-confirmations/0/2", 1)], now=later(9))
    async with store.transaction() as uow:
        found = await uow.sharing.lock_notices([one.notice_id, other.notice_id])
        assert found[one.notice_id].confirmed_at == later(5)
        assert await uow.sharing.overdue(one.erase_by) == (1, other.erase_by)


async def test_a_notice_is_told_again_once_each_time_that_somebody_asks(stage: Sharing) -> None:
    store = stage.backend.store
    await settle(stage.backend, 1)
    await stage.drain()
    await change(stage.backend, permits(status=ConsentStatus.CANC))
    await stage.drain()
    one, other = await stage.told(EraseNotice)

    async def ask(notice: UUID) -> bool:
        async with store.transaction() as uow:
            return await uow.sharing.ask_reminder(notice, now=later(3))

    assert await stage.service.remind() == 0
    assert not await ask(uuid4())
    for _ in range(2):
        assert await ask(one.notice_id)
    assert await stage.service.remind() == 1
    assert await stage.service.remind() == 0
    assert await ask(one.notice_id)
    assert await stage.service.remind() == 1
    # The same each time, and events of their own.
    told = await stage.told(EraseNotice)
    assert told == [one, other, one, one]
    events = [e.event_id for e in await stage.events() if e.event_type == EventType.ERASE_NOTICE]
    assert events[2:] == [f"{one.notice_id}:1", f"{one.notice_id}:2"]
    # What is confirmed, also between asking and telling, is not told again.
    assert await ask(one.notice_id)
    async with store.transaction() as uow:
        await uow.sharing.lock_notices([one.notice_id])
        await uow.sharing.confirm([(one.notice_id, "mypay.sharing-confirmations/0/1", 1)], now=later(5))
    assert not await ask(one.notice_id)
    assert await stage.service.remind() == 0
    assert len(await stage.told(EraseNotice)) == 4
    assert stage.counted.of["erase_reminder"] == 2


async def test_a_notice_is_told_again_by_one_of_two_workers(stage: Sharing) -> None:
    await settle(stage.backend, 1)
    await stage.drain()
    await change(stage.backend, permits(status=ConsentStatus.CANC))
    await stage.drain()
    one, other = await stage.told(EraseNotice)
    async with stage.backend.store.transaction() as uow:
        for notice in (one, other):
            await uow.sharing.ask_reminder(notice.notice_id, now=later(3))
    async with stage.backend.store.transaction() as uow:
        [(first, _)] = await uow.sharing.take_reminders(1)
        async with stage.backend.store.transaction() as beside:
            [(second, number)] = await beside.sharing.take_reminders(10)
    assert {h.notice.notice_id for h in (first, second) if h.notice} == {one.notice_id, other.notice_id}
    assert number == 1


async def test_whose_key_is_gone_is_reminded_of_nothing_and_holds_up_nobody(stage: Sharing) -> None:
    await settle(stage.backend, 1)
    await stage.drain()
    await change(stage.backend, permits(status=ConsentStatus.CANC))
    await stage.drain()
    [one, _] = await stage.told(EraseNotice)
    async with stage.backend.store.transaction() as uow:
        await uow.sharing.ask_reminder(one.notice_id, now=later(3))
    later_ring = Sharing(stage.backend, {"20270101-b": bytes(32)})
    assert await later_ring.service.remind() == 1
    assert await later_ring.service.remind() == 0
    assert later_ring.counted.of["erase_reminder"] == 0
    assert len(await stage.told(EraseNotice)) == 2


async def test_a_notice_whose_key_is_gone_holds_up_no_other_and_is_told_once_the_key_is_back(stage: Sharing) -> None:
    """It ended the stage, again and again: nothing was shared any more, and nobody was told to erase anything."""
    backend = stage.backend
    await settle(backend, 1)
    await stage.drain()
    # As where the folder of keys was emptied, or an older one put back, and a new key made.
    without = Sharing(backend, {"20270101-b": bytes(32)})
    await change(backend, permits(status=ConsentStatus.CANC))
    await without.drain()
    assert await without.told(EraseNotice) == []
    assert (without.counted.of["incident"], without.counted.of["erase_notice"]) == (2, 0)
    assert await without.service.sweep() == 0
    async with backend.store.reading() as uow:
        # Who must erase is known, and by when: that nobody confirms is told.
        count, due = await uow.sharing.overdue(NOW + timedelta(days=8))
        assert (count, due) == (2, NOW + timedelta(days=7))
        held = await uow.sharing.holders([KEY])
    async with backend.store.transaction() as uow:
        for holder in held:
            assert holder.notice is not None
            await uow.sharing.ask_reminder(holder.notice.notice_id, now=later(3))
    assert await stage.service.remind() == 2
    assert {n.notice_id for n in await stage.told(EraseNotice)} == {h.notice.notice_id for h in held if h.notice}
