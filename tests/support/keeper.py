"""One world for all tests of a process, while they leave it in order: starting one costs some ten seconds."""

from contextlib import AsyncExitStack, nullcontext
from datetime import UTC, datetime
from typing import Final

import pytest

from gateway.proving.traffic.cast import Role, make_cast, make_partners
from gateway.proving.traffic.receivers import make_receivers
from gateway.proving.world.opening import open_world
from gateway.proving.world.world import WorldPlan
from tests.support.scene import Scene, open_scene
from tests.support.stack import HOME

SETTINGS: Final = {
    # A machine that stands still for seconds withdraws no order that a test wants to be paid.
    "MYPAY_EXECUTION_INTENT_TO_WIRE_S": "10",
    # A dead worker's payments are taken over this long after they could still be answered: short, so that tests are.
    "MYPAY_RECOVERY_MARGIN_S": "0.5",
    "MYPAY_FOLLOW_UP_POLL_S": "0.1",
    "MYPAY_REGISTRY_REFRESH_S": "0.2",
    "MYPAY_CLEARING_INBOX_POLL_S": "0.1",
}

ROLES: Final = {
    Role.PLAIN: 40,
    Role.FOOD_ONLY: 4,
    Role.DAY_AMOUNT: 4,
    Role.DAY_COUNT: 4,
    Role.SINGLE_USE: 4,
    Role.SUSPENDED: 4,
    Role.EXPIRED: 4,
    Role.LEAVER: 1,
}


class Keeper:
    """Holds the world that tests share; opens another after :meth:`discard`.

    It has servers of its own: the gateway's topics have fixed names, which other tests use on the session's Kafka.
    """

    def __init__(self) -> None:
        self._resources: AsyncExitStack | None = None
        self._scene: Scene | None = None

    async def scene(self) -> Scene:
        if self._scene is None:
            self._resources = AsyncExitStack()
            self._scene = await _open(self._resources)
        return self._scene

    async def discard(self, *, keep_data: bool) -> None:
        """Take the world down; the next test gets a new one, and clears away what is kept of this one."""
        resources, scene = self._resources, self._scene
        self._resources = self._scene = None
        if scene is not None:
            scene.world.succeeded = not keep_data
        if resources is not None:
            await resources.aclose()


async def _open(resources: AsyncExitStack) -> Scene:
    plan = WorldPlan(name="test-world", home=HOME, networks=2)
    # Receivers are registered; what hands something to them is started by the tests that are about it.
    cast = make_cast(ROLES, partners=make_partners(), now=datetime.now(UTC), seed=7, receivers=make_receivers())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        world = await resources.enter_async_context(open_world(plan, cast, steps=lambda _: nullcontext()))
    return await resources.enter_async_context(open_scene(world))
