"""After a restore: settling what nobody was told of, by what networks have cleared."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, Final

from gateway.app.postgres import PostgresUnitOfWork
from gateway.consents.postgres import TermsCache
from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.database.sessions import PEOPLE_S, session, session_settings
from gateway.payments.restoring.rules import NOT_EXECUTED, Doubt, Executed, Settled, settle_doubts, shops
from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.rules.payment import Change, PaymentKey
from gateway.payments.transitions import apply_changes
from gateway.settlement.rules import Break, BreakKind
from schemas.primitives import NetworkId, PartnerId, PaymentId

_SQL: Final = load(__name__, "doubts")


async def settle(dsn: str, network_id: NetworkId, *, complete: bool) -> Settled:
    """Settle what nobody was told of, by what the network has cleared.

    What it executed is approved; settlement then matches its clearing by itself. What it did not is undone.

    ``dsn`` is the tables' owner's; ``complete`` see :func:`gateway.payments.restoring.rules.settle_doubts`.
    """
    settings = session_settings("mypay-restore", idle_in_transaction_s=PEOPLE_S)
    async with session(dsn, settings) as connection, translated(), connection.transaction():
        await connection.execute(_SQL.alone)
        rows = await connection.fetch(_SQL.in_doubt, network_id)
        if not rows:
            return Settled((), (), ())
        # The merchant may have had another one when the payment was sent.
        shop = shops([[a.rstrip() for a in r["acceptors"]] for r in rows])
        doubts = tuple(
            Doubt(
                (PartnerId(r["partner_id"]), PaymentId(r["payment_id"])),
                (r["operation"], shop[r["acceptors"][0].rstrip()], r["amount_minor"], r["currency"]),
            )
            for r in sorted(rows, key=lambda r: r["decided_at"])
        )
        since = min(r["decided_at"] for r in rows)
        cleared = tuple(
            Executed(
                r["cycle_id"],
                r["record_no"],
                r["rrn"],
                r["stan"],
                r["terminal_id"],
                (
                    r["kind"],
                    shop.get(acceptor := r["acceptor_id"].rstrip(), acceptor),
                    r["amount_minor"],
                    r["currency"],
                ),
            )
            for r in sorted(await connection.fetch(_SQL.missing_here, network_id, since), key=lambda r: r["rrn"])
        )
        settled = settle_doubts(doubts, cleared, complete=complete)
        await _write_settled(connection, network_id, settled)
    return settled


_FOUND: Final = Break(BreakKind.NOT_APPROVED, "it was in doubt after a restore, and is found by this record")


async def _write_settled(connection: Any, network_id: NetworkId, settled: Settled) -> None:
    uow, now = PostgresUnitOfWork(connection, TermsCache()), datetime.now(UTC)
    pairs = settled.executed
    await connection.execute(
        _SQL.give_trace,
        [d.key[0] for d, _ in pairs],
        [d.key[1] for d, _ in pairs],
        [c.terminal_id for _, c in pairs],
        [c.stan for _, c in pairs],
        [c.rrn for _, c in pairs],
    )
    changes = [Change(d.key, PaymentEventKind.INQUIRY_APPROVED) for d, _ in pairs]
    changes += [Change(d.key, PaymentEventKind.REVERSAL_CONFIRMED, NOT_EXECUTED) for d in settled.not_executed]
    await apply_changes(uow, changes, now=now)
    by_cycle: dict[str, list[tuple[int, PaymentKey, Break]]] = defaultdict(list)
    for doubt, record in pairs:
        by_cycle[record.cycle_id].append((record.record_no, doubt.key, _FOUND))
    for cycle_id, outcomes in by_cycle.items():
        await uow.clearing.write_outcomes(network_id, cycle_id, outcomes)
