"""How far execution is behind, as the stages look that hand orders on to it."""

from gateway.app.networks import NetworkView
from gateway.messaging.backlog import Backlogs
from schemas.primitives import NetworkId
from schemas.principals import Principal, Role
from schemas.topics import dispatch_topic


async def network_behind(backlogs: Backlogs, networks: NetworkView, network_id: NetworkId) -> int:
    """Records of a network that its execution has not taken; none where it is closed, or Kafka does not answer."""
    if network_id not in networks.open_networks():
        return 0
    found = await backlogs.of([(dispatch_topic(network_id), Principal(Role.EXECUTION, network_id).name)])
    return sum(found.values()) if found else 0


async def execution_behind(backlogs: Backlogs, networks: NetworkView) -> int:
    """Records of open networks that execution has not taken; none where Kafka does not answer."""
    waited = [(dispatch_topic(n), Principal(Role.EXECUTION, n).name) for n in networks.open_networks()]
    found = await backlogs.of(waited) if waited else {}
    return sum(found.values()) if found else 0
