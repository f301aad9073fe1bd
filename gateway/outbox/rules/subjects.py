"""What an event of a partner's topic is about, told by its topic and key."""

import re
from typing import Final

from schemas.topics import events_topic

_ANY_EVENTS: Final = events_topic("x").removesuffix("x")
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def partner_of(topic: str) -> str:
    """Whose topic it is."""
    return topic.removeprefix(_ANY_EVENTS)


def payment_of(topic: str, key: str) -> tuple[str, str] | None:
    """Partner and id of the payment that an event is about, neither with a space; None where the key is no id."""
    partner = partner_of(topic)
    return (partner, key) if _ID.fullmatch(key) and " " not in partner else None
