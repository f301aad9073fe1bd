"""How long a process may take to end."""

from gateway.app.settings import Settings
from streams.stopping import CANCEL_S

ORCHESTRATORS_S = 25.0
"""Kubernetes kills after thirty seconds; some of them pass before SIGTERM reaches the process."""


def test_the_slowest_process_ends_within_what_orchestrators_give() -> None:
    settings = Settings(_env_file=None)
    assert settings.execution_drain_s + settings.stop_s + CANCEL_S < ORCHESTRATORS_S
