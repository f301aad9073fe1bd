"""How far execution is behind, as the stages look that hand orders on to it."""

from collections.abc import Iterable

from gateway.app.networks import NetworkView
from gateway.messaging.backlog import Backlogs
from schemas.primitives import NetworkId
from schemas.principals import Principal, Role
from schemas.topics import dispatch_topic


async def network_behind(backlogs: Backlogs, networks: NetworkView, network_id: NetworkId) -> int:
    """Records of a network that its execution has not taken; none where it is closed, or Kafka does not answer."""
    return await _behind(backlogs, [n for n in networks.open_networks() if n == network_id])


async def execution_behind(backlogs: Backlogs, networks: NetworkView) -> int:
    """Records of open networks that execution has not taken; none where Kafka does not answer."""
    return await _behind(backlogs, networks.open_networks())


async def _behind(backlogs: Backlogs, network_ids: Iterable[str]) -> int:
    waited = [(dispatch_topic(n), Principal(Role.EXECUTION, n).name) for n in network_ids]
    found = await backlogs.of(waited) if waited else {}
    return sum(found.values()) if found else 0
