"""What a call asks for: resource, headers and parameters, read strictly.

A call names the customer's consent where the standard has an access token: ``x-mypay-consent`` is
``<partner_id>/<consent_id>``, as an export's manifest has them. ``x-user-ci`` is the customer's id at the gateway in
Base64, for there is no CI here; it must be the consent's customer.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum, unique
from typing import Final
from uuid import UUID

from gateway.base.calendar import SEOUL, day_of, day_start
from gateway.base.keys import ConsentKey
from gateway.portability.api.rules.codes import RefusedCallError, RspCode
from schemas.codec import parse_strictly
from schemas.consents import PortabilityScope
from schemas.primitives import ConsentId, PartnerId, holds_card_number

VERSION: Final = "v1"
LIMIT_MAX: Final = 500
YEARS_MAX: Final = 5
BODY_BYTES_MAX: Final = 8192


@unique
class ApiType(StrEnum):
    """``x-api-type``: who wants it. All but ``scheduled`` are asked for by the customer, and count as access."""

    SCHEDULED = "scheduled"
    USER_CONSENT = "user-consent"
    USER_REFRESH = "user-refresh"
    USER_SEARCH = "user-search"


@unique
class Resource(StrEnum):
    """What can be asked for; the value is its number in the standard."""

    APIS = "공통-001"
    CONSENTS = "공통-002"
    CARDS = "카드-001"
    APPROVALS = "카드-008"
    TRANSACTIONS = "전금-103"


_PAGED: Final = frozenset({"from_date", "to_date", "next_page", "limit", "search_timestamp"})


@dataclass(frozen=True, slots=True)
class Route:
    """A resource's place.

    Attributes:
        uri: behind the version; ``{card_id}`` stands for one part.
        scope: what the consent must have; None: nothing.
        parameters: those that it takes besides ``org_code``.
        of_customer: it is one customer's.
    """

    resource: Resource
    uri: str
    methods: frozenset[str] = frozenset({"GET"})
    scope: PortabilityScope | None = None
    parameters: frozenset[str] = frozenset()
    of_customer: bool = True

    @property
    def pattern(self) -> re.Pattern[str]:
        """Of the whole path behind the version."""
        return re.compile(self.uri.replace("{card_id}", "(?P<card_id>[^/]{1,64})"))


ROUTES: Final = (
    Route(Resource.APIS, "/apis", of_customer=False, parameters=frozenset({"search_timestamp"})),
    Route(Resource.CONSENTS, "/consents"),
    Route(Resource.CARDS, "/card/cards", scope=PortabilityScope.CARD_LIST),
    Route(
        Resource.APPROVALS,
        "/card/cards/{card_id}/approval-domestic",
        scope=PortabilityScope.CARD_APPROVAL,
        parameters=_PAGED,
    ),
    Route(
        Resource.TRANSACTIONS,
        "/efin/paid/transactions",
        methods=frozenset({"GET", "POST"}),
        scope=PortabilityScope.PAID_TRANSACTION,
        parameters=_PAGED,
    ),
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it came: names of headers in lower case; of those that came twice, both."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Span:
    """What part of a list is asked for.

    Attributes:
        first, last: days in Asia/Seoul, both included.
        since: only what changed after it.
        search_timestamp: the same as it was asked for.
    """

    first: date
    last: date
    limit: int
    since: datetime | None = None
    search_timestamp: str | None = None
    next_page: str | None = None

    @property
    def begins(self) -> datetime:
        """The first moment."""
        return day_start(self.first)

    @property
    def ends(self) -> datetime:
        """The first moment after it."""
        return day_start(self.last + timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Position:
    """The last payment that was told: lists go from the latest to the earliest, then by id."""

    decided_at: datetime
    payment_id: UUID


def first_position(span: Span) -> Position:
    """Before everything."""
    return Position(span.ends, UUID(int=(1 << 128) - 1))


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that was read."""

    route: Route
    tran_id: str
    api_type: ApiType
    customer_id: str = ""
    consent_key: ConsentKey = (PartnerId(""), ConsentId(""))
    card_id: str | None = None
    span: Span | None = None
    search_timestamp: str | None = None


_TRAN_ID: Final = re.compile(r"[A-Za-z0-9]{25}")
_LONG: Final = re.compile(r"[0-9]{12,}")
_CONSENT: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})/([A-Za-z0-9][A-Za-z0-9._-]{0,99})")
_ORG_CODE: Final = re.compile(r"[A-Za-z0-9]{10}")
_DAY: Final = re.compile(r"[0-9]{8}")
_TIME: Final = re.compile(r"[0-9]{14}")
_LIMIT: Final = re.compile(r"[0-9]{1,4}")
_CURSOR: Final = re.compile(r"[A-Za-z0-9._~-]{1,300}")
_CI_MAX: Final = 100


def tran_id_of(call: Call) -> str | None:
    """``x-api-tran-id`` to be said again; None where there is none that is well formed."""
    values = [v for n, v in call.headers if n == "x-api-tran-id"]
    return values[0] if len(values) == 1 and _TRAN_ID.fullmatch(values[0]) else None


def told_tran_id(tran_id: str) -> str:
    """A recipient's ``x-api-tran-id`` as others are told it: without the middle digits of what may be a card number."""
    if not holds_card_number(tran_id):
        return tran_id
    return _LONG.sub(lambda found: f"{found[0][:6]}{'X' * (len(found[0]) - 10)}{found[0][-4:]}", tran_id)


def read_call(call: Call, *, org_code: str, now: datetime) -> Asked:
    """Read a call.

    Raises:
        RefusedCallError: it is not one that can be answered; the first fault of URL, method, headers, parameters.
    """
    route, card_id = _route(call)
    headers = _once(call.headers, RspCode.HEADER)
    tran_id = _well(headers, "x-api-tran-id", _TRAN_ID, RspCode.HEADER)
    api_type = _api_type(headers)
    customer_id, key = _whose(headers) if route.of_customer else ("", (PartnerId(""), ConsentId("")))
    parameters = _once([*call.query, *_members(call)], RspCode.PARAMETER)
    strange = sorted(parameters.keys() - route.parameters - {"org_code"})
    if strange:
        raise RefusedCallError(RspCode.PARAMETER, "a parameter that this resource does not take")
    if _well(parameters, "org_code", _ORG_CODE, RspCode.PARAMETER) != org_code:
        raise RefusedCallError(RspCode.ORG_CODE)
    span = _span(parameters, now) if "from_date" in route.parameters else None
    since = parameters.get("search_timestamp")
    if since is not None:
        search_moment(since)
    return Asked(route, tran_id, api_type, customer_id, key, card_id, span, since)


def _route(call: Call) -> tuple[Route, str | None]:
    before, version, *rest = [*call.path.split("/", 2), ""][:3]
    if before:
        raise RefusedCallError(RspCode.NO_URL)
    if rest and re.fullmatch(r"v[0-9]{1,3}", version) and version != VERSION:
        raise RefusedCallError(RspCode.VERSION)
    path = "/" + rest[0] if rest and version == VERSION else ""
    for route in ROUTES:
        if (match := route.pattern.fullmatch(path)) is not None:
            if call.method not in route.methods:
                raise RefusedCallError(RspCode.METHOD)
            return route, match.groupdict().get("card_id")
    raise RefusedCallError(RspCode.NO_URL)


def _once(pairs: Sequence[tuple[str, str]], code: RspCode) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found and (code is RspCode.PARAMETER or name.startswith("x-")):
            raise RefusedCallError(code, "one that is given twice")
        found[name] = value
    return found


def _members(call: Call) -> list[tuple[str, str]]:
    """The parameters in a POST's body."""
    if call.method != "POST":
        if call.body:
            raise RefusedCallError(RspCode.PARAMETER, "a body, which goes with POST alone")
        return []
    try:
        told = parse_strictly(call.body)
    except ValueError:
        raise RefusedCallError(RspCode.PARAMETER, "the body must be JSON") from None
    if not isinstance(told, dict) or not all(type(v) in (str, int) for v in told.values()):
        raise RefusedCallError(RspCode.PARAMETER, "the body must be one object of texts and whole numbers")
    return [(name, str(value)) for name, value in told.items()]


def _well(found: Mapping[str, str], name: str, form: re.Pattern[str], code: RspCode) -> str:
    value = found.get(name)
    if value is None or not form.fullmatch(value):
        raise RefusedCallError(code, name)
    return value


def _api_type(headers: Mapping[str, str]) -> ApiType:
    try:
        return ApiType(headers.get("x-api-type", ""))
    except ValueError:
        raise RefusedCallError(RspCode.HEADER, "x-api-type") from None


def _whose(headers: Mapping[str, str]) -> tuple[str, ConsentKey]:
    sealed = headers.get("x-user-ci", "")
    try:
        customer_id = base64.b64decode(sealed.encode("ascii"), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        customer_id = ""
    if not customer_id or len(sealed) > _CI_MAX:
        raise RefusedCallError(RspCode.HEADER, "x-user-ci")
    match = _CONSENT.fullmatch(headers.get("x-mypay-consent", ""))
    if match is None:
        raise RefusedCallError(RspCode.HEADER, "x-mypay-consent")
    return customer_id, (PartnerId(match[1]), ConsentId(match[2]))


def _span(parameters: Mapping[str, str], now: datetime) -> Span:
    first, last = (_day(parameters, name) for name in ("from_date", "to_date"))
    if first > last:
        raise RefusedCallError(RspCode.RANGE, "from_date lies after to_date")
    if first < _years_before(day_of(now)):
        raise RefusedCallError(RspCode.TOO_OLD, "from_date")
    limit = int(_well({"limit": str(LIMIT_MAX)} | dict(parameters), "limit", _LIMIT, RspCode.PARAMETER))
    if not 1 <= limit <= LIMIT_MAX:
        raise RefusedCallError(RspCode.RANGE, "limit")
    since = parameters.get("search_timestamp")
    if "next_page" in parameters:
        _well(parameters, "next_page", _CURSOR, RspCode.PARAMETER)
    moment = None if since is None else search_moment(since)
    return Span(first, last, limit, moment, since, parameters.get("next_page"))


def _day(parameters: Mapping[str, str], name: str) -> date:
    text = _well(parameters, name, _DAY, RspCode.PARAMETER)
    try:
        found = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise RefusedCallError(RspCode.PARAMETER, name) from None
    # Beyond what days can be counted with.
    if not date(1970, 1, 1) <= found <= date(9000, 1, 1):
        raise RefusedCallError(RspCode.RANGE, name)
    return found


def _years_before(day: date) -> date:
    try:
        return day.replace(year=day.year - YEARS_MAX)
    except ValueError:  # 29 February
        return date(day.year - YEARS_MAX, 2, 28)


def search_moment(text: str) -> datetime | None:
    """The moment that ``search_timestamp``, N(14) in Asia/Seoul, names; None of zero, which asks for everything.

    Raises:
        RefusedCallError: it names none.
    """
    if text == "0":
        return None
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        moment = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=SEOUL)
        # To the second: what changed within it comes again.
        return moment.astimezone(UTC) - timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise RefusedCallError(RspCode.PARAMETER, "search_timestamp") from None
