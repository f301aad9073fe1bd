"""Bugs planted one by one into the SQL, each of which a test must find: ``mypay prove sql-mutants``.

A lock that is dropped, rows that are passed over no more, an order that is lost, a comparison turned round or moved by
one, a condition left out. For each the tests that concern the file run on a real PostgreSQL, in a process of their own
that reads the spoiled text. What survives is either argued in :data:`ARGUED`, in one line, or a test is missing.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from tests.support.sql import SQL_FILES

CONTRACT: Final = "tests/contract/"
LOCKS: Final = f"{CONTRACT}test_sql_locks.py"

TESTS: Final[Mapping[str, tuple[str, ...]]] = {
    "authentication": (
        "tests/integration/test_authentication_store.py",
        f"{CONTRACT}test_proofs_of_a_batch.py",
        f"{CONTRACT}test_consent_service.py",
    ),
    "bulk": (f"{CONTRACT}test_bulk_store.py",),
    "cancellation": (f"{CONTRACT}test_cancellation_store.py", f"{CONTRACT}test_cancel_and_refund_races.py"),
    "clearing": (f"{CONTRACT}test_clearing_store.py",),
    "consent": (
        f"{CONTRACT}test_consent_store.py",
        f"{CONTRACT}test_usage_in_postgres.py",
        f"{CONTRACT}test_consent_commands_store.py",
        f"{CONTRACT}test_consent_changes.py",
        f"{CONTRACT}test_consent_service.py",
    ),
    "directory": (f"{CONTRACT}test_directory.py", "tests/integration/test_registry.py"),
    "follow_up": (f"{CONTRACT}test_follow_up_store.py",),
    "outbox": (f"{CONTRACT}test_outbox.py", "tests/integration/test_outbox_order.py"),
    "payment": (
        f"{CONTRACT}test_payment_store.py",
        f"{CONTRACT}test_schedule_store.py",
        f"{CONTRACT}test_cancel_and_refund_races.py",
    ),
    "refusal": (f"{CONTRACT}test_refusal_store.py",),
    "schedule": (f"{CONTRACT}test_schedule_store.py",),
    "standing": (f"{CONTRACT}test_standing_store.py",),
}
"""Noun of ``sql/<noun>.sql`` → tests that concern it."""

TIMEOUT_S: Final = 120.0
"""A bug that makes its test wait for ever is found, too."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug: ``consent.lock: dropped FOR NO KEY UPDATE OF c``."""

    noun: str
    block: str
    what: str
    sql: str

    @property
    def name(self) -> str:
        return f"{self.noun}.{self.block}: {self.what}"


ARGUED: Final[Mapping[str, str]] = {
    "outbox.read: by one: … ($4::bigint[]) AND (NOT $5 OR tx < pg_snapshot_xmin(pg_current_s …": (
        "a committed event stands at the number of a transaction that has ended; xmin is of one that has not"
    ),
    "clearing.confirm: by one: … no = ANY ($3::integer[]) AND created_at < $4 …": "what is equal is set to itself",
    "follow_up.begin_anew: without: q.closed_at IS NULL": "numbers of a closed row are sent by nobody",
    "follow_up.retry: without: q.closed_at IS NULL": "a closed row is leased to nobody",
    "follow_up.close: without: q.closed_at IS NULL": "a closed row is leased to nobody",
    "directory.report_network: by one: … s WHERE network_id = $1 AND reported_at < $4::timestamptz - interval '1 …": (
        "the very microsecond of the limit is on neither side of it"
    ),
    "directory.report_network: without: network_id = $1": "what no worker said for a day is read by nobody",
    "schedule.claim: dropped ORDER BY held_for, partner_id, look_at, payment_id": (
        "said for its index alone, which has that order: test_plans holds it to it"
    ),
    "schedule.claim: dropped ORDER BY s.held_for, s.partner_id, s.look_at, s.payment_id": "likewise",
    "schedule.claim: without: closed_at IS NULL": "a partner without an open one is looked at, and has nothing due",
    "schedule.claim: without: s.closed_at IS NULL": "likewise",
    "schedule.claim: without: s.look_at <= $1 (3)": "as many are taken as were counted, and what is due comes first",
    "schedule.put_off: without: s.closed_at IS NULL": "when a closed one would be looked at is read by nobody",
    "schedule.close: without: s.closed_at IS NULL": "a second closing moves a time that only people read",
    "standing.claim_due: without: status = 'active'": "only an active one has a next_due_at: standing_order_next",
    "payment.refunded: without: p.original_payment_id IS NOT NULL": (
        "said for its index alone: what is joined by that column is not null"
    ),
    "payment.abandoned: dropped ORDER BY p.decided_at": "all are taken over, in batches: who is first decides nothing",
    "payment.abandoned: by one: … ND p.state = 'sent' AND (p.decided_at < $3 OR NOT EXISTS ( SELE …": (
        "the very microsecond of the limit is on neither side of it"
    ),
    "payment.abandoned: by one: … s.worker = p.sent_by AND s.reported_at >= $2)) ORDER BY p.decided_at LI …": (
        "the very microsecond of the limit is on neither side of it"
    ),
}
"""Mutant's name → why no test can or need tell it from the right text."""

LOCKING: Final = re.compile(r"FOR (?:NO KEY UPDATE|UPDATE|SHARE|KEY SHARE)(?: OF \w+)?(?: SKIP LOCKED)?")
"""A statement that locks rows, whatever the strength."""

_STRONG: Final = re.compile(r"(?:NO KEY )?UPDATE")
_ORDER: Final = re.compile(r"ORDER BY (?:(?!\bLIMIT\b|\bFOR\b)[^\n])*")
_COMPARISON: Final = re.compile(r" (<=|>=|<|>) ")
_TURNED: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_BY_ONE: Final = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_AND: Final = re.compile(r"AND\b")
_END: Final = re.compile(r"\b(?:ORDER BY|LIMIT|FOR|GROUP BY|RETURNING|UNION|DO)\b")


def mutations(sql: str) -> Iterator[tuple[str, str]]:
    """(what was done, the spoiled text), each with one change, and no two of a name. Comments are left alone."""
    seen: Counter[str] = Counter()
    for name, spoiled in _mutations(sql):
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), spoiled


def _mutations(sql: str) -> Iterator[tuple[str, str]]:
    for found in LOCKING.finditer(sql):
        yield f"dropped {found[0]}", _cut(sql, *found.span())
        if strong := _STRONG.search(sql, *found.span()):
            yield f"weakened {found[0]}", f"{sql[: strong.start()]}KEY SHARE{sql[strong.end() :]}"
        if "SKIP LOCKED" in found[0]:
            yield "dropped SKIP LOCKED", _cut(sql, found.end() - len(" SKIP LOCKED"), found.end())
    for found in _ORDER.finditer(sql):
        yield f"dropped {found[0].strip()}", _cut(sql, *found.span())
    for found in _COMPARISON.finditer(sql):
        start, end = found.span(1)
        around = " ".join(sql[max(0, start - 40) : end + 30].split())
        for kind, into in (("turned", _TURNED), ("by one", _BY_ONE)):
            yield f"{kind}: … {around} …", sql[:start] + into[found[1]] + sql[end:]
    for start, end in _conditions(sql):
        text = " ".join(sql[start:end].split())
        yield f"without: {text}", f"{sql[:start]}TRUE{sql[end:]}"


def _cut(text: str, start: int, end: int) -> str:
    return text[:start] + text[end:]


def _conditions(sql: str) -> Iterator[tuple[int, int]]:
    """Places of what ``AND`` joins in each ``WHERE``."""
    for where in re.finditer(r"\bWHERE\b", sql):
        yield from _conditions_from(sql, where.end())


def _conditions_from(sql: str, begun: int) -> Iterator[tuple[int, int]]:
    """Places of what ``AND`` joins from ``begun`` to the end of that clause."""
    depth = 0
    for position in range(begun, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[position], 0)
        begins_word = depth == 0 and sql[position - 1].isspace()
        if depth < 0 or (begins_word and _END.match(sql, position)):
            break
        if begins_word and _AND.match(sql, position):
            yield _trimmed(sql, begun, position)
            begun = position + 3
    else:
        position = len(sql)
    yield _trimmed(sql, begun, position)


def _trimmed(sql: str, start: int, end: int) -> tuple[int, int]:
    text = sql[start:end]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())


def mutants(nouns: tuple[str, ...]) -> list[Mutant]:
    """Every planted bug in these files."""
    return [
        Mutant(noun, block, what, sql)
        for noun in nouns
        for block, text in _blocks(noun).items()
        for what, sql in mutations(text)
    ]


def _blocks(noun: str) -> dict[str, str]:
    text = SQL_FILES[noun].read_text(encoding="utf-8")
    blocks = {}
    for block in text.split("-- name: ")[1:]:
        name, _, sql = block.partition("\n")
        lines = [line for line in sql.splitlines() if not line.lstrip().startswith("--")]
        blocks[name.strip()] = "\n".join(lines).strip()
    return blocks


def plant(mutant: Mutant) -> None:
    """Let everything that reads the SQL from here on read the spoiled text."""
    from gateway.database import queries  # noqa: PLC0415

    right = queries.load

    def load(module: str, noun: str, **names: str) -> SimpleNamespace:
        blocks = right(module, noun, **names)
        if noun == mutant.noun:
            sql = mutant.sql
            for placeholder, table in names.items():
                sql = sql.replace(f"{{{placeholder}}}", table)
            setattr(blocks, mutant.block, sql)
        return blocks

    queries.load = load


def survives(mutant: Mutant) -> bool:
    """Run the tests that concern it in a process of their own; True if none of them fails."""
    pid = os.fork()
    if pid == 0:
        os._exit(_judge(mutant))
    ends = time.monotonic() + TIMEOUT_S
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def _judge(mutant: Mutant) -> int:
    import pytest  # noqa: PLC0415

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    plant(mutant)
    common = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header", "--durations=0"]
    if "FOR " in mutant.what or "LOCKED" in mutant.what or "ORDER BY" in mutant.what:
        # The statement's own test first: what it finds is found at once. None is selected where it locks nothing.
        code = pytest.main([*common, LOCKS, "-k", f"{mutant.noun}.{mutant.block} or {mutant.noun}.{mutant.block}]"])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return 1
    return int(pytest.main([*common, *TESTS[mutant.noun], "-k", "not memory"]))


@contextlib.contextmanager
def postgres() -> Iterator[None]:
    """A PostgreSQL for all of them; tests take it for a given one. Kafka is nobody's here."""
    from gateway.proving import stack as local  # noqa: PLC0415
    from gateway.proving.stack.postgres import SERVER_SETTINGS, PostgresServer  # noqa: PLC0415
    from gateway.proving.stack.stack import ENV_KAFKA, ENV_POSTGRES  # noqa: PLC0415
    from gateway.proving.stack.state import StackDir  # noqa: PLC0415
    from tests.support.stack import HOME, free_slot  # noqa: PLC0415

    with free_slot("sql-mutants") as name:
        local.reset(name, home=HOME)
        stack = StackDir.of(name, HOME)
        stack.data.mkdir(parents=True)
        stack.logs.mkdir()
        # Each bug is worth a database of its own, and none a disk's patience.
        SERVER_SETTINGS.update(fsync="off", synchronous_commit="off", full_page_writes="off")
        server = PostgresServer(stack, lambda _: None)
        try:
            os.environ |= {ENV_POSTGRES: server.start(), ENV_KAFKA: "127.0.0.1:1"}
            yield
        finally:
            server.stop()
            os.environ.pop(ENV_POSTGRES, None)
            os.environ.pop(ENV_KAFKA, None)
            local.reset(name, home=HOME)


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def controls(chosen: list[Mutant]) -> list[Mutant]:
    """For each file its right text: where its tests fail without a bug, they find none."""
    first = {m.noun: m for m in chosen}
    return [Mutant(m.noun, m.block, "nothing", _blocks(m.noun)[m.block]) for m in first.values()]


def main() -> int:
    """Plant all, or those whose names hold a text; 0 if every one is caught or argued."""
    parser = argparse.ArgumentParser(prog="mypay prove sql-mutants", description=__doc__)
    parser.add_argument("--only", default="", help="those whose names hold this")
    parser.add_argument("--list", action="store_true", help="tell them, and run nothing")
    options = parser.parse_args()
    chosen = [m for m in mutants(tuple(TESTS)) if options.only in m.name]
    if options.list:
        tell("\n".join(m.name for m in chosen))
        return 0
    # Before anything forks: what every child would load anew.
    import pytest  # noqa: F401, PLC0415

    import schemas.orders  # noqa: F401, PLC0415

    survivors = []
    with postgres():
        if failing := [m.noun for m in controls(chosen) if not survives(m)]:
            tell(f"the tests of {', '.join(failing)} fail without a planted bug: nothing can be told")
            return 2
        for number, mutant in enumerate(chosen, 1):
            alive = survives(mutant)
            told = "argued" if alive and mutant.name in ARGUED else "SURVIVES" if alive else "caught"
            tell(f"{number}/{len(chosen)} {told:<9} {mutant.name}")
            if alive:
                survivors.append(mutant.name)
    missing = [n for n in survivors if n not in ARGUED]
    stale = [n for n in ARGUED if n in {m.name for m in chosen} and n not in survivors]
    for name in stale:
        tell(f"argued, but caught: {name}")
    argued = len(survivors) - len(missing)
    caught = len(chosen) - len(survivors)
    tell(f"sql-mutants: planted={len(chosen)} caught={caught} argued={argued} survived={len(missing)}")
    return 1 if missing or stale else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    sys.exit(main())
