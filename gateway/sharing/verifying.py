"""What an affiliate can check of what it was sent: pure, over the events in their order; needs no gateway."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from schemas.codec import DecodeError, decode
from schemas.events import EventType
from schemas.sharing import EraseNotice, PaymentShared

MODELS: Final[dict[str, type[PaymentShared] | type[EraseNotice]]] = {
    EventType.PAYMENT_SHARED: PaymentShared,
    EventType.ERASE_NOTICE: EraseNotice,
}


@dataclass(slots=True)
class Verified:
    """What was found.

    Attributes:
        problems: what is wrong, each with the record's place.
        to_erase: references that a notice names, or whose time is over, with how many payments came under each.
    """

    shares: int = 0
    notices: int = 0
    problems: list[str] = field(default_factory=list)
    to_erase: dict[str, int] = field(default_factory=dict)


def verify_shares(
    affiliate_id: str, events: Iterable[tuple[str, str, bytes]], *, now: datetime, key_ids: frozenset[str] | None = None
) -> Verified:
    """Check what came on an affiliate's topic.

    Args:
        affiliate_id: whose topic it is.
        events: (place, type, body) in their order; the same event may come again.
        now: what may be used no more by then must be erased.
        key_ids: those of names that the affiliate was told of; None: any.
    """
    checks = _Checks(affiliate_id, now, key_ids)
    for place, type_, body in events:
        model = MODELS.get(type_)
        if model is None:
            checks.found.problems.append(f"{place}: {type_} is no event of sharing")
            continue
        try:
            event = decode(model, body)
        except DecodeError as error:
            checks.found.problems.append(f"{place}: {error}")
            continue
        checks.take(place, event, body)
    return checks.found


class _Checks:
    def __init__(self, affiliate_id: str, now: datetime, key_ids: frozenset[str] | None) -> None:
        self.found = Verified()
        self._affiliate_id = affiliate_id
        self._now = now
        self._key_ids = key_ids
        self._seen: dict[str, bytes] = {}
        self._noticed: set[str] = set()
        self._under: Counter[str] = Counter()

    def take(self, place: str, event: PaymentShared | EraseNotice, body: bytes) -> None:
        if event.affiliate_id != self._affiliate_id:
            self.found.problems.append(f"{place}: it is affiliate {event.affiliate_id}'s")
        name = event.share_id if isinstance(event, PaymentShared) else str(event.notice_id)
        before = self._seen.get(name)
        if before is not None:
            if before != body:
                self.found.problems.append(f"{place}: {name} came before with other content")
            return
        self._seen[name] = body
        if isinstance(event, EraseNotice):
            self.found.notices += 1
            self._noticed.add(event.consent_ref)
            self.found.to_erase[event.consent_ref] = self._under[event.consent_ref]
        else:
            self._share(place, event)

    def _share(self, place: str, event: PaymentShared) -> None:
        reference = event.consent_ref
        self.found.shares += 1
        self._under[reference] += 1
        if reference in self._noticed:
            self.found.problems.append(f"{place}: {event.share_id} came after the erase notice of its consent_ref")
        if self._key_ids is not None and event.key_id not in self._key_ids:
            self.found.problems.append(f"{place}: key_id {event.key_id} is not known")
        if event.use_until <= self._now:
            self.found.to_erase[reference] = self._under[reference]
