"""Three brokers and a synchronous standby: the gateway goes on when one broker and the primary die at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from gateway.proving import stack as local
from gateway.proving.traffic.cast import Role, make_cast, make_partners
from gateway.proving.world.opening import open_world
from gateway.proving.world.world import WorldPlan
from tests.integration.test_outages import ANY_END, light_load, until_more_approved
from tests.support.entries import BCARD
from tests.support.keeper import SETTINGS
from tests.support.scene import Scene, open_scene
from tests.support.stack import HOME


@pytest.fixture
async def replicated(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    cast = make_cast({Role.PLAIN: 20}, partners=make_partners(), now=datetime.now(UTC), seed=7)
    plan = WorldPlan(name="test-failover", home=HOME, networks=2, replicated=True)
    async with open_world(plan, cast, steps=lambda _: nullcontext()) as world, open_scene(world) as scene:
        yield scene
        world.succeeded = True


@pytest.mark.timeout(1200)
async def test_a_broker_and_the_primary_die_under_load_and_nothing_confirmed_is_lost_or_paid_twice(
    replicated: Scene,
) -> None:
    scene = replicated
    (standby,) = await scene.fetch("SELECT sync_state FROM pg_stat_replication")
    assert standby["sync_state"] == "sync"

    async with light_load(scene) as entries:
        await until_more_approved(scene, entries)
        # What the relay told and could not note any more is told again.
        scene.disturbed = True
        home, name = scene.world.plan.home, scene.world.name
        await asyncio.to_thread(local.kill_broker, name, 2, home=home)
        await asyncio.to_thread(local.fail_over, name, home=home)
        await until_more_approved(scene, entries)
    (waits,) = await scene.fetch(
        "SELECT pg_is_in_recovery() AS recovery, current_setting('synchronous_standby_names') AS for"
    )
    assert (waits["recovery"], waits["for"]) == (False, "")

    last = scene.payments(10, BCARD, expected=ANY_END)
    await scene.send(last)
    await scene.settle()
    await scene.check_books()
    assert await scene.count_in(last, "settled") == 10
