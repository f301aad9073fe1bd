"""After a restore nothing is in force that its partner had been told was over."""

from itertools import permutations
from typing import Any

import pytest

from gateway.consents.rules.consent import ConsentCommand as C
from gateway.consents.rules.restored import ToldConsent
from schemas.consents import ConsentStatus as S
from schemas.consents import Purpose
from schemas.events import ConsentEvent, EndedPurpose
from tests.support.domain_samples import NOW

PAYMENT, DATA = sorted(Purpose)[:2]


def event(
    change: int, status: S, *, purposes: tuple[Purpose, ...] = (), ended: tuple[Purpose, ...] = ()
) -> ConsentEvent:
    fields: dict[str, Any] = {
        "consent_id": "consent-1",
        "partner_id": "partner-1",
        "version": 1,
        "change": change,
        "status": status,
        "occurred_at": NOW,
        "purposes": purposes,
        "ended": tuple(EndedPurpose(purpose=p, how="revoked") for p in ended),
    }
    return ConsentEvent(**fields)


def told(*events: ConsentEvent) -> ToldConsent:
    consent = ToldConsent()
    for one in events:
        consent.add(one)
    return consent


@pytest.mark.parametrize(
    ("last", "here", "done"),
    [
        (S.CANC, S.AUTH, C.REVOKE),
        (S.CANC, S.SUSP, C.REVOKE),
        (S.EXPD, S.AUTH, C.REVOKE),
        (S.SUSP, S.AUTH, C.SUSPEND),
        (S.SUSP, S.SUSP, None),
        (S.AUTH, S.AUTH, None),
        # What stands stricter than was told stays so: nothing is given back here.
        (S.AUTH, S.SUSP, None),
        (S.CANC, S.CANC, None),
        (S.CANC, S.EXPD, None),
        (S.CANC, S.AWAU, None),
    ],
)
def test_what_was_told_to_be_over_ends_and_nothing_begins(last: S, here: S, done: C | None) -> None:
    assert told(event(3, last)).ends(here) == ([] if done is None else [(done, None)])


def test_the_last_change_counts_in_whatever_order_it_was_read() -> None:
    events = [event(1, S.AUTH), event(2, S.SUSP), event(3, S.AUTH), event(4, S.CANC)]
    for order in permutations(events):
        assert told(*order).ends(S.AUTH) == [(C.REVOKE, None)]


def test_a_purpose_that_ended_alone_ends_again_and_one_that_came_back_does_not() -> None:
    ended = event(2, S.AUTH, purposes=(PAYMENT,), ended=(DATA,))
    assert told(ended).ends(S.AUTH) == [(C.REVOKE, (DATA,))]
    back = event(3, S.AUTH, purposes=(PAYMENT, DATA))
    assert told(ended, back).ends(S.AUTH) == []


def test_a_consent_that_was_told_to_be_over_is_whatever_is_told_after_it() -> None:
    """An operator revoked it; done again without that, its customer's command has the same number and a later one."""
    lost = event(2, S.CANC)
    redone = [event(2, S.AUTH, purposes=(PAYMENT,), ended=(DATA,)), event(3, S.AUTH, purposes=(PAYMENT,))]
    consent = told(lost)
    for one in redone:
        consent.add(one, again=True)
    assert consent.ends(S.AUTH) == [(C.REVOKE, None)]
    assert told(*redone, lost).ends(S.SUSP) == [(C.REVOKE, None)]


def test_what_was_suspended_or_ended_alone_is_so_whatever_is_done_again_after_it() -> None:
    suspended, ended = told(event(2, S.SUSP)), told(event(2, S.AUTH, purposes=(PAYMENT,), ended=(DATA,)))
    redone = event(3, S.AUTH, purposes=(PAYMENT, DATA))
    suspended.add(redone, again=True)
    ended.add(redone, again=True)
    assert suspended.ends(S.AUTH) == [(C.SUSPEND, None)]
    assert ended.ends(S.AUTH) == [(C.REVOKE, (DATA,))]


def test_of_what_nothing_was_told_nothing_ends() -> None:
    assert told().ends(S.AUTH) == []
