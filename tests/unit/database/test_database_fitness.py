"""What makes a database unfit for a process, each said in words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.database.fitness import Found, ahead_of, faults
from gateway.database.migrate import migrations
from gateway.database.roles import Role

GOOD = Found(
    server_version=180006,
    in_recovery=False,
    read_only=False,
    synchronous_commit="on",
    fsync=True,
    search_path="public, pg_temp",
    encoding="UTF8",
    idle_ms=10_000,
    pooled=False,
    who="mypay_execution",
    is_powerful=False,
    owns_tables=False,
    missing=(),
    can_rewrite=(),
    applied={m.name: m.digest for m in migrations()},
)
FIRST = migrations()[0].name
LAST = migrations()[-1].name
BEHIND = {name: digest for name, digest in GOOD.applied.items() if name != LAST}

# fmt: off
CASES = {
    "all is well":              ({},                                                          None),
    "a replica confirms too":   ({"synchronous_commit": "remote_apply"},                      None),
    "old":                      ({"server_version": 150004},                                  "16 or later is needed"),
    "commits are not on disk":  ({"synchronous_commit": "off"},                               "would forget payments"),
    "no fsync":                 ({"fsync": False},                                            "fsync is off"),
    "read-only":                ({"read_only": True},                                         "it must write"),
    "encoding":                 ({"encoding": "SQL_ASCII"},                                   "make it with UTF8"),
    "locks without end":        ({"idle_ms": 0},                                              "keep its locks"),
    "superuser":                ({"is_powerful": True},                                       "rewrite the ledger"),
    "owner":                    ({"owns_tables": True},                                       "rewrite the ledger"),
    "too many rights":          ({"can_rewrite": ("ledger_transfer",)},                       "rewrite the ledger"),
    "restored from a dump":     ({"began_anew": True},                                        "Let the numbers go on"),
    "too few rights":           ({"missing": ("INSERT on payment",)},                         "lacks INSERT on"),
    "behind":                   ({"applied": BEHIND},                                        f"({LAST} not applied)"),
    "nothing applied":          ({"applied": {}, "missing": ("SELECT on payment",)},          "run `mypay migrate`"),
    "another's":                ({"applied": dict(GOOD.applied) | {FIRST: "0"}},              "another's database"),
    "ahead, while others are renewed": ({"applied": dict(GOOD.applied) | {"9999_next.sql": "1"}}, None),
}
# fmt: on


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said(case: str) -> None:
    changes, said = CASES[case]
    found = replace(GOOD, **changes)  # type: ignore[arg-type]
    told = faults(found, Role.EXECUTION, any_role=False)
    assert (len(told) == 0) if said is None else (len(told) == 1 and said in told[0]), told


def test_a_user_who_may_do_more_is_accepted_where_that_was_said() -> None:
    found = replace(GOOD, is_powerful=True, owns_tables=True, can_rewrite=("outbox",))
    assert faults(found, Role.EXECUTION, any_role=True) == []


def test_the_relay_leads_by_a_session_of_its_own() -> None:
    assert faults(replace(GOOD, pooled=True), Role.EXECUTION, any_role=False) == []
    (told,) = faults(replace(GOOD, pooled=True), Role.RELAY, any_role=False)
    assert "MYPAY_POSTGRES_DSN_RELAY" in told


def test_whoever_only_looks_needs_no_writing() -> None:
    assert faults(replace(GOOD, read_only=True), Role.READONLY, any_role=False) == []


@pytest.mark.parametrize(("server", "ahead"), [(0, 0.0), (1, 0.0), (3, 0.0), (-3600, 3600.0), (3603, -3600.0)])
def test_a_slow_answer_makes_no_clock_wrong(server: int, ahead: float) -> None:
    asked = datetime(2026, 3, 2, tzinfo=UTC)
    told = asked + timedelta(seconds=server)
    assert ahead_of(told, asked=asked, answered=asked + timedelta(seconds=3)) == ahead
