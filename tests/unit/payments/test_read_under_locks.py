"""A server that another has followed may still answer some connection: what it says is of the past."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.proving.simulation.bugs.planting import Instead
from schemas.primitives import FundingToken
from schemas.reasons import ReasonCode
from schemas.topics import dispatch_topic
from tests.support.builders import NETWORK, dispatched_record, numbered_order, order_record
from tests.support.instructions import cancellation, instruction_record
from tests.support.rig import Rig


def read_what_was(rig: Rig, **rooms: dict[str, Any]) -> None:
    """Beside transactions, answer from now on so that these questions have the answers of before."""
    reading = rig.store.reading

    @asynccontextmanager
    async def behind() -> AsyncIterator[Any]:
        async with reading() as uow:
            yield Instead(uow, **{room: Instead(getattr(uow, room), **answers) for room, answers in rooms.items()})

    rig.store.reading = behind  # type: ignore[method-assign]


async def test_a_token_that_was_withdrawn_pays_nothing_whatever_another_server_says() -> None:
    async def all_of(uses: Any) -> frozenset[Any]:
        return frozenset(uses)

    rig = Rig()
    read_what_was(rig, directory={"usable_tokens": all_of})
    rig.database.put_token(FundingToken("token-1"), "customer-1")
    await rig.execute([dispatched_record(numbered_order(1))])
    assert rig.payment(1).reason.code is ReasonCode.DS0H  # type: ignore[union-attr]
    assert rig.host.received == []


async def test_an_order_whose_cancellation_was_told_is_not_sent_whatever_another_server_says() -> None:
    async def none(_: Any) -> dict[Any, Any]:
        return {}

    rig = Rig()
    await rig.initiation.take([order_record(numbered_order(1), offset=0)])
    await rig.initiation.take([instruction_record(cancellation(), 1)])
    read_what_was(rig, cancellations={"not_sent": none})
    await rig.execute(await rig.consumer(dispatch_topic(NETWORK)).take(10))
    assert rig.payment(1).reason.code is ReasonCode.DS02  # type: ignore[union-attr]
    assert rig.host.received == []
