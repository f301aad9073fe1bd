"""Whether a name that a list was asked of is one at all: nothing found of a misspelt one would look like good news."""

from typing import TypeVar

from gateway.cli.common import CliError, ExitCode
from gateway.views.affiliates import AffiliatesView
from gateway.views.consents import ConsentsView
from gateway.views.partners import PartnersView

T = TypeVar("T")


async def of_partner(dsn: str, partner_id: str | None, found: list[T]) -> list[T]:
    """Return what was found of a partner; where that is nothing, the partner must be registered. None: of all.

    Raises:
        CliError: it is not.
    """
    if partner_id is not None and not found:
        async with PartnersView.opened(dsn) as partners:
            if all(p.partner_id != partner_id for p in await partners.all()):
                raise _unknown("partner", partner_id)
    return found


async def of_affiliate(dsn: str, affiliate_id: str | None, found: list[T]) -> list[T]:
    """As :func:`of_partner`, of an affiliate."""
    if affiliate_id is not None and not found:
        async with AffiliatesView.opened(dsn) as affiliates:
            if all(a.affiliate_id != affiliate_id for a in await affiliates.all()):
                raise _unknown("affiliate", affiliate_id)
    return found


async def of_consent(dsn: str, consent_id: str | None, found: list[T]) -> list[T]:
    """As :func:`of_partner`, of a consent, whichever partner's."""
    if consent_id is not None and not found:
        async with ConsentsView.opened(dsn) as consents:
            if not await consents.find(consent_id):
                raise _unknown("consent", consent_id)
    return found


def _unknown(what: str, name: str) -> CliError:
    return CliError(f"There is no {what} {name}.", ExitCode.NOT_FOUND, hint=f"`mypay {what} list` shows them.")
