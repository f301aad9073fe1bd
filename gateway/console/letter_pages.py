"""The console's pages of dead letters: their causes with a few of each, and all of one cause, a part at a time."""

import re
from typing import Final

from aiohttp import web

from gateway.app.errors import NotConfiguredError
from gateway.app.letters_by_cause import ByCause
from gateway.console.web import Console, refused
from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError
from gateway.sealing.files import SecretFileError

EACH: Final = 3
"""Letters of a cause among the others."""

PART: Final = 25
PARTS_MAX: Final = 40
"""Of one cause a thousand can be looked at; ``mypay dead-letter list`` shows any number."""

_KEY: Final = re.compile(r"[0-9a-f]{16}")
_PART: Final = re.compile(r"[0-9]{1,4}")


async def dead_letters(console: Console, request: web.Request) -> web.Response:
    """What no stage could read: by cause, or all of one cause."""
    key = request.query.get("cause")
    if key is not None and not _KEY.fullmatch(key):
        return refused(console, request, 404, "There is no such page.")
    try:
        if key is not None:
            return await _of_cause(console, request, key)
        return _all(console, request, await console.letters.by_cause(each=EACH))
    except (KafkaUnavailableError, TopicMissingError):
        return refused(console, request, 503, "Kafka does not answer. Try again in a moment.")
    except (NotConfiguredError, SecretFileError):
        return refused(console, request, 503, "Dead letters cannot be read here: an address or their keys are missing.")


def _all(console: Console, request: web.Request, found: ByCause) -> web.Response:
    return console.page(
        request,
        "dead_letters.html",
        causes=[c for c in found.causes if c.open],
        done=[c for c in found.causes if not c.open],
        found=found,
    )


async def _of_cause(console: Console, request: web.Request, key: str) -> web.Response:
    asked = request.query.get("part", "1")
    part = min(max(int(asked), 1), PARTS_MAX) if _PART.fullmatch(asked) else 1
    found = await console.letters.by_cause(each=part * PART, only=key)
    if not found.causes:
        return refused(console, request, 404, "No dead letter has this cause.")
    of = found.causes[0]
    first = (part - 1) * PART
    return console.page(
        request,
        "dead_letters_of.html",
        of=of,
        letters=of.letters[first:],
        first=first,
        part=part,
        is_last=first + PART >= of.open + of.replayed,
        parts_max=PARTS_MAX,
    )
