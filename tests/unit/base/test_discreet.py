"""What must not be seen is shown by no record: not by itself, nor by what formats tracebacks and differences."""

import importlib
import pkgutil
import pprint
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final

import pytest
from msgspec import Struct
from pydantic import BaseModel
from rich.pretty import pretty_repr

import gateway
import schemas
from gateway.base.discreet import Discreet
from gateway.disclosure.rules.entry import Entry
from gateway.messaging.records import Outgoing, Record
from gateway.outbox.store import OutboxEvent
from gateway.payments.dispatch import Dispatched

CANARY: Final = "4111111111111111-canary"
SECRET_NAMES: Final = frozenset(
    {"pan", "expiry", "salt", "password_hash", "authentication", "csrf", "plaintext_card", "private", "secret"}
)
"""Fields that no record shows, wherever one has them."""

OWNERS_OF_TIMES: Final = {"gateway.app.schedule.ScheduleStage"}
"""Where expiry is no card's."""


def records_with_secrets() -> Iterator[tuple[type, list[str]]]:
    for root in (gateway, schemas):
        for found in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            module = importlib.import_module(found.name)
            for name, kind in vars(module).items():
                own = isinstance(kind, type) and kind.__module__ == found.name and not name.startswith("_")
                if own and (secret := sorted(SECRET_NAMES.intersection(names_of(kind)))):
                    yield kind, secret


def names_of(kind: type) -> list[str]:
    if issubclass(kind, Struct):
        return list(kind.__struct_fields__)
    if issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return [f.name for f in fields(kind)] if is_dataclass(kind) else []


def made(kind: Any, secret: list[str]) -> object:
    values = {name: CANARY if name in secret else "seen" for name in names_of(kind)}
    if issubclass(kind, BaseModel):
        return kind.model_construct(**values)
    if issubclass(kind, Struct):
        return kind(**values)
    one = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(one, name, value)
    return one


def shown(one: object) -> str:
    return "\n".join([repr(one), str(one), pretty_repr(one), pprint.pformat(one), pretty_repr([{"a": one}])])


CASES: Final = [
    pytest.param(kind, secret, id=f"{kind.__module__}.{kind.__name__}")
    for kind, secret in records_with_secrets()
    if f"{kind.__module__}.{kind.__name__}" not in OWNERS_OF_TIMES
]


@pytest.mark.parametrize(("kind", "secret"), CASES)
def test_no_record_shows_a_secret(kind: type, secret: list[str]) -> None:
    assert CANARY not in shown(made(kind, secret))


def test_the_records_with_secrets_are_found() -> None:
    assert {case.id for case in CASES} >= {
        "gateway.network.exchange.CardData",
        "gateway.disclosure.rules.entry.Entry",
        "gateway.directory.console_roles.ConsoleUser",
        "schemas.orders.PaymentOrder",
        "schemas.disclosure.ProvenDisclosure",
    }


@pytest.mark.parametrize(
    ("kind", "hidden"),
    [
        (Record, {"key", "value", "headers"}),
        (Outgoing, {"key", "value", "headers"}),
        (OutboxEvent, {"body"}),
        (Dispatched, {"body"}),
        (Entry, {"salt"}),
    ],
)
def test_bytes_of_others_are_told_by_their_length_alone(kind: type[Discreet], hidden: set[str]) -> None:
    secret = CANARY.encode()
    one = kind(**{name: secret if name in hidden else "seen" for name in kind.__struct_fields__})
    text = shown(one)
    assert CANARY not in text
    assert repr(one).count(f"<{len(secret)} hidden>") == len(hidden)
    assert repr(one).count("='seen'") == len(kind.__struct_fields__) - len(hidden)


def test_what_is_shown_is_no_other_record() -> None:
    """Hiding is for eyes alone: two that differ in what is hidden are two."""
    one, other = (Outgoing("t", b"k", value, ()) for value in (b"a", b"b"))
    assert one != other
    assert repr(one) == repr(other)
