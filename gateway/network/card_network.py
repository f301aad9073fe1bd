"""A card network, as execution asks it: exchanges over whatever links there are."""

from collections.abc import Callable
from typing import Protocol

from gateway.network.exchange import ExchangeResult, NetworkRequest
from schemas.primitives import NetworkId


class CardNetwork(Protocol):
    """Request/answer exchanges with one card network over all of its links."""

    network_id: NetworkId

    @property
    def is_open(self) -> bool:
        """True while at least one link is signed on and the circuit breaker lets traffic through."""

    async def wait_open(self) -> None:
        """Return once ``is_open``."""

    async def reserve(self, wanted: int, *, follow_up: bool = False, held: int = 0) -> int:
        """Wait until the in-flight window has room; take and return 1 … ``wanted`` places.

        Every place taken must be followed by one ``submit`` or given back with ``release``.

        Args:
            wanted: at most so many.
            follow_up: for reversals and inquiries, which must not take orders' places from a network that is tried
                again after an outage.
            held: places that the caller holds and has not used yet: a network on trial then answers 0 rather than let
                it wait for more, for the trial ends by what is sent.
        """

    def release(self, places: int, *, follow_up: bool = False) -> None:
        """Give back places that will not be used, of the kind that they were taken as."""

    def submit(self, request: NetworkRequest, *, send_before: float, done: Callable[[ExchangeResult], None]) -> None:
        """Encode and write one request; ``done`` is called exactly once, from the event loop.

        ``send_before`` is a time of ``loop.time()``: past it, or with no signed-on link, the result is NotSent.
        The result is Answered, or Unanswered after the network's answer timeout or when the link is lost.
        Never resends, never moves to another link once a byte may have left.
        """

    async def start(self) -> None:
        """Begin to connect; returns at once."""

    async def stop(self, *, drain_seconds: float) -> None:
        """Take no more, wait for what is in flight up to the deadline (the rest ends Unanswered), sign off, close."""
