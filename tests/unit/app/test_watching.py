"""What a process says of itself: each thing that can be wrong is broken, told, and mended."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry

from gateway.app import watching
from gateway.app.settings import Settings
from gateway.app.state_gauges import STATE_LABELS, StateGauges
from gateway.app.watching import (
    DISK_FREE_BYTES,
    KEYS_OLD_S,
    Expiry,
    disk_check,
    free_bytes,
    keys_check,
    look_around,
    postgres_answers,
    servers_answer,
    topics_of,
    watch_disks,
    watch_keys,
)
from gateway.base.errors import StoreUnavailableError
from gateway.database import pool as pool_module
from gateway.database.pool import REFUSAL_S, ConnectionPool
from gateway.messaging.membership import OUT, PATIENCE_S, LagTeller, Patient, membership_problem
from gateway.observability.health import Health
from gateway.observability.metrics import LEVELS
from gateway.observability.observer import StageObserver
from gateway.observability.recording import RecordingObserver
from schemas.topics import DEAD_LETTER, ORDERS, clearing_topic, dispatch_topic
from streams.__main__ import STAGES
from tests.support.builders import NOW


async def test_a_full_disk_is_named_with_the_room_that_is_left() -> None:
    room = {Path("a"): DISK_FREE_BYTES, Path("b"): DISK_FREE_BYTES}
    check = disk_check({"home": Path("a"), "clearing_inbox": Path("b")}, room.__getitem__)
    assert await check() is None
    room[Path("b")] = DISK_FREE_BYTES - 1
    assert await check() == "clearing_inbox: 63 MiB free"


def test_the_room_of_a_folder_that_is_not_there_yet_is_that_of_its_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "there") == pytest.approx(free_bytes(tmp_path), rel=0.5)


async def test_old_keys_are_told_and_fresh_ones_are_well() -> None:
    age: list[float | None] = [None]
    check = keys_check(lambda: age[0])
    assert await check() == "not read yet"
    age[0] = KEYS_OLD_S
    assert await check() is None
    age[0] = KEYS_OLD_S + 1
    assert await check() == "61 s old"


async def test_how_old_keys_are_is_told_also_while_a_reading_of_them_hangs() -> None:
    observer, health, age = RecordingObserver(), Health(), [5.0]
    watch_keys(SimpleNamespace(observer=observer, health=health), "affiliate-keys", lambda: age[0])  # type: ignore[arg-type]
    for age[0], word in ((5.0, None), (KEYS_OLD_S + 1, "61 s old")):
        for look in health.looks:
            await look()
        assert observer.levels == {"key_registry_age_seconds": age[0]}
        assert await health.readiness["affiliate-keys"]() == word


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_topics_that_it_needs(stage: str) -> None:
    found = topics_of(stage, ["bcard"])
    assert found == sorted(set(found))
    assert not [name for name in found if "{" in name]
    parks = {"initiation", "consents", "execution", "settlement", "portability", "sharing", "marketing"}
    assert (DEAD_LETTER in found) == (stage in parks)


def test_a_stage_needs_its_own_networks_topics() -> None:
    assert ORDERS in topics_of("initiation", ["bcard"])
    assert dispatch_topic("bcard") in topics_of("execution", ["bcard"])
    assert dispatch_topic("kcard") not in topics_of("execution", ["bcard"])
    assert clearing_topic("kcard") in topics_of("settlement", ["bcard", "kcard"])
    assert ORDERS not in topics_of("execution", ["bcard"])


# --- the group ---


@dataclass
class Coordinator:
    _coordination_task: Any
    _error_consumed_fut: Any = None
    generation: int = 3


async def test_whoever_is_in_no_group_is_told_and_why() -> None:
    assert membership_problem(None) == "not connected"
    going: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(60))
    over: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(0))
    await over
    for coordinator, problem in (
        (Coordinator(going), None),
        (Coordinator(going, generation=-1), OUT),
        (Coordinator(over), "given up by its group"),
        (Coordinator(going, _error_consumed_fut=object()), "given up by its group"),
        (None, "not connected"),
    ):
        assert membership_problem(SimpleNamespace(_coordinator=coordinator)) == problem
    going.cancel()


async def test_a_rebalance_is_waited_for_once_it_was_a_member() -> None:
    now, problem = [0.0], ["out"]
    check = Patient(lambda: problem[0] or None, lambda: now[0]).check
    assert await check() == "out"
    problem[0] = ""
    assert await check() is None
    problem[0], now[0] = "out", PATIENCE_S
    assert await check() is None
    now[0] = PATIENCE_S + 1
    assert await check() == "out"


class Time:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> Any:
        return self.at


async def test_lag_is_told_in_records_and_in_seconds_of_the_oldest() -> None:
    clock, observer = Time(), RecordingObserver()
    waits, taken = [0], [None]
    began = NOW.timestamp()

    async def lag() -> int:
        return waits[0]

    watch = LagTeller(observer, clock, group="g", lag=lag, taken_ms=lambda: taken[0])

    async def told(at_s: float, records: int, taken_s: float | None) -> tuple[float, float]:
        clock.at = NOW.fromtimestamp(began + at_s, NOW.tzinfo)
        waits[0], taken[0] = records, None if taken_s is None else int((began + taken_s) * 1000)  # type: ignore[call-overload]
        await watch.look()
        return observer.levels["consumer_lag_records{group=g}"], observer.levels["consumer_lag_seconds{group=g}"]

    # Nothing was ever taken; it began to wait after 10.
    assert await told(10, 0, None) == (0, 0)
    assert await told(70, 5, None) == (5, pytest.approx(60))
    # The last that was taken came at 65, so the oldest that waits came later.
    assert await told(75, 9, 65) == (9, pytest.approx(10, abs=0.01))
    # All was taken, long ago: one that came since the last look is not as old as that.
    assert await told(1000, 0, 65) == (0, 0)
    assert await told(1005, 1, 65) == (1, pytest.approx(5, abs=0.01))


# --- the servers ---


@dataclass
class Answers:
    words: dict[str, str | None] = field(default_factory=lambda: {"postgres": None, "kafka": None})

    def health(self) -> Health:
        health = Health()
        for name in self.words:

            async def check(name: str = name) -> str | None:
                return self.words[name]

            health.readiness[name] = check
        return health


async def test_standing_still_is_the_relays_own_fault_only_while_its_servers_answer() -> None:
    answers = Answers()
    health = answers.health()
    assert await servers_answer(health) == 1
    answers.words["kafka"] = "no answer"
    assert await servers_answer(health) == 0


async def test_what_is_away_is_told_as_down_and_what_others_look_at_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_S", 0.0)
    monkeypatch.setattr(watching, "ANSWER_S", 0.001)
    answers, observer = Answers({"postgres": "no answer", "kafka": None}), RecordingObserver()
    health = answers.health()
    looked = asyncio.Event()

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        raise RuntimeError("a bug")

    async def looks() -> None:
        looked.set()

    health.looks += [hangs, fails, looks]
    looking = asyncio.create_task(look_around(health, observer))
    await looked.wait()
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    assert observer.levels == {"dependency_up{dependency=postgres}": 0.0, "dependency_up{dependency=kafka}": 1.0}
    assert {(n.event, n.fields["error"]) for n in observer.notes} == {("look_failed", "RuntimeError")}


class Server(ConnectionPool):
    """One that answers, and takes what is written or does not."""

    def __init__(self) -> None:
        super().__init__("postgresql://nowhere/x")
        self.error: Exception | None = None
        self._pool = self  # type: ignore[assignment]

    async def acquire(self) -> "Server":
        return self

    async def release(self, _: object) -> None: ...

    def transaction(self, *, isolation: str) -> "Server":
        assert isolation == "read_committed"
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.error is not None:
            raise self.error

    async def fetchval(self, _: str) -> int:
        return 1

    def get_server_pid(self) -> int:
        return 1

    async def execute(self, sql: str) -> None:
        assert sql == "DISCARD PLANS"


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: now[0])
    return now  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (asyncpg.DiskFullError("no room"), "its disk is full"),
        (asyncpg.ReadOnlySQLTransactionError("replica"), "it takes no writes"),
        (asyncpg.TooManyConnectionsError("later"), None),
    ],
)
async def test_a_server_that_answers_and_takes_no_writes_is_told(
    seconds: list[float], error: Exception, word: str | None
) -> None:
    server = Server()
    assert await postgres_answers(server) is None  # type: ignore[arg-type]
    server.error = error
    with pytest.raises(StoreUnavailableError):
        async with server.transacting():
            pass
    assert await postgres_answers(server) == word  # type: ignore[arg-type]
    server.error = None
    async with server.transacting():
        pass
    assert await postgres_answers(server) is None  # type: ignore[arg-type]
    server.error = error
    with pytest.raises(StoreUnavailableError):
        async with server.transacting():
            pass
    seconds[0] += REFUSAL_S + 1
    assert server.refuses_writes is None


def test_room_is_served_for_each_folder(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    observer = StageObserver(registry, stage="settlement")
    settings = Settings(_env_file=None, home=tmp_path, clearing_inbox=tmp_path / "inbox")
    watch_disks(settings, "settlement", Health(), observer)
    for folder in ("home", "clearing_inbox"):
        told = registry.get_sample_value("mypay_disk_free_bytes", {"folder": folder})
        assert told is not None
        assert told > 0


# --- what stands in the database ---


async def test_what_was_counted_once_is_told_to_be_none_and_what_is_not_read_gets_old() -> None:
    observer = RecordingObserver()
    rows: list[tuple[str, str, str, float]] = [
        ("outbox_rows", "", "", 3.0),
        ("breaks_open", "bcard/amount_differs", "<1d", 2.0),
        ("follow_ups_open", "bcard", "reversal", 1.0),
    ]

    async def read() -> list[tuple[str, str, str, float]]:
        return rows

    watch = StateGauges(read, observer, networks=["bcard"])
    await watch.look()
    levels = observer.levels
    assert levels["outbox_rows"] == 3
    assert levels["breaks_open{age=<1d,kind=amount_differs,network=bcard}"] == 2
    assert levels["follow_ups_open{kind=reversal,network=bcard}"] == 1
    assert levels["follow_ups_open{kind=inquiry,network=bcard}"] == 0
    assert levels["partners_keys_ending{within=7d}"] == 0
    rows[:] = [("outbox_rows", "", "", 0.0)]
    await watch.look()
    assert levels["breaks_open{age=<1d,kind=amount_differs,network=bcard}"] == 0
    assert levels["follow_ups_open{kind=reversal,network=bcard}"] == 0
    assert all(LEVELS[gauge].fresh_s for gauge in STATE_LABELS)


def test_a_certificates_end_is_read_again_when_the_file_is_another(tmp_path: Path) -> None:
    file = tmp_path / "own.crt"
    expiry, kept = Expiry(file, again=True), Expiry(file, again=False)
    assert expiry() is None
    file.write_text("nonsense")
    assert expiry() is None
    for year in (2031, 2032):
        file.write_bytes(certificate_until(datetime(year, 1, 1, tzinfo=UTC)))
        os.utime(file, ns=(year, year))
        assert expiry() == datetime(year, 1, 1, tzinfo=UTC).timestamp()
        # A process that read it when it began goes on with that one, whatever lies in the file's place.
        assert kept() == datetime(2031, 1, 1, tzinfo=UTC).timestamp()


def certificate_until(end: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
