"""The disclosure log in PostgreSQL: the sequencer's side, and what time does to it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, assert_never

import asyncpg
from asyncpg import Connection, Record
from msgspec import structs

from gateway.base.errors import StoreConflictError
from gateway.database.errors import translated
from gateway.database.leading import leading
from gateway.database.moments import write_moments_once
from gateway.database.plans import Plans
from gateway.database.queries import load
from gateway.database.sessions import working_settings
from gateway.disclosure.rules.destruction import Destruction, OldRows
from gateway.disclosure.rules.entry import Kind, Use
from gateway.disclosure.rules.merkle import Frontier
from gateway.disclosure.rules.notices import YEAR, CustomerOfPartner, Disclosed
from gateway.disclosure.rules.sequence import Head, Step
from gateway.disclosure.rules.uses import (
    BODY_TYPES,
    PAYMENT_TYPES,
    PaymentFacts,
    SourceRow,
    consent_of,
    facts_of,
    plain_use,
    told_by,
    use_of,
)
from gateway.disclosure.store import Evidence, Read
from gateway.outbox.bundles import bundle_type, logged_of
from gateway.outbox.rules.subjects import payment_of
from gateway.outbox.store import OutboxEvent
from schemas.primitives import CustomerId, PartnerId, decimal_of

_SQL = load(__name__, "disclosure")
_CONTENTS = load(__name__, "contents")
_OLD_ROWS = load(__name__, "old_rows")
_USE_TYPES: Final = [*PAYMENT_TYPES, *BODY_TYPES]
_ROW_TYPES: Final = [*_USE_TYPES, *(bundle_type(t) for t in _USE_TYPES)]
_OF_BODY: Final = frozenset(BODY_TYPES)
_SINGLE: Final = frozenset(_USE_TYPES)
_LEADER_LOCK: Final = 0x646973636C6F73  # "disclos": any constant, the same in every sequencer

BLOCK_COLUMNS: Final = ("first_seq", "hash")
CONTENT_COLUMNS: Final = (
    *("seq", "salt", "kind", "customer_id", "partner_id", "consent_id", "consent_version", "recipient", "purpose"),
    *("legal_basis", "what", "reference", "occurred_at", "source_tx", "source_id", "content_hash", "entry_hash"),
)
"""What is told of a use, and what the chain holds of it: an entry is one row until its content is destroyed."""


KEPT_CUSTOMERS_MAX: Final = 100_000
"""Consents whose customers are kept in memory, about 300 bytes each: those that are used again and again."""

_ConsentKey = tuple[str, str]

_Told = tuple[str, int, str, str, str, str, datetime, bytes]
"""An event: its row's transaction, its own number, topic, key, id, type, time and body."""


class PostgresDisclosureLog:
    """Implements :class:`gateway.disclosure.store.DisclosureLog` on a connection of its own, which holds the lead."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection[Any] | None = None
        # A consent's customer never changes.
        self._kept: dict[_ConsentKey, str] = {}
        self._plans = Plans()

    async def acquire(self) -> bool:
        # Entries that a crash of the server loses are made again from the outbox, cursor and all: no need to wait for
        # the disk. With a root it is waited for.
        settings = {**working_settings("mypay-disclosure"), "synchronous_commit": "off"}
        async with translated():
            await self.release()
            async with leading(self._dsn, _LEADER_LOCK, settings) as connection:
                if connection is None:
                    return False
                self._plans.begin(connection)
                await write_moments_once(connection)
            # Another server may have other consents under the same ids: after a restore.
            self._kept.clear()
            self._connection = connection
            return True

    async def head(self) -> Head:
        async with translated():
            row = await self._connected().fetchrow(_SQL.head)
        if row is None:
            raise AssertionError("disclosure_head has no row: migrations have not run")
        return head_of(row)

    async def read(self, after: tuple[int, int], limit: int) -> Read:
        here = (str(after[0]), after[1])
        async with translated():
            await self._plans.renew(self._connected())
            found = await self._connected().fetchrow(_SQL.look, *here, limit)
            if found is None:
                return Read((), after)
            is_full = found["page_tx"] is not None
            tx, number = (found["page_tx"], found["page_id"]) if is_full else (found["last_tx"], found["last_id"])
            rows = await self._connected().fetch(_SQL.read, *here, tx, number, limit, _ROW_TYPES)
            told, count = _told_in(rows, limit)
            if count < len(rows):
                is_full, (tx, number) = True, rows[count - 1][:2]
            return Read(await self._uses(told), (int(tx), number), is_full=is_full)

    async def _uses(self, rows: Sequence[_Told | Record]) -> list[tuple[int, int, Use]]:
        found: list[tuple[int, int, Use | None]] = []
        # Those of which something may have to be asked, by their places in what is found.
        sources: dict[int, SourceRow] = {}
        for tx, number, topic, subject, event_id, event_type, occurred_at, body in rows:
            place = int(tx), number
            if event_type in _OF_BODY:
                told = told_by(body)
                key = consent_of(told)
                customer_id = None if key is None else self._kept.get(key)
                row = SourceRow(*place, event_type, event_id, occurred_at, None, told, customer_id)
                use = None if customer_id is None else use_of(row)
            else:
                facts = facts_of(event_type, topic, subject, body)
                row = SourceRow(*place, event_type, event_id, occurred_at, facts)
                use = plain_use(facts, occurred_at, self._kept)
            if use is None:
                sources[len(found)] = row
            found.append((*place, use))
        if sources:
            await self._complete(sources, rows)
            for index, row in sources.items():
                found[index] = (row.tx, row.id, use_of(row))
        return [(tx, number, use) for tx, number, use in found if use is not None]

    async def _complete(self, sources: dict[int, SourceRow], rows: Sequence[_Told | Record]) -> None:
        """Look up the payments of those that do not say them, and the customers of their consents."""
        unsaid: list[tuple[int, tuple[str, str]]] = []
        for index, row in sources.items():
            _, _, topic, subject, *_ = rows[index]
            said = row.event_type in _OF_BODY or row.payment is not None
            if not said and (named := payment_of(topic, subject)) is not None:
                unsaid.append((index, named))
        for index, payment in (await self._payments(unsaid)).items():
            sources[index] = structs.replace(sources[index], payment=payment)
        consents: dict[int, _ConsentKey] = {}
        for index, row in sources.items():
            key = consent_of(row.told) if row.payment is None else (row.payment.partner_id, row.payment.consent_id)
            if key is not None:
                consents[index] = key
        customers = await self._customers(frozenset(consents.values()))
        for index, key in consents.items():
            sources[index] = structs.replace(sources[index], customer_id=customers.get(key))

    async def _payments(self, named: Sequence[tuple[int, tuple[str, str]]]) -> dict[int, PaymentFacts]:
        """What the rows of payments say whose events do not say it themselves, by the events' places among the rows."""
        if not named:
            return {}
        partners, ids = (" ".join(texts) for texts in zip(*(key for _, key in named), strict=True))
        found = await self._connected().fetch(_SQL.payments, partners, ids)
        facts: dict[int, PaymentFacts] = {}
        for n, consent_id, version, merchant_id, operation, minor, currency, network_id, was_sent in found:
            index, (partner_id, payment_id) = named[n - 1]
            facts[index] = PaymentFacts(
                partner_id=partner_id,
                payment_id=payment_id,
                consent_id=consent_id,
                consent_version=version,
                merchant_id=merchant_id,
                operation=operation,
                amount=decimal_of(minor, currency),
                currency=currency,
                network_id=network_id,
                was_sent=was_sent,
            )
        return facts

    async def _customers(self, consents: frozenset[_ConsentKey]) -> Mapping[_ConsentKey, str]:
        """Customers of consents, and of others that are kept."""
        asked = list(consents - self._kept.keys())
        if asked:
            if len(self._kept) + len(asked) > KEPT_CUSTOMERS_MAX:
                self._kept.clear()
                asked = list(consents)
            rows = await self._connected().fetch(_SQL.customers, [k[0] for k in asked], [k[1] for k in asked])
            self._kept |= {(partner_id, consent_id): customer_id for partner_id, consent_id, customer_id in rows}
        return self._kept

    async def write(self, step: Step, publish: Sequence[OutboxEvent] = (), statement: str = "") -> None:
        async with translated():
            connection = self._connected()
            async with connection.transaction():
                if step.root is not None:
                    await connection.execute(_SQL.on_disk)
                await self._advance(connection, step)
                if step.entries:
                    await _copy(connection, step)
                if step.blocks:
                    await connection.copy_records_to_table(
                        "disclosure_block", columns=BLOCK_COLUMNS, records=step.blocks
                    )
                if (root := step.root) is not None:
                    await connection.execute(
                        _SQL.add_root, root.number, root.first_seq, root.last_seq, statement, root.closed_at
                    )
                for event in publish:
                    await connection.execute(
                        *(_SQL.tell, event.topic, event.key, event.event_id, event.event_type, event.occurred_at),
                        event.body,
                    )

    async def _advance(self, connection: "Connection[Any]", step: Step) -> None:
        before, after = step.before, step.after
        moved = await connection.fetchval(
            _SQL.advance,
            *(str(after.tx), after.id, after.seq, after.entry_hash, after.root_number, after.root_hash, after.root_seq),
            *(after.period_start, after.frontier.to_bytes()),
            *(str(before.tx), before.id, before.seq, before.root_number, before.entry_hash),
        )
        if not moved:
            raise StoreConflictError("another sequencer has moved the head")

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing the session gives the lock back, also where the server can no longer answer.
            connection.terminate()

    def _connected(self) -> "Connection[Any]":
        if self._connection is None:
            raise asyncpg.InterfaceError("the sequencer holds no connection")
        return self._connection


def _told_in(rows: Sequence[Record], limit: int) -> tuple[list[_Told | Record], int]:
    """The events that the first rows hold, alone or in bundles, and how many rows that are.

    At most so many events, unless the first row alone holds more: what is beyond would be read of bundles, and thrown
    away, for nothing.
    """
    told: list[_Told | Record] = []
    held: list[_Told | Record]
    for count, row in enumerate(rows):
        # In the order of the columns: by name each would be looked up.
        tx, number, topic, key, event_id, event_type, occurred_at, body = row
        if event_type in _SINGLE:
            held = [row]
        else:
            events = logged_of(number, OutboxEvent(topic, key, event_id, event_type, occurred_at, body))
            held = [(tx, n, topic, e.key, e.event_id, e.event_type, occurred_at, e.body) for n, e in events]
        if told and len(told) + len(held) > limit:
            return told, count
        told += held
    return told, len(rows)


async def _copy(connection: "Connection[Any]", step: Step) -> None:
    await connection.copy_records_to_table(
        "disclosure_content",
        columns=CONTENT_COLUMNS,
        records=[
            # What is told of a use, in the order in which it is hashed.
            (e.seq, e.salt, *structs.astuple(e.use), e.source_tx, e.source_id, e.content_hash, e.entry_hash)
            for e in step.entries
        ],
    )


def head_of(row: asyncpg.Record) -> Head:
    """The stored head."""
    size = row["seq"] - row["root_seq"]
    return Head(
        tx=int(row["tx"]),
        id=row["id"],
        seq=row["seq"],
        entry_hash=row["entry_hash"],
        root_number=row["root_number"],
        root_hash=row["root_hash"],
        root_seq=row["root_seq"],
        period_start=row["period_start"],
        frontier=Frontier.of_bytes(size, row["frontier"]),
    )


class PostgresDisclosureContents:
    """Implements :class:`gateway.disclosure.store.DisclosureContents` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def destroy(self, *, before: datetime, limit: int) -> Evidence | None:
        row = await self._connection.fetchrow(_CONTENTS.destroy, before, limit)
        return None if row is None else Evidence(**dict(row))

    async def find_customers(self, *, limit: int) -> int:
        after = await self._connection.fetchval(_CONTENTS.lock_cursor)
        if after is None:
            return 0
        row = await self._connection.fetchrow(_CONTENTS.find_customers, after, limit, YEAR)
        if row is None or not row["looked"]:
            return 0
        await self._connection.execute(_CONTENTS.move_cursor, row["seq"])
        return int(row["looked"])

    async def due_notices(self, now: datetime, *, limit: int) -> Sequence[CustomerOfPartner]:
        rows = await self._connection.fetch(_CONTENTS.due_notices, now, limit)
        return [
            CustomerOfPartner(PartnerId(r["partner_id"]), CustomerId(r["customer_id"]), r["told_until"], r["next_at"])
            for r in rows
        ]

    async def disclosed(self, whom: CustomerOfPartner) -> Sequence[Disclosed]:
        rows = await self._connection.fetch(
            _CONTENTS.disclosed, whom.partner_id, whom.customer_id, whom.since, whom.until
        )
        return [Disclosed(r["recipient"], Kind(r["kind"]), r["purpose"], r["count"]) for r in rows]

    async def notified(self, told: Sequence[CustomerOfPartner]) -> None:
        columns = [t.partner_id for t in told], [t.customer_id for t in told], [t.until for t in told]
        await self._connection.execute(_CONTENTS.notified, *columns, YEAR)


class PostgresOldRows:
    """Implements :class:`gateway.disclosure.destroying.OldRowsStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def destroy(self, what: OldRows, *, before: datetime, limit: int) -> Sequence[Destruction]:
        match what:
            case OldRows.SHARES:
                statement = _OLD_ROWS.shares
            case OldRows.CONTRIBUTIONS:
                statement = _OLD_ROWS.contributions
            case OldRows.OPERATING:
                statement = _OLD_ROWS.operating
            case _:
                assert_never(what)
        return [Destruction(**dict(row)) for row in await self._connection.fetch(statement, before, limit)]
