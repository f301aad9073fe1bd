from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from gateway.observability.observer import StageObserver
from tests.support.logs import Logs, configured


@pytest.fixture
def logs() -> Iterator[Logs]:
    with configured() as found:
        yield found


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observer(registry: CollectorRegistry, logs: Logs) -> StageObserver:
    return StageObserver(registry, stage="execution", network="kcard")
