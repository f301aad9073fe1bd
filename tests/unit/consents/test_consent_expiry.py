"""What time does to consents and to commands on them: what is open past its end expires, in the gateway's own name."""

from collections.abc import Sequence
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
from schemas.consents import ConsentStatus
from tests.support.domain_samples import NOW, consent

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
