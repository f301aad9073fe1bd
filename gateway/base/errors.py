"""How what is outside fails: typed, and told apart by what to do next."""

from schemas.reasons import Reason


class UnansweredError(Exception):
    """Who was asked did not answer, or not all of it: what was asked for may have been done, or a part of it."""


class StoreUnavailableError(UnansweredError):
    """The database cannot be reached or refuses work for now: nothing was decided; try again later."""


class StoreForbiddenError(StoreUnavailableError):
    """The database does not let this process do its work, for want of rights.

    Nothing was decided, and no order is at fault: it goes on once the rights are given.
    """


class StoreUnfinishedError(UnansweredError):
    """A change is written and stands, but nobody knows that what had begun before it is over; the text says why."""


class StoreConflictError(Exception):
    """The transaction lost a race (deadlock, serialization, a concurrent insert): nothing was written; run it again."""


class StoreIntegrityError(Exception):
    """The database refused a write that breaks one of its rules: a bug. Nothing was written; again would not help."""


class PublisherUnavailableError(UnansweredError):
    """Kafka did not confirm in time. The records may or may not be there: publish them again.

    Attributes:
        confirmed: numbers of those records, of all that were to be published, that are there for certain.
    """

    confirmed: frozenset[int] = frozenset()


class SilentServerError(TimeoutError):
    """A server that was asked to connect said nothing for as long as it was waited for; the text names it and that."""

    def __init__(self, server: str, waited_s: float) -> None:
        super().__init__(f"{server} did not answer within {waited_s:g} s")


class TooLargeForTopicError(PublisherUnavailableError):
    """A topic takes no record as large as one of these is once it is packed; to publish it again would not help.

    Packed, a record may be larger than it was when it came: another compressed it better.

    Attributes:
        numbers: of those records, of all that were to be published, that were refused alone.
    """

    def __init__(self, topic: str, numbers: frozenset[int] = frozenset()) -> None:
        super().__init__(f"larger than topic {topic} takes, as it is packed here")
        self.topic = topic
        self.numbers = numbers


class TopicClosedError(PublisherUnavailableError):
    """A topic does not exist, we may not write to it, or it does not take our clock's time, as Kafka says itself.

    Other topics are not concerned.
    """

    def __init__(self, topic: str, why: str = "does not exist, or is closed to us") -> None:
        super().__init__(f"topic {topic} {why}")
        self.topic = topic


class NotAuthenticatedError(Exception):
    """Nobody is known to have written the record, so nobody is told of it. The text holds nothing of the record.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"{reason.code}: {reason.text}")
        self.reason = reason
