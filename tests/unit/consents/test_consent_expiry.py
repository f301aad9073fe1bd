"""What time does to consents and to commands on them: what is open past its end expires, in the gateway's own name."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.consents.rules.change import decide_commands, decide_expiry
from gateway.consents.rules.consent import ConsentCommand
from gateway.consents.rules.records import (
    Actor,
    Changed,
    CommandOutcome,
    CommandsDecided,
    ConsentRecord,
    ConsentTrust,
    ReceivedCommand,
    Refused,
    Unchanged,
)
from gateway.proving.memory import MemoryStore
from schemas.codec import decode
from schemas.consents import ConsentStatus, ConsentTerms
from schemas.events import ConsentEvent
from tests.support.consents import ConsentRig, put
from tests.support.domain_samples import NOW, consent, terms
from tests.support.stages import timers

S = ConsentStatus
OPEN = {S.AWAU, S.AUTH, S.SUSP}


def stored(status: ConsentStatus, *, ends_in_s: int, changes: int = 3) -> ConsentRecord:
    return ConsentRecord(consent(status, valid_until=NOW + timedelta(seconds=ends_in_s)), "ab" * 32, changes)


@pytest.mark.parametrize("status", S)
@pytest.mark.parametrize(("ends_in_s", "is_over"), [(1, False), (0, True), (-1, True)])
def test_a_consent_expires_when_it_is_open_and_its_end_has_come(
    status: ConsentStatus, ends_in_s: int, is_over: bool
) -> None:
    record = stored(status, ends_in_s=ends_in_s)
    decided = decide_expiry([record], reference="mypay/time", now=NOW)
    if not (is_over and status in OPEN):
        assert (decided.records, decided.handled) == ({}, [])
        return
    assert decided.records[record.key].status is S.EXPD
    (handled,) = decided.handled
    assert handled.outcome is CommandOutcome.DONE
    assert (handled.status, handled.actor, handled.reference) == (S.EXPD, Actor.TIME, "mypay/time")
    # Numbered by the change that it is, so that it is made once, under an id that no partner can use.
    assert (handled.change, handled.key) == (4, (*record.key, f"{Actor.TIME}:4"))
    assert (handled.body_digest, handled.handled_at) == (b"", NOW)


def suspended(
    record: ConsentRecord, *, issued_at: datetime = NOW, references: Sequence[str] = ("commands/0/7",)
) -> CommandsDecided:
    """What becomes of a partner's command to suspend, sent once a reference."""
    partner_id, consent_id = record.key
    received = [
        ReceivedCommand(
            partner_id=partner_id,
            consent_id=consent_id,
            command_id="command-1",
            command=ConsentCommand.SUSPEND,
            issued_at=issued_at,
            body_digest=b"digest",
            reference=reference,
        )
        for reference in references
    ]
    return decide_commands(received, records={record.key: record}, handled={}, usable=(), trust=ConsentTrust(), now=NOW)


def test_a_command_on_what_is_past_its_end_lets_it_expire_first() -> None:
    """Both at the moment of the decision, and both because of the record that brought the command."""
    decided = suspended(stored(S.AUTH, ends_in_s=-1))
    assert [(h.command, h.outcome, h.status, h.actor) for h in decided.handled] == [
        (ConsentCommand.EXPIRE, CommandOutcome.DONE, S.EXPD, Actor.TIME),
        (ConsentCommand.SUSPEND, CommandOutcome.REFUSED, S.EXPD, Actor.PARTNER),
    ]
    assert {(h.reference, h.handled_at) for h in decided.handled} == {("commands/0/7", NOW)}
    # Only what was done is a change of the consent; the version of its terms stays.
    assert [(h.change, h.version) for h in decided.handled] == [(4, 1), (None, 1)]


def test_a_command_from_the_future_is_refused_with_the_status_that_the_consent_keeps() -> None:
    (ended,) = suspended(stored(S.AUTH, ends_in_s=60), issued_at=NOW + CLOCK_SKEW_MAX + timedelta(seconds=1)).ended
    assert isinstance(ended, Refused)
    assert (ended.reason.code.value, ended.status) == ("DT04", S.AUTH)


def test_a_command_that_comes_twice_in_a_batch_is_done_once() -> None:
    decided = suspended(stored(S.AUTH, ends_in_s=60), references=("commands/0/7", "commands/0/8"))
    assert [type(ended) for ended in decided.ended] == [Changed, Unchanged]
    assert [(h.change, h.reference) for h in decided.handled] == [(4, "commands/0/7")]


async def test_a_consent_whose_time_is_up_expires_before_any_command_on_it(rig: ConsentRig) -> None:
    put(rig, "AUTH")
    rig.clock.set(terms().valid_until)
    await rig.take(rig.record("revoke"), rig.record("suspend"))
    assert [(kind, body["status"], body.get("actor")) for kind, body in rig.told()] == [
        ("changed", "EXPD", "time"),
        ("refused", "EXPD", None),
        ("refused", "EXPD", None),
    ]
    assert rig.consent().status is ConsentStatus.EXPD
    assert await rig.expiry.expire() == 0


async def test_the_timer_ends_what_is_over_and_nothing_else(rig: ConsentRig) -> None:
    soon = NOW + timedelta(seconds=5)
    for status in ConsentStatus:
        rig.database.put_consent(consent(status, consent_id=status.value, valid_until=soon))
    rig.database.put_consent(consent(consent_id="later", valid_until=soon + timedelta(microseconds=1)))
    rig.clock.set(soon - timedelta(microseconds=1))
    assert await rig.expiry.expire() == 0
    rig.clock.set(soon)
    assert await rig.expiry.expire() == 3
    assert await rig.expiry.expire() == 0
    told = [decode(ConsentEvent, e.body) for e in rig.events()]
    assert sorted(t.consent_id for t in told) == ["AUTH", "AWAU", "SUSP"]
    assert {(t.status, t.command, t.actor, t.command_id) for t in told} == {("EXPD", "expire", "time", None)}
    assert rig.observer.counted("schedule", "consent_expired") == 3


async def test_an_end_that_an_amendment_puts_off_is_no_end(rig: ConsentRig) -> None:
    put(rig, "AUTH", valid_until=NOW + timedelta(seconds=5))
    await rig.take(rig.amendment(terms(valid_until=NOW + timedelta(days=5))))
    rig.clock.advance(10)
    assert await rig.expiry.expire() == 0
    rig.clock.advance(5 * 86_400)
    assert await rig.expiry.expire() == 1


async def test_a_consent_from_before_todays_rules_for_ids_ends_and_stops_no_other(rig: ConsentRig) -> None:
    from_before = ConsentTerms.of_stored(**{**dict(terms()), "consent_id": "4111111111111111", "valid_until": NOW})
    rig.database.put_consent(replace(consent(valid_until=NOW), terms=from_before))
    rig.database.put_consent(consent(consent_id="c-2", valid_until=NOW))
    assert await rig.expiry.expire() == 2
    assert sorted(e.key for e in rig.events()) == ["4111111111111111", "c-2"]


async def test_two_timers_side_by_side_tell_each_end_once(rig: ConsentRig) -> None:
    for n in range(40):
        rig.database.put_consent(consent(consent_id=f"c-{n}", valid_until=NOW))
    rig.faults.hold("consents.update")
    first = asyncio.create_task(rig.expiry.expire())
    await rig.faults.reached("consents.update")
    other = timers(MemoryStore(rig.database), rig.clock, rig.observer).expiry
    assert await other.expire() == 0
    rig.faults.open("consents.update")
    assert await first == 40
    assert len({e.event_id for e in rig.events()}) == 40
