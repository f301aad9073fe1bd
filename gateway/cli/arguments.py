"""Ids given on the command line, checked by the contract's own rules."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Final

import typer
from pydantic import TypeAdapter, ValidationError

from gateway.cli.common import CliError, ExitCode
from schemas.primitives import STORED, ConsentIdField, CustomerIdField, FundingTokenField, PartnerIdField
from schemas.sharing import ShortText
from schemas.wording import told

_FIRST_YEAR: Final = 1970

_KID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _parser(field: Any, *, existing: bool = False) -> Callable[[str], Any]:
    """``existing``: it names what is there already, perhaps since before today's rules: a right must be taken away."""
    adapter: TypeAdapter[Any] = TypeAdapter(field)

    def parse(text: str) -> Any:
        try:
            return adapter.validate_python(text, context=STORED if existing else None)
        except ValidationError as error:
            raise typer.BadParameter(told(error.errors(include_input=False)[0])) from None

    return parse


def key_id(text: str) -> str:
    """Read a key id.

    Raises:
        typer.BadParameter: it is none.
    """
    if not is_key_id(text):
        raise typer.BadParameter("a key id has 1 to 128 letters, digits, dots, underscores and hyphens")
    return text


def is_key_id(text: str) -> bool:
    """True for what may be a key's id."""
    return _KID.fullmatch(text) is not None


ValidUntil = Annotated[
    datetime | None,
    typer.Option(
        "--valid-until",
        metavar="MOMENT",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"],
        help="What the key signs from then on is refused (UTC, 2027-12-31 or 2027-12-31T15:00:00Z). Default: never.",
    ),
]


def in_utc(given: datetime, *, unless_told: tzinfo = UTC) -> datetime:
    """A day or moment as given, in UTC: with its own offset, or else that of this zone.

    Raises:
        CliError: it is before any time that is kept: a year before it would be none; or past the last one.
    """
    if given.year < _FIRST_YEAR:
        # Not by strftime, which writes a year without its zeros here.
        raise CliError(f"{given.date()} is too early: from {_FIRST_YEAR} on.", ExitCode.USAGE)
    try:
        return (given.replace(tzinfo=unless_told) if given.tzinfo is None else given).astimezone(UTC)
    except OverflowError:
        raise CliError(f"{given.date()} is too late.", ExitCode.USAGE) from None


def end_of_key(given: datetime | None, *, now: datetime) -> datetime | None:
    """A key's end as its option gives it, in UTC.

    Raises:
        CliError: it is past.
    """
    end = given and in_utc(given)
    if end is not None and end <= now:
        raise CliError("--valid-until: a key's end lies in the future; `disable` ends one at once.", ExitCode.USAGE)
    return end


# Typer shows the annotation's name, so these are texts; the parser has checked them.
NewPartnerArgument = Annotated[
    str, typer.Argument(metavar="PARTNER", parser=_parser(PartnerIdField), help="The partner's new id.")
]
PartnerArgument = Annotated[
    str, typer.Argument(metavar="PARTNER", parser=_parser(PartnerIdField, existing=True), help="The partner's id.")
]
OnlyPartnersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--partner",
        metavar="PARTNER",
        parser=_parser(PartnerIdField),
        help="Of these partners, and not of those that are registered.",
    ),
]


def _partner_option(help_: str) -> Any:
    return typer.Option("--partner", metavar="PARTNER", parser=_parser(PartnerIdField, existing=True), help=help_)


PartnerOption = Annotated[str, _partner_option("Which partner's it is.")]
ActingPartnerOption = Annotated[str | None, _partner_option("The partner that acts for it, if one does.")]
SomePartnerOption = Annotated[str | None, _partner_option("Of this partner alone.")]
ConsentArgument = Annotated[
    str, typer.Argument(metavar="CONSENT", parser=_parser(ConsentIdField, existing=True), help="The consent's id.")
]
ConsentOption = Annotated[
    str,
    typer.Option(
        "--consent", metavar="CONSENT", parser=_parser(ConsentIdField), help="The consent that the order names."
    ),
]
TokenArgument = Annotated[
    str, typer.Argument(metavar="TOKEN", parser=_parser(FundingTokenField, existing=True), help="The funding token.")
]
PartnersOption = Annotated[
    list[str],
    typer.Option(
        "--partner",
        metavar="PARTNER",
        parser=_parser(PartnerIdField),
        help="Who may pay with it; may be given several times.",
    ),
]
CustomerOption = Annotated[
    str, typer.Option("--customer", metavar="CUSTOMER", parser=_parser(CustomerIdField), help="Whose card it is.")
]
SomeCustomerOption = Annotated[
    str | None,
    typer.Option("--customer", metavar="CUSTOMER", parser=_parser(CustomerIdField), help="Of this customer alone."),
]
LegalBasis = Annotated[
    str, typer.Option(metavar="TEXT", parser=_parser(ShortText), help="On what it rests: told with every share.")
]
"""Where it is none that may be told, nothing could be shared with anybody."""
