"""What is left of strikes is undone at a run's end, or it is told that it cannot be."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.proving.torture import striking
from gateway.proving.torture.striking import Striker, UnhealedError


class Host:
    """A network's host that is reached once it has been asked so often."""

    network_id = "bcard"

    def __init__(self, reached_after: float) -> None:
        self.asked, self._reached_after = 0, reached_after

    async def clear_faults(self) -> None:
        self.asked += 1
        if self.asked <= self._reached_after:
            raise ConnectionRefusedError


def striker(monkeypatch: pytest.MonkeyPatch, host: Host) -> Striker:
    class Server:
        def __init__(self, *_: object, **__: object) -> None: ...

        def restore(self) -> None: ...

    monkeypatch.setattr(striking, "_Server", Server)
    monkeypatch.setattr(striking, "RETRY_S", 0.0)
    world: Any = SimpleNamespace(networks=[host])
    return Striker(world, supervisor=SimpleNamespace(), proxies={})  # type: ignore[arg-type]


async def test_a_host_that_starts_meanwhile_is_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(reached_after=3)
    await striker(monkeypatch, host).heal()
    assert host.asked == 4


async def test_a_host_that_never_comes_back_is_told_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(reached_after=float("inf"))
    monkeypatch.setattr(striking, "HEAL_TIMEOUT_S", 0.0)
    with pytest.raises(UnhealedError, match="the host of bcard cannot be reached"):
        await striker(monkeypatch, host).heal()
    assert host.asked
