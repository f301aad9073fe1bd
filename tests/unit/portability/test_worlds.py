"""Exports under any row of crashes, outages, changed keys and a revocation: the recipient's books and the log agree."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.base.errors import PublisherUnavailableError
from schemas.consents import Purpose
from tests.support.portability import ORG, PortabilityRig

PLACES = [
    *("publisher.publish", "publisher.published", "portability.hold", "portability.claim", "snapshots.fetch"),
    *("portability.update_export", "outbox.append", "store.commit", "store.committed"),
]
BLOWS = st.tuples(st.sampled_from(["crash", "outage", "key", "revoke"]), st.sampled_from(PLACES), st.integers(0, 7))


def strike(rig: PortabilityRig, what: str) -> None:
    """Do what needs no fault of a place."""
    key = ("partner-1", "consent-1")
    if what == "key":
        now = rig.database.recipients.rows[ORG].key
        rig.use_key("key-1" if now is not None and now.kid == "key-2" else "key-2")
    elif what == "revoke":
        row = rig.database.consents.rows[key]  # type: ignore[index]
        rig.database.consents.rows[key] = replace(row, ended=frozenset({Purpose.PORTABILITY}))  # type: ignore[index]


async def strike_between(rig: PortabilityRig, what: str, visit: int) -> None:
    """Strike while this chunk is on its way, or after an attempt that has no such chunk."""
    rig.faults.hold("publisher.publish", visit=visit + 1)
    going = asyncio.create_task(rig.stage.exports.make_one())
    held = asyncio.create_task(rig.faults.reached("publisher.publish"))
    await asyncio.wait({going, held}, return_when=asyncio.FIRST_COMPLETED)
    held.cancel()
    strike(rig, what)
    sent = len(rig.kafka.records)
    rig.faults.open("publisher.publish")
    await going
    assert len(rig.kafka.records) <= sent + 1


async def play(blows: Sequence[tuple[str, str, int]]) -> PortabilityRig:
    """One attempt a blow, each cut at a place; then whatever is left is brought to its end."""
    rig = PortabilityRig()
    rig.pay(1, 2, 3, 4, 5)
    await rig.take(rig.record(), rig.record(request_id="request-2"))
    for round_, (what, place, visit) in enumerate(blows):
        if what == "crash":
            rig.faults.plan(place, *[None] * visit, asyncio.CancelledError())  # type: ignore[list-item]
        elif what == "outage":
            rig.faults.plan("publisher.publish", *[None] * visit, PublisherUnavailableError("away"))
        try:
            if what in ("key", "revoke"):
                await strike_between(rig, what, visit)
            else:
                await rig.stage.exports.make_one()
        except asyncio.CancelledError:
            rig.stage = rig.new_stage(f"worker-{round_}")
        rig.clock.advance(61)
    for last in range(30):
        try:
            if not await rig.make_all() and last:
                break
        except asyncio.CancelledError:
            rig.stage = rig.new_stage(f"last-{last}")
        rig.clock.advance(61)
    return rig


@settings(max_examples=60, deadline=None)
@given(blows=st.lists(BLOWS, max_size=8))
async def test_whatever_happens_each_chunk_is_logged_and_each_export_ends_once(
    blows: list[tuple[str, str, int]],
) -> None:
    rig = await play(blows)
    assert rig.unlogged() == []
    reader = rig.reader()
    assert not reader.open_attempts
    told = rig.partner_told()
    assert told.count("delivered") == len(reader.whole)
    assert told.count("delivered") + told.count("voided") == 2
    if not any(what == "revoke" for what, _, _ in blows):
        assert len(reader.whole) == 2
