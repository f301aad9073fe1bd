"""The loop with virtual time."""

import asyncio
from typing import Any

import pytest

from gateway.proving.simulation import loop as loops
from gateway.proving.simulation.loop import NothingLeftError, VirtualLoop


def new_loop(errors: list[dict[str, Any]] | None = None) -> VirtualLoop:
    return VirtualLoop((errors if errors is not None else []).append)  # type: ignore[abstract]


def test_time_jumps_to_the_next_timer() -> None:
    loop = new_loop()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, loop.time()))

    async def main() -> None:
        async with asyncio.timeout(7200):
            await asyncio.gather(sleep("late", 3600.0), sleep("soon", 1.5), sleep("as soon", 1.5))

    loop.run(main())
    assert woken == [("soon", 1.5), ("as soon", 1.5), ("late", 3600.0)]


def test_a_time_out_is_virtual_too() -> None:
    loop = new_loop()

    async def main() -> None:
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        loop.run(main())
    assert loop.time() == 60


def test_a_deadlock_is_no_waiting() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingLeftError):
        new_loop().run(main())


def test_turning_in_circles_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - turning in circles is the point
            await asyncio.sleep(0)

    monkeypatch.setattr(loops, "CALLBACKS_MAX", 1000)
    with pytest.raises(NothingLeftError):
        new_loop().run(main())


def test_an_error_in_a_callback_is_told() -> None:
    errors: list[dict[str, Any]] = []
    loop = new_loop(errors)

    async def main() -> None:
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    loop.run(main())
    assert [type(e["exception"]) for e in errors] == [ZeroDivisionError]
