"""Affiliates' confirmations: the signer's own notices alone, once; and the alarm where none comes."""

from datetime import timedelta
from uuid import UUID

import pytest

from gateway.app.runtime import Runtime
from gateway.app.sharing import SharingConnections, sharing
from gateway.messaging.records import Record
from gateway.observability.recording import RecordingObserver
from gateway.proving.memory import (
    Database,
    MemoryClock,
    MemoryConsumer,
    MemoryDeadLetters,
    MemoryKafka,
    MemoryKeySource,
    MemoryStore,
    MemoryVerifier,
)
from gateway.sealing.sealing import MasterKeys
from gateway.sharing.confirming import OverdueErasures
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.rules.records import Holder, Notice
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.primitives import ConsentId, PartnerId
from schemas.sharing import ERASURE_TYPE, EraseCause, ErasureConfirmed
from schemas.topics import ERASURES
from tests.support.builders import NOW

NOTICE, OTHERS = UUID(int=1), UUID(int=2)
DUE = NOW + timedelta(days=7)


class Scene:
    """One notice to ``points`` and one to ``mobile``."""

    def __init__(self) -> None:
        self.database = Database()
        self.store = MemoryStore(self.database)
        self.clock = MemoryClock(NOW)
        self.letters = MemoryDeadLetters()
        self.observer = RecordingObserver()
        verifier = MemoryVerifier(owners={"points": "points", "mobile": "mobile"})
        runtime = Runtime(store=self.store, observer=self.observer, clock=self.clock, worker="w")
        connections = SharingConnections(
            confirmations=MemoryConsumer(MemoryKafka(self.clock), topics=[ERASURES], group_id="mypay-sharing"),
            keys=MemoryKeySource(),
            signatures=verifier,
            dead_letters=self.letters,
            pseudonyms=Pseudonyms(MasterKeys({"20260101-a": bytes(32)})),
        )
        self.service = sharing(runtime, connections).erasures
        for affiliate, notice_id in (("points", NOTICE), ("mobile", OTHERS)):
            key = (PartnerId("partner-1"), ConsentId("consent-1"))
            notice = Notice(notice_id, EraseCause.ENDED, NOW, DUE)
            holder = Holder(key, "customer-1", affiliate, 1, affiliate, ("k",), NOW, ("loyalty",), notice)
            self.database.sharing.holders.rows[key, affiliate, 1] = holder

    def confirmed(self) -> set[str]:
        return {r.affiliate_id for r in self.database.sharing.holders.rows.values() if r.confirmed_at is not None}


def record(
    notice: UUID = NOTICE, affiliate: str = "points", signature: str | None = "points", key: str | None = None
) -> Record:
    body = ErasureConfirmed(notice_id=notice, affiliate_id=affiliate, erased=3, erased_at=NOW)
    headers = write_envelope(
        Envelope(id="1", source="/affiliates/points", type=ERASURE_TYPE, time=NOW, signature=signature)
    )
    at = int(NOW.timestamp() * 1000)
    return Record(ERASURES, 0, 1, at, (key or str(notice)).encode(), encode(body), headers)


async def test_a_signed_confirmation_ends_its_own_notice_once() -> None:
    scene = Scene()
    await scene.service.take([record(), record()])
    first = scene.database.sharing.holders.rows
    scene.clock.advance(60)
    await scene.service.take([record()])
    assert scene.confirmed() == {"points"}
    assert {r.confirmed_at for r in first.values()} == {NOW, None}
    assert scene.letters.parked == []


@pytest.mark.parametrize(
    "bad",
    [
        record(OTHERS),
        record(OTHERS, "mobile"),
        record(UUID(int=9)),
        record(signature=None),
        record(key="other"),
    ],
    ids=["another's notice", "in another's name", "no such notice", "not signed", "another key"],
)
async def test_what_confirms_nothing_is_a_dead_letter(bad: Record) -> None:
    scene = Scene()
    await scene.service.take([bad, record()])
    assert scene.confirmed() == {"points"}
    assert [p.record for p in scene.letters.parked] == [bad]


async def test_an_alarm_rises_for_as_long_as_a_confirmation_is_overdue() -> None:
    scene = Scene()
    watch = OverdueErasures(store=scene.store, observer=scene.observer, clock=scene.clock)
    levels = []
    for moment in (NOW, DUE + timedelta(seconds=5)):
        scene.clock.set(moment)
        await watch.look()
        levels.append(dict(scene.observer.levels))
    assert [n.event for n in scene.observer.notes] == ["erasures_overdue"]
    await scene.service.take([record(), record(OTHERS, "mobile", "mobile")])
    await watch.look()
    levels.append(dict(scene.observer.levels))
    assert [found["erasures_overdue"] for found in levels] == [0.0, 2.0, 0.0]
    assert [found["erasure_overdue_oldest_seconds"] for found in levels] == [0.0, 5.0, 0.0]
