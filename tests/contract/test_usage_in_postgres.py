"""What is taken of limits, as PostgreSQL keeps it: beside execution of the release before, and as people see it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from gateway.base.errors import StoreIntegrityError
from gateway.consents.rules.limits import Usage, WindowKey, windows_at
from gateway.consents.store import UsageChange
from gateway.payments.rules.lifecycle import PaymentState
from gateway.views.consents import ConsentsView, WindowUse
from schemas.consents import Period, PeriodLimit
from tests.contract.conftest import PostgresBackend, postgres_backend
from tests.support.builders import NOW, payment
from tests.support.domain_samples import consent, krw, purpose

pytestmark = pytest.mark.integration

WINDOW = WindowKey("day/calendar/KRW", NOW)
KEY = ("partner-1", "consent-1", WINDOW)

APPROVED_BY_THE_RELEASE_BEFORE = """
UPDATE consent_usage SET reserved_minor = reserved_minor - $1, reserved_count = reserved_count - 1,
                         consumed_minor = consumed_minor + $1, consumed_count = consumed_count + 1
"""


@pytest.fixture
async def backend(contract_dsn: str) -> AsyncIterator[PostgresBackend]:
    async with postgres_backend(contract_dsn) as backend:
        yield backend


async def add(backend: PostgresBackend, minor: int, count: int) -> Usage:
    async with backend.store.transaction() as uow:
        await uow.consents.add_usage([UsageChange(KEY, minor, count)])  # type: ignore[arg-type]
        return (await uow.consents.usage([KEY]))[KEY]  # type: ignore[list-item, index]


async def test_what_the_release_before_has_moved_counts_and_is_given_back(backend: PostgresBackend) -> None:
    assert await add(backend, 700, 1) == Usage(700, 1)
    await backend.connection.execute(APPROVED_BY_THE_RELEASE_BEFORE, 700)
    assert await add(backend, 50, 1) == Usage(750, 2)
    # More than stands in either pair of columns.
    assert await add(backend, -740, -1) == Usage(10, 1)
    assert await add(backend, -10, -1) == Usage()
    with pytest.raises(StoreIntegrityError):
        await add(backend, -1, -1)


async def test_what_is_in_flight_can_be_moved_by_the_release_before_after_something_was_given_back(
    backend: PostgresBackend,
) -> None:
    await add(backend, 700, 1)
    await backend.connection.execute(APPROVED_BY_THE_RELEASE_BEFORE, 700)
    await add(backend, 50, 1)
    assert await add(backend, -700, -1) == Usage(50, 1)
    await backend.connection.execute(APPROVED_BY_THE_RELEASE_BEFORE, 50)
    assert await add(backend, 1, 1) == Usage(51, 2)


async def test_people_see_what_is_in_flight_apart_from_what_stands(backend: PostgresBackend) -> None:
    limits = (PeriodLimit(period=Period.MONTH, max_amount=krw(90_000)), PeriodLimit(period=Period.DAY, max_count=9))
    terms = consent(payment=purpose(period_limits=limits))
    await backend.put_consents(terms)
    windows = tuple(w.key for w in windows_at(terms.terms, NOW))
    other = WindowKey(windows[0].limit_key, windows[0].starts_at - timedelta(days=31))
    states = (PaymentState.APPROVED, PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.DECLINED)
    rows = [payment(n, state=s, windows=windows, amount_minor=n * 100) for n, s in enumerate(states, 1)]
    rows.append(payment(5, windows=(other,), amount_minor=7))
    rows.append(payment(6, consent_id="consent-2", windows=windows))
    async with backend.store.transaction() as uow:
        await uow.payments.insert(rows)
        await uow.consents.add_usage([UsageChange(("partner-1", "consent-1", w), 600, 3) for w in windows])  # type: ignore[arg-type]
    view = ConsentsView(backend.connection)
    (found,) = await view.find("consent-1", partner_id="partner-1")
    shown = {window.key: use for window, use in await view.usage(found, NOW)}
    assert shown == dict.fromkeys(windows, WindowUse(taken=Usage(600, 3), reserved=Usage(500, 2)))
    assert {use.used for use in shown.values()} == {Usage(100, 1)}
