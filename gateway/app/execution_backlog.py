"""How far execution is behind, as the stages look that hand orders on to it."""

from gateway.app.networks import NetworkView
from gateway.messaging.backlog import Backlogs
from schemas.principals import Principal, Role
from schemas.topics import dispatch_topic


async def execution_behind(backlogs: Backlogs, networks: NetworkView) -> int:
    """Records of open networks that execution has not taken; none where Kafka does not answer."""
    waited = [(dispatch_topic(n), Principal(Role.EXECUTION, n).name) for n in networks.open_networks()]
    found = await backlogs.of(waited) if waited else {}
    return sum(found.values()) if found else 0
