"""What the links of a network report, for metrics and logs. Every label comes from a small fixed set."""

from enum import StrEnum, unique
from typing import Protocol

from gateway.network.iso8583.breaker import BreakerState


@unique
class LinkState(StrEnum):
    """Where one link stands."""

    DOWN = "down"
    CONNECTING = "connecting"
    SIGNING_ON = "signing_on"
    UP = "up"
    SIGNED_OFF = "signed_off"


class LinkObserver(Protocol):
    """Called from the event loop, on the way of every message: must be quick and must not raise.

    ``link`` is ``host:port#number``, of which there are as many as the network's file asks for.
    """

    def link_state(self, network_id: str, link: str, state: LinkState, reason: str) -> None:
        """A link changed its state; ``reason`` tells why it went down, in words without content of messages."""

    def echo_missed(self, network_id: str, link: str, missed: int) -> None:
        """An echo was not answered; ``missed`` in a row."""

    def breaker_state(self, network_id: str, state: BreakerState) -> None:
        """The circuit breaker changed its state."""

    def undecodable(self, network_id: str, link: str, field: str, reason: str) -> None:
        """A frame is no message of the dialect; ``field`` and ``reason`` as in Iso8583Error."""

    def unexpected(self, network_id: str, link: str, mti: str) -> None:
        """A response to nothing arrived, or a message that is neither request nor response."""

    def host_asked(self, network_id: str, link: str, mti: str, answer: str) -> None:
        """The host sent a request or an advice of its own that this side does not serve; ``answer``: its DE39."""

    def bytes_moved(self, network_id: str, link: str, *, sent: int = 0, received: int = 0) -> None:
        """Bytes went over a link, headers included."""

    def exchange_ended(self, network_id: str, outcome: str, seconds: float) -> None:
        """An exchange ended; ``outcome`` is ``answered`` or the cause; ``seconds`` since it was submitted."""


class SilentObserver:
    """Reports nothing."""

    def link_state(self, network_id: str, link: str, state: LinkState, reason: str) -> None:
        """See :class:`LinkObserver`."""

    def echo_missed(self, network_id: str, link: str, missed: int) -> None:
        """See :class:`LinkObserver`."""

    def breaker_state(self, network_id: str, state: BreakerState) -> None:
        """See :class:`LinkObserver`."""

    def undecodable(self, network_id: str, link: str, field: str, reason: str) -> None:
        """See :class:`LinkObserver`."""

    def unexpected(self, network_id: str, link: str, mti: str) -> None:
        """See :class:`LinkObserver`."""

    def host_asked(self, network_id: str, link: str, mti: str, answer: str) -> None:
        """See :class:`LinkObserver`."""

    def bytes_moved(self, network_id: str, link: str, *, sent: int = 0, received: int = 0) -> None:
        """See :class:`LinkObserver`."""

    def exchange_ended(self, network_id: str, outcome: str, seconds: float) -> None:
        """See :class:`LinkObserver`."""
