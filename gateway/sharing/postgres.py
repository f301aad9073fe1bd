"""Shares, holders and approvals in PostgreSQL."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg import Connection, Record
from asyncpg.pgproto import pgproto

from gateway.base.keys import ConsentKey
from gateway.database.queries import load
from gateway.directory.partners import PartnerKey
from gateway.outbox.rules.subjects import partner_of, payment_of
from gateway.sharing.rules.records import (
    Approval,
    Holder,
    Notice,
    Page,
    PaymentKey,
    Place,
    SettledPayment,
    ShareKey,
    ShareRow,
)
from gateway.sharing.rules.told import ToldPurchase, purchase_of
from schemas.events import EventType
from schemas.primitives import PaymentId
from schemas.sharing import EraseCause, SharingUse

_SQL = load(__name__, "sharing")

_READ: Final = [EventType.PAYMENT_SETTLED.value, EventType.CONSENT_CHANGED.value]
_LOST: Final = (None, None)
"""Of a merchant that the directory has lost."""

_Named = tuple[str, str]
"""Partner and id of a payment, as text: sorts as the key does, and in less time."""

SHARE_COLUMNS: Final = (
    *("partner_id", "payment_id", "affiliate_id", "consent_id", "consent_version", "round", "share_id", "key_id"),
    *("uses", "fields", "use_until", "shared_at"),
)


_of_holder: Final = itemgetter(
    *("partner_id", "consent_id", "customer_id", "affiliate_id", "round", "reference", "key_ids", "since", "uses"),
    *("fields", "notice_id", "cause", "noticed_at", "erase_by", "confirmed_at"),
)
"""What is read of a holder, in the order in which the statement ``holders`` tells it."""


class PostgresSharingStore:
    """Implements :class:`gateway.sharing.store.SharingStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def follow(self) -> None:
        await self._connection.execute(_SQL.follow)

    async def place(self) -> Place:
        row = await self._connection.fetchrow(_SQL.place)
        if row is None:
            raise AssertionError("sharing_place has no row: migrations have not run")
        return Place(int(row["tx"]), row["id"])

    async def read(self, after: Place, limit: int) -> Page:
        here = (str(after.tx), after.id)
        found = await self._connection.fetchrow(_SQL.look, *here, limit)
        if found is None:
            return Page(after)
        is_full = found["has_work"] and found["page_tx"] is not None
        tx, number = (found["page_tx"], found["page_id"]) if is_full else (found["last_tx"], found["last_id"])
        last = Place(int(tx), number)
        if not found["has_work"]:
            return Page(last)
        rows = await self._connection.fetch(_SQL.read, *here, tx, number, limit, _READ)
        return Page(
            last,
            is_full,
            await self._settled([r for r in rows if r["event_type"] == EventType.PAYMENT_SETTLED]),
            await self._held([r for r in rows if r["event_type"] == EventType.CONSENT_CHANGED]),
        )

    async def _settled(self, rows: Sequence[Record]) -> tuple[SettledPayment, ...]:
        # A payment that was settled, unsettled and settled again stands here twice, and is shared once.
        told: dict[_Named, ToldPurchase] = {}
        unsaid: dict[_Named, None] = {}
        # In the order of the columns: by name each would be looked up.
        for topic, key, _, body in rows:
            if (named := payment_of(topic, key)) is None:
                continue
            if (purchase := purchase_of(named, body)) is not None:
                told[named] = purchase
            else:
                unsaid[named] = None
        payments = await self._told(told) if told else {}
        if unsaid:
            columns = (" ".join(column) for column in zip(*unsaid, strict=True))
            found = [SettledPayment(*r) for r in await self._connection.fetch(_SQL.settled, *columns)]
            payments |= {(p.partner_id, str(p.payment_id)): p for p in found}
        return tuple(payments[named] for named in sorted(payments))

    async def _told(self, told: Mapping[_Named, ToldPurchase]) -> dict[_Named, SettledPayment]:
        """Of payments that their events tell, those under consents that share; only the directory is asked beside."""
        keys = {p.consent_key for p in told.values()}
        sharing = {(p, c) for p, c in await self._connection.fetch(_SQL.sharing, *_columns(tuple(keys)))}
        kept = {named: p for named, p in told.items() if p.consent_key in sharing}
        merchants = {p.merchant_id for p in kept.values()}
        found = {m: (mcc, place) for m, mcc, place in await self._connection.fetch(_SQL.merchants, list(merchants))}
        return {
            named: SettledPayment(
                *(p.consent_key[0], PaymentId(pgproto.UUID(named[1])), p.consent_key[1], p.merchant_id, p.amount_minor),
                *(p.currency, p.paid_at, *found.get(p.merchant_id, _LOST)),
            )
            for named, p in kept.items()
        }

    async def tokens(self, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, str]:
        columns = [k[0] for k in keys], [k[1] for k in keys]
        rows = await self._connection.fetch(_SQL.tokens, *columns)
        return {(partner_id, payment_id): token for partner_id, payment_id, token in rows}

    async def _held(self, rows: Sequence[Record]) -> tuple[ConsentKey, ...]:
        if not rows:
            return ()
        partners = [partner_of(r["topic"]) for r in rows]
        found = await self._connection.fetch(_SQL.held, partners, [r["key"] for r in rows])
        return tuple((r["partner_id"], r["consent_id"]) for r in found)

    async def advance(self, before: Place, after: Place) -> bool:
        moved = await self._connection.fetch(_SQL.advance, str(before.tx), before.id, str(after.tx), after.id)
        return bool(moved)

    async def take_turn(self) -> None:
        await self._connection.fetch(_SQL.take_turn)

    async def bundles_are_read(self) -> bool:
        return bool(await self._connection.fetchval(_SQL.bundles_are_read))

    async def approvals(self) -> Sequence[Approval]:
        return [
            Approval(r["affiliate_id"], SharingUse(r["purpose"]), r["legal_basis"], r["approved_by"])
            for r in await self._connection.fetch(_SQL.approvals)
        ]

    async def approved(self) -> frozenset[tuple[str, str]]:
        return frozenset((r["affiliate_id"], r["purpose"]) for r in await self._connection.fetch(_SQL.approved))

    async def affiliates(self) -> frozenset[str]:
        return frozenset(r["affiliate_id"] for r in await self._connection.fetch(_SQL.affiliates))

    async def known_affiliates(self) -> frozenset[str]:
        return frozenset(r["affiliate_id"] for r in await self._connection.fetch(_SQL.known_affiliates))

    async def affiliate_keys(self) -> Sequence[PartnerKey]:
        return [
            PartnerKey(
                kid=r["kid"],
                partner_id=r["affiliate_id"],
                algorithm=r["algorithm"],
                jwk=json.loads(r["jwk"]),
                valid_from=r["valid_from"],
                valid_until=r["valid_until"],
                disabled_at=r["disabled_at"],
            )
            for r in await self._connection.fetch(_SQL.affiliate_keys)
        ]

    async def holders(self, keys: Sequence[ConsentKey]) -> Sequence[Holder]:
        # In the order of the columns: by name each would be looked up, and these are many.
        return [_holder(r) for r in await self._connection.fetch(_SQL.holders, *_columns(keys))]

    async def ended(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, datetime]:
        rows = await self._connection.fetch(_SQL.ended, *_columns(keys))
        return {(r["partner_id"], r["consent_id"]): r["ended_at"] for r in rows}

    async def add_shares(self, shares: Sequence[ShareRow]) -> frozenset[ShareKey]:
        if not shares:
            return frozenset()
        if (lines := _lines(shares)) is not None:
            try:
                # In a part of the transaction that can be undone alone.
                async with self._connection.transaction():
                    await self._connection.copy_to_table("share", columns=SHARE_COLUMNS, source=_once(lines))
            except asyncpg.UniqueViolationError:
                pass
            else:
                return frozenset(s.key for s in shares)
        return await self._add_new(shares)

    async def _add_new(self, shares: Sequence[ShareRow]) -> frozenset[ShareKey]:
        """Record those that do not exist."""
        rows = await self._connection.fetch(
            _SQL.add_shares,
            [s.key[0] for s in shares],
            [s.key[1] for s in shares],
            [s.key[2] for s in shares],
            [s.consent_key[1] for s in shares],
            [s.consent_version for s in shares],
            [s.round for s in shares],
            [s.share_id for s in shares],
            [s.key_id for s in shares],
            [" ".join(s.uses) for s in shares],
            [" ".join(s.fields) for s in shares],
            [s.use_until for s in shares],
            [s.shared_at for s in shares],
        )
        return frozenset((r["partner_id"], r["payment_id"], r["affiliate_id"]) for r in rows)

    async def write_holders(self, holders: Sequence[Holder]) -> None:
        if not holders:
            return
        notices = [r.notice for r in holders]
        await self._connection.execute(
            _SQL.write_holders,
            *_columns([r.key for r in holders]),
            [r.customer_id for r in holders],
            [r.affiliate_id for r in holders],
            [r.round for r in holders],
            [r.reference for r in holders],
            [" ".join(r.key_ids) for r in holders],
            [r.since for r in holders],
            [n and n.notice_id for n in notices],
            [n and n.cause.value for n in notices],
            [n and n.noticed_at for n in notices],
            [n and n.erase_by for n in notices],
            [" ".join(r.uses) for r in holders],
            [" ".join(r.fields) for r in holders],
        )

    async def must_erase(self, now: datetime, limit: int) -> Sequence[ConsentKey]:
        rows = await self._connection.fetch(_SQL.must_erase, now, limit)
        return [(r["partner_id"], r["consent_id"]) for r in rows]

    async def lock_notices(self, notices: Sequence[UUID]) -> Mapping[UUID, Holder]:
        rows = await self._connection.fetch(_SQL.lock_notices, notices)
        return {r["notice_id"]: _holder(_of_holder(r)) for r in rows}

    async def confirm(self, notices: Sequence[tuple[UUID, str, int]], *, now: datetime) -> None:
        ids, places, erased = ([n[i] for n in notices] for i in range(3))
        await self._connection.execute(_SQL.confirm, ids, places, erased, now)

    async def ask_reminder(self, notice_id: UUID, *, now: datetime) -> bool:
        return bool(await self._connection.fetch(_SQL.ask_reminder, notice_id, now))

    async def take_reminders(self, limit: int) -> Sequence[tuple[Holder, int]]:
        # One that was confirmed meanwhile is reminded of nothing.
        rows = await self._connection.fetch(_SQL.take_reminders, limit)
        return [(_holder(_of_holder(r)), r["reminders"]) for r in rows if r["confirmed_at"] is None]

    async def overdue(self, now: datetime) -> tuple[int, datetime | None]:
        row = await self._connection.fetchrow(_SQL.overdue, now)
        return (row["notices"], row["since"]) if row else (0, None)


def _lines(shares: Sequence[ShareRow]) -> bytes | None:
    """The rows as COPY reads text, in a fifth of the time that arrays of their columns take.

    None where that would need an escape, which no id has.
    """
    words: dict[tuple[str, ...], str] = {}
    times: dict[datetime, str] = {}
    lines = []
    for s in shares:
        for several in (s.uses, s.fields):
            if several not in words:
                words[several] = f"{{{','.join(several)}}}"
        for moment in (s.use_until, s.shared_at):
            if moment not in times:
                times[moment] = moment.isoformat()
        partner_id, payment_id, affiliate_id = s.key
        lines.append(
            f"{partner_id}\t{payment_id}\t{affiliate_id}\t{s.consent_key[1]}\t{s.consent_version}\t{s.round}\t"
            f"{s.share_id}\t{s.key_id}\t{words[s.uses]}\t{words[s.fields]}\t{times[s.use_until]}\t{times[s.shared_at]}\n"
        )
    text = "".join(lines)
    counts = (text.count("\n"), text.count("\t"), text.count("\\"), text.count("\r"))
    return text.encode() if counts == (len(shares), (len(SHARE_COLUMNS) - 1) * len(shares), 0, 0) else None


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _columns(keys: Sequence[ConsentKey]) -> tuple[list[str], list[str]]:
    return [k[0] for k in keys], [k[1] for k in keys]


def _holder(values: Iterable[Any]) -> Holder:
    partner_id, consent_id, customer_id, affiliate_id, number, reference, key_ids, since, uses, fields, *notice = values
    notice_id, cause, noticed_at, erase_by, confirmed_at = notice
    return Holder(
        key=(partner_id, consent_id),
        customer_id=customer_id,
        affiliate_id=affiliate_id,
        round=number,
        reference=reference,
        key_ids=tuple(key_ids),
        since=since,
        uses=tuple(uses),
        fields=tuple(fields),
        notice=None if notice_id is None else Notice(notice_id, EraseCause(cause), noticed_at, erase_by),
        confirmed_at=confirmed_at,
    )
