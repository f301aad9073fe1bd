"""ConsentStore: locks at the instant of truth, and usage that is added up exactly."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.base.errors import StoreIntegrityError
from gateway.base.keys import ConsentKey
from gateway.consents.rules.limits import Usage, UsageKey
from gateway.consents.store import UsageChange
from gateway.database.unit import Store
from schemas.consents import ConsentStatus, Period, PeriodLimit
from tests.contract.conftest import Backend
from tests.support.builders import NOW, window
from tests.support.domain_samples import consent, krw, purpose

KEY: ConsentKey = ("partner-1", "consent-1")  # type: ignore[assignment]
OTHER: ConsentKey = ("partner-2", "consent-1")  # type: ignore[assignment]


def usage_key(limit_key: str = "day/calendar/KRW", *, days: int = 0, of: ConsentKey = KEY) -> UsageKey:
    return (*of, window(limit_key, NOW + timedelta(days=days)))


async def usage_of(store: Store, *keys: UsageKey) -> dict[UsageKey, Usage]:
    async with store.reading() as uow:
        return dict(await uow.consents.usage(keys))


async def test_consents_come_back_as_they_were_stored(backend: Backend) -> None:
    rich = consent(
        payment=purpose(
            period_limits=(PeriodLimit(period=Period.MONTH, max_amount=krw(90_000)),),
            single_use=True,
            lifetime_count=3,
        )
    )
    await backend.put_consents(rich, consent(ConsentStatus.SUSP, partner_id="partner-2"))
    async with backend.store.reading() as uow:
        read = await uow.consents.read([KEY, OTHER, ("partner-3", "consent-1")])  # type: ignore[list-item]
    assert read == {KEY: rich, OTHER: consent(ConsentStatus.SUSP, partner_id="partner-2")}


async def test_lock_returns_what_exists_and_no_key_at_all_is_fine(backend: Backend) -> None:
    await backend.put_consents(consent())
    async with backend.store.transaction() as uow:
        assert await uow.consents.lock([]) == {}
        assert await uow.consents.lock([KEY, KEY, OTHER]) == {KEY: consent()}


async def test_a_change_of_status_is_seen_by_the_next_lock(backend: Backend) -> None:
    await backend.put_consents(consent())
    async with backend.store.transaction() as uow:
        assert (await uow.consents.lock([KEY]))[KEY].status is ConsentStatus.AUTH
    await backend.set_status(KEY, ConsentStatus.CANC)
    async with backend.store.transaction() as uow:
        assert (await uow.consents.lock([KEY]))[KEY].status is ConsentStatus.CANC
    async with backend.store.reading() as uow:
        assert (await uow.consents.read([KEY]))[KEY].version == 2


async def test_a_status_set_under_the_lock_is_what_the_next_to_lock_sees(backend: Backend) -> None:
    await backend.put_consents(consent(), consent(consent_id="other"))

    async def intend() -> ConsentStatus:
        async with backend.store.transaction() as uow:
            return (await uow.consents.lock([KEY]))[KEY].status

    async with backend.store.transaction() as uow:
        record = (await uow.consents.lock_records([KEY]))[KEY]
        intent = asyncio.create_task(intend())
        await backend.until_blocked(intent)
        await uow.consents.update([replace(record, consent=consent(ConsentStatus.CANC))], now=NOW)
    assert await intent is ConsentStatus.CANC
    other: ConsentKey = ("partner-1", "other")  # type: ignore[assignment]
    async with backend.store.reading() as uow:
        assert await uow.consents.read([KEY, other]) == {
            KEY: consent(ConsentStatus.CANC),
            other: consent(consent_id="other"),
        }


async def test_reading_does_not_wait_for_a_lock(backend: Backend) -> None:
    await backend.put_consents(consent())
    async with backend.store.transaction() as uow:
        await uow.consents.lock([KEY])
        async with asyncio.timeout(60), backend.store.reading() as outside:
            assert set(await outside.consents.read([KEY])) == {KEY}


async def test_the_second_to_lock_waits_for_the_first(backend: Backend) -> None:
    await backend.put_consents(consent())
    order: list[str] = []

    async def second() -> None:
        async with backend.store.transaction() as uow:
            await uow.consents.lock([KEY])
            order.append("second")

    async with backend.store.transaction() as uow:
        await uow.consents.lock([KEY])
        waiter = asyncio.create_task(second())
        await backend.until_blocked(waiter)
        order.append("first")
    await waiter
    assert order == ["first", "second"]


async def test_terms_that_are_held_are_read_anew_once_another_version_stands(backend: Backend) -> None:
    await backend.put_consents(consent(), consent(partner_id="partner-2"))

    async def reads() -> list[dict[ConsentKey, tuple[int, object]]]:
        async with backend.store.transaction() as uow:
            found = [await uow.consents.read([KEY, OTHER]), await uow.consents.lock([KEY, OTHER])]
        return [{key: (c.version, c.terms) for key, c in each.items()} for each in found]

    first = consent().terms, consent(partner_id="partner-2").terms
    for _ in range(2):
        assert await reads() == [{KEY: (1, first[0]), OTHER: (1, first[1])}] * 2
    amended = consent(payment=purpose(max_per_payment=(krw(7),))).terms
    async with backend.store.transaction() as uow:
        record = (await uow.consents.lock_records([KEY]))[KEY]
        changed = replace(record, consent=replace(record.consent, terms=amended, version=2))
        await uow.consents.update([changed], now=NOW)
    for _ in range(2):
        assert await reads() == [{KEY: (2, amended), OTHER: (1, first[1])}] * 2


async def test_usage_of_an_unused_window_is_not_there(store: Store) -> None:
    assert await usage_of(store, usage_key()) == {}


async def test_additions_make_windows_and_sum_up(store: Store) -> None:
    day, count, tomorrow = usage_key(), usage_key("day/calendar/count"), usage_key(days=1)
    async with store.transaction() as uow:
        await uow.consents.add_usage([])
        await uow.consents.add_usage(
            [
                UsageChange(day, 10_000, 1),
                UsageChange(count, 10_000, 1),
            ]
        )
        await uow.consents.add_usage([UsageChange(day, 5_000, 2)])
        assert (await uow.consents.usage([day]))[day] == Usage(15_000, 3)
    async with store.transaction() as uow:
        await uow.consents.add_usage(
            [
                UsageChange(tomorrow, 1, 1),
                UsageChange(day, -10_000, -1),
            ]
        )
    assert await usage_of(store, day, count, tomorrow, usage_key(days=2)) == {
        day: Usage(5_000, 2),
        count: Usage(10_000, 1),
        tomorrow: Usage(1, 1),
    }


async def test_one_consents_usage_is_not_anothers(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.consents.add_usage([UsageChange(usage_key(), 1, 1)])
    assert await usage_of(store, usage_key(of=OTHER)) == {}


async def test_windows_are_kept_to_the_microsecond(store: Store) -> None:
    exact = (*KEY, window("lifetime/KRW", NOW + timedelta(microseconds=123_457)))
    async with store.transaction() as uow:
        await uow.consents.add_usage([UsageChange(exact, 1, 1)])
    assert set(await usage_of(store, exact)) == {exact}


@pytest.mark.parametrize(
    "change",
    [
        (-10_001, -1),
        (-1, -2),
    ],
)
async def test_below_zero_fails_and_nothing_of_its_transaction_stays(store: Store, change: tuple[int, int]) -> None:
    other = usage_key("day/calendar/count")
    async with store.transaction() as uow:
        await uow.consents.add_usage([UsageChange(usage_key(), 10_000, 1)])

    async def overdraw() -> None:
        async with store.transaction() as uow:
            await uow.consents.add_usage([UsageChange(other, 1, 1)])
            await uow.consents.add_usage([UsageChange(usage_key(), *change)])

    with pytest.raises(StoreIntegrityError):
        await overdraw()
    assert await usage_of(store, usage_key(), other) == {usage_key(): Usage(10_000, 1)}


async def test_taking_from_a_window_that_was_never_used_fails(store: Store) -> None:
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.consents.add_usage([UsageChange(usage_key(), -1, -1)])


async def test_additions_of_many_transactions_in_any_order_of_keys_lose_nothing(backend: Backend) -> None:
    await backend.put_consents(consent())
    keys = [usage_key(days=day) for day in range(4)]

    async def add(number: int) -> None:
        mine = [*keys[number % 4 :], *keys[: number % 4]]
        async with backend.store.transaction() as uow:
            await uow.consents.lock([KEY])
            await uow.consents.add_usage([UsageChange(k, number, 1) for k in mine])

    async def give_back(number: int) -> None:
        # As results do: without the consent's lock.
        async with backend.store.transaction() as uow:
            await uow.consents.add_usage([UsageChange(k, -number, -1) for k in sorted(keys, reverse=number % 2 == 0)])

    await asyncio.gather(*(add(n) for n in range(1, 9)))
    await asyncio.gather(*(give_back(n) for n in range(1, 5)), *(add(n) for n in range(1, 5)))
    assert set((await usage_of(backend.store, *keys)).values()) == {Usage(36, 8)}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
async def test_usage_rows_are_locked_in_the_order_of_their_keys_whatever_order_they_are_named_in(
    backend: Backend, order: tuple[int, ...]
) -> None:
    keys = [usage_key(f"day/calendar/{name}") for name in ("A", "B", "C", "D")]
    async with backend.store.transaction() as uow:
        # Stored in another order than that of their keys, so that reading them as they lie is no help.
        for key in (keys[2], keys[0], keys[3], keys[1]):
            await uow.consents.add_usage([UsageChange(key, 1, 1)])

    async def add(*some: UsageKey) -> None:
        async with backend.store.transaction() as uow:
            await uow.consents.add_usage([UsageChange(key, 1, 1) for key in some])

    for held in range(4):
        async with backend.usage_held(keys[held]):
            waiter = asyncio.create_task(add(*(keys[n] for n in order)))
            await backend.until_blocked(waiter)
            # Those before the one that is waited for are held, those behind it are free.
            for n, key in enumerate(keys):
                if n != held:
                    assert await backend.usage_is_free(key) is (n > held), (held, n)
        await waiter
