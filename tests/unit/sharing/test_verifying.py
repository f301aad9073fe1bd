"""What an affiliate can check of what it was sent."""

from datetime import timedelta

import pytest

from gateway.sharing.verifying import verify_shares
from schemas.codec import encode
from schemas.events import EventType
from schemas.sharing import EraseNotice, PaymentShared
from tests.support.messages import EXAMPLES, NOW

SHARE = next(m for m in EXAMPLES if isinstance(m, PaymentShared))
NOTICE = next(m for m in EXAMPLES if isinstance(m, EraseNotice))
LATER = {"share_id": "t" * 27}
Event = tuple[str, bytes]


def share(**fields: object) -> Event:
    return EventType.PAYMENT_SHARED, encode(SHARE.model_copy(update=fields))


def notice(**fields: object) -> Event:
    return EventType.ERASE_NOTICE, encode(NOTICE.model_copy(update=fields))


TOLD: dict[str, tuple[list[Event], str]] = {
    "all is well": ([share(), share(**LATER), notice()], ""),
    "the same again": ([share(), share(), notice(), notice(), share()], ""),
    "after its notice": ([share(), notice(), share(**LATER)], "after the erase notice"),
    "another reference after a notice": ([notice(), share(consent_ref="q" * 27)], ""),
    "another's": ([share(affiliate_id="mobile")], "mobile's"),
    "other content under one name": ([share(), share(customer="d" * 27)], "with other content"),
    "an unknown key": ([share(key_id="20200101-z")], "key_id 20200101-z"),
    "no such event": ([("kr.mypay.payment.settled.v1", b"{}")], "no event of sharing"),
    "a member too many": ([(EventType.PAYMENT_SHARED, encode(SHARE)[:-1] + b',"name":"x"}')], "name"),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_is_wrong_is_named(case: str) -> None:
    events, problem = TOLD[case]
    numbered = [(f"line {n}", *e) for n, e in enumerate(events, 1)]
    found = verify_shares("acme-points", numbered, now=NOW, key_ids=frozenset({"20260101-abc"}))
    assert bool(found.problems) is bool(problem)
    assert all(problem in p and p.startswith("line ") for p in found.problems)


def test_what_must_be_erased_is_told_with_how_much_it_is() -> None:
    events = [("1", *share()), ("2", *share(**LATER)), ("3", *notice())]
    assert verify_shares("acme-points", events[:2], now=NOW).to_erase == {}
    assert verify_shares("acme-points", events, now=NOW).to_erase == {"r" * 27: 2}
    over = NOW + timedelta(days=300)
    assert verify_shares("acme-points", events[:2], now=over).to_erase == {"r" * 27: 2}
