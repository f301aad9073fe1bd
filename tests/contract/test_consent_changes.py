"""Changing a consent's status, on the fakes and on PostgreSQL: one transaction under the lock that intents take."""

import asyncio
import json

import pytest

from gateway.base.keys import ConsentKey
from gateway.consents.changing import ConsentCommandRefusedError, ConsentUnknownError, change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.database.unit import Store
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.lifecycle import PaymentState
from gateway.proving.memory import MemoryClock
from schemas.codec import decode
from schemas.consents import ConsentStatus
from schemas.events import ConsentEvent, EventType
from tests.contract.conftest import Backend, ended
from tests.support.builders import NOW, payment
from tests.support.domain_samples import consent
from tests.support.leading import led

KEY: ConsentKey = ("partner-1", "consent-1")  # type: ignore[assignment]


async def change(store: Store, command: ConsentCommand = ConsentCommand.REVOKE, key: ConsentKey = KEY, **more: str):
    return await change_consent_status(store, MemoryClock(NOW), key, command, **more)


async def status(store: Store) -> ConsentStatus:
    async with store.reading() as uow:
        return (await uow.consents.read([KEY]))[KEY].status


async def events(backend: Backend) -> list[OutboxEvent]:
    reader = await led(backend.reader())
    try:
        return [row.event for row in await reader.read(100)]
    finally:
        await reader.release()


async def test_a_revoked_consent_names_what_was_on_its_way(backend: Backend) -> None:
    await backend.put_consents(consent())
    rows = {s: payment(n, state=s) for n, s in enumerate(PaymentState, 1)}
    foreign = [payment(91, consent_id="other"), payment(92, partner_id="partner-2")]
    async with backend.store.transaction() as uow:
        await uow.payments.insert([*rows.values(), *foreign])
    changed = await change(backend.store, reason="asked for")
    open_states = (PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.REVERSING)
    assert changed.in_flight == tuple(sorted(rows[s].payment_id for s in open_states))
    assert (changed.before, changed.status) == (ConsentStatus.AUTH, ConsentStatus.CANC)
    assert await status(backend.store) is ConsentStatus.CANC
    [event] = await events(backend)
    assert (event.topic, event.key, event.event_type) == (
        "mypay.events.partner-1",
        "consent-1",
        EventType.CONSENT_CHANGED,
    )
    told = decode(ConsentEvent, event.body)
    assert (told.status, told.reason, told.in_flight, told.version) == (
        ConsentStatus.CANC,
        "asked for",
        changed.in_flight,
        1,
    )


async def test_suspended_and_resumed_any_number_of_times(backend: Backend) -> None:
    await backend.put_consents(consent())
    clock = MemoryClock(NOW)
    for turn in range(4):
        command = (ConsentCommand.SUSPEND, ConsentCommand.RESUME)[turn % 2]
        await change_consent_status(backend.store, clock, KEY, command)
        clock.advance(0.000_001)
    told = await events(backend)
    assert [json.loads(e.body)["status"] for e in told] == ["SUSP", "AUTH", "SUSP", "AUTH"]
    assert len({e.event_id for e in told}) == 4


@pytest.mark.parametrize(
    ("before", "command"),
    [
        (ConsentStatus.CANC, ConsentCommand.REVOKE),
        (ConsentStatus.CANC, ConsentCommand.RESUME),
        (ConsentStatus.EXPD, ConsentCommand.REVOKE),
        (ConsentStatus.AUTH, ConsentCommand.RESUME),
        (ConsentStatus.SUSP, ConsentCommand.SUSPEND),
    ],
)
async def test_what_the_status_does_not_permit_changes_nothing(
    backend: Backend, before: ConsentStatus, command: ConsentCommand
) -> None:
    await backend.put_consents(consent(before))
    with pytest.raises(ConsentCommandRefusedError) as caught:
        await change(backend.store, command)
    assert caught.value.status is before
    assert await status(backend.store) is before
    assert await events(backend) == []


async def test_another_partner_s_consent_is_unknown(backend: Backend) -> None:
    await backend.put_consents(consent())
    with pytest.raises(ConsentUnknownError):
        await change(backend.store, key=("partner-2", "consent-1"))  # type: ignore[arg-type]
    assert await status(backend.store) is ConsentStatus.AUTH


async def test_an_intent_before_the_revocation_is_named_and_one_after_it_sees_it(backend: Backend) -> None:
    await backend.put_consents(consent())
    sent = payment(1)
    async with backend.store.transaction() as uow:
        assert (await uow.consents.lock([KEY]))[KEY].status is ConsentStatus.AUTH
        revoking = asyncio.create_task(change(backend.store))
        try:
            await backend.until_blocked(revoking)
            await uow.payments.insert([sent])
        except BaseException:
            await ended([revoking])
            raise
    assert (await revoking).in_flight == (sent.payment_id,)
    async with backend.store.transaction() as uow:
        assert (await uow.consents.lock([KEY]))[KEY].status is ConsentStatus.CANC
