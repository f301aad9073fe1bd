"""After a restore: which payments that were told as ended stand, on a real PostgreSQL."""

import asyncpg

from gateway.app import restoring
from gateway.app.postgres import PostgresStore
from gateway.app.restored_kept import open_kept
from gateway.database.migrate import migrate
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import event_fields
from schemas.codec import encode
from schemas.events import PaymentEvent
from tests.support.builders import payment


async def test_of_what_was_told_as_ended_that_which_stands_nowhere_is_named(database: str) -> None:
    await migrate(database)
    here, archived, gone = (payment(n, state=PaymentState.REJECTED) for n in (1, 2, 3))
    store = PostgresStore(database, pool_size=1)
    await store.start()
    async with store.transaction() as uow:
        await uow.payments.insert([here])
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
    finally:
        await connection.close()
