"""What an operation is that may need two people; which there are: :mod:`gateway.app.operations`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any
from uuid import UUID

from gateway.app.errors import OperationRefusedError
from gateway.app.operating import Actor
from gateway.app.registries import Registries
from gateway.app.settings import Settings

Payload = Mapping[str, Any]


@unique
class Gives(StrEnum):
    """Why an operation may need a second person."""

    RIGHT = "right"  # somebody may do what they could not
    MONEY = (
        "money"  # payments may begin that stood still, or money that is not where it should be is looked for no more
    )


@dataclass(frozen=True, slots=True)
class Doing:
    """What an operation is carried out with.

    Attributes:
        dsn: the database, as the operator.
        registries: in the transaction in which it is decided.
        actor: whoever lets it happen: where two people are asked for, the second.
        proposal_id: of what was proposed.
        still: asked now and then by what is carried out in steps: raises where a proposal is open no more.
    """

    settings: Settings
    dsn: str
    registries: Registries
    actor: Actor
    proposal_id: UUID | None = None
    still: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind.

    Attributes:
        do: what carries it out; returns a sentence for people.
        bind: what a proposal adds to the payload: the state that it is about. ``do`` refuses another one. None: it
            is about what is named alone.
        lasts: it takes a while, and what it did stays though the decision is not kept. It is done before that is
            written: a transaction that has written holds up whoever reads the outbox for as long as it lasts.
    """

    gives: Gives
    do: Callable[[Doing, Payload], Awaitable[str]]
    bind: Callable[[Registries, Payload], Awaitable[Payload]] | None = None
    lasts: bool = False


def as_it_stands(
    do: Callable[[Doing, Payload], Awaitable[str]], **states: Callable[[Registries, Payload], Awaitable[object]]
) -> Operation:
    """Give a right, by a proposal that is bound to the state of what it changes (:mod:`gateway.app.bound_state`).

    Each state stands in the payload under its name.
    """

    async def bind(registries: Registries, payload: Payload) -> Payload:
        return {**payload, **{name: await state(registries, payload) for name, state in states.items()}}

    async def checked(doing: Doing, payload: Payload) -> str:
        for name, state in states.items():
            if name in payload and payload[name] != await state(doing.registries, payload):
                raise OperationRefusedError("What this would change was changed since: propose again.")
        return await do(doing, payload)

    return Operation(Gives.RIGHT, checked, bind)


def enabling(what: str, field: str, set_active: Callable[[Registries, str], Awaitable[bool]]) -> Operation:
    """Enable whom ``payload[field]`` names; a proposal is bound to the latest time that somebody disabled it."""

    async def disabled_by(registries: Registries, whom: str) -> str | None:
        found = await registries.operators.latest_action(f"{what} disable", whom)
        return None if found is None else str(found)

    async def bind(registries: Registries, payload: Payload) -> Payload:
        return {**payload, "disabled_by": await disabled_by(registries, payload[field])}

    async def do(doing: Doing, payload: Payload) -> str:
        whom = payload[field]
        if not await set_active(doing.registries, whom):
            raise OperationRefusedError(
                f"There is no {what} {whom}.", hint=f"`mypay {what} list` shows them.", missing=True
            )
        # After the row is locked: who disables it now waits, and has the last word.
        if "disabled_by" in payload and payload["disabled_by"] != await disabled_by(doing.registries, whom):
            raise OperationRefusedError(f"{what.capitalize()} {whom}: it was disabled anew since: propose again.")
        return f"{what.capitalize()} {whom} is enabled."

    return Operation(Gives.RIGHT, do, bind)
