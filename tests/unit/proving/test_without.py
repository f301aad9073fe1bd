"""What parts cost: figures of stretches with and without them, round by round, and which parts there are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import click.testing
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.app.environment import read_settings
from gateway.cli import program
from gateway.proving.bench.collecting import open_collector
from gateway.proving.bench.silent import Silent
from gateway.proving.bench.stretch import Stretch, medians
from gateway.proving.bench.without import WARM_NAME, Part, WithoutPlan, WithoutResult, names_of
from gateway.proving.world.confirming import _produced


def stretch(**us: float) -> Stretch:
    return Stretch(us, 0.0, 0.0)


def test_the_share_is_the_median_of_the_rounds() -> None:
    plan = WithoutPlan(frozenset({Part.SHARING, Part.DISCLOSURE}))
    result = WithoutResult(plan)
    result.rounds = [
        (stretch(execution=80, sharing=20), stretch(execution=90)),
        (stretch(execution=180, sharing=20), stretch(execution=160)),
        # Something else kept the machine busy: one round does not decide.
        (stretch(execution=80, sharing=920), stretch(execution=90)),
    ]
    assert result.share == pytest.approx(0.2)
    assert result.last_line() == ("without: parts=disclosure,sharing rounds=3 with_us=200 without_us=90 share=0.200")
    # Nothing was checked: nothing is said to be balanced.
    assert not result.balanced


def test_a_process_that_did_not_run_took_nothing() -> None:
    found = medians([stretch(execution=3, sharing=1), stretch(execution=5), stretch(execution=4, sharing=3)])
    assert found == {"execution": 4, "sharing": 1}


def test_a_part_that_there_is_not_is_refused_by_name() -> None:
    done = click.testing.CliRunner().invoke(program(), ["bench", "--without", "sharing,settlement"])  # type: ignore[arg-type]
    assert done.exit_code != 0
    assert "there is no part settlement" in str(done.exception)


def test_a_silent_stage_is_the_stage_otherwise(tmp_path: Path) -> None:
    """Without addresses both say what is missing, in the same words."""
    environment = {"PATH": os.environ["PATH"], "MYPAY_HOME": str(tmp_path)}

    def told(module: str) -> tuple[int, str]:
        argv = [sys.executable, "-m", module, "relay"]
        done = subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    loud = told("streams")
    assert loud[0] != 0
    assert "MYPAY_POSTGRES_DSN" in loud[1]
    assert told("gateway.proving.bench.silent") == loud


def test_a_silent_observer_takes_all_that_a_stage_registers_and_counts_nothing() -> None:
    registry = CollectorRegistry()
    observer = Silent(registry, stage="relay")
    before = generate_latest(registry)
    observer.count("relay", "published", n=7)
    observer.delay("kafka_publish", 1.0)
    observer.level("relay_leader", 1)
    observer.note("relay_leads")
    assert generate_latest(registry) == before
    observer.read_at_scrape("disk_free_bytes", lambda: 5.0, folder="inbox")
    assert b"mypay_disk_free_bytes" in generate_latest(registry)


def test_the_books_know_the_phase_of_every_order() -> None:
    """They are read back by it at the end: the whole run would have been for nothing."""
    names = [WARM_NAME, *names_of(1), *names_of(12)]
    assert len(set(names)) == len(names)
    for name in names:
        body = {
            "order_id": f"{name}0-1",
            "partner_id": "p",
            "consent_id": "c",
            "merchant_id": "m",
            "amount": {"currency": "KRW", "value": "1"},
        }
        record = SimpleNamespace(value=json.dumps(body).encode(), partition=0, offset=0, timestamp=0)
        assert _produced(record).label in ("warm-up", "sustained")


async def test_what_takes_traces_counts_them_and_a_process_that_is_traced_knows_where_to_send_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_collector() as collector, aiohttp.ClientSession() as session:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        settings = read_settings()
        assert (settings.otel_endpoint, settings.otel_ratio) == (collector.endpoint, 0.01)
        async with session.post(f"{settings.otel_endpoint}/v1/traces", data=b"spans") as answer:
            assert answer.status == 200
    assert collector.requests == 1
