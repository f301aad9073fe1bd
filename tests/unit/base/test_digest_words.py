"""Ids that the gateway makes of digests and times look like no card number, whatever stands beside them."""

from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.base.digest_words import word_of
from gateway.marketing.rules.offers import StoredUse
from gateway.marketing.telling import use_event
from gateway.sealing.redaction import redact
from gateway.settlement.matching import _moment
from schemas.marketing import OfferUse
from schemas.primitives import holds_card_number
from tests.support.builders import NOW
from tests.support.domain_samples import krw

CARD_LIKE = bytes.fromhex("4111111111111111") + bytes(24)


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_word_is_the_beginning_of_its_digest(one: bytes, other: bytes) -> None:
    assert (word_of(one) == word_of(other)) == (one[:8] == other[:8])
    assert len(word_of(one)) == 16
    assert word_of(one).islower()
    assert word_of(one).isalpha()


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
@example(CARD_LIKE)
def test_no_use_is_told_under_an_id_that_looks_like_a_card_number(digest: bytes) -> None:
    use = OfferUse(use_id="use-4929", offer_id=UUID(int=9), affiliate_id="bank", amount=krw(1), used_at=NOW)
    stored = StoredUse("bank", use.use_id, use.offer_id, digest, 1, None, NOW)
    made = use_event(use, stored, None).event_id
    assert redact(made) == made
    assert not holds_card_number(made)


@settings(deadline=None)
@given(st.timedeltas(timedelta(0), timedelta(days=36_500)).map(lambda since: NOW + since))
def test_no_moment_in_an_id_looks_like_a_card_number(at: datetime) -> None:
    made = f"acard:c1:r12345678:{_moment(at)}:{word_of(CARD_LIKE)}"
    assert redact(made) == made
    assert datetime.strptime(f"{_moment(at)}+0000", "T%Y%m%dT%H%M%SZ%f%z") == at
