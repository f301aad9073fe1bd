"""What every change by hand has, whichever door it takes: who does it and why, written down before it is done."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import uuid_utils

from gateway.app.registries import open_registries
from gateway.base.errors import StoreForbiddenError, StoreUnavailableError, UnansweredError
from gateway.directory.approval import Phase
from gateway.sealing.redaction import contains_secret
from schemas.primitives import holds_card_number

OPERATOR_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
"""An operator's name, as the record has it."""

WHY_CHARS_MAX: Final = 200

_OF_NETWORKS: Final = frozenset({"clearing resolve"})
"""Commands about what card networks have named: a cycle may be named by twelve digits, of which every tenth look so."""

_OF_KEYS: Final = re.compile(r"[0-9]{8}T[0-2][0-9](?:[0-5][0-9]){2}[0-9]{6}Z")
"""Ids of keys of rings: of those that were made without looking every tenth looks so, too."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and why, as they said.

    Attributes:
        identity: who an identity provider says they are (:func:`gateway.directory.approval.identity_of`); None: the
            name is one that this installation has given.
    """

    operator: str
    why: str
    identity: str | None = None


@dataclass(slots=True)
class Action:
    """An action that is being recorded.

    Attributes:
        command: its name in the record, such as ``network pause``.
        subject: what it concerns: an id, nothing personal.
        proposed: the proposal's id, if that is all that it came to.
        has_begun: that it begins is written down; whatever fails from then on may have been done.

    Raises:
        NotAnActorError: the subject may be a card number.
    """

    actor: Actor
    command: str
    subject: str
    action_id: UUID = field(default_factory=lambda: UUID(bytes=uuid_utils.uuid7().bytes))
    proposed: UUID | None = None
    has_begun: bool = False

    def __post_init__(self) -> None:
        # Ids of the gateway hold none: who typed one mistook it for an id.
        is_known = self.command in _OF_NETWORKS or _OF_KEYS.fullmatch(self.subject)
        if not is_known and holds_card_number(self.subject):
            raise NotAnActorError("what this concerns looks like a card number: an id is asked for")

    def ended(self, error: BaseException | None) -> Phase:
        """How it ended, with this error or without one.

        What was not answered is unknown, never failed: a server may have done what it did not confirm. So is what ends
        by a bug, or by being stopped, for nobody knows where.
        """
        if error is None:
            return Phase.DONE if self.proposed is None else Phase.PROPOSED
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, UnansweredError) and not isinstance(error, StoreForbiddenError):
            return Phase.UNKNOWN
        # The errors of Python itself are none that anybody refuses with.
        is_refusal = isinstance(error, Exception) and type(error).__module__ != "builtins"
        return Phase.FAILED if is_refusal else Phase.UNKNOWN

    async def note_end(self, dsn: str, error: BaseException | None = None) -> None:
        """Write down how it ended. Where that cannot be, the record goes on saying that it began, and no more.

        What the action came to is for whoever did it to hear, and not that this was not written.
        """
        with suppress(StoreUnavailableError):
            await self.note(dsn, self.ended(error))

    async def note(self, dsn: str, phase: Phase) -> None:
        """Write down where it stands. ``dsn``: the database, as the operator.

        Raises:
            StoreUnavailableError: it could not be written down.
        """
        async with open_registries(dsn) as registries:
            await registries.operators.note(
                self.action_id,
                phase,
                operator=self.actor.operator,
                command=self.command,
                subject=self.subject,
                why=self.actor.why,
            )
        self.has_begun = True


class NotAnActorError(ValueError):
    """A name, a reason or a subject that the record does not take; the text says what it takes."""


def actor_of(operator: str, why: str, identity: str | None = None) -> Actor:
    """Check a name and a reason for the record.

    Raises:
        NotAnActorError: the record does not take them.
    """
    if not re.fullmatch(OPERATOR_PATTERN, operator):
        raise NotAnActorError("an operator's name has 1 to 64 letters, digits, '.', '_', '@' and '-'")
    if len(why) > WHY_CHARS_MAX or not why.isprintable():
        raise NotAnActorError(f"the reason has at most {WHY_CHARS_MAX} printable characters")
    if contains_secret(why.encode()):
        raise NotAnActorError("the reason holds what looks like a card number or a key: leave it out")
    return Actor(operator, why, identity)


@asynccontextmanager
async def recorded(dsn: str, action: Action) -> AsyncIterator[Action]:
    """Write down that an action begins, and how it ended when the block is left.

    Raises:
        StoreUnavailableError: its beginning could not be written down, and nothing was done.
    """
    await action.note(dsn, Phase.BEGUN)
    try:
        yield action
    except BaseException as error:
        await action.note_end(dsn, error)
        raise
    await action.note_end(dsn)
