"""Looking again at who signed what was read a while ago, and waited since: for locks, or for the database."""

from typing import Any

from gateway.base.errors import NotAuthenticatedError
from gateway.base.process import Clock
from gateway.identity.door import Authentic
from gateway.identity.signing import SignatureVerifier
from gateway.messaging.records import Record


class Vouching:
    """Tells with each attempt whether a message's key still vouches for it; one that did not once is out for good."""

    def __init__(self, verifier: SignatureVerifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock
        self._lapsed: dict[str, tuple[Record, NotAuthenticatedError]] = {}

    def __call__(self, message: Authentic[Any]) -> bool:
        """False if its key or partner was disabled since it was read."""
        if message.reference not in self._lapsed:
            problem = self._verifier.recheck(signature=message.envelope.signature, now=self._clock.now())
            if problem is None:
                return True
            self._lapsed[message.reference] = (message.record, NotAuthenticatedError(problem))
        return False

    @property
    def lapsed(self) -> list[tuple[Record, NotAuthenticatedError]]:
        """Those that are out, and why, to be parked: they may be anybody's."""
        return list(self._lapsed.values())
