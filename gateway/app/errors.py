"""What keeps a process from starting, and what is not done for people."""


class NotConfiguredError(Exception):
    """Something that this process needs is not configured; the text says what to do."""


class NoAddressError(NotConfiguredError):
    """No address of a server is set, and no local stack runs."""


class AnothersKafkaError(NotConfiguredError):
    """The database belongs to another Kafka cluster than the one that answers. The text names both."""


class OperationRefusedError(Exception):
    """It was not done; the text is a sentence for people.

    Attributes:
        hint: what to do about it.
        missing: it names something that does not exist.
    """

    def __init__(self, message: str, *, hint: str = "", missing: bool = False) -> None:
        super().__init__(message)
        self.hint = hint
        self.missing = missing
