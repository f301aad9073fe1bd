"""What the sequencer tells of how late it is."""

from datetime import timedelta

from gateway.app.disclosure import DisclosureConnections, disclosure
from gateway.app.runtime import Runtime
from gateway.base.process import SilentObserver
from gateway.disclosure.sequencer import SequencerSettings
from gateway.outbox.store import OutboxEvent
from gateway.proving.memory import Database, MemoryClock, MemoryStore
from gateway.proving.memory.disclosure import MemoryDisclosureLog
from schemas.events import EventType
from schemas.topics import events_topic
from tests.support.builders import NOW
from tests.support.roots import ROOT_SIGNER


class Levels(SilentObserver):
    def __init__(self) -> None:
        self.lags: list[float] = []

    def level(self, name: str, value: float, **_: str) -> None:
        if name == "disclosure_lag_seconds":
            self.lags.append(value)


async def test_events_none_of_which_is_a_use_are_no_silence() -> None:
    """Who leads and tells no lag is taken for standing still: a day of nothing but notices woke somebody."""
    database, levels = Database(), Levels()
    store = MemoryStore(database)
    runtime = Runtime(store=store, observer=levels, clock=MemoryClock(NOW), worker="w")
    log = MemoryDisclosureLog(database)
    connections = DisclosureConnections(log=log, sign=ROOT_SIGNER.sign, random=bytes)
    service = disclosure(runtime, connections, SequencerSettings(batch=10, period=timedelta(hours=1))).service
    assert await log.acquire()
    head = await log.head()
    for n in range(3):
        async with store.transaction() as uow:
            await uow.outbox.append([_no_use(n)])
        head, _ = await service.step(head)
        assert levels.lags == [0.0] * (n + 1)


def _no_use(number: int) -> OutboxEvent:
    return OutboxEvent(
        topic=events_topic("partner-1"),
        key="k",
        event_id=f"e:{number}",
        event_type=EventType.PAYMENT_UNKNOWN,
        occurred_at=NOW,
        body=b"{}",
    )
