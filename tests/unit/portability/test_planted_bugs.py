"""Bugs planted in exports are seen in the recipient's own books, and in nothing else: these share no rule with them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import pytest

from gateway.portability import exporting
from gateway.portability.exporting import ExportService
from gateway.portability.rules.rows import Extract
from gateway.portability.verifying import ExportRefusedError
from gateway.proving.simulation.bugs.planting import edited, replaced
from schemas.consents import PortabilityScope, Purpose
from tests.support.portability import PURPOSE, PortabilityRig


def permission_not_read_again() -> AbstractContextManager[None]:
    async def check(self: Any, attempt: Any) -> datetime:
        """Believe what was true at first."""
        return attempt.snapshot_at  # type: ignore[no-any-return]

    return replaced(ExportService, "_check", check)


def receipt_by_whoever_comes() -> AbstractContextManager[None]:
    return edited(
        ExportService,
        "_finish",
        (
            "if standing is None or (standing.attempt, standing.state) != (export.attempt, ExportState.SENDING):",
            "if standing is None:",
        ),
    )


def receipt_without_permission() -> AbstractContextManager[None]:
    return edited(ExportService, "_finish", ("if refused is None:", "if True:"))


def voids_told_to_nobody() -> AbstractContextManager[None]:
    return edited(ExportService, "_claim", ("claimed[0].attempt > 1", "claimed[0].attempt > 99"))


def chunks_counted_late() -> AbstractContextManager[None]:
    return edited(ExportService, "_check", ("len(attempt.chunks) + (refused is None)", "len(attempt.chunks)"))


def every_scope() -> AbstractContextManager[None]:
    def of(_purpose: Any, _asked: Any, org_code: str) -> Extract:
        return Extract(frozenset(PortabilityScope), org_code, with_merchant=True, with_category=True)

    return replaced(Extract, "of", staticmethod(of))


def key_kept_that_was_changed() -> AbstractContextManager[None]:
    async def first_key(self: Any, attempt: Any) -> None:
        """Go on with the key of the beginning."""

    before = exporting.refuse_export

    def blind(request: Any, using: Any, org_code: str, now: Any) -> Any:
        return before(request, replace(using, kid=None), org_code, now)

    return replaced(exporting, "refuse_export", blind)


async def violations(visit: int) -> set[str]:
    """One world, cut at this chunk of each export: a slow worker, a key that changes, a revocation."""
    rig = PortabilityRig()
    rig.put(PURPOSE.model_copy(update={"scopes": (PortabilityScope.PAID_TRANSACTION,)}))
    rig.pay(1, 2, 3, 4, 5)

    async def cut(request_id: str, then: Callable[[], None], *, elsewhere: bool = False) -> None:
        await rig.take(rig.record(request_id=request_id))
        rig.faults.hold("publisher.publish", visit=visit)
        going = asyncio.create_task(rig.stage.exports.make_one())
        await rig.faults.reached("publisher.publish")
        then()
        if elsewhere:
            rig.clock.advance(61)
            await rig.new_stage("worker-2").exports.make_one()
        rig.faults.open("publisher.publish")
        await going
        await rig.make_all()

    def revoke() -> None:
        key = ("partner-1", "consent-1")
        row = rig.database.consents.rows[key]  # type: ignore[index]
        rig.database.consents.rows[key] = replace(row, ended=frozenset({Purpose.PORTABILITY}))  # type: ignore[index]

    await cut("slow", lambda: None, elsewhere=True)
    await cut("key", lambda: rig.use_key("key-2"))
    sent = len(rig.kafka.records)
    await cut("revoked", revoke)
    late = {"data left after the revocation"} if len(rig.kafka.records) > sent + visit else set()
    return late | _books(rig)


def _books(rig: PortabilityRig) -> set[str]:
    """What the recipient sees in its topic."""
    try:
        reader = rig.reader()
    except ExportRefusedError as error:
        return {f"the recipient refuses: {error}"}
    whole = {w.manifest.request_id: w for w in reader.whole.values()}
    seen = {
        "an export became whole after the revocation": "revoked" in whole,
        "chunks of which nothing was told": bool(reader.open_attempts),
        "chunks that the log does not tell of": bool(rig.unlogged()),
        "delivered twice": rig.partner_told().count("delivered") != len(whole),
        "sealed to a key that counts no more": "key" in whole and whole["key"].manifest.kid != "key-2",
        "a scope that the consent does not have": any("approved_list" in w.lists for w in whole.values()),
    }
    return {name for name, is_so in seen.items() if is_so}


CUTS: Final = (2, 4)
"""In the middle, and at the last chunk: then the receipt alone is left to be refused."""

BUGS: Final = [
    permission_not_read_again,
    receipt_by_whoever_comes,
    receipt_without_permission,
    voids_told_to_nobody,
    chunks_counted_late,
    every_scope,
    key_kept_that_was_changed,
]


@pytest.mark.parametrize("visit", CUTS)
async def test_without_a_bug_nothing_is_found(visit: int) -> None:
    assert await violations(visit) == set()


@pytest.mark.parametrize("plant", BUGS)
async def test_a_planted_bug_is_found(plant: Callable[[], AbstractContextManager[None]]) -> None:
    with plant():
        assert set().union(*[await violations(visit) for visit in CUTS]) != set()
