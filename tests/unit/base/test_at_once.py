"""Questions that are asked at once."""

import asyncio

import pytest

from gateway.base.at_once import at_once
from gateway.base.errors import StoreUnavailableError


async def test_all_are_asked_before_the_first_is_answered() -> None:
    asked: list[str] = []
    both = asyncio.Event()

    async def ask(name: str) -> str:
        asked.append(name)
        if len(asked) == 2:
            both.set()
        await both.wait()
        return name

    async with at_once() as tasks:
        first, second = tasks.create_task(ask("a")), tasks.create_task(ask("b"))
    assert (first.result(), second.result()) == ("a", "b")


@pytest.mark.parametrize("where", ["beside", "within"])
async def test_what_one_raises_comes_as_it_is_and_ends_the_others(where: str) -> None:
    """Whoever tries again where a server is away knows its errors, and no groups of them."""
    ended: list[str] = []

    async def fail() -> None:
        raise StoreUnavailableError("away")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waited")

    async def ask() -> None:
        async with at_once() as tasks:
            tasks.create_task(wait())
            await asyncio.sleep(0)
            if where == "within":
                await fail()
            tasks.create_task(fail())

    with pytest.raises(StoreUnavailableError):
        await ask()
    assert ended == ["waited"]


@pytest.mark.parametrize("fails", ["not", "before", "after", "as it ends"])
async def test_whoever_is_cancelled_is_cancelled(fails: str) -> None:
    """One that fails at that moment hides it from nobody: what is to end would be tried again."""
    failing, asked = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        asked.set()
        try:
            await failing.wait()
        except asyncio.CancelledError:
            if fails == "as it ends":
                raise StoreUnavailableError("away") from None
            raise
        raise StoreUnavailableError("away")

    async def ask() -> str:
        try:
            async with at_once() as tasks:
                tasks.create_task(fail())
        except StoreUnavailableError:
            return "tried again"
        return "answered"

    asking = asyncio.create_task(ask())
    await asked.wait()
    if fails == "before":
        failing.set()
    asking.cancel()
    if fails == "after":
        failing.set()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_one_that_was_cancelled_before_and_goes_on_hears_what_fails() -> None:
    """As while it ends: what was asked of it then is no cancellation of this."""

    async def ask() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            async with at_once() as tasks:
                tasks.create_task(fail())
            raise

    async def fail() -> None:
        raise StoreUnavailableError("away")

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(StoreUnavailableError):
        await asking
