from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gateway.directory.approval import Decision, Proposal, Refused, judge

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
    assert judge(proposal, decision, operator=operator, now=NOW) is refused
