"""What `mypay run all` gives each stage."""

import json
import subprocess
import sys

import pytest

from gateway.cli.run import environment_of, places
from gateway.observability.targets import targets

GIVEN = {
    "PATH": "/bin",
    "MYPAY_HTTP_PORT": "9100",
    "MYPAY_POSTGRES_DSN": "postgresql://admin@/m",
    "MYPAY_POSTGRES_DSN_OWNER": "postgresql://mypay_owner@/m",
    "MYPAY_POSTGRES_DSN_RELAY": "postgresql://mypay_relay@/m",
}


@pytest.mark.parametrize(
    ("stage", "addresses"),
    [
        ("relay", {"MYPAY_POSTGRES_DSN_RELAY": "postgresql://mypay_relay@/m"}),
        ("settlement", {"MYPAY_POSTGRES_DSN": "postgresql://admin@/m"}),
    ],
)
def test_a_stage_gets_no_other_users_address(stage: str, addresses: dict[str, str]) -> None:
    assert environment_of(stage, GIVEN, 9103) == {"PATH": "/bin", "MYPAY_HTTP_PORT": "9103", **addresses}


def test_prometheus_is_told_where_each_process_serves() -> None:
    stages = [["relay"], ["execution", "--network", "bcard"]]
    assert json.loads(targets(places(stages, "127.0.0.1", [9100, 9101]))) == [
        {"targets": ["127.0.0.1:9100"], "labels": {"job": "mypay", "process": "relay"}},
        {"targets": ["127.0.0.1:9101"], "labels": {"job": "mypay", "process": "execution bcard"}},
    ]


def test_what_a_stage_is_started_with_loads_nothing_heavy() -> None:
    code = (
        "import sys\nimport gateway.cli.run\n"
        "heavy = {'aiohttp', 'aiokafka', 'asyncpg', 'pydantic', 'joserfc', 'prometheus_client', 'structlog'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
