"""One world for all tests of the session, while they leave it in order: starting one costs some ten seconds."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from gateway.local.stack import ENV_KAFKA, ENV_POSTGRES
from gateway.proving.cast import Cast, Role, make_cast, make_partners
from gateway.proving.world import WorldPlan, open_world
from tests.integration.support.scene import Scene, open_scene
from tests.stack import Stack

SETTINGS: Final = {
    # A dead worker's payments are taken over this long after they could still be answered: short, so that tests are.
    "MYPAY_RECOVERY_MARGIN_S": "0.5",
    "MYPAY_REVERSAL_POLL_S": "0.1",
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
}


class Keeper:
    """Holds the world that tests share; opens another after :meth:`discard`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._resources: AsyncExitStack | None = None
        self._scene: Scene | None = None

    async def scene(self) -> Scene:
        if self._scene is None:
            self._resources = AsyncExitStack()
            self._scene = await self._open(self._resources)
        return self._scene

    async def discard(self) -> None:
        """Take the world down; the next test gets a new one."""
        resources, self._resources, self._scene = self._resources, None, None
        if resources is not None:
            await resources.aclose()

    async def _open(self, resources: AsyncExitStack) -> Scene:
        await _delete_topics(self._stack.kafka)
        plan = WorldPlan(name=f"{self._stack.name}-world", home=self._stack.home, networks=2)
        with _environment(self._stack):
            opened = open_world(plan, _cast(), steps=lambda _: nullcontext())
            world = await resources.enter_async_context(opened)
        return await resources.enter_async_context(open_scene(world))


def _cast() -> Cast:
    return make_cast(ROLES, partners=make_partners(), now=datetime.now(UTC), seed=7)


@contextmanager
def _environment(stack: Stack) -> Iterator[None]:
    """The session's own servers as given ones: the world makes a database and topics there, and no servers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_KAFKA, stack.kafka)
        patch.setenv(ENV_POSTGRES, stack.postgres)
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        yield


async def _delete_topics(bootstrap_servers: str) -> None:
    """Forget an earlier world of this session: its topics, and with them the groups' offsets."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        async with asyncio.timeout(30):
            while topics := [t for t in await admin.list_topics() if t.startswith("mypay.")]:
                await admin.delete_topics(topics)
    finally:
        await admin.close()
