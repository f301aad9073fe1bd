"""The ledger's rounds as PostgreSQL counts them: beside the release before, which says nothing of them."""

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from tests.contract.conftest import PostgresBackend, postgres_backend
from tests.support.builders import NOW

pytestmark = pytest.mark.integration

ID = UUID(int=1)
POSTED_BY_THE_RELEASE_BEFORE = """
INSERT INTO ledger_transfer (partner_id, payment_id, kind, debit, credit, amount_minor, currency, posted_at)
VALUES ('partner-1', $1, $2, 'a', 'b', 700, 'KRW', $3) RETURNING round
"""
POSTED = """
INSERT INTO ledger_transfer (partner_id, payment_id, kind, debit, credit, amount_minor, currency, posted_at, round)
VALUES ('partner-1', $1, $2, 'a', 'b', 700, 'KRW', $3, $4) RETURNING round
"""


@pytest.fixture
async def backend(contract_dsn: str) -> AsyncIterator[PostgresBackend]:
    async with postgres_backend(contract_dsn) as backend:
        yield backend


async def test_transfers_of_the_release_before_are_counted(backend: PostgresBackend) -> None:
    kinds = ("authorised", "settled", "settlement_undone", "settled", "settlement_undone", "authorisation_undone")
    rounds = [await backend.connection.fetchval(POSTED_BY_THE_RELEASE_BEFORE, ID, kind, NOW) for kind in kinds]
    assert rounds == [0, 0, 0, 1, 1, 0]


async def test_whoever_says_a_round_is_believed_the_first_one_alone(backend: PostgresBackend) -> None:
    said = [("settled", 0), ("settlement_undone", 7), ("settled", 7), ("settlement_undone", 0), ("settled", None)]
    rounds = [await backend.connection.fetchval(POSTED, ID, kind, NOW, number) for kind, number in said]
    assert rounds == [0, 0, 1, 1, 2]
    with pytest.raises(asyncpg.UniqueViolationError):
        await backend.connection.execute(POSTED, ID, "settled", NOW, 0)
