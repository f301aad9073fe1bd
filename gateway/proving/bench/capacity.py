"""A capacity model: what payments a second need, from what the bench measured that one costs. Pure.

A Python process uses one core at most, so a stage that costs 400 µs a payment takes 2,500 payments a second;
beyond that it needs more processes, and its topic as many partitions. Costs are taken to grow as payments do: what a
process spends while it waits is in the measured cost already, so a plan for far fewer payments than were measured is
too dear, and one for far more rests on the partitions being even.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.network.trace import PAYMENT_STANS
from gateway.proving.bench.costs import is_around, is_server, shares_of
from schemas.topics import ORDERS, TOPICS

UTILISATION: Final = 0.6
"""Of a core, on average: what is left takes bursts, restarts and the loss of a machine."""

BUSY: Final = 0.82
"""Of a machine's cores that the bench keeps busy when it runs everything on two: measured, 0.74 to 0.94 in seven runs.
The rest of the time its processes wait for commits, answers and one another."""

HOURS_A_MONTH: Final = 730
REPLICATION: Final = 3

_READS: Final = {"initiation": ORDERS, "execution": "mypay.dispatch.{network}"}
"""Stages that scale by the partitions of what they read."""


class MeasuredError(ValueError):
    """What is given as a bench's result is none; the text names what it lacks."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a bench told.

    Attributes:
        cpu_us: microseconds of processor a payment, by process.
        cores: of the machine; others_cores: of these kept busy by other programs.
        settled_per_s: what it reached.
        wal, tables, kafka: bytes a payment, Kafka's of one replica; None where it was not measured.
    """

    cpu_us: Mapping[str, float]
    cores: int
    others_cores: float
    settled_per_s: float
    wal: float | None = None
    tables: float | None = None
    kafka: float | None = None


def read_measured(result: Mapping[str, Any]) -> Measured:
    """Take what is needed of ``mypay bench --json``.

    Raises:
        MeasuredError: something is missing, or is not what the bench writes.
    """
    try:
        processes = result["processes"]
        cpu_us = {str(name): float(told["cpu_us_per_payment"]) for name, told in processes.items()}
        payments = int(result["settled_in_window"])
        stored = result.get("stored_bytes")
        each = {name: stored[name] / payments for name in ("wal", "database", "kafka")} if stored and payments else {}
        return Measured(
            cpu_us,
            int(result.get("cores", 2)),
            float(result["others_cores"]),
            float(result["settled_per_s"]),
            each.get("wal"),
            each.get("database"),
            each.get("kafka"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MeasuredError(f"it is no result of `mypay bench --json`: {error}") from error


def reached_per_s(measured: Measured) -> float:
    """Payments a second of one machine that runs everything, with one process a stage, by costs alone.

    The processors are as busy as they become (:data:`BUSY`), or one process has a core for itself and would need more.
    """
    total = shares_of(measured.cpu_us).all
    machine = BUSY * max(0.0, measured.cores - measured.others_cores) * 1e6 / total if total else 0.0
    alone = [1e6 / us for name, us in measured.cpu_us.items() if us and not is_server(name)]
    return min([machine, *alone])


@dataclass(frozen=True, slots=True)
class Stage:
    """Processes of one stage, the cores that they use on average, and partitions to read (0: it reads none so)."""

    name: str
    processes: int
    cores: float
    partitions: int
    partitions_now: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is needed.

    Attributes:
        server_cores: of Kafka (all brokers together, one replica) and PostgreSQL, used on average.
        cores: to have, of all machines together.
        terminals: to be registered with a network that takes every payment.
        wal, tables, kafka: bytes a day; Kafka's with its replicas.
        dollars_a_month: of the cores.
    """

    stages: tuple[Stage, ...]
    server_cores: Mapping[str, float]
    cores: int
    terminals: int
    wal: float | None
    tables: float | None
    kafka: float | None
    dollars_a_month: float


def plan_for(
    tps: float, measured: Measured, *, hours: float, vcpu_hour_price: float, utilisation: float = UTILISATION
) -> Plan:
    """Plan for so many payments a second.

    Args:
        tps: payments a second.
        measured: what one costs.
        hours: a day at this rate.
        vcpu_hour_price: US dollars.
        utilisation: of a core, on average: 0 to 1.
    """
    daily = tps * hours * 3600
    ours = {n: us for n, us in measured.cpu_us.items() if not is_server(n) and not is_around(n)}
    stages = tuple(_stage(name, tps * us / 1e6, utilisation) for name, us in ours.items())
    servers = {n: tps * us / 1e6 for n, us in measured.cpu_us.items() if is_server(n)}
    used = sum(s.cores for s in stages) + sum(servers.values())
    cores = math.ceil(used / utilisation)
    return Plan(
        stages,
        servers,
        cores,
        math.ceil(daily / PAYMENT_STANS),
        _daily(measured.wal, daily),
        _daily(measured.tables, daily),
        _daily(measured.kafka, daily * REPLICATION),
        cores * HOURS_A_MONTH * vcpu_hour_price,
    )


def _stage(name: str, cores: float, utilisation: float) -> Stage:
    processes = max(1, math.ceil(cores / utilisation))
    topic = _READS.get(name.split(" ", maxsplit=1)[0])
    now = next((t.partitions for t in TOPICS if t.name == topic), 0)
    return Stage(name, processes, cores, max(now, processes) if topic else 0, now)


def _daily(each: float | None, payments: float) -> float | None:
    return None if each is None else each * payments
