"""Campaigns by the command line, on a real PostgreSQL."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from gateway.app.registries import open_registries
from gateway.marketing.rules.campaign import Budget
from tests.support.cli import mypay
from tests.support.domain_samples import krw
from tests.support.marketing import campaign

pytestmark = pytest.mark.integration


@pytest.fixture
def dsn(migrated_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", migrated_database)
    return migrated_database


async def used(dsn: str, offers: int, held: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE campaign SET offers = $1, held_minor = $2", offers, held)
    await connection.close()


KRW_5000 = {"currency": "KRW", "value": "5000"}


def test_a_campaign_is_applied_shown_changed_and_stopped(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "spring.json"
    file.write_text(campaign().model_dump_json(exclude_none=True))
    assert mypay("campaign", "apply", file, "--json").expect().json == {"campaign_id": "spring", "is_new": True}
    [told] = mypay("campaign", "list", "--json").expect().json
    assert (told["campaign_id"], told["active"], told["offers"], told["budget"]) == ("spring", True, 0, KRW_5000)
    asyncio.run(used(dsn, 2, 1_000))
    file.write_text(campaign(budget=Budget(amount=krw(999), offers=8)).model_dump_json(exclude_none=True))
    assert "budget must keep its currency" in mypay("campaign", "apply", file).expect(1).err
    file.write_text(campaign(budget=Budget(amount=krw(1_000), offers=2)).model_dump_json(exclude_none=True))
    assert "changed" in mypay("campaign", "apply", file).expect().err
    mypay("campaign", "stop", "spring").expect()
    shown = mypay("campaign", "show", "spring").expect().json
    assert (shown["active"], shown["held"], shown["offers_max"]) == (False, {"currency": "KRW", "value": "1000"}, 2)
    assert shown["campaign"]["worth"] == {"currency": "KRW", "value": "500"}
    assert shown["offers_by_state"] == {}
    mypay("campaign", "stop", "autumn").expect(3)


def test_an_affiliate_of_the_other_group_is_refused(dsn: str, tmp_path: Path) -> None:
    async def register() -> None:
        async with open_registries(dsn) as registries:
            await registries.affiliates.add("mobile", "Mobile", "financial")

    asyncio.run(register())
    file = tmp_path / "spring.json"
    file.write_text(campaign().model_dump_json(exclude_none=True))
    assert "registered in the other group" in mypay("campaign", "apply", file).expect(1).err
    file.write_text(campaign(financial=("mobile",), telecom=("bank",)).model_dump_json(exclude_none=True))
    mypay("campaign", "apply", file).expect()


def test_a_file_that_is_no_campaign_is_told_in_words(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(campaign().model_dump_json(exclude_none=True).replace('"valid_days":14', '"valid_days":0'))
    assert "valid_days" in mypay("campaign", "apply", file).expect(2).err
