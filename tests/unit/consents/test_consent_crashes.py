"""A worker that dies between any two steps of a change: the consent is consistent, and each change is told once."""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.consents.changing import ConsentCommandRefusedError, change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.messaging.records import Record
from gateway.proving.memory import Database, MemoryStore
from tests.support.builders import NOW, payment
from tests.support.consents import ConsentRig, digest, document
from tests.support.domain_samples import consent, krw, purpose, terms
from tests.support.stages import timers

KEY = ("partner-1", "consent-1")
AMENDED = terms(payment=purpose(max_per_payment=(krw(99_000),)))


class CrashedError(BaseException):
    """The process is gone: nothing in it may catch this."""


@dataclass
class CrashAt:
    """A boundary that lets ``left`` visits pass and crashes at the next."""

    left: int
    visits: int = 0

    async def __call__(self, _place: str) -> None:
        self.visits += 1
        if self.visits > self.left:
            raise CrashedError


def facts(rig: ConsentRig) -> dict[str, Any]:
    """Everything that stands and everything that was told."""
    database = rig.database
    return {
        "consents": dict(database.consents.rows),
        "marks": dict(database.consent_marks.rows),
        "versions": dict(database.consent_versions.rows),
        "commands": dict(database.consent_commands.rows),
        "used": dict(database.used_assertions.rows),
        "refusals": dict(database.refusals.rows),
        "events": [(e.event_id, e.event_type, json.loads(e.body)) for e in rig.events()],
    }


async def records_of(rig: ConsentRig) -> list[Record]:
    """Every command, refused and unsigned ones among them, on a new consent and on one with payments on their way."""
    rig.database.put_consent(consent(consent_id="consent-2"))
    async with MemoryStore(rig.database).transaction() as uow:
        await uow.payments.insert([payment(1, consent_id="consent-2")])
    asked, amended = document(terms()), document(AMENDED)
    grant = rig.proof("grant", digest(asked))
    return [
        rig.record("request", terms=asked),
        rig.record("grant", authentication=grant),
        rig.record("revoke", because="it has a fault"),
        rig.record("suspend"),
        rig.record("resume", authentication=grant),
        rig.record("resume", authentication=rig.proof("resume", digest(asked))),
        rig.record("amend", terms=amended, authentication=rig.proof("amend", digest(amended))),
        rig.record("revoke", consent_id="consent-2"),
    ]


Act = Callable[[ConsentRig], Awaitable[None]]


async def commands(rig: ConsentRig) -> None:
    await rig.service.take(rig.records)  # type: ignore[attr-defined]


async def operator(rig: ConsentRig) -> None:
    """An operator who runs the command again after a crash is told that it was done."""
    with suppress(ConsentCommandRefusedError):
        await change_consent_status(rig.store, rig.clock, KEY, ConsentCommand.REVOKE)  # type: ignore[arg-type]


async def timer(rig: ConsentRig) -> None:
    await timers(rig.store, rig.clock, rig.observer).expiry.expire()


async def new_rig(act: Act, boundary: CrashAt) -> ConsentRig:
    rig = ConsentRig(boundary, Database())  # type: ignore[arg-type]
    rig.database.put_consent(consent(valid_until=NOW) if act is timer else consent())
    if act is commands:
        del rig.database.consents.rows[KEY], rig.database.consent_marks.rows[KEY]  # type: ignore[arg-type]
        rig.database.consent_versions.rows.clear()
        rig.records = await records_of(rig)  # type: ignore[attr-defined]
    return rig


@pytest.mark.parametrize("act", [commands, operator, timer])
async def test_a_crash_between_any_two_steps(act: Act) -> None:
    endless = CrashAt(10**9)
    clean = await new_rig(act, endless)
    await act(clean)
    wanted = facts(clean)
    assert len({id_ for id_, _, _ in wanted["events"]}) == len(wanted["events"]) >= (8 if act is commands else 1)

    for step in range(endless.visits):
        crashing = CrashAt(step)
        rig = await new_rig(act, crashing)
        with pytest.raises(CrashedError):
            await act(rig)
        between = facts(rig)
        # All of a batch or nothing: no consent without its event, no event without its consent.
        assert between == wanted or not between["events"], f"torn at step {step}"
        assert rig.database.locks.waiting == frozenset()
        crashing.left = 10**9
        await act(rig)
        assert facts(rig) == wanted, f"not whole after a crash at step {step}"
