"""Every page of the console answers on a grown database, asked as `mypay prove console` asks."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace

import asyncpg
import pytest

from gateway.proving.bench import pages
from gateway.proving.bench.pages import PagesError, measure_pages
from tests.support.cli import mypay

PAGES = 17


@pytest.mark.timeout(1200)
async def test_every_page_is_asked_for_and_answers(module_database: str) -> None:
    told: list[str] = []
    found = await measure_pages(module_database, payments=1500, with_events=500, rounds=2, tell=told.append)
    assert len({p.name for p in found}) == PAGES
    assert all(0 < p.p50_ms <= p.p99_ms <= p.max_ms for p in found)
    assert any("1,500 are added" in line for line in told)
    # What is there is not added again, and what lacks is.
    told.clear()
    await measure_pages(module_database, payments=1600, with_events=500, rounds=1, tell=told.append)
    assert any("1,500 payments are there; 100 are added" in line for line in told)
    # Nobody can sign in with what measuring made, and a search that finds nothing is no page.
    connection = await asyncpg.connect(module_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM console_user WHERE disabled_at IS NULL") == 0
        assert await connection.fetchval("SELECT count(*) FROM console_user") == 2
    finally:
        await connection.close()


async def test_a_search_that_finds_nothing_is_told(module_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pages._pages

    def wrong(rng: random.Random, payments: int) -> Mapping[str, pages._Asked]:
        return {"search: RRN": replace(asked(rng, payments)["search: RRN"], searched="nobodys")}

    monkeypatch.setattr(pages, "_pages", wrong)
    with pytest.raises(PagesError, match="search: RRN: /payments/seed-"):
        await measure_pages(module_database, payments=1600, with_events=500, rounds=1, tell=lambda _: None)


# Whose they are → what makes them.
STRANGE = {
    "a program's": "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE theirs (x integer)",
    "partners'": "INSERT INTO partner (partner_id, name, home_group) VALUES ('shop', 'Shop', 'telecom')",
    "users'": "INSERT INTO console_user (name, role, password_hash) VALUES ('kim', 'viewer', '$argon2id$x')",
    "payments'": "UPDATE payment SET partner_id = 'shop'",
}


@pytest.mark.parametrize("sql", STRANGE.values(), ids=STRANGE)
def test_no_database_of_others_is_filled(database: str, sql: str) -> None:
    seeding = ("prove", "seed", "--dsn", database, "--payments")
    mypay(*seeding, "1").expect()
    mypay(*seeding, "1", "--first", "2").expect()

    async def look(sql: str) -> str:
        connection = await asyncpg.connect(database)
        try:
            await connection.execute("SET session_replication_role = replica;" + sql)
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            looked_at = {"payment", "partner", "console_user"} & {t[0] for t in tables}
            return str(
                [tables, *[await connection.fetch(f"SELECT * FROM {t} ORDER BY 1, 2") for t in sorted(looked_at)]]
            )
        finally:
            await connection.close()

    before = asyncio.run(look(sql))
    assert "give one of its own" in mypay(*seeding, "1", "--first", "3").expect(1).err
    with pytest.raises(PagesError, match="give one of its own"):
        asyncio.run(measure_pages(database, payments=2, with_events=0, rounds=1, tell=lambda _: None))
    assert asyncio.run(look("")) == before
