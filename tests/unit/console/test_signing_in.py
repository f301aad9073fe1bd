"""Who may try how often, whoever tries at the same moment; what is kept of it; where requests come from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.app.errors import NotConfiguredError
from gateway.console import signing_in as module
from gateway.console.rules.peers import peer_of, proxies_of
from gateway.console.serving import check_address
from gateway.console.signing_in import ATTEMPTS_MAX, FAILURES_OF_NAME_MAX, FAILURES_OF_PEER_MAX, SignedIn, SigningIn
from gateway.directory.console_roles import ConsoleRole, ConsoleSession, ConsoleUser, Failures, SignIn
from tests.support.console import settings_of

NOW = datetime(2026, 11, 27, tzinfo=UTC)
KIM = ConsoleUser("kim", ConsoleRole.OPERATOR, "")


class Still:
    def now(self) -> datetime:
        return NOW


@dataclass
class Rows:
    """What the database keeps, without one; every call lets others run."""

    noted: list[tuple[str, str, SignIn]] = field(default_factory=list)
    seen_at: list[datetime] = field(default_factory=list)

    @asynccontextmanager
    async def sign_ins(self) -> AsyncIterator["Rows"]:
        await asyncio.sleep(0)
        yield self

    async def spelling(self, name: str) -> str | None:
        return KIM.name if name.lower() == KIM.name else None

    async def user(self, name: str) -> ConsoleUser | None:
        return KIM if name.lower() == KIM.name else None

    async def lock_name(self, name: str) -> None: ...

    async def failures(self, name: str, peer: str, *, since: datetime) -> Failures:
        assert since < NOW
        return Failures(
            of_name=sum(n == name and o is SignIn.REFUSED for n, _, o in self.noted),
            of_peer=sum(p == peer and o is SignIn.REFUSED for _, p, o in self.noted),
            told_name=any(n == name and o is SignIn.TOO_MANY for n, _, o in self.noted),
            told_peer=any(p == peer and o is SignIn.TOO_MANY for _, p, o in self.noted),
        )

    async def note(self, name: str, peer: str, outcome: SignIn) -> None:
        self.noted.append((name, peer, outcome))

    async def begin(self, *_: object, **__: object) -> None:
        pass

    async def session(self, *_: object, **__: object) -> ConsoleSession:
        old = NOW - timedelta(minutes=20)
        return ConsoleSession(KIM.name, KIM.role, True, old, old)

    async def seen(self, _: bytes, now: datetime) -> None:
        self.seen_at.append(now)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every password that was looked at; the good one is "good"."""
    found: list[str] = []

    def is_password(password: str, _: str) -> bool:
        found.append(password)
        return password == "good"

    monkeypatch.setattr(module, "is_password", is_password)
    return found


def made() -> tuple[SigningIn, Rows]:
    rows = Rows()
    database: Any = rows
    return SigningIn(database, Still(), idle=timedelta(minutes=30), longest=timedelta(hours=12)), rows


async def test_attempts_at_the_same_moment_are_no_more_than_one_after_another(hashed: list[str]) -> None:
    signing_in, rows = made()
    came = await asyncio.gather(*(signing_in.with_password("kim", f"wrong {n}", "192.0.2.1") for n in range(50)))
    assert len(hashed) == FAILURES_OF_NAME_MAX
    assert came.count(SignIn.REFUSED) == FAILURES_OF_NAME_MAX
    assert came.count(SignIn.TOO_MANY) == 50 - FAILURES_OF_NAME_MAX
    # Told once, however often.
    assert [o for _, _, o in rows.noted] == [SignIn.REFUSED] * FAILURES_OF_NAME_MAX + [SignIn.TOO_MANY]
    assert await signing_in.with_password("KIM", "good", "192.0.2.9") is SignIn.TOO_MANY


async def test_only_so_many_wait_and_those_behind_are_refused_at_once(hashed: list[str]) -> None:
    signing_in, _ = made()
    names = [f"name {n}" for n in range(ATTEMPTS_MAX + 30)]
    came = await asyncio.gather(*(signing_in.with_password(n, "wrong", None) for n in names))
    assert len(hashed) == ATTEMPTS_MAX + 1
    assert came.count(SignIn.TOO_MANY) == 29
    # Nobody waits any more.
    assert isinstance(await signing_in.with_password("kim", "good", None), SignedIn)


async def test_what_nobody_is_called_is_told_apart_and_not_kept(hashed: list[str]) -> None:
    signing_in, rows = made()
    for name in (*("My-Secret-Password",) * (FAILURES_OF_NAME_MAX + 3), "another", "Kim"):
        await signing_in.with_password(name, "wrong", "192.0.2.1")
    kept = [n for n, _, _ in rows.noted]
    assert "secret" not in repr(rows.noted).lower()
    assert kept[-1] == "kim"
    assert len(set(kept)) == 3
    assert [o for n, _, o in rows.noted if n == kept[0]] == [SignIn.REFUSED] * FAILURES_OF_NAME_MAX + [SignIn.TOO_MANY]
    assert len(hashed) == FAILURES_OF_NAME_MAX + 2


@pytest.mark.parametrize(("peer", "outcome"), [("192.0.2.1", SignIn.TOO_MANY), (None, None)])
async def test_a_place_is_counted_only_where_it_is_known(
    hashed: list[str], peer: str | None, outcome: SignIn | None
) -> None:
    signing_in, rows = made()
    for n in range(FAILURES_OF_PEER_MAX + 5):
        await signing_in.with_password(f"name {n}", "wrong", peer)
    came = await signing_in.with_password("kim", "good", peer)
    assert (came if outcome else None) is outcome
    assert isinstance(came, SignedIn) is (outcome is None)
    assert [o for _, _, o in rows.noted].count(SignIn.TOO_MANY) == (1 if outcome else 0)
    assert "192.0.2.1" not in repr(rows.noted)


async def test_what_a_page_asks_by_itself_puts_off_no_end() -> None:
    signing_in, rows = made()
    assert await signing_in.session("token", is_use=False) is not None
    assert rows.seen_at == []
    await signing_in.session("token")
    assert rows.seen_at == [NOW]


# Whose connection, X-Forwarded-For, proxies, whether something stands in front → where it comes from.
@pytest.mark.parametrize(
    ("remote", "forwarded", "proxies", "is_proxied", "peer"),
    [
        ("192.0.2.7", [], "", False, "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], "", False, "192.0.2.7"),
        ("10.0.0.2", ["198.51.100.1"], "", True, None),
        ("10.0.0.2", ["203.0.113.5, 198.51.100.1"], "10.0.0.2", True, "198.51.100.1"),
        ("10.0.0.2", ["203.0.113.5", "198.51.100.1"], "10.0.0.0/8, ::1", True, "198.51.100.1"),
        ("10.0.0.2", ["2001:DB8::1"], "10.0.0.2", True, "2001:db8::1"),
        ("10.0.0.2", [], "10.0.0.2", True, None),
        ("10.0.0.2", ["somebody"], "10.0.0.2", True, None),
        ("192.0.2.7", ["198.51.100.1"], "10.0.0.2", True, "192.0.2.7"),
        ("", ["198.51.100.1"], "10.0.0.2", True, ""),
    ],
)
def test_only_a_proxy_that_is_named_is_believed(
    remote: str, forwarded: list[str], proxies: str, is_proxied: bool, peer: str | None
) -> None:
    assert peer_of(remote, forwarded, proxies_of(proxies), is_proxied=is_proxied) == peer


@pytest.mark.parametrize(
    ("issuer", "good"),
    [
        ("https://idp.example", True),
        ("http://127.0.0.1:8080/realm", True),
        ("http://localhost:8080", True),
        ("http://[::1]:8080", True),
        ("http://idp.example", False),
        ("http://127.0.0.1.idp.example", False),
        ("http://localhost@idp.example", False),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_issuer_in_clear_is_on_this_machine(tmp_path: Path, host: str, issuer: str, good: bool) -> None:
    settings = settings_of(
        "postgresql://x",
        tmp_path,
        console_host=host,
        console_url="https://console.example",
        console_oidc_issuer=issuer,
    )
    if good:
        check_address(settings)
    else:
        with pytest.raises(NotConfiguredError, match="CONSOLE_OIDC_ISSUER"):
            check_address(settings)
