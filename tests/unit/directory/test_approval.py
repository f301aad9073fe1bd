from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gateway.directory.approval import Decision, Proposal, Refused, identity_of, judge

NOW = datetime(2026, 3, 2, tzinfo=UTC)
OPEN = Proposal(
    proposal_id=UUID(int=1),
    kind="partner.key.add",
    subject="acme acme-1",
    payload={},
    operator="kim",
    login="mypay",
    why="",
    proposed_at=NOW - timedelta(days=1),
    expires_at=NOW + timedelta(days=6),
)
DECIDED = replace(OPEN, decision=Decision.REJECTED, decided_by="lee")
OLD = replace(OPEN, expires_at=NOW)


@pytest.mark.parametrize(
    ("proposal", "decision", "operator", "refused"),
    [
        (OPEN, Decision.APPROVED, "lee", None),
        (OPEN, Decision.REJECTED, "lee", None),
        (OPEN, Decision.REJECTED, "kim", None),
        (OPEN, Decision.APPROVED, "kim", Refused.OWN),
        (OPEN, Decision.APPROVED, "Kim", Refused.OWN),
        (DECIDED, Decision.APPROVED, "lee", Refused.DECIDED),
        (DECIDED, Decision.REJECTED, "kim", Refused.DECIDED),
        (OLD, Decision.APPROVED, "lee", Refused.EXPIRED),
        (OLD, Decision.APPROVED, "kim", Refused.EXPIRED),
    ],
)
def test_another_operator_approves_in_time_and_once(
    proposal: Proposal, decision: Decision, operator: str, refused: Refused | None
) -> None:
    assert judge(proposal, decision, operator=operator, identity=None, now=NOW) is refused


KIM, LEE, ELSEWHERE = (identity_of(*i) for i in (("https://a", "1"), ("https://a", "2"), ("https://b", "2")))
THERE = replace(OPEN, identity=KIM)


@pytest.mark.parametrize(
    ("proposal", "operator", "identity", "refused"),
    [
        (THERE, "lee", LEE, None),
        (THERE, "kim", LEE, Refused.OWN),
        # A provider may let people choose their names.
        (THERE, "lee", KIM, Refused.OWN),
        (THERE, "lee", None, Refused.UNLIKE),
        (THERE, "lee", ELSEWHERE, Refused.UNLIKE),
        (OPEN, "lee", LEE, Refused.UNLIKE),
    ],
)
def test_two_names_are_two_people_where_one_and_the_same_has_given_them(
    proposal: Proposal, operator: str, identity: str | None, refused: Refused | None
) -> None:
    approved, rejected = Decision.APPROVED, Decision.REJECTED
    assert judge(proposal, approved, operator=operator, identity=identity, now=NOW) is refused
    assert judge(proposal, rejected, operator=operator, identity=identity, now=NOW) is None
