"""A real Prometheus (Debian's) that looks at the gateway's processes once a second."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from gateway.observability.targets import targets
from gateway.proving.stack.ports import free_ports
from tests.support.deadline import in_time
from tests.support.live_alerts import of_marks
from tests.support.scene import Scene, the_schedule

WITH_PROMETHEUS: Final = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed: Debian has it in the package of that name"
)
"""Of tests that need one: they are skipped before they start anything."""


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    async with in_time(what):
        while not await holds():  # noqa: ASYNC110 - Prometheus tells nobody
            await asyncio.sleep(0.1)


@dataclass
class Prometheus:
    """One that runs.

    Attributes:
        targets: the file that tells it which processes to look at.
        fired: the alerts that were seen to fire, since it was last emptied.
    """

    url: str
    session: aiohttp.ClientSession
    targets: Path
    fired: set[str] = field(default_factory=set)

    def watch(self, processes: Mapping[str, str]) -> None:
        """Look at these processes (name → base URL) from now on, and at no others."""
        places = {name: url.removeprefix("http://") for name, url in sorted(processes.items())}
        unfinished = self.targets.with_suffix(".tmp")
        unfinished.write_text(targets(places), encoding="utf-8")
        unfinished.replace(self.targets)

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The result of an expression now: each series' labels and value."""
        async with self.session.get(f"{self.url}/api/v1/query", params={"query": expr}) as answer:
            told = await answer.json()
        assert told["status"] == "success", f"{expr}: {told.get('error')}"
        result: list[dict[str, Any]] = told["data"]["result"]
        return result

    async def had(self, expr: str, *, since: float) -> bool:
        """Whether an expression gave a number at some time since then."""
        asked = {"query": expr, "start": str(since), "end": str(time.time()), "step": "1"}
        async with self.session.get(f"{self.url}/api/v1/query_range", params=asked) as answer:
            told = await answer.json()
        assert told["status"] == "success", f"{expr}: {told.get('error')}"
        return any(value != "NaN" for series in told["data"]["result"] for _, value in series["values"])

    async def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        found = await self.query('ALERTS{alertstate="firing"}')
        names = {series["metric"]["alertname"] for series in found}
        self.fired |= names
        return names

    async def until_fired(self, *names: str) -> None:
        """Each of these has fired at some time since :attr:`fired` was emptied."""
        for name in names:
            await until(lambda name=name: self._has_fired(name), f"{name} fires")  # type: ignore[misc]

    async def keep_looking(self) -> None:
        """Remember what fires, until cancelled."""
        while True:
            await self.firing()
            await asyncio.sleep(0.5)

    async def _has_fired(self, name: str) -> bool:
        await self.firing()
        return name in self.fired

    async def until_firing(self, *names: str) -> None:
        """All of these fire."""
        for name in names:
            await until(lambda name=name: self._fire(name, expected=True), f"{name} fires")  # type: ignore[misc]

    async def until_quiet(self, *names: str) -> None:
        """None of these fires."""
        for name in names:
            await until(lambda name=name: self._fire(name, expected=False), f"{name} is quiet")  # type: ignore[misc]

    async def until_alone(self, *names: str) -> None:
        """All of these fire, and no other one: what tests before this one caused is over by and by."""

        async def alone() -> bool:
            return await self.firing() == set(names)

        await until(alone, f"{', '.join(names)} alone fire")

    async def _fire(self, name: str, *, expected: bool) -> bool:
        return (name in await self.firing()) is expected


@asynccontextmanager
async def tried(one: Prometheus, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """What a test is about that names alerts: they are quiet before it, and each has fired in it."""
    names = list(of_marks(request.node.iter_markers()))
    await one.until_quiet(*names)
    one.fired.clear()
    looking = asyncio.create_task(one.keep_looking(), name="looking")
    yield
    looking.cancel()
    await asyncio.wait([looking])
    assert set(names) <= one.fired


@asynccontextmanager
async def running_prometheus(
    folder: Path, processes: Mapping[str, str] | Path, rules: Mapping[str, Any] | None = None
) -> AsyncIterator[Prometheus]:
    """Look at these processes (name → base URL, or the file that tells them) once a second, with these rules."""
    found = shutil.which("prometheus")
    assert found is not None
    (port,) = free_ports(1)
    file = processes if isinstance(processes, Path) else folder / "targets.json"
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.json")] if rules is not None else [],
        "scrape_configs": [
            {
                "job_name": "mypay",
                "file_sd_configs": [{"files": [str(file)], "refresh_interval": "1s"}],
            }
        ],
    }
    _write(folder, config, rules)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            found,
            f"--config.file={folder / 'prometheus.json'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--query.lookback-delta=5s",
            stdout=log,
            stderr=log,
        )
        try:
            async with aiohttp.ClientSession() as session:
                one = Prometheus(f"http://127.0.0.1:{port}", session, file)
                if not isinstance(processes, Path):
                    one.watch(processes)
                wanted = 0 if isinstance(processes, Path) else len(processes)
                await until(lambda: _answers(one, wanted, process), "Prometheus has looked at every process")
                yield one
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@asynccontextmanager
async def watched(scene: Scene) -> AsyncIterator[dict[str, str]]:
    """A world's processes, and the schedule, which reads the database for the gauges; name → base URL."""
    (port,) = free_ports(1)
    async with the_schedule(scene, http_port=port, open_payments_interval_s=0.5):
        yield {**scene.world.http, "schedule": f"http://127.0.0.1:{port}"}


async def _answers(one: Prometheus, processes: int, process: "asyncio.subprocess.Process") -> bool:
    assert process.returncode is None, "Prometheus has ended"
    try:
        return len(await one.query('up{job="mypay"} == 1')) == processes
    except (aiohttp.ClientError, aiohttp.ContentTypeError):
        return False


def _write(folder: Path, config: Mapping[str, Any], rules: Mapping[str, Any] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    (folder / "prometheus.json").write_text(json.dumps(config), encoding="utf-8")
    if rules is not None:
        (folder / "rules.json").write_text(json.dumps(rules), encoding="utf-8")
