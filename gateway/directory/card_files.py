"""Card files, ``{"pan": "…", "expiry": "YYMM"}``: what can be known wrong of a card is refused before it is sealed.

Errors say what was expected, and hold nothing of the card.
"""

import re
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import Field

from gateway.network.exchange import CardData
from schemas.codec import DecodeError, decode
from schemas.primitives import Model, holds_card_number

_SEPARATORS: Final = re.compile(r"[ -]")
_PAN: Final = re.compile(r"[0-9]{12,19}")
_EXPIRY: Final = re.compile(r"[0-9]{2}(0[1-9]|1[0-2])")
_SEOUL: Final = ZoneInfo("Asia/Seoul")


class _CardFile(Model):
    pan: str = Field(repr=False)
    expiry: str | None = Field(default=None, repr=False)


def read_card(data: bytes, *, now: datetime) -> CardData:
    """Read one card.

    A number may be written in groups, with blanks or hyphens, as it stands on the card. Its last digit is the check
    digit (ISO/IEC 7812-1 annex B). A card is good to the end of its month, taken in Asia/Seoul.

    Raises:
        DecodeError: not such a file, a mistyped number, or a card that has expired; names the field.
    """
    given = decode(_CardFile, data)
    pan = _SEPARATORS.sub("", given.pan)
    if not _PAN.fullmatch(pan):
        raise DecodeError("pan", "must be 12 to 19 digits; blanks and hyphens between them are left out")
    if not holds_card_number(pan):
        raise DecodeError("pan", "is mistyped: its last digit does not fit the others (Luhn check)")
    if given.expiry is not None:
        if not _EXPIRY.fullmatch(given.expiry):
            raise DecodeError("expiry", "must be YYMM: two digits of the year, then the month from 01 to 12")
        local = now.astimezone(_SEOUL)
        if (2000 + int(given.expiry[:2]), int(given.expiry[2:])) < (local.year, local.month):
            raise DecodeError("expiry", "has passed (it is YYMM: year first)")
    return CardData(pan=pan, expiry=given.expiry)
