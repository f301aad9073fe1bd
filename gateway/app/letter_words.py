"""Why a record became a dead letter, and what to do about it, in words: the letter itself names an error's class."""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Why(NamedTuple):
    """What is wrong with a record, to be followed by what its stage said; and what to do, as sentences."""

    what: str
    advice: str


NEVER_MENDED: Final = "Sent again as it is it fails again: let who wrote it mend it, and send that."
OURS: Final = "A fault of the gateway's: give this reason to who maintains it. Once it is mended, send it again."
TOPIC: Final = "See what the topic lacks (mypay topics apply, mypay topics acl), then send it again."

WORDS: Final[Mapping[str, Why]] = {
    "NotAuthenticatedError": Why(
        "Nobody is known to have signed it",
        "Its sender was told nothing. If you know the sender, tell them the reason. Once a missing key is registered,"
        " send it again.",
    ),
    "UntrustedRecordError": Why(
        "It is not the gateway's own",
        "Somebody else wrote to a topic of the gateway's: see who may (mypay topics acl), and do not send it again."
        " Where the reason names a key that is missing, put it where execution runs, and send it again then.",
    ),
    "EnvelopeError": Why(
        "Its headers cannot be read",
        "If another release handed it on, bring execution up to that and send it again. Else let who wrote it mend it.",
    ),
    "DecodeError": Why("It cannot be read", NEVER_MENDED),
    "UnreadError": Why(
        "It was passed over unread",
        "It stands in its topic alone, and cannot be sent again from here: let its sender send it anew, in smaller"
        " batches.",
    ),
    "TopicClosedError": Why("What follows from it could not be published", TOPIC),
    "TooLargeForTopicError": Why("What follows from it could not be published", TOPIC),
    "StoreIntegrityError": Why("The database refused to write it", OURS),
}
"""By the name of the error's class."""


def why(error: str) -> Why:
    """``error``: an exception's class with its module, as a letter tells it. A class without words is our own fault."""
    name = error.rpartition(".")[2]
    return WORDS.get(name) or Why(f"The gateway failed on it ({name})", OURS)
