"""The processes that play card networks: each with books, a port and papers of its own."""

import secrets
from pathlib import Path
from typing import Final

from gateway.proving.stack.certificates import Authority
from gateway.proving.stack.ports import free_ports
from gateway.proving.world.children import Child, base_environment
from gateway.proving.world.networks import NETWORKS, Network
from gateway.proving.world.world import World, make_child

_SIMULATOR: Final = "from gateway.cli import main; main()"


def start_networks(world: World) -> None:
    """Start the networks of the plan, and write what the gateway is told about each."""
    plan = world.plan
    ports = free_ports(3 * plan.networks)
    world.networks = tuple(
        Network(
            network_id,
            port,
            control,
            world.directory / f"{network_id}.ledger",
            world.inbox / network_id,
            _clearing_key(world, network_id),
            gateway_port=between if plan.with_proxies else port,
            asked=network_id in plan.asked,
            latency_ms=plan.latency_ms,
            has_habits=network_id in plan.with_habits,
            papers=_papers(world, network_id) if network_id in plan.tls else None,
        )
        for network_id, port, control, between in zip(NETWORKS, ports[::3], ports[1::3], ports[2::3], strict=False)
    )
    for network in world.networks:
        for_gateway = world.directory / "networks" / f"{network.network_id}.toml"
        for_gateway.write_text(network.gateway_file(window=world.plan.window), encoding="utf-8")
        child = make_simulator(world, network.network_id, network, cycle_seconds=plan.cycle_seconds)
        world.simulators.append(child)
        child.start()


def make_simulator(world: World, name: str, network: Network, *, cycle_seconds: float | None = None) -> Child:
    """Make a network's process, not started yet; ``name`` is that of its files."""
    simulator = world.directory / f"{name}.toml"
    text = network.simulator_file(seed=world.plan.seed, cycle_seconds=cycle_seconds)
    simulator.write_text(text, encoding="utf-8")
    arguments = ["-c", _SIMULATOR, "simulate", "network", "--config", str(simulator)]
    return make_child(world, f"network {name}", arguments, base_environment())


def _clearing_key(world: World, network_id: str) -> Path:
    path = world.clearing_keys / network_id / "1.hmac"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(secrets.token_hex(32), encoding="ascii")
    return path


def _papers(world: World, network_id: str) -> Path:
    folder = world.directory / "tls" / network_id
    authority = Authority()
    authority.issue(folder, "host", names=["127.0.0.1"])
    authority.issue(folder, "gateway")
    return folder
