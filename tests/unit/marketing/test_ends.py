"""How late an offer is made under a consent that has ended: measured, and never after the end."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.consents.rules.purposes import PurposeEnd
from gateway.consents.store import PurposeEndRow
from gateway.proving.memory import Database, MemoryStore
from schemas.consents import Purpose
from schemas.primitives import ConsentId, PartnerId
from tests.support.builders import NOW
from tests.support.marketing import MarketingRig, agrees

KEY = (PartnerId("partner-1"), ConsentId("consent-1"))


@pytest.mark.parametrize(
    ("purpose", "early_s", "level"),
    [(Purpose.MARKETING, 2, -2.0), (Purpose.MARKETING, -1, 1.0), (Purpose.SHARING, -1, None)],
)
async def test_the_distance_from_the_revocation_to_the_last_offer(
    purpose: Purpose, early_s: int, level: float | None
) -> None:
    database = Database()
    rig = MarketingRig(MemoryStore(database))
    watch, observer, clock = rig.watch, rig.observer, rig.clock
    database.put_consent(replace(agrees(), ended=frozenset({purpose})))
    database.purpose_ends.rows[KEY, 1, purpose] = PurposeEndRow(KEY, 1, purpose, PurposeEnd.REVOKED, 1, NOW)
    watch.intended([KEY], NOW - timedelta(seconds=early_s))
    for _ in range(2):
        await watch.look()
        clock.advance(6)
    await watch.look()
    assert observer.levels.get("revoke_to_last_use_seconds{use=offer}") == level
    assert [n.event for n in observer.notes] == (["offer_after_end"] if level and level > 0 else [])
