"""After a restore: who holds what was shared since is known again, and is asked to erase it, on both stores."""

from collections.abc import Sequence

import pytest

from gateway.app.restored_events import Events, ToldShare
from gateway.app.restored_shares import take
from gateway.consents.rules.consent import Consent
from gateway.messaging.records import Record
from gateway.sealing.sealing import MasterKeys
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.restoring import ToldReferences, holders_again
from gateway.sharing.rules.records import Holder
from schemas.consents import ConsentStatus
from schemas.envelope import Envelope, write_envelope
from schemas.events import EventType
from schemas.sharing import EraseNotice, PaymentShared, SharingUse
from schemas.topics import sharing_topic
from tests.contract.conftest import Backend, MemoryBackend
from tests.contract.test_sharing import KEY, RING, Sharing, approval, change, permits, settle
from tests.support.builders import NOW
from tests.support.domain_samples import merchant


async def stage_over(backend: Backend) -> Sharing:
    """A stage whose affiliates are given things; nothing was shared yet."""
    await backend.put_merchants(merchant())
    await backend.put_consents(permits())
    await backend.put_approval(approval("points"))
    return Sharing(backend)


async def again(backend: Backend, lost: Sharing, ring: dict[str, bytes] = RING) -> set[ToldShare]:
    """As `mypay restore payments` does it, of all that was told by the lost database; of whom nothing is known."""
    events, references = Events(), ToldReferences()
    for event in await lost.events():
        headers = tuple(write_envelope(Envelope(event.event_id, "/x", event.event_type, NOW)))
        record = Record(event.topic, 0, 0, 0, event.key.encode(), event.body, headers)
        if event.topic == sharing_topic("points"):
            take(references, "points", record)
        elif event.event_type == EventType.CONSENT_SHARED:
            events.add("partner-1", record)
    pseudonyms = Pseudonyms(MasterKeys(ring))
    told = {((p, c), a): since for (p, c, a), since in events.shared.items()}
    async with backend.store.transaction() as uow:
        known = await holders_again(uow, told, references, pseudonyms, sorted(ring))  # type: ignore[arg-type]
    return {ToldShare(*key, a) for key, a in set(told) - set(known)}


async def holders(backend: Backend) -> list[Holder]:
    async with backend.store.reading() as uow:
        return list(await uow.sharing.holders([KEY]))


async def test_who_was_sent_something_since_is_asked_to_erase_it(backend: Backend) -> None:
    lost = await stage_over(MemoryBackend())
    await settle(lost.backend, 1)
    await lost.drain()
    [share] = await lost.told(PaymentShared)
    stage = await stage_over(backend)
    assert await again(backend, lost) == set()
    assert await holders(backend) == await holders(lost.backend)
    # Once more changes nothing.
    assert await again(backend, lost) == set()
    assert await holders(backend) == await holders(lost.backend)
    await change(backend, permits(status=ConsentStatus.CANC))
    await stage.drain()
    [notice] = await stage.told(EraseNotice)
    assert notice.consent_ref == share.consent_ref
    assert [c.customer for c in notice.customers] == [share.customer]


async def test_what_was_to_be_erased_since_stays_so_and_the_next_round_has_its_number(backend: Backend) -> None:
    lost = await stage_over(MemoryBackend())
    await settle(lost.backend, 1)
    await lost.drain()
    await change(lost.backend, permits(2, affiliates=("mobile",)))
    await lost.drain()
    await lost.backend.put_consents(permits(3))
    await settle(lost.backend, 2)
    await lost.drain()
    first, second = await lost.told(PaymentShared)
    assert first.consent_ref != second.consent_ref
    stage = await stage_over(backend)
    assert await again(backend, lost) == set()
    assert await holders(backend) == await holders(lost.backend)
    async with backend.store.transaction() as uow:
        [noticed] = await lost.told(EraseNotice)
        assert (await uow.sharing.lock_notices([noticed.notice_id]))[noticed.notice_id].reference == first.consent_ref
    # What settles again goes to the round that stands, and nothing is asked for twice.
    await settle(backend, 2)
    await stage.drain()
    assert [s.consent_ref for s in await stage.told(PaymentShared)] == [second.consent_ref]
    assert await stage.told(EraseNotice) == []


async def test_who_is_to_erase_all_that_was_sent_is_known_however_often_it_is_done(backend: Backend) -> None:
    lost = await stage_over(MemoryBackend())
    await settle(lost.backend, 1)
    await lost.drain()
    await change(lost.backend, permits(2, affiliates=("mobile",)))
    await lost.drain()
    await stage_over(backend)
    for _ in range(2):
        assert await again(backend, lost) == set()
        [holder] = await holders(backend)
        assert holder.notice is not None
        assert [holder] == await holders(lost.backend)


async def test_what_is_given_since_to_a_holder_that_stands_counts_for_it(backend: Backend) -> None:
    lost, stage = await stage_over(MemoryBackend()), await stage_over(backend)
    for one in (lost, stage):
        await settle(one.backend, 1)
        await one.drain()
    await lost.backend.put_approval(approval("points", SharingUse.SPENDING_ANALYSIS))
    await change(lost.backend, permits(2, purposes=("loyalty", "spending-analysis")))
    await settle(lost.backend, 2)
    await lost.drain()
    assert await again(backend, lost) == set()
    [holder] = await holders(backend)
    assert holder.uses == ("loyalty", "spending-analysis")
    assert [holder] == await holders(lost.backend)


OTHER_RING = {"20990101-b": b"x" * 32}


@pytest.mark.parametrize(
    ("consents", "affiliate", "ring"),
    [((), "points", RING), ((permits(),), "mobile", RING), ((permits(),), "points", OTHER_RING)],
    ids=["no consent", "no affiliate", "no key that named it"],
)
async def test_of_whom_nothing_can_be_known_is_named(
    backend: Backend, consents: Sequence[Consent], affiliate: str, ring: dict[str, bytes]
) -> None:
    lost = await stage_over(MemoryBackend())
    await settle(lost.backend, 1)
    await lost.drain()
    await backend.put_consents(*consents)
    await backend.put_approval(approval(affiliate))
    assert await again(backend, lost, ring) == {ToldShare("partner-1", "consent-1", "points")}
    assert await holders(backend) == []
