"""Which days `mypay customer …` asks for."""

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import customer
from tests.support.cli import mypay

DAY = datetime(2026, 3, 1, 15, tzinfo=UTC)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[datetime, datetime]]:
    """From when to when each look-up was."""
    found: list[tuple[datetime, datetime]] = []

    class View:
        async def of_customer(self, _: str, *, since: datetime, until: datetime, **__: Any) -> list[Any]:
            found.append((since, until))
            return []

        notices = of_customer

        async def proofs(self, _: object) -> tuple[list[Any], list[Any]]:
            return [], []

        @classmethod
        @asynccontextmanager
        async def opened(cls, _: str) -> AsyncIterator["View"]:
            yield cls()

    monkeypatch.setattr(customer, "DisclosuresView", View)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://127.0.0.1:1/nothing")
    return found


@pytest.mark.parametrize("day", ["2026-03-02", "2026-03-01T15:00:00Z", "2026-03-02T00:00:00+09:00"])
def test_a_moment_counts_with_its_offset_and_a_day_is_seouls(asked: list[tuple[datetime, datetime]], day: str) -> None:
    mypay("customer", "disclosures", "cust-1", "--from", day).expect()
    mypay("customer", "disclosures", "cust-1", "--to", day).expect()
    mypay("customer", "notice", "cust-1", "--to", day).expect()
    assert asked[0][0] == asked[1][1] == asked[2][1] == DAY


def test_the_days_of_a_notice_are_shown_as_they_are_given(asked: list[tuple[datetime, datetime]]) -> None:
    told = mypay("customer", "notice", "cust-1", "--to", "2026-03-02").expect().out
    assert "from 2025-03-02 to 2026-03-02" in told
    assert asked[0][1] == DAY


@pytest.mark.parametrize("days", [("--from", "2026-03-02", "--to", "2026-03-01"), ("--from", "2999-01-01")])
def test_days_the_wrong_way_round_are_refused(asked: list[tuple[datetime, datetime]], days: tuple[str, ...]) -> None:
    assert "--from" in mypay("customer", "disclosures", "cust-1", *days).expect(2).err
    assert not asked


def test_proofs_are_for_whoever_wrote_them_alone(asked: list[tuple[datetime, datetime]], tmp_path: Path) -> None:
    file = tmp_path / "cust-1.json"
    mypay("customer", "disclosures", "cust-1", "--proofs", file).expect()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    mypay("customer", "disclosures", "cust-1", "--proofs", file, "--to", "2026-01-01").expect(1)
    assert (file.read_bytes(), len(asked)) == (before, 2)
