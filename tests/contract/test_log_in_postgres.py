"""The disclosure log's rows in PostgreSQL: of this release and of the one before, before and after contents go."""

from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any, Final

import asyncpg
import pytest
from asyncpg import Connection

from gateway.consents.rules.consent import Consent
from gateway.disclosure import postgres
from gateway.disclosure.rules.entry import Entry, Kind
from gateway.disclosure.rules.sequence import Step
from gateway.disclosure.store import DisclosureLog
from gateway.proving.memory import MemoryClock
from gateway.views.disclosures import DisclosuresView
from schemas.consents import ConsentStatus
from schemas.events import EventType
from tests.contract.conftest import PostgresBackend, postgres_backend
from tests.contract.test_disclosure_log import HOUR, YEAR_S, drain, keeping, leading, pay_at
from tests.support.builders import later, payment
from tests.support.domain_samples import NOW, terms
from tests.support.roots import ROOT_VERIFIER

pytestmark = pytest.mark.integration

OLD_S: Final = -4 * YEAR_S
"""When what is destroyed today was used."""

UNLOGGED: Final = "event of payment {}: a use (kr.mypay.payment.sent.v1) of which there is no entry"


@pytest.fixture
async def backend(contract_dsn: str) -> AsyncIterator[PostgresBackend]:
    async with postgres_backend(contract_dsn) as backend:
        await backend.put_consents(Consent(terms(), 1, ConsentStatus.AUTH))
        yield backend


@pytest.fixture
async def log(backend: PostgresBackend) -> DisclosureLog:
    return await leading(backend)  # type: ignore[arg-type]


async def copy_of_the_release_before(connection: "Connection[Any]", step: Step) -> None:
    await connection.copy_records_to_table(
        "disclosure_entry",
        columns=("seq", "source_tx", "source_id", "content_hash", "entry_hash"),
        records=[(e.seq, e.source_tx, e.source_id, e.content_hash, e.entry_hash) for e in step.entries],
    )
    uses = [(e.seq, e.salt, e.use) for e in step.entries]
    await connection.copy_records_to_table(
        "disclosure_content",
        columns=postgres.CONTENT_COLUMNS[:13],
        records=[
            (
                *(seq, salt, u.kind, u.customer_id, u.partner_id, u.consent_id, u.consent_version, u.recipient),
                *(u.purpose, u.legal_basis, u.what, u.reference, u.occurred_at),
            )
            for seq, salt, u in uses
        ],
    )


async def write(backend: PostgresBackend, log: DisclosureLog, numbers: range, *, at: float, before: bool) -> None:
    """Uses of that time, by a sequencer of this release or of the one before."""
    await pay_at(backend, at, *(payment(n) for n in numbers))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        if before:
            patch.setattr(postgres, "_copy", copy_of_the_release_before)
        await drain(log)


async def mixed(backend: PostgresBackend, log: DisclosureLog) -> None:
    """Entries 1 to 6: two of the release before, two of this one, and one of each again. Four are old."""
    await write(backend, log, range(1, 3), at=OLD_S, before=True)
    await write(backend, log, range(3, 5), at=OLD_S, before=False)
    await write(backend, log, range(5, 6), at=0, before=True)
    await write(backend, log, range(6, 7), at=0, before=False)


async def places(backend: PostgresBackend) -> tuple[list[int], list[int]]:
    """Whose hashes stand by themselves, and whose contents are there."""
    tables = ("disclosure_entry", "disclosure_content")
    found = [await backend.connection.fetch(f"SELECT seq FROM {table} ORDER BY seq") for table in tables]
    return [r[0] for r in found[0]], [r[0] for r in found[1]]


async def seen(backend: PostgresBackend) -> list[list[Entry]]:
    """What everybody sees who asks for entries: in order, of the customer, and of the consent."""
    async with DisclosuresView.opened(backend.dsn) as view:
        since, until = later(OLD_S), later(YEAR_S)
        of_customer = await view.of_customer("customer-1", since=since, until=until, partner_id=None, limit=99)
        return [
            await view.all(after=0, limit=99),
            of_customer,
            sorted(await view.of_consent("partner-1", "consent-1", limit=99), key=lambda e: e.seq),
        ]


async def test_an_entry_is_one_row_and_beside_it_stands_what_the_release_before_wrote(
    backend: PostgresBackend, log: DisclosureLog
) -> None:
    await mixed(backend, log)
    assert await places(backend) == ([1, 2, 5], [1, 2, 3, 4, 5, 6])
    assert await backend.findings() == (6, [])
    entries, *others = await seen(backend)
    assert [(e.seq, e.use.reference) for e in entries] == [(n, str(payment(n).payment_id)) for n in range(1, 7)]
    assert others == [entries, entries]
    # A look-up that stops in the middle.
    async with DisclosuresView.opened(backend.dsn) as view:
        assert await view.all(after=1, limit=3) == entries[1:4]


async def test_customers_are_asked_for_again_where_too_many_were_kept(
    backend: PostgresBackend, log: DisclosureLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a consent that was kept until then, and is asked for with new ones."""
    monkeypatch.setattr(postgres, "KEPT_CUSTOMERS_MAX", 3)
    numbers = range(2, 7)
    named = [terms(consent_id=f"consent-{n}", customer_id=f"customer-{n}") for n in numbers]
    await backend.put_consents(*(Consent(t, 1, ConsentStatus.AUTH) for t in named))
    paid = [2, 3, 4, 2, 3, 5, 6, 6, 2, 3, 4, 5, 6]
    for at in (slice(3), slice(3, 7), slice(7, 8), slice(8, 13)):
        payments = [payment(n, consent_id=f"consent-{c}") for n, c in [*enumerate(paid)][at]]
        await pay_at(backend, 0, *payments)  # type: ignore[arg-type]
        await drain(log)
    assert [u.customer_id for u in await backend.uses()] == [f"customer-{c}" for c in paid]


async def test_proofs_lead_through_rows_of_both(backend: PostgresBackend, log: DisclosureLog) -> None:
    await mixed(backend, log)
    await drain(log, MemoryClock(NOW + HOUR))
    entries, *_ = await seen(backend)
    async with DisclosuresView.opened(backend.dsn) as view:
        placed, roots = await view.proofs(entries)
    assert len(roots) == 1
    assert [p.previous for p in placed[1:]] == [e.entry_hash for e in entries[:-1]]
    assert {len(p.path) for p in placed} <= {2, 3}
    assert await backend.findings() == (6, [])


async def test_once_contents_are_destroyed_the_hashes_of_both_stand_where_they_stay(
    backend: PostgresBackend, log: DisclosureLog
) -> None:
    await mixed(backend, log)
    entries, *_ = await seen(backend)
    keep = keeping(backend, MemoryClock(NOW))  # type: ignore[arg-type]
    assert [await keep.destroy(), await keep.destroy()] == [4, 0]
    assert await places(backend) == ([1, 2, 3, 4, 5], [5, 6])
    evidence = await backend.connection.fetchrow("SELECT first_seq, last_seq, digest FROM disclosure_destruction")
    assert evidence is not None
    digest = sha256(b"".join(e.content_hash for e in entries[:4])).digest()
    assert tuple(evidence) == (1, 4, digest)
    assert await backend.findings() == (6, [])
    assert await seen(backend) == [entries[4:]] * 3
    # The chain goes on: what was destroyed is an entry, and goes in its time as well.
    await drain(log)
    assert [u.kind for u in await backend.uses()] == [Kind.PAYMENT, Kind.PAYMENT, Kind.DESTRUCTION]
    assert await backend.findings() == (7, [])


CHANGES: Final = {
    "what is told": (
        "UPDATE disclosure_content SET recipient = 'nobody' WHERE seq = 3",
        ["entry 3: what it tells is not what was hashed"],
    ),
    "its source": (
        "UPDATE disclosure_content SET source_id = source_id + 1000 WHERE seq = 3",
        ["entry 3: its hash does not follow from entry 2 and from what it holds", UNLOGGED.format(3)],
    ),
    "the hash of its content": (
        "UPDATE disclosure_content SET content_hash = entry_hash WHERE seq = 3",
        [
            "entry 3: its hash does not follow from entry 2 and from what it holds",
            "entry 3: what it tells is not what was hashed",
        ],
    ),
    "its hash": (
        "UPDATE disclosure_content SET entry_hash = content_hash WHERE seq = 3",
        [f"entry {n}: its hash does not follow from entry {n - 1} and from what it holds" for n in (3, 4)],
    ),
    "one column gone": (
        "UPDATE disclosure_content SET content_hash = NULL WHERE seq = 3",
        ["entry 3: there is what it tells, but not the entry", "entry 3: entry 3 is missing"],
    ),
    "all of them gone": (
        f"UPDATE disclosure_content SET {' = NULL, '.join(postgres.CONTENT_COLUMNS[13:])} = NULL WHERE seq = 3",
        ["entry 3: there is what it tells, but not the entry", "entry 3: entry 3 is missing", UNLOGGED.format(3)],
    ),
    "a row gone": (
        "DELETE FROM disclosure_content WHERE seq = 3",
        ["entry 3: entry 3 is missing", UNLOGGED.format(3)],
    ),
    "the last one gone": (
        "DELETE FROM disclosure_content WHERE seq = 6",
        ["entry 6: entries 6 to 6 are missing at the end", UNLOGGED.format(6)],
    ),
    "another entry beside it": (
        "INSERT INTO disclosure_entry SELECT seq, 1, 1, entry_hash, entry_hash FROM disclosure_content WHERE seq = 3",
        ["entry 3: it is there twice"],
    ),
    "a content of the release before": (
        "UPDATE disclosure_content SET recipient = 'nobody' WHERE seq = 5",
        ["entry 5: what it tells is not what was hashed"],
    ),
    "an entry of the release before": (
        "DELETE FROM disclosure_entry WHERE seq = 5",
        ["entry 5: there is what it tells, but not the entry", "entry 5: entry 5 is missing", UNLOGGED.format(5)],
    ),
    "a content of it gone": (
        "DELETE FROM disclosure_content WHERE seq = 5",
        ["entry 5: what it tells is gone, and nothing says that it was destroyed"],
    ),
}
"""What whoever owns the tables does to :func:`mixed` → what is found."""


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_of_a_row_is_found(backend: PostgresBackend, log: DisclosureLog, name: str) -> None:
    await mixed(backend, log)
    statement, found = CHANGES[name]
    told = {f"event {payment(n).payment_id}:1": f"event of payment {n}" for n in range(1, 7)}
    transaction = backend.connection.transaction()
    await transaction.start()
    await backend.connection.execute("ALTER TABLE disclosure_content DROP CONSTRAINT disclosure_content_entry")
    await backend.connection.execute("SET LOCAL session_replication_role TO replica")
    await backend.connection.execute(statement)
    findings = (await DisclosuresView(backend.connection).verify(ROOT_VERIFIER)).findings
    await transaction.rollback()
    assert [f"{told.get(f.place, f.place)}: {f.what}" for f in findings] == found


@pytest.mark.parametrize(
    "change",
    [
        "source_id = NULL",
        "entry_hash = NULL",
        "source_tx = NULL, source_id = NULL, content_hash = NULL",
        "content_hash = substr(content_hash, 2)",
        "entry_hash = entry_hash || '\\x00'",
        "seq = 0",
    ],
)
async def test_a_row_has_all_that_the_chain_holds_of_it_or_nothing(
    backend: PostgresBackend, log: DisclosureLog, change: str
) -> None:
    await write(backend, log, range(1, 2), at=0, before=False)
    # With the triggers aside that let nobody change a row.
    await backend.connection.execute("SET session_replication_role TO replica")
    with pytest.raises(asyncpg.CheckViolationError, match="disclosure_content_entry"):
        await backend.connection.execute(f"UPDATE disclosure_content SET {change}")


@pytest.mark.parametrize("forgotten", range(7))
async def test_a_use_without_an_entry_is_found_however_much_the_outbox_has_forgotten(
    backend: PostgresBackend, log: DisclosureLog, forgotten: int
) -> None:
    """Roots cover two entries each; a transaction of the outbox tells of one."""
    for hours, number in enumerate(range(1, 7, 2)):
        for n in (number, number + 1):
            await pay_at(backend, 0, payment(n))  # type: ignore[arg-type]
        await drain(log, MemoryClock(NOW + hours * HOUR))
    await backend.connection.execute(
        "SET session_replication_role TO replica; "
        f"DELETE FROM outbox WHERE event_type = '{EventType.DISCLOSURE_ROOT}'; "
        f"DELETE FROM outbox WHERE key IN (SELECT key FROM outbox ORDER BY tx, id LIMIT {forgotten}); "
        "RESET session_replication_role"
    )
    assert await backend.findings() == (6, [])
    transaction = backend.connection.transaction()
    await transaction.start()
    await backend.connection.execute("SET LOCAL session_replication_role TO replica")
    await backend.connection.execute("DELETE FROM disclosure_content")
    findings = (await DisclosuresView(backend.connection).verify(ROOT_VERIFIER)).findings
    await transaction.rollback()
    assert sum(f.place.startswith("event ") for f in findings) == 6 - forgotten


async def test_a_log_that_was_cut_back_lacks_what_was_published(backend: PostgresBackend, log: DisclosureLog) -> None:
    """Whoever owns the tables takes away the end of the log, with its roots, its head and what the outbox held."""
    heads = []
    for hours, number in enumerate(range(1, 4)):
        await write(backend, log, range(number, number + 1), at=0, before=False)
        await drain(log, MemoryClock(NOW + (hours + 1) * HOUR))
        heads.append(await backend.connection.fetchrow("SELECT * FROM disclosure_head"))
    async with DisclosuresView.opened(backend.dsn) as view:
        published = await view.roots(ROOT_VERIFIER)
        assert [r.number for r in published] == [1, 2, 3]
        assert (await view.verify(ROOT_VERIFIER, published=published)).findings == []
        cut = heads[0]
        assert cut is not None
        columns, values = list(cut.keys()), list(cut.values())
        places = ", ".join(f"${n + 1}" for n in range(len(columns)))
        await backend.connection.execute(
            "SET session_replication_role TO replica; DELETE FROM outbox; "
            "DELETE FROM disclosure_content WHERE seq > 1; DELETE FROM disclosure_root WHERE number > 1"
        )
        await backend.connection.execute(f"UPDATE disclosure_head SET ({', '.join(columns)}) = ROW ({places})", *values)
        await backend.connection.execute("RESET session_replication_role")
        found = (await view.verify(ROOT_VERIFIER, published=published)).findings
    assert [f"{f.place}: {f.what}" for f in found] == [
        f"root {n}: it was published, and is not in the log" for n in (2, 3)
    ]
