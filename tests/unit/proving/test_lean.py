"""The pipeline without features: what it asks and tells, once an order; and what the bench makes of costs."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import iso8583
import pytest

from gateway.messaging.records import Outgoing
from gateway.network.iso8583.codec import decode_message
from gateway.network.iso8583.wire import dialect_of
from gateway.proving.bench.baselines import Baseline
from gateway.proving.bench.costs import Shares, price_of_million, shares_of
from gateway.proving.bench.intake import Intake
from gateway.proving.bench.lean.figures import Lean
from gateway.proving.bench.lean.least import LeastForm
from gateway.proving.bench.lean.pipeline import Answer, Headers, Order, Pipeline, Trace
from gateway.proving.bench.pure import Pure
from gateway.proving.bench.result import BenchPlan, BenchResult, Pair

NOW = datetime(2026, 11, 3, 1, 2, 3, tzinfo=UTC)
ORDERS = [Order("p", f"o{n}", "c", "m", 100 * n, "KRW") for n in (1, 2, 3)]
DIALECT = dialect_of("iso87-ascii")


class Table:
    """The connection: its rows are keyed as the table is."""

    def __init__(self, journal: list[str]) -> None:
        self.states: dict[tuple[str, str], str] = {}
        self.journal = journal

    async def fetch(self, _: str, partners: Sequence[str], orders: Sequence[str], *__: Any) -> list[dict[str, str]]:
        self.journal.append("insert")
        new = [key for key in zip(partners, orders, strict=True) if key not in self.states]
        self.states |= dict.fromkeys(new, "sent")
        return [{"partner_id": p, "order_id": o} for p, o in new]

    async def execute(
        self, _: str, partners: Sequence[str], orders: Sequence[str], states: Sequence[str], *__: Any
    ) -> None:
        self.journal.append("update")
        self.states |= dict(zip(zip(partners, orders, strict=True), states, strict=True))


class Scripted:
    """The form: the third order is declined."""

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.asked: list[str] = []

    def read(self, value: bytes, headers: Headers) -> Order:
        return ORDERS[int(value) - 1]

    def trace(self, now: datetime) -> Trace:
        return Trace(1, "r")

    async def purchase(self, asked: Sequence[tuple[Order, Trace]], now: datetime) -> list[Answer]:
        self.journal.append("ask")
        self.asked += [order.order_id for order, _ in asked]
        return [Answer("51", None) if order.order_id == "o3" else Answer("00", "A") for order, _ in asked]

    def tell(self, order: Order, trace: Trace, answer: Answer, topic: str, now: datetime) -> Outgoing:
        return Outgoing(topic, order.order_id.encode(), answer.response_code.encode(), ())


class Told:
    """The publisher."""

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.records: list[Outgoing] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.journal.append("tell")
        self.records += records


async def test_an_order_is_written_down_before_it_is_asked_for_and_told_after_its_answer_is_kept() -> None:
    journal: list[str] = []
    table, form, told = Table(journal), Scripted(journal), Told(journal)
    pipeline = Pipeline(table, form, told, "events")  # type: ignore[arg-type]
    await pipeline.handle([(b"1", ()), (b"2", ())])
    await pipeline.handle([(b"2", ()), (b"3", ())])  # the second comes again
    await pipeline.handle([(b"1", ())])
    assert journal == ["insert", "ask", "update", "tell"] * 2 + ["insert"]
    assert form.asked == ["o1", "o2", "o3"]
    assert table.states == {("p", "o1"): "approved", ("p", "o2"): "approved", ("p", "o3"): "declined"}
    assert [(r.key, r.value) for r in told.records] == [(b"o1", b"00"), (b"o2", b"00"), (b"o3", b"51")]


class Wire:
    """The link's transport: remembers what was written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


async def test_the_least_form_writes_what_the_gateways_codec_reads_and_matches_answers_in_any_order() -> None:
    form, wire = LeastForm(0), Wire()
    form.connection_made(wire)
    asked = [(order, form.trace(NOW)) for order in ORDERS]
    asking = asyncio.create_task(form.purchase(asked, NOW))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    messages = []
    rest = wire.written
    while rest:
        length = int.from_bytes(rest[:2], "big")
        messages.append(decode_message(rest[2 : 2 + length], DIALECT))
        rest = rest[2 + length :]
    assert [(m.mti, m[4], m[11], m[49]) for m in messages] == [
        ("0200", f"{100 * n:012d}", f"{n:06d}", "410") for n in (1, 2, 3)
    ]
    answers = b""
    for message in reversed(messages):
        code = "51" if message[11] == "000002" else "00"
        body, _ = iso8583.encode({"t": "0210", "11": message[11], "39": code}, DIALECT.specs[0])
        answers += len(body).to_bytes(2, "big") + bytes(body)
    for piece in (answers[:5], answers[5:40], answers[40:]):
        form.data_received(piece)
    assert [a.response_code for a in await asking] == ["00", "51", "00"]


def test_costs_are_the_gateways_the_servers_or_nobodys() -> None:
    cpu_us = {"initiation": 300.0, "execution bcard": 200.0, "Kafka": 100.0, "PostgreSQL": 250.0}
    shares = shares_of({**cpu_us, "network bcard": 60.0, "load generator": 40.0})
    assert shares == Shares(gateway=500.0, servers=350.0, around=100.0)
    assert (shares.paid, shares.all) == (850.0, 950.0)


def test_a_million_payments_of_3600_microseconds_take_an_hour() -> None:
    assert price_of_million(3600.0, 0.05) == pytest.approx(0.05)


def result_of(*pairs: Pair) -> BenchResult:
    baseline = Baseline(10, 1.0)
    measured = (baseline, baseline, Pure(1, 0, 1.0), Intake(1, 1.0, 1.0))
    return BenchResult(BenchPlan(), *measured, settled_per_s=9_000, pairs=[*pairs])


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([], "lean_ratio=0.000"),
        ([Pair(1_000, 0.0, Lean(4_000, 2.0))], "lean_ratio=0.500"),
        # One of a moment when others took the machine does not count.
        ([Pair(n, 0.0, Lean(4_000, 2.0)) for n in (1_800, 1_700, 20)], "lean_ratio=0.850"),
        ([Pair(1_800, 0.0, Lean(4_000, 2.0)), Pair(1_000, 0.0, Lean())], "lean_ratio=0.450"),
    ],
)
def test_the_last_line_compares_with_the_pipeline_window_by_window(pairs: list[Pair], told: str) -> None:
    assert told in result_of(*pairs).last_line().split()


def test_windows_of_the_pipeline_are_put_together_by_their_payments() -> None:
    whole = Lean.of([Lean(1_000, 1.0, {"a": 100.0, "b": 10.0}, 0.5), Lean(3_000, 2.0, {"a": 200.0}, 1.0)])
    assert (whole.payments, whole.seconds, whole.per_second) == (4_000, 3.0, pytest.approx(4_000 / 3))
    assert whole.cpu_us == {"a": 175.0, "b": 2.5}
    assert whole.others_cores == pytest.approx(2.5 / 3)
    assert Lean.of([]) == Lean()
