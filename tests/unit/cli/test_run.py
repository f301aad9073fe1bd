"""What `mypay run all` gives each stage."""

import pytest

from gateway.cli.run import environment_of

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
    assert environment_of(stage, GIVEN) == {"PATH": "/bin", "MYPAY_HTTP_PORT": "0", **addresses}
