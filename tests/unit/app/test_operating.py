"""Who does something by hand and why, as the record takes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from uuid import UUID

import pytest

from gateway.app import operating
from gateway.app.errors import OperationRefusedError
from gateway.app.operating import Action, Actor, NotAnActorError, actor_of, recorded
from gateway.app.operations import _approve_affiliate
from gateway.app.sending_again import CutOffError
from gateway.base.errors import (
    PublisherUnavailableError,
    StoreConflictError,
    StoreForbiddenError,
    StoreUnavailableError,
)
from gateway.cli.common import CliError
from gateway.directory.approval import Phase
from gateway.messaging.reader import KafkaUnavailableError
from gateway.settlement.resolutions import RecordPlace
from schemas.primitives import holds_card_number


def test_a_name_and_a_reason_are_kept_as_they_are() -> None:
    assert actor_of("kim.o@ops-1", "ticket 7: 회선 점검") == Actor("kim.o@ops-1", "ticket 7: 회선 점검")
    assert actor_of("k" * 64, "x" * 200).why == "x" * 200


@pytest.mark.parametrize(
    ("operator", "why", "told"),
    [
        ("", "", "1 to 64"),
        ("k" * 65, "", "1 to 64"),
        ("-kim", "", "1 to 64"),
        ("two words", "", "1 to 64"),
        ("kim\n", "", "1 to 64"),
        ("kim", "x" * 201, "200 printable"),
        ("kim", "a\nb", "200 printable"),
        ("kim", "card 4929 1234 5678 9015", "card number"),
    ],
)
def test_what_the_record_does_not_take_is_told(operator: str, why: str, told: str) -> None:
    with pytest.raises(NotAnActorError, match=told):
        actor_of(operator, why)


@pytest.mark.parametrize("subject", ["4929123456789015", "token 4929-1234-5678-9015", "partner-1 4929123456789015"])
def test_a_card_number_that_was_typed_as_an_id_is_not_recorded(subject: str) -> None:
    with pytest.raises(NotAnActorError, match="card number"):
        Action(Actor("kim", "ticket 7"), "token allow", subject)


@pytest.mark.parametrize("subject", ["partner-1 consent-1", "918d8871-0310-4287-9708-13a310f3cb5f", "mypay.orders/0/7"])
def test_ids_are_recorded(subject: str) -> None:
    assert Action(Actor("kim", ""), "consent revoke", subject).subject == subject


def test_a_key_whose_time_looks_like_a_card_is_recorded() -> None:
    """It was named so before ids were looked at: else nobody could retire it."""
    key_id = "20261127T080112111119Z"
    assert holds_card_number(key_id)
    assert Action(Actor("kim", "why"), "keys master retire", key_id).subject == key_id


def test_a_cycle_that_its_network_has_named_like_a_card_is_recorded() -> None:
    """Its breaks could be resolved at neither door."""
    place = "bcard/202601010004/1999999999"
    assert holds_card_number(place)
    assert Action(Actor("kim", ""), "clearing resolve", place).subject == place
    assert str(RecordPlace.parse(place)) == place


@pytest.mark.parametrize("text", ["bcard/c/2000000001", "bcard/c/9999999999", "bcard/c/00000000001", "bcard/c/x"])
def test_no_record_has_such_a_number(text: str) -> None:
    with pytest.raises(ValueError, match="is no record"):
        RecordPlace.parse(text)


class Written:
    """The record, without a database; ``away``: what begins to be refused once it is written."""

    def __init__(self, away: Phase | None = None) -> None:
        self.phases: list[Phase] = []
        self.away = away

    @asynccontextmanager
    async def opened(self, _: str) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(operators=self)

    async def note(self, _: UUID, phase: Phase, **__: str) -> None:
        if self.away in self.phases:
            raise StoreUnavailableError("away")
        self.phases.append(phase)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    made = Written()
    monkeypatch.setattr(operating, "open_registries", made.opened)
    return made


CUT_OFF = CutOffError(PublisherUnavailableError("away"), ["mypay.orders/0/1"], [], 3)


@pytest.mark.parametrize(
    ("error", "phase"),
    [
        (StoreUnavailableError("away"), Phase.UNKNOWN),
        (PublisherUnavailableError("away"), Phase.UNKNOWN),
        (CUT_OFF, Phase.UNKNOWN),
        (KafkaUnavailableError("away"), Phase.UNKNOWN),
        (ExceptionGroup("", [StoreUnavailableError("away")]), Phase.UNKNOWN),
        (asyncio.CancelledError(), Phase.UNKNOWN),
        (KeyboardInterrupt(), Phase.UNKNOWN),
        (KeyError("a bug"), Phase.UNKNOWN),
        (OperationRefusedError("no"), Phase.FAILED),
        (StoreForbiddenError("no right"), Phase.FAILED),
        (StoreConflictError("slower"), Phase.FAILED),
        (CliError("no"), Phase.FAILED),
    ],
    ids=lambda e: type(e).__name__,
)
async def test_what_was_not_answered_is_unknown_and_never_failed(
    written: Written, error: BaseException, phase: Phase
) -> None:
    action = Action(Actor("kim", ""), "network pause", "bcard")
    with pytest.raises(type(error)):
        async with recorded("", action):
            raise error
    assert written.phases == [Phase.BEGUN, phase]


@pytest.mark.parametrize("error", [CUT_OFF, OperationRefusedError("no")], ids=lambda e: type(e).__name__)
async def test_what_an_action_came_to_is_told_where_the_record_cannot_have_it(
    written: Written, error: Exception
) -> None:
    written.away = Phase.BEGUN
    with pytest.raises(type(error)) as told:
        async with recorded("", Action(Actor("kim", ""), "operators approve", "x")):
            raise error
    assert told.value is error


async def test_what_was_done_is_told_as_done_where_the_record_cannot_have_its_end(written: Written) -> None:
    written.away = Phase.BEGUN
    async with recorded("", Action(Actor("kim", ""), "network pause", "bcard")) as action:
        assert action.has_begun
    assert written.phases == [Phase.BEGUN]


async def test_nothing_is_done_that_cannot_be_written_down_before(written: Written) -> None:
    written.phases, written.away = [Phase.DONE], Phase.DONE
    action = Action(Actor("kim", ""), "network pause", "bcard")
    with pytest.raises(StoreUnavailableError):
        async with recorded("", action):
            raise AssertionError("it is done")
    assert not action.has_begun


@pytest.mark.parametrize(
    ("basis", "operator", "told"),
    [("x" * 301, "kim", "legal basis"), ("a law", "4111111111111111", "approver's name must not hold a card number")],
)
async def test_no_approval_is_given_that_could_not_be_told_with_every_share(
    basis: str, operator: str, told: str
) -> None:
    """Also by a proposal of before, or at another door than the command line."""
    payload = {"affiliate_id": "points", "use": "loyalty", "legal_basis": basis}
    doing = SimpleNamespace(actor=Actor(operator, "ticket 7"), registries=None)
    with pytest.raises(OperationRefusedError, match=told):
        await _approve_affiliate(doing, payload)  # type: ignore[arg-type]
