"""``next_page``: where a list goes on, marked so that it is good for one recipient and one question alone."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from gateway.portability.api.rules.calls import Asked, Position
from gateway.portability.api.rules.codes import RefusedCallError, RspCode
from gateway.sealing.marks import RecordMarks

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PLACE: Final = re.compile(r"([0-9a-f]{1,15})-([0-9a-f]{32})")


def write_next_page(position: Position, asked: Asked, org_code: str, marks: RecordMarks) -> str:
    """Name a position to a recipient."""
    place = f"{(position.decided_at - _EPOCH) // _MICROSECOND:x}-{position.payment_id.hex}"
    return f"{place}~{marks.mark(_parts(place, asked, org_code)).decode()}"


def read_next_page(next_page: str, asked: Asked, org_code: str, marks: RecordMarks) -> Position:
    """The position that it names.

    Raises:
        RefusedCallError: it was made for another recipient, customer or question, or by nobody here.
    """
    place, _, mark = next_page.partition("~")
    match = _PLACE.fullmatch(place)
    if match is None or marks.check(mark.encode(), _parts(place, asked, org_code)) is not None:
        raise RefusedCallError(RspCode.PARAMETER, "next_page")
    return Position(_EPOCH + int(match[1], 16) * _MICROSECOND, UUID(hex=match[2]))


def _parts(place: str, asked: Asked, org_code: str) -> list[bytes | None]:
    span = asked.span
    if span is None:
        raise AssertionError("what has pages has a span")
    told = (
        *(org_code, asked.route.resource.value, *asked.consent_key, asked.customer_id, asked.card_id),
        *(span.first.isoformat(), span.last.isoformat(), span.search_timestamp, place),
    )
    return [None if t is None else t.encode() for t in told]
