"""The trust table as it lives: rotation, revocation, floods of unknown keys, and providers that misbehave."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.base.errors import StoreUnavailableError
from gateway.identity.assurance import Assertion
from gateway.identity.jose import jwks as jwks_module
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.jose.issuers import (
    FLOOD_OVER_SECONDS,
    FRUITLESS_MAX,
    TICK_SECONDS,
    UNKNOWN_KID_SECONDS,
    UNKNOWN_KID_WAIT_SECONDS,
    CachedTrustTable,
)
from gateway.identity.jose.jwks import JWKS_BYTES_MAX
from gateway.identity.jose.trust_files import read_trust_files
from gateway.proving.counterparts.idp.provider import IdentityProvider
from gateway.proving.counterparts.idp.run import trust_file, write_trust_files
from gateway.proving.counterparts.idp.server import IdpServer
from schemas.reasons import Reason
from tests.support.assertion_samples import PAYMENT_LINK, provider
from tests.support.domain_samples import NOW

DEPLOYED = Path(__file__).parents[3] / "deploy" / "issuers"


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.levels: dict[str, float] = {}
        self.notes: list[tuple[str, dict[str, Any]]] = []

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:
        self.outcomes.append(outcome)

    def level(self, name: str, value: float | None, **labels: str) -> None:
        self.levels[name] = value

    def note(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self.notes.append((event, fields))

    def batch(self, stage: str, *, size: int, seconds: float) -> None: ...
    def delay(self, span: str, seconds: float, *, n: int = 1) -> None: ...

    def hops(self, hop: str, seconds: object) -> None: ...
    def spans(self, span: str, seconds: object) -> None: ...


@dataclass
class World:
    """Both groups' providers behind HTTP, the folder that names them, and a trust table with a clock of its own."""

    folder: Path
    providers: dict[Any, IdentityProvider]
    server: IdpServer
    url: str
    seen: Seen = field(default_factory=Seen)
    now: float = 1000.0
    revoked: set[tuple[str, str]] = field(default_factory=set)
    database_away: bool = False
    table: CachedTrustTable = field(init=False)

    def __post_init__(self) -> None:
        self.table = CachedTrustTable(self.folder, self.seen, revocations=self.revocations, monotonic=lambda: self.now)
        self.verifier = JwsAssertionVerifier(self.table)

    async def revocations(self) -> frozenset[tuple[str, str]]:
        if self.database_away:
            raise StoreUnavailableError
        return frozenset(self.revoked)

    def code(self, token: str) -> str:
        outcome = self.verifier.verify(token, NOW)
        return outcome.code.value if isinstance(outcome, Reason) else "verified"

    def issue(self, group: str = "financial") -> str:
        return self.providers[group].issue("subject-1", PAYMENT_LINK)

    async def tick(self, seconds: float = 5.0) -> None:
        self.now += seconds
        await self.table.refresh()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    providers = {"financial": provider(), "telecom": provider("telecom", "Ed25519")}
    server = IdpServer(providers)  # type: ignore[arg-type]
    url = f"http://127.0.0.1:{await server.start(0)}"
    write_trust_files(tmp_path, providers, url)  # type: ignore[arg-type]
    shutil.copy(DEPLOYED / "policy.toml", tmp_path)
    world = World(tmp_path, providers, server, url)
    yield world
    await world.table.stop()
    await server.stop()


async def test_proofs_of_both_groups_are_verified(world: World) -> None:
    await world.table.load()
    for group in ("financial", "telecom"):
        token = world.issue(group)
        outcome = world.verifier.verify(token, NOW)
        assert isinstance(outcome, Assertion)
        entry = world.table.issuer(outcome.issuer)
        assert entry is not None
        assert (entry.home_group, entry.levels[outcome.level_name]) == (group, 2)
    assert [i.home_group for i in world.table.issuers()] == ["financial", "telecom"]


async def test_old_and_new_key_are_valid_while_both_are_published(world: World) -> None:
    await world.table.load()
    idp = world.providers["financial"]
    old_kid, old = idp.kid, world.issue()
    idp.rotate()
    new = world.issue()
    assert world.code(new) == "DS0E"
    await world.tick()
    assert (world.code(old), world.code(new)) == ("verified", "verified")
    idp.withdraw(old_kid)
    await world.tick()
    assert (world.code(old), world.code(new)) == ("DS0E", "verified")


async def test_a_new_key_is_fetched_when_it_is_first_met(world: World) -> None:
    await world.table.load()
    world.providers["financial"].rotate()
    token = world.issue()
    world.now += UNKNOWN_KID_SECONDS
    assert world.code(token) == "DS0E"
    assert await world.table.refresh_unknown()
    assert world.code(token) == "verified"
    # Nothing was missed since.
    assert not await world.table.refresh_unknown()


async def test_a_flood_of_unknown_keys_costs_one_request_a_second(world: World) -> None:
    await world.table.load()
    world.now += UNKNOWN_KID_SECONDS
    before = world.server.jwks_requests
    idp = world.providers["financial"]
    seconds = 3
    for step in range(seconds * 50):
        for n in range(3):
            assert world.code(idp.sign({"iss": idp.issuer}, kid=f"unknown-{step}-{n}")) == "DS0E"
        await asyncio.gather(*(world.table.refresh_unknown() for _ in range(3)))
        world.now += 0.02
    assert 1 <= world.server.jwks_requests - before <= seconds


async def test_kids_that_are_made_up_hold_nobody_up_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.table.load()
    held_up: list[float] = []
    wait = asyncio.wait

    async def waiting(tasks: Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as asyncio's
        if timeout is not None:
            held_up.append(timeout)
        return await wait(tasks)

    monkeypatch.setattr(asyncio, "wait", waiting)
    idp = world.providers["financial"]

    async def meet(token: str) -> str:
        world.now += UNKNOWN_KID_SECONDS
        assert world.code(token) == "DS0E"
        requests = world.server.jwks_requests
        await world.table.refresh_unknown()
        # Whoever is held up or not: it is asked for.
        await until(lambda: world.server.jwks_requests > requests)
        return world.code(token)

    def made_up() -> str:
        return idp.sign({"iss": idp.issuer}, kid=f"made-up-{world.now}")

    for _ in range(2 * FRUITLESS_MAX):
        assert await meet(made_up()) == "DS0E"
        # What is read in the background meanwhile is no wish of theirs.
        await world.table.refresh()
    assert held_up == [UNKNOWN_KID_WAIT_SECONDS] * FRUITLESS_MAX
    # A new key is read all the same, and then there is reason again to wait for one.
    idp.rotate()
    token = world.issue()
    await meet(token)
    await until(lambda: world.code(token) == "verified")
    assert len(held_up) == FRUITLESS_MAX
    idp.rotate()
    assert await meet(world.issue()) == "verified"
    assert len(held_up) == FRUITLESS_MAX + 1
    # And once none was made up for a while.
    for _ in range(2 * FRUITLESS_MAX):
        await meet(made_up())
    assert len(held_up) == 2 * FRUITLESS_MAX + 1
    world.now += FLOOD_OVER_SECONDS
    await meet(made_up())
    assert len(held_up) == 2 * FRUITLESS_MAX + 2


async def test_an_issuer_that_nobody_trusts_costs_nothing(world: World) -> None:
    await world.table.load()
    before = world.server.jwks_requests
    world.now += 10
    assert world.code(world.providers["financial"].sign({"iss": "https://attacker"})) == "DS0F"
    assert not await world.table.refresh_unknown()
    assert world.server.jwks_requests == before


async def test_operators_revoke_a_key_that_is_still_published(world: World) -> None:
    await world.table.load()
    token = world.issue()
    assert world.code(token) == "verified"
    idp = world.providers["financial"]
    world.revoked.add((idp.issuer, idp.kid))
    await world.tick(TICK_SECONDS)
    assert world.code(token) == "DS0C"
    # The database's absence revives nothing.
    world.database_away = True
    await world.tick()
    assert world.code(token) == "DS0C"
    assert "revocations_unavailable" in world.seen.outcomes
    assert world.code(world.issue("telecom")) == "verified"


async def test_the_file_revokes_a_key(world: World) -> None:
    await world.table.load()
    token, path = world.issue(), world.folder / "financial.toml"
    path.write_text(f'revoked_kids = ["{world.providers["financial"].kid}"]\n' + path.read_text())
    await world.tick(TICK_SECONDS)
    assert world.code(token) == "DS0C"


async def test_revocation_does_not_wait_for_a_provider_that_hangs(
    tmp_path: Path, hanging: "Hanging", monkeypatch: pytest.MonkeyPatch
) -> None:
    idp = provider()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(idp.jwks()))
    write_file(tmp_path, idp, jwks_file="keys.json")
    (tmp_path / "telecom.toml").write_text(trust_file(provider("telecom"), hanging.url))
    revoked: set[tuple[str, str]] = set()

    async def revocations() -> frozenset[tuple[str, str]]:
        return frozenset(revoked)

    table = CachedTrustTable(tmp_path, Seen(), revocations=revocations)
    verifier = JwsAssertionVerifier(table)
    token = idp.issue("subject-1", PAYMENT_LINK)
    monkeypatch.setattr(jwks_module, "FETCH_SECONDS_MAX", 0.1)
    await table.start()
    try:
        assert isinstance(verifier.verify(token, NOW), Assertion)
        monkeypatch.setattr(jwks_module, "FETCH_SECONDS_MAX", 60.0)
        seen = hanging.requests
        await until(lambda: hanging.requests > seen)
        revoked.add((idp.issuer, idp.kid))
        await until(lambda: not isinstance(verifier.verify(token, NOW), Assertion))
        assert verifier.verify(token, NOW).code == "DS0C"  # type: ignore[union-attr]
    finally:
        await table.stop()


async def test_the_background_service_follows_a_key_file(tmp_path: Path) -> None:
    idp = provider()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(idp.jwks()))
    write_file(tmp_path, idp, jwks_file="keys.json")
    table = CachedTrustTable(tmp_path, Seen())
    await table.start()
    try:
        first = idp.kid
        assert [k.kid for k in table.keys_of(idp.issuer)] == [first]
        idp.rotate()
        idp.withdraw(first)
        keys.write_text(json.dumps(idp.jwks()))
        await until(lambda: [k.kid for k in table.keys_of(idp.issuer)] == [idp.kid])
    finally:
        await table.stop()


async def test_unchanged_keys_keep_their_objects(world: World) -> None:
    await world.table.load()
    idp = world.providers["financial"]
    first = world.table.key(idp.issuer, idp.kid)
    idp.rotate()
    await world.tick()
    assert world.table.key(idp.issuer, world.table.keys_of(idp.issuer)[0].kid) is not None
    assert any(k is first for k in world.table.keys_of(idp.issuer))


async def test_an_unchanged_key_set_is_not_sent_again(world: World) -> None:
    await world.table.load()
    known = world.table.key(world.providers["financial"].issuer, world.providers["financial"].kid)
    sets = [s.keys for s in world.table._sources.values()]
    before = world.server.jwks_requests
    await world.tick()
    assert world.server.jwks_requests == before + 2
    assert all(s.keys is old for s, old in zip(world.table._sources.values(), sets, strict=True))
    assert world.table.key(known.issuer, known.kid) is known  # type: ignore[union-attr]
    assert world.table.age_seconds(world.providers["financial"].issuer) == 0


async def test_the_last_good_keys_stand_while_a_provider_is_away(world: World) -> None:
    await world.table.load()
    token = world.issue()
    await world.server.stop()
    await world.tick()
    await world.tick()
    assert world.code(token) == "verified"
    issuer = world.providers["financial"].issuer
    assert world.table.age_seconds(issuer) == 10
    assert world.seen.levels["trust_table_age_seconds"] == 10
    assert "fetched" in str(world.table.problem(issuer))
    # One line an outage, not one a second.
    assert sorted(n for n, _ in world.seen.notes) == ["key_set_unreadable"] * 2


async def test_a_provider_that_is_away_at_the_start_is_taken_up_later(tmp_path: Path) -> None:
    idp = provider()
    write_file(tmp_path, idp, jwks_file="keys.json")
    seen = Seen()
    clock = Clock()
    table = CachedTrustTable(tmp_path, seen, monotonic=clock)
    await table.load()
    verifier = JwsAssertionVerifier(table)
    token = idp.issue("subject-1", PAYMENT_LINK)
    assert verifier.verify(token, NOW).code == "DS0E"  # type: ignore[union-attr]
    assert table.age_seconds(idp.issuer) is None
    clock.now += TICK_SECONDS / 8
    await table.refresh()
    # Operators hear of it all the same: it is missed.
    assert seen.levels["trust_table_age_seconds"] == TICK_SECONDS / 8
    (tmp_path / "keys.json").write_text(json.dumps(idp.jwks()))
    clock.now += TICK_SECONDS / 2
    await table.refresh()
    assert isinstance(verifier.verify(token, NOW), Assertion)
    await table.stop()


async def test_a_provider_that_hangs_holds_orders_up_once_and_shortly(
    tmp_path: Path, hanging: "Hanging", monkeypatch: pytest.MonkeyPatch
) -> None:
    idp = provider()
    (tmp_path / "financial.toml").write_text(trust_file(idp, hanging.url))
    shutil.copy(DEPLOYED / "policy.toml", tmp_path)
    clock = Clock()
    table = CachedTrustTable(tmp_path, Seen(), monotonic=clock)
    table._follow(read_trust_files(tmp_path))
    held_up: list[float] = []
    wait = asyncio.wait

    async def waiting(tasks: Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as asyncio's
        if timeout is not None:
            held_up.append(timeout)
        return await wait(tasks, timeout=timeout)

    monkeypatch.setattr(asyncio, "wait", waiting)

    async def waited() -> list[float]:
        held_up.clear()
        assert table.key(idp.issuer, "unknown") is None
        assert not await table.refresh_unknown()
        return held_up

    monkeypatch.setattr(jwks_module, "FETCH_SECONDS_MAX", 60.0)
    assert await waited() == [UNKNOWN_KID_WAIT_SECONDS]
    clock.now += UNKNOWN_KID_WAIT_SECONDS
    # The read still runs; its time is used up.
    assert await waited() == []
    assert hanging.requests == 1
    await table.stop()
    # One that failed gets none.
    clock.now += 10
    monkeypatch.setattr(jwks_module, "FETCH_SECONDS_MAX", 0.1)
    await table.load()
    monkeypatch.setattr(jwks_module, "FETCH_SECONDS_MAX", 60.0)
    clock.now += UNKNOWN_KID_SECONDS
    assert table.problem(idp.issuer) is not None
    assert await waited() == []
    await until(lambda: hanging.requests == 3)
    await table.stop()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"{}"),
        (302, b""),
        (200, b"not json"),
        (200, b"[]"),
        (200, b'{"keys":1}'),
        (200, b" " * JWKS_BYTES_MAX + b'{"keys":[]}'),
    ],
    ids=["500", "redirect", "no json", "no object", "no list", "too large"],
)
async def test_answers_that_are_no_key_set_change_nothing(tmp_path: Path, status: int, body: bytes) -> None:
    idp = provider()
    answers: list[tuple[int, bytes]] = [(200, json.dumps(idp.jwks()).encode())]

    async def answer(request: web.Request) -> web.Response:
        code, text = answers[0]
        return web.Response(status=code, body=text, headers={"Location": "/empty.json"} if code == 302 else {})

    url, runner = await serve(answer)
    (tmp_path / "financial.toml").write_text(trust_file(idp, url))
    shutil.copy(DEPLOYED / "policy.toml", tmp_path)
    clock = Clock()
    table = CachedTrustTable(tmp_path, Seen(), monotonic=clock)
    await table.load()
    answers[0] = (status, body)
    clock.now += 60
    await table.refresh()
    assert table.problem(idp.issuer) is not None
    assert [k.kid for k in table.keys_of(idp.issuer)] == [idp.kid]
    # An empty set can be read: it withdraws every key.
    answers[0] = (200, b'{"keys":[]}')
    clock.now += 60
    await table.refresh()
    assert table.keys_of(idp.issuer) == []
    await table.stop()
    await runner.cleanup()


async def test_a_broken_file_leaves_the_last_good_table_standing(world: World) -> None:
    await world.table.load()
    token, path = world.issue(), world.folder / "financial.toml"
    good = path.read_text()
    path.write_text(good.replace("[levels]", "levls = 1\n[levels]"))
    await world.tick()
    assert world.code(token) == "verified"
    assert world.seen.outcomes.count("file_refused") == 1
    path.unlink()
    await world.tick()
    assert world.code(token) == "DS0F"
    path.write_text(good)
    await world.tick()
    assert world.code(token) == "verified"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def write_file(folder: Path, idp: IdentityProvider, *, jwks_file: str) -> None:
    text = trust_file(idp, "https://unused").replace('jwks_url = "https://unused"', f'jwks_file = "{jwks_file}"')
    (folder / f"{idp.group}.toml").write_text(text)
    shutil.copy(DEPLOYED / "policy.toml", folder)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition is another party's state
            await asyncio.sleep(0.01)


async def serve(answer: Any) -> tuple[str, web.AppRunner]:
    async def empty(_request: web.Request) -> web.Response:
        return web.json_response({"keys": []})

    application = web.Application()
    application.add_routes([web.get("/jwks.json", answer), web.get("/empty.json", empty)])
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json", runner


@dataclass
class Hanging:
    """A key set's URL that never answers."""

    url: str = ""
    requests: int = 0


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    over = asyncio.Event()
    hanging = Hanging()

    async def answer(_request: web.Request) -> web.Response:
        hanging.requests += 1
        await over.wait()
        return web.Response()

    hanging.url, runner = await serve(answer)
    yield hanging
    over.set()
    await runner.cleanup()
