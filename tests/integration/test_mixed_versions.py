"""Two releases beside each other, on one database and the same topics: what an upgrade is, and going back from one.

The older one is the last release, so its processes stand on tables newer than theirs.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from gateway.proving.stack.ports import free_ports
from gateway.proving.world.children import Child
from gateway.proving.world.world import make_child
from tests.support.entries import BCARD, KCARD
from tests.support.scene import Scene

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ("gateway", "schemas", "streams")
STAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "initiation": (),
    f"execution {BCARD}": ("--network", BCARD),
    f"execution {KCARD}": ("--network", KCARD),
    "relay": (),
    "settlement": (),
}


RELEASED: Final = "6a20a20ff6437f3e5512b492a140daa29a3c2d15"
"""The last release. Releases have no tags yet: whoever makes one names its commit here."""


def git(*arguments: str) -> bytes | None:
    if shutil.which("git") is None:
        return None
    ran = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    return ran.stdout if ran.returncode == 0 else None


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The sources of the last release."""
    archive = git("archive", RELEASED, *SOURCES)
    if archive is None:
        pytest.skip("the release before is not there: this is a copy without its history")
    folder = tmp_path / "older"
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    here, there = (
        {p.name for p in (root / "gateway" / "database" / "migrations").glob("*.sql")} for root in (ROOT, folder)
    )
    assert there < here, "the older release lacks a migration"
    # What is installed here is not what its processes import.
    program = "import gateway, schemas, streams; print(gateway.__path__[0])"
    imported = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(folder)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.startswith(str(folder))
    return folder


@asynccontextmanager
async def started(scene: Scene, older: Path) -> AsyncIterator[dict[str, Child]]:
    """A worker of the older release in each group, under names of their own."""
    world = scene.world
    children: dict[str, Child] = {}
    ports = free_ports(len(STAGES))
    for (name, words), port in zip(STAGES.items(), ports, strict=True):
        own = f"older {name}"
        environment = world.environment | {
            "PYTHONPATH": str(older),
            "MYPAY_HTTP_PORT": str(port),
            "MYPAY_WORKER": own.replace(" ", "-"),
        }
        arguments = ["-m", "streams", name.split(" ")[0], *words]
        children[name] = make_child(world, own, arguments, environment)
        children[name].start()
        world.http[own] = f"http://127.0.0.1:{port}"
    try:
        await scene.until_ready(*(f"older {name}" for name in STAGES))
        yield children
    finally:
        await asyncio.gather(*(child.stop(30) for child in children.values()))
        for name in STAGES:
            del world.http[f"older {name}"]


async def test_two_releases_pay_side_by_side_and_one_may_go_back(scene: Scene, older: Path) -> None:
    newer = {name: scene.process(name).pid for name in STAGES}
    # Workers join and leave: partners may be told things again.
    scene.disturbed = True
    async with started(scene, older) as children:
        both = [e for network in (BCARD, KCARD) for e in scene.payments(40, network)]
        await scene.send(both)
        await scene.until_states(both, "approved")
        # Back to the older release alone: it goes on with what the newer one has written.
        await scene.stop(*STAGES)
        alone = [e for network in (BCARD, KCARD) for e in scene.payments(10, network)]
        await scene.send(alone)
        await scene.until_states(alone, "approved")
        for network in (BCARD, KCARD):
            await scene.close_cycle(network)
        await scene.until_states([*both, *alone], "settled")
        for child in children.values():
            child.check()
        scene.start(*STAGES)
        await scene.until_ready(*STAGES)
        pids = {name: child.pid for name, child in children.items()}
    after = scene.payments(10)
    await scene.send(after)
    await scene.settle()
    rows = await scene.fetch(
        "SELECT DISTINCT split_part(sent_by, '/', 2) AS pid FROM payment WHERE sent_by IS NOT NULL"
    )
    senders = {r["pid"] for r in rows}
    for network in (BCARD, KCARD):
        assert str(newer[f"execution {network}"]) in senders
        assert str(pids[f"execution {network}"]) in senders
    await scene.check_books()
