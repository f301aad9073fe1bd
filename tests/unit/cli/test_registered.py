"""A list that was asked of a name that nobody has: its being empty is no good news."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.cli import consent_showing, console, partner, payment, portability, registered, sharing, standing
from tests.support.cli import mypay

LISTS = [
    ("payment", "list", "--partner"),
    ("consent", "list", "--partner"),
    ("standing", "list", "--partner"),
    ("portability", "list", "--partner"),
    ("partner", "key", "list"),
]


class Nothing:
    """Has found nothing, whatever was asked; one partner and one affiliate are registered."""

    def __getattr__(self, _: str) -> Any:
        async def nothing(*_: Any, **__: Any) -> list[Any]:
            return []

        return nothing

    async def all(self, **asked: Any) -> list[Any]:
        return [] if asked else [SimpleNamespace(partner_id="shop-pay", affiliate_id="acme-bank")]

    @classmethod
    @asynccontextmanager
    async def opened(cls, _: str) -> AsyncIterator["Nothing"]:
        yield cls()


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (consent_showing, partner, payment, portability, registered, sharing, standing):
        for view in [name for name in vars(module) if name.endswith("View")]:
            monkeypatch.setattr(module, view, Nothing)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://127.0.0.1:1/nothing")


@pytest.mark.parametrize("command", LISTS)
def test_of_a_partner_that_is_not_registered_nothing_is_listed(command: tuple[str, ...]) -> None:
    ended = mypay(*command, "shoppay").expect(3)
    assert "There is no partner shoppay." in ended.err
    assert not ended.out


@pytest.mark.parametrize("command", LISTS)
def test_of_one_that_is_an_empty_list_is_what_there_is(command: tuple[str, ...]) -> None:
    assert mypay(*command, "shop-pay", "--json").expect().json == []


def test_of_an_affiliate_or_consent_that_there_is_not_nothing_is_listed() -> None:
    assert mypay("sharing", "list", "--affiliate", "acme-bank", "--json").expect().json == []
    assert "There is no consent C-9." in mypay("sharing", "list", "--consent", "C-9").expect(3).err
    ended = mypay("sharing", "list", "--affiliate", "acme-bnk").expect(3)
    assert "There is no affiliate acme-bnk." in ended.err
    assert not ended.out


def test_of_a_network_that_is_not_configured_nothing_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payment, "load_networks", lambda _: {"bcard": None})
    assert mypay("payment", "list", "--network", "bcard", "--json").expect().json == []
    assert "No network bcrad is configured." in mypay("payment", "list", "--network", "bcrad").expect(3).err


def test_nobodys_sessions_are_not_said_to_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(_: str) -> int:
        return 0

    @asynccontextmanager
    async def opened(_: str) -> AsyncIterator[Any]:
        yield SimpleNamespace(console_users=SimpleNamespace(end_sessions=none))

    monkeypatch.setattr(console, "open_registries", opened)
    monkeypatch.setattr("gateway.cli.operating._recorded", lambda *given: given[-1]())
    assert "Nobody is signed in as kmi." in mypay("console", "sessions", "end", "kmi").expect(3).err
