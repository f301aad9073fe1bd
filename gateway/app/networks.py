"""What the use cases need of the networks' files."""

from collections.abc import Mapping

from gateway.network.iso8583.config import NetworkConfig
from gateway.payments.cancellations.rules import CutOver
from schemas.primitives import NetworkId


def cut_overs(networks: Mapping[str, NetworkConfig]) -> dict[NetworkId, CutOver]:
    """Cut-overs of the networks that have one."""
    return {n.network_id: CutOver(n.cutover, n.time_zone) for n in networks.values() if n.cutover is not None}
