"""After a restore: which payments that were told as ended stand, on a real PostgreSQL."""

from contextlib import nullcontext

import asyncpg
import pytest

from gateway.app import restoring
from gateway.app.postgres import PostgresStore
from gateway.app.restored_kept import open_kept
from gateway.database.migrate import migrate
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import event_fields
from schemas.codec import encode
from schemas.events import PaymentEvent
from schemas.primitives import NetworkId
from tests.support.builders import DISPATCH, NETWORK, dispatched_record, numbered_order, payment


async def test_of_what_was_told_as_ended_that_which_stands_nowhere_is_named(database: str) -> None:
    await migrate(database)
    here, archived, gone = (payment(n, state=PaymentState.REJECTED) for n in (1, 2, 3))
    waits = payment(4, state=PaymentState.SCHEDULED)
    store = PostgresStore(database, pool_size=1)
    await store.start()
    async with store.transaction() as uow:
        await uow.payments.insert([here, waits])
    await store.stop()
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "WITH f AS (INSERT INTO archive_file (status, payments, sha256, written_at)"
            " VALUES ('written', 1, sha256(''), now()) RETURNING file_id)"
            " INSERT INTO archived_payment (partner_id, payment_id, order_id, consent_id, consent_version, merchant_id,"
            " operation, amount_minor, currency, order_digest, state, version, ordered_at, decided_at, changed_at,"
            " file_id) SELECT $1::text, $2::uuid, $3::text, 'c', 1, 'm', 'purchase', 5000, 'KRW', sha256(''),"
            " 'rejected', 1, now(), now(), now(), file_id FROM f",
            *(archived.partner_id, archived.payment_id, archived.order_id),
        )
        with open_kept(lambda *_: None) as kept:
            for one in (here, archived, gone):
                event = PaymentEvent.model_validate(event_fields(one))
                kept.tell(event, encode(event))
            kept.sort()
            kept.await_end([one.key for one in (here, archived, gone)])
            assert await restoring._not_ended(connection, kept) == [(gone.partner_id, gone.order_id)]
        # Here, in the archive, nowhere, and still waiting for its day.
        for number, is_taken in ((1, True), (2, True), (3, False), (4, False)):
            found = restoring.handed_on_of(dispatched_record(numbered_order(number)), DISPATCH, NetworkId(NETWORK))
            assert found is not None
            with nullcontext() if is_taken else pytest.raises(restoring.NotYetError, match="greater --margin"):
                await restoring._check_taken(connection, [found])
    finally:
        await connection.close()
