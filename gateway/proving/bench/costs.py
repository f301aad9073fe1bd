"""What a million payments cost, and whose cost it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SECONDS_AN_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Shares:
    """Microseconds of processor a payment, which are as many seconds a million payments.

    Attributes:
        gateway: its stages; servers: Kafka and PostgreSQL; around: load generator and simulated networks, which are
            there to measure and are no part of the gateway.
    """

    gateway: float
    servers: float
    around: float

    @property
    def all(self) -> float:
        """Everything that was measured."""
        return self.gateway + self.servers + self.around

    @property
    def paid(self) -> float:
        """What whoever runs the gateway pays for."""
        return self.gateway + self.servers


def is_server(process: str) -> bool:
    """Tell whether a process is a broker or a database."""
    return process.startswith(("Kafka", "PostgreSQL"))


def is_around(process: str) -> bool:
    """Tell whether a process is there only to measure."""
    return process.startswith(("network ", "load generator"))


def shares_of(cpu_us: Mapping[str, float]) -> Shares:
    """Add up the processes' costs; ``cpu_us``: microseconds a payment by process."""
    servers = sum(us for name, us in cpu_us.items() if is_server(name))
    around = sum(us for name, us in cpu_us.items() if is_around(name))
    return Shares(sum(cpu_us.values()) - servers - around, servers, around)


def price_of_million(cpu_us: float, vcpu_hour_price: float) -> float:
    """What a million payments cost that take so many microseconds each."""
    return cpu_us / _SECONDS_AN_HOUR * vcpu_hour_price
