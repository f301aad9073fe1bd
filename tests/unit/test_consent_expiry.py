"""What time does to consents: those that are open past their ends expire, in the gateway's own name."""

from datetime import timedelta

import pytest

from gateway.domain.consent_change import decide_expiry
from gateway.domain.consent_records import Actor, CommandOutcome, ConsentRecord
from schemas.consents import ConsentStatus
from tests.unit.domain_samples import NOW, consent

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
