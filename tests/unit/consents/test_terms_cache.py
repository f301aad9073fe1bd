"""Terms that a worker keeps: the version that stands of each consent, of as many consents as it is bound to."""

from typing import Any

from gateway.consents.postgres import TermsCache
from schemas.codec import encode
from schemas.consents import ConsentTerms
from tests.support.domain_samples import krw, purpose, terms


def row(number: int, of: ConsentTerms | None, version: int = 1) -> tuple[Any, int, Any]:
    """Key, version and text, as the cache is asked for it."""
    return ("partner-1", f"c-{number}"), version, None if of is None else encode(of).decode()


def test_terms_are_parsed_once_a_version() -> None:
    cache, first, second = TermsCache(), terms(), terms(payment=purpose(max_per_payment=(krw(7),)))
    parsed = cache.parse(*row(1, first))
    assert parsed == first
    # The document is not looked at again: the database may leave it out.
    assert cache.parse(*row(1, None)) is parsed
    assert cache.parse(*row(1, second, version=2)) == second
    assert cache.held([("partner-1", "c-1"), ("partner-1", "c-2")]) == [(2, second), None]  # type: ignore[list-item]


def test_no_more_consents_are_kept_than_the_bound_and_the_oldest_goes() -> None:
    cache = TermsCache(bound=2)
    for number in (1, 2, 1, 3):
        cache.parse(*row(number, terms()))
    cache.parse(*row(3, terms(), version=2))
    held = cache.held([("partner-1", f"c-{n}") for n in (1, 2, 3)])  # type: ignore[misc]
    assert [kept and kept[0] for kept in held] == [None, 1, 2]
