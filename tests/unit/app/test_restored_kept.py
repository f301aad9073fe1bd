"""After a restore: what is kept on disk is what would be held in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.app import restored_kept as module
from gateway.app import restoring
from gateway.app.errors import NotConfiguredError
from gateway.app.restored_kept import Kept, open_kept
from gateway.app.restoring import handed_on_of
from gateway.app.settings import Settings
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from gateway.payments.restoring.rules import Told, told_further
from gateway.payments.restoring.service import HandedOn, ambiguous
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import PaymentKey, event_fields
from gateway.sealing.sealing import MasterKeys
from schemas.codec import encode
from schemas.events import PaymentEvent
from schemas.primitives import NetworkId
from tests.support.builders import DISPATCH, NETWORK, dispatched_record, numbered_order, payment
from tests.support.cli import NETWORK as NETWORK_FILE
from tests.support.domain_samples import NOW, krw

ACARD, BCARD = NetworkId("acard"), NetworkId(NETWORK)
STATES = (PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.APPROVED, PaymentState.SENT)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(module, "PAGE", 3)
    with open_kept(read_of_bcard) as kept:
        yield kept


def read_of_bcard(record: Record, network_id: NetworkId) -> HandedOn | None:
    """As :func:`handed_on_of`; a record's network is in its topic, and the builders know one alone."""
    one = handed_on_of(record, DISPATCH, BCARD)
    return None if one is None else HandedOn(one.received, network_id, one.judged_at, one.place)


def told_event(number: int, version: int) -> PaymentEvent:
    row = payment(number, version=version, state=STATES[version - 1])
    return PaymentEvent.model_validate(event_fields(row))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 4)), max_size=40))
def test_what_was_told_is_the_same_in_whatever_order_and_however_often(told: list[tuple[int, int]]) -> None:
    expected: dict[PaymentKey, Told] = {}
    with open_kept(read_of_bcard) as kept:
        for number, version in told:
            event = told_event(number, version)
            kept.tell(event, encode(event))
            key = payment(number).key
            expected[key] = told_further(expected.get(key), event)
        kept.sort()
        assert kept.counts() == (len(expected), 0)
        assert kept.told([payment(n).key for n in range(1, 9)]) == expected


def test_all_that_was_told_comes_page_by_page(kept: Kept) -> None:
    for number in range(1, 8):
        for version in (1, 2):
            event = told_event(number, version)
            kept.tell(event, encode(event))
    kept.sort()
    pages = list(kept.all_told())
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {t.key for page in pages for t in page} == {payment(n).key for n in range(1, 8)}
    assert {t.last.version for page in pages for t in page} == {2}


def test_what_was_handed_on_comes_in_its_order_network_by_network_without_what_was_refused(kept: Kept) -> None:
    for offset in range(8):
        kept.hand_on(dispatched_record(numbered_order(offset), offset=offset), ACARD if offset % 2 else BCARD)
    kept.refuse("mypay.orders/0/4")
    kept.sort()
    assert kept.counts() == (0, 7)
    found = {n: [[one.received.reference for one in b] for b in kept.handed_on(n)] for n in (ACARD, BCARD)}
    assert found == {
        ACARD: [[f"mypay.orders/0/{n}" for n in (1, 3, 5)], ["mypay.orders/0/7"]],
        BCARD: [[f"mypay.orders/0/{n}" for n in (0, 2, 6)]],
    }
    assert {one.network_id for b in kept.handed_on(ACARD) for one in b} == {ACARD}


def test_what_others_wrote_is_not_kept(kept: Kept) -> None:
    record = dispatched_record(numbered_order(1))
    kept.hand_on(structs.replace(record, headers=()), BCARD)
    kept.sort()
    assert kept.counts() == (0, 0)


def several(kept: Kept) -> list[HandedOn]:
    """Handed on twice alike, to two networks, and as two orders under one id."""
    for offset, (order, network) in enumerate(
        (
            (numbered_order(1), BCARD),
            (numbered_order(1), BCARD),
            (numbered_order(2), BCARD),
            (numbered_order(3), BCARD),
            (numbered_order(3, amount=krw(1)), BCARD),
            (numbered_order(4), BCARD),
            (numbered_order(2), ACARD),
        )
    ):
        kept.hand_on(dispatched_record(order, offset=offset), network)
    kept.sort()
    return [one for network in (BCARD, ACARD) for batch in kept.handed_on(network) for one in batch]


def test_what_was_handed_on_more_than_once_is_known_as_the_rule_has_it(kept: Kept) -> None:
    everything = several(kept)
    assert kept.ambiguous() == ambiguous(everything)
    assert {key: len(places) for key, places in kept.ambiguous().items()} == {
        payment(2).key: 2,
        payment(3).key: 2,
    }


def test_what_people_take_counts_and_a_place_that_is_none_changes_nothing(kept: Kept) -> None:
    two, three = sorted(places[0] for places in ambiguous(several(kept)).values())
    assert kept.take(frozenset({two, "mypay.dispatch.bcard/9/9"})) == {"mypay.dispatch.bcard/9/9"}
    assert len(kept.ambiguous()) == 2
    assert kept.take(frozenset({two, three})) == frozenset()
    assert kept.ambiguous() == {}
    assert kept.counts() == (0, 5)


def test_an_end_is_awaited_until_it_stands(kept: Kept) -> None:
    event = told_event(1, 1)
    kept.tell(event, encode(event))
    kept.sort()
    key = payment(1).key
    assert kept.awaited(key) is None
    kept.await_end([key])
    assert kept.awaited(key) == kept.told([key])[key]
    kept.stands(key)
    assert kept.awaited(key) is None
    assert not kept.was_found(key)
    kept.note_found([key, key])
    assert kept.was_found(key)


# --- where it lies ----------------------------------------------------------------------------------------------------


def files_without_a_name(folder: Path) -> list[str]:
    """Of this process, in that folder."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return [name for name in found if name.startswith(f"{folder}/") and name.endswith(" (deleted)")]


def tell_much(kept: Kept) -> None:
    """More than the few pages that may be held in memory."""
    kept._db.execute("PRAGMA cache_size = 10")
    event = told_event(1, 1)
    for _ in range(200):
        kept.tell(event, encode(event))


def test_what_memory_does_not_hold_lies_in_files_without_a_name_where_it_was_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has a variable of its own, which goes before this one."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "the customers' folder"
    elsewhere.mkdir()
    folder.mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(elsewhere))
    monkeypatch.setenv("TMPDIR", str(folder))
    with open_kept(read_of_bcard) as kept:
        assert not files_without_a_name(folder)
        tell_much(kept)
        assert files_without_a_name(folder)
        assert not files_without_a_name(elsewhere)
        assert not list(folder.iterdir())
        kept.sort()
        assert kept.counts() == (1, 0)
    assert not files_without_a_name(folder)


def test_a_folder_in_which_no_file_can_be_made_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_: object) -> NoReturn:
        raise AssertionError("Kafka was asked")

    monkeypatch.setattr(restoring, "lag_of", asked)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "not there"))
    MasterKeys.create(tmp_path / "internal")
    (tmp_path / "bcard.toml").write_text(NETWORK_FILE.format(port=1), encoding="utf-8")
    settings = Settings(_env_file=None, internal_keys_dir=tmp_path / "internal", networks_dir=tmp_path)  # type: ignore[call-arg]
    with pytest.raises(NotConfiguredError, match=r"no file can be made in .*/not there \(TMPDIR\)"):
        asyncio.run(restoring.find_payments(settings, "", KafkaSettings("127.0.0.1:1"), NOW))


def test_where_there_is_no_more_room_the_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    full = pytest.raises(NotConfiguredError, match=rf"in {tmp_path} \(TMPDIR\): .*full")
    with full, open_kept(read_of_bcard) as kept:
        kept._db.execute("PRAGMA max_page_count = 12")
        tell_much(kept)


async def test_what_was_told_as_ended_and_stands_nowhere_is_named(kept: Kept) -> None:
    ended = [PaymentEvent.model_validate(event_fields(payment(n, state=PaymentState.REJECTED))) for n in range(1, 8)]
    for event in ended:
        kept.tell(event, encode(event))
    kept.sort()
    kept.await_end([payment(n).key for n in range(1, 8)])
    kept.stands(payment(2).key)
    asked: list[list[object]] = []

    class Connection:
        """Payments 3 and 7 stand."""

        async def fetch(self, _: str, partners: list[object], payments: list[object]) -> list[dict[str, object]]:
            asked.append(payments)
            keys = zip(partners, payments, strict=True)
            standing = {payment(3).key, payment(7).key}
            return [{"partner_id": k[0], "payment_id": k[1], "state": "rejected"} for k in keys if k in standing]

    found = await restoring._not_ended(Connection(), kept)
    assert sorted(found) == sorted((payment(n).partner_id, payment(n).order_id) for n in (1, 4, 5, 6))
    assert [len(page) for page in asked] == [3, 3]


# --- what lies before what is looked at -------------------------------------------------------------------------------


class Taken:
    """A database in which execution has taken these payments."""

    def __init__(self, *numbers: int) -> None:
        self.keys = {payment(n).key for n in numbers}

    async def fetch(self, _: str, partners: list[object], payments: list[object]) -> list[dict[str, object]]:
        asked = zip(partners, payments, strict=True)
        return [{"partner_id": k[0], "payment_id": k[1], "state": "sent"} for k in asked if k in self.keys]


async def last_before(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, records: list[Record]
) -> list[tuple[Record, NetworkId]]:
    """Of what was handed on, each record an hour after the one before, where two hours back are looked at."""

    async def read(_: object, topic: str, since: datetime) -> AsyncIterator[Record]:
        for record in records:
            if record.timestamp_ms >= since.timestamp() * 1000:
                yield record

    async def nothing_committed(*_: object) -> dict[tuple[str, int], int]:
        return {}

    monkeypatch.setattr(restoring, "read_since", read)
    monkeypatch.setattr(restoring, "committed", nothing_committed)
    kafka, since = KafkaSettings("127.0.0.1:1"), NOW - timedelta(hours=2)
    reading = (since - timedelta(hours=2), since)
    return await restoring._keep_handed_on(Settings(_env_file=None), kafka, [BCARD], reading, kept)  # type: ignore[call-arg]


def handed_on_at(hours_ago: float, number: int) -> Record:
    at = NOW - timedelta(hours=hours_ago)
    return structs.replace(
        dispatched_record(numbered_order(number), offset=number), timestamp_ms=int(at.timestamp() * 1000)
    )


async def test_what_was_handed_on_last_before_what_is_looked_at_is_found_and_does_not_count(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [handed_on_at(hours, n) for n, hours in enumerate((5.0, 3.5, 2.5, 1.5, 0.5))]
    before = await last_before(kept, monkeypatch, records)
    kept.sort()
    assert [record.offset for record, _ in before] == [2]
    assert kept.counts() == (0, 2)


async def test_a_margin_that_execution_was_behind_is_too_small() -> None:
    """Who reads no further back would pay again what was taken since, and of which nobody was told."""
    found = handed_on_of(handed_on_at(2.5, 7), DISPATCH, BCARD)
    assert found is not None
    await restoring._check_taken(Taken(7), [found])
    await restoring._check_taken(Taken(), [])
    with pytest.raises(restoring.NotYetError, match="greater --margin"):
        await restoring._check_taken(Taken(6), [found])


def test_what_is_not_ours_or_cannot_be_read_any_more_tells_nothing_of_the_margin() -> None:
    record = handed_on_at(2.5, 1)
    assert restoring._read_if_ours(record, DISPATCH, BCARD) is not None
    assert restoring._read_if_ours(structs.replace(record, headers=()), DISPATCH, BCARD) is None
