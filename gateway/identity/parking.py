"""Records that nobody is known to have signed: put aside as they came, and counted by why. Nobody is told of them."""

from collections import Counter
from collections.abc import Sequence

from gateway.base.errors import NotAuthenticatedError
from gateway.base.process import Observer
from gateway.base.retrying import until_done
from gateway.messaging.records import DeadLetters, Record


async def park_nobodys(
    dead_letters: DeadLetters, observer: Observer, stage: str, parked: Sequence[tuple[Record, NotAuthenticatedError]]
) -> None:
    """Return once each record is a dead letter of ``stage``, with its reason; waits while Kafka is away."""
    if not parked:
        return
    await until_done(lambda: dead_letters.park(stage, parked))
    for reason, n in Counter(error.reason.code.value for _, error in parked).items():
        observer.count(stage, "dead_letter", reason=reason, n=n)
