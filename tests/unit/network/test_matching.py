"""Which answer belongs to which request, for every way in which hosts echo."""

from datetime import UTC, datetime

import pytest

from gateway.network.exchange import Echoed, TraceNumbers
from gateway.network.matching import MatchBy, answers_to

SENT = TraceNumbers("GW000001", 17, "513703000001", datetime(2026, 7, 3, 4, 5, 6, tzinfo=UTC))
OWN, OTHER, NONE = "own", "other", "-"
STANS = {OWN: 17, OTHER: 18}
TERMINALS = {OWN: "GW000001", OTHER: "GW000002", NONE: None}
RRNS = {OWN: "513703000001", OTHER: "513703000002", NONE: None}
TIMES = {OWN: "0703040506", OTHER: "0703130507", NONE: None}

# What an answer carries → under which rules it is the answer. An RRN that differs is judged later, as an incident.
ANSWERS = """
  DE11   DE41   DE37   DE7    strict  reference  terminal  stan
  own    own    own    own    yes     yes        yes       yes
  own    own    own    other  -       yes        yes       yes
  own    own    own    -      -       yes        yes       yes
  own    own    other  own    yes     yes        yes       yes
  own    own    other  other  -       yes        yes       yes
  own    own    -      own    yes     yes        yes       yes
  own    own    -      other  -       -          yes       yes
  own    own    -      -      -       -          yes       yes
  own    -      own    own    -       yes        -         yes
  own    -      own    other  -       yes        -         yes
  own    -      other  own    -       -          -         yes
  own    -      -      own    -       -          -         yes
  own    -      -      -      -       -          -         yes
  own    other  own    own    -       -          -         -
  own    other  other  own    -       -          -         -
  own    other  -      -      -       -          -         -
  other  own    own    own    -       -          -         -
  other  -      own    own    -       -          -         -
"""


@pytest.mark.parametrize("row", [line.split() for line in ANSWERS.strip().splitlines()[1:]], ids=" ".join)
def test_an_answer_belongs_to_its_request(row: list[str]) -> None:
    stan, terminal, rrn, time, *expected = row
    echoed = Echoed(STANS[stan], TERMINALS[terminal], RRNS[rrn], TIMES[time])
    rules = (MatchBy.STRICT, MatchBy.REFERENCE, MatchBy.TERMINAL, MatchBy.STAN)
    assert set(rules) == set(MatchBy)
    assert [answers_to(SENT, echoed, rule) for rule in rules] == [word == "yes" for word in expected]
