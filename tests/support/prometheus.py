"""A real Prometheus (Debian's) that looks at the gateway's processes once a second."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.proving.stack.ports import free_ports
from tests.support.deadline import in_time
from tests.support.scene import Scene, the_schedule


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    async with in_time(what):
        while not await holds():  # noqa: ASYNC110 - Prometheus tells nobody
            await asyncio.sleep(0.1)


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str
    session: aiohttp.ClientSession

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The result of an expression now: each series' labels and value."""
        async with self.session.get(f"{self.url}/api/v1/query", params={"query": expr}) as answer:
            told = await answer.json()
        assert told["status"] == "success", f"{expr}: {told.get('error')}"
        result: list[dict[str, Any]] = told["data"]["result"]
        return result

    async def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        found = await self.query('ALERTS{alertstate="firing"}')
        return {series["metric"]["alertname"] for series in found}

    async def until_firing(self, *names: str) -> None:
        """All of these fire."""
        for name in names:
            await until(lambda name=name: self._fire(name, expected=True), f"{name} fires")  # type: ignore[misc]

    async def until_quiet(self, *names: str) -> None:
        """None of these fires."""
        for name in names:
            await until(lambda name=name: self._fire(name, expected=False), f"{name} is quiet")  # type: ignore[misc]

    async def _fire(self, name: str, *, expected: bool) -> bool:
        return (name in await self.firing()) is expected


@asynccontextmanager
async def running_prometheus(
    folder: Path, targets: Mapping[str, str], rules: Mapping[str, Any] | None = None
) -> AsyncIterator[Prometheus]:
    """Look at these processes (name → base URL) once a second, with these rules."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("prometheus is not installed: Debian has it in the package of that name")
    (port,) = free_ports(1)
    groups = [
        {"targets": [url.removeprefix("http://")], "labels": {"process": name}} for name, url in sorted(targets.items())
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.json")] if rules is not None else [],
        "scrape_configs": [{"job_name": "mypay", "static_configs": groups}],
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
                one = Prometheus(f"http://127.0.0.1:{port}", session)
                await until(lambda: _answers(one, len(targets), process), "Prometheus has looked at every process")
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


async def _answers(one: Prometheus, targets: int, process: "asyncio.subprocess.Process") -> bool:
    assert process.returncode is None, "Prometheus has ended"
    try:
        return len(await one.query('up{job="mypay"} == 1')) == targets
    except (aiohttp.ClientError, aiohttp.ContentTypeError):
        return False


def _write(folder: Path, config: Mapping[str, Any], rules: Mapping[str, Any] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    (folder / "prometheus.json").write_text(json.dumps(config), encoding="utf-8")
    if rules is not None:
        (folder / "rules.json").write_text(json.dumps(rules), encoding="utf-8")
