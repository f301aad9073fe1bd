"""The capacity model: it says of a bench what that bench reached, and its figures follow from the costs."""

import json
from pathlib import Path

import pytest

from gateway.network.trace import PAYMENT_STANS
from gateway.proving.bench import capacity
from gateway.proving.bench.capacity import BUSY, Measured, MeasuredError, plan_for, reached_per_s, read_measured

SHIPPED = json.loads(Path(capacity.__file__).with_name("measured.json").read_bytes())
COSTS = {
    "initiation": 400.0,
    "execution bcard": 400.0,
    "relay": 100.0,
    "Kafka": 200.0,
    "PostgreSQL": 300.0,
    "network bcard": 60.0,
    "load generator": 40.0,
}
MEASURED = Measured(COSTS, 2, 0.0, 1_300.0, wal=2_000.0, tables=3_000.0, kafka=1_000.0)


def test_the_shipped_costs_predict_what_their_bench_reached() -> None:
    measured = read_measured(SHIPPED)
    assert reached_per_s(measured) == pytest.approx(measured.settled_per_s, rel=0.15)
    assert None not in (measured.wal, measured.tables, measured.kafka)


@pytest.mark.parametrize(
    ("settled_per_s", "cpu_us", "others"),
    [
        (1_140, 1_253, 0.15),
        (1_026, 1_370, 0.18),
        (996, 1_319, 0.23),
        (759, 1_567, 0.56),
        (1_059, 1_494, 0.32),
        (1_172, 1_524, 0.04),
        (2_183, 756, 0.05),
    ],
)
def test_benches_of_two_cores_are_predicted_within_15_percent(
    settled_per_s: float, cpu_us: float, others: float
) -> None:
    # No process of these came near a core of its own: what each of them cost makes no difference.
    reached = reached_per_s(Measured({"PostgreSQL": cpu_us}, 2, others, settled_per_s))
    assert reached == pytest.approx(settled_per_s, rel=0.15)


@pytest.mark.parametrize(
    ("cores", "others", "expected"),
    [
        (2, 0.0, BUSY * 2e6 / 1500),  # the processors are used up
        (2, 0.5, BUSY * 1.5e6 / 1500),  # other programs have some of them
        (16, 0.0, 1e6 / 400),  # one process has a core for itself
    ],
)
def test_the_machine_or_one_process_is_the_bound(cores: int, others: float, expected: float) -> None:
    assert reached_per_s(Measured(COSTS, cores, others, 0.0)) == pytest.approx(expected)


def test_a_plan_follows_from_the_costs() -> None:
    plan = plan_for(3_000, MEASURED, hours=24, vcpu_hour_price=0.05, utilisation=0.5)
    processes = {s.name: s.processes for s in plan.stages}
    # 3,000 × 400 µs are 1.2 cores: three processes at half a core each. No network and no load generator is planned.
    assert processes == {"initiation": 3, "execution bcard": 3, "relay": 1}
    assert plan.server_cores == pytest.approx({"Kafka": 0.6, "PostgreSQL": 0.9})
    assert plan.cores == 9  # 4.2 used
    assert plan.dollars_a_month == pytest.approx(9 * 730 * 0.05)
    payments = 3_000 * 86_400
    assert plan.terminals == -(-payments // PAYMENT_STANS)
    assert (plan.wal, plan.tables, plan.kafka) == pytest.approx((2e3 * payments, 3e3 * payments, 3e3 * payments))


def test_what_reads_a_topic_needs_a_partition_a_process() -> None:
    few, many = (plan_for(tps, MEASURED, hours=24, vcpu_hour_price=0) for tps in (10, 100_000))
    for stages in (few.stages, many.stages):
        for stage in stages[:2]:
            assert stage.partitions == max(stage.partitions_now, stage.processes) > 0
    assert many.stages[0].partitions > many.stages[0].partitions_now
    assert many.stages[2].partitions == 0


def test_bytes_that_were_not_measured_are_not_planned() -> None:
    plan = plan_for(10, Measured(COSTS, 2, 0.0, 1.0), hours=24, vcpu_hour_price=0)
    assert (plan.wal, plan.tables, plan.kafka) == (None, None, None)


def test_bytes_are_told_a_payment() -> None:
    told = {**SHIPPED, "settled_in_window": 10, "stored_bytes": {"wal": 100, "database": 200, "kafka": 300}}
    measured = read_measured(told)
    assert (measured.wal, measured.tables, measured.kafka) == (10, 20, 30)


@pytest.mark.parametrize("result", [{}, {"processes": []}, {**SHIPPED, "processes": {"a": {}}}])
def test_what_is_no_result_is_refused(result: dict[str, object]) -> None:
    with pytest.raises(MeasuredError, match="mypay bench --json"):
        read_measured(result)
