"""Whether a call is answered, and with what: decided on the consent as its lock shows it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from gateway.base.calendar import SEOUL
from gateway.consents.rules.consent import Consent, refuse_use
from gateway.portability.api.rules.calls import ROUTES, VERSION, ApiType, Asked, Resource
from gateway.portability.api.rules.codes import RefusedCallError, RspCode
from gateway.portability.rules.records import PaymentFacts, Recipient
from gateway.portability.rules.requests import OVERLAP, Lapse, lapse
from gateway.portability.rules.rows import Extract, Row, approval_row, transaction_row
from schemas.consents import ConsentStatus, PortabilityPurpose, Purpose
from schemas.portability import search_timestamp_of

APIS_SINCE: Final = "20261126000000"
"""``search_timestamp`` of the list of APIs: when it last changed."""

_LISTS: Final = {
    Resource.CONSENTS: "consent",
    Resource.CARDS: "card",
    Resource.APPROVALS: "approved",
    Resource.TRANSACTIONS: "trans",
}
_NEVER_GRANTED: Final = (ConsentStatus.AWAU, ConsentStatus.RJCT)


def permitted(
    asked: Asked, *, consent: Consent | None, recipient: Recipient | None, accessed_at: datetime | None, now: datetime
) -> PortabilityPurpose:
    """What permits the call.

    The first fault that applies is told, in this order:

    ==== ====== ==========================================================================
    1    40103  the certificate is no active recipient's any more
    2    40403  there is no such consent, it was never granted, it is another customer's, or names another recipient
    3    40106  the consent permits no portability now: :func:`gateway.consents.rules.consent.refuse_use`
    4    40104  it does not have the scope
    5    40301  the call is scheduled, and the consent permits no schedule
    6    40106  the call is scheduled, and the customer has asked for nothing here for six months
    ==== ====== ==========================================================================

    ``accessed_at``: when the customer last asked for something for this recipient under it; None: never.

    Raises:
        RefusedCallError: as said.
    """
    if recipient is None or not recipient.active:
        raise RefusedCallError(RspCode.CERTIFICATE)
    purpose = None if consent is None or consent.status in _NEVER_GRANTED else consent.terms.portability
    if (
        consent is None
        or purpose is None
        or consent.terms.customer_id != asked.customer_id
        or recipient.org_code not in purpose.recipients
    ):
        raise RefusedCallError(RspCode.NO_CUSTOMER)
    if refuse_use(consent, Purpose.PORTABILITY, now) is not None:
        raise RefusedCallError(RspCode.ENDED)
    if asked.route.scope is not None and asked.route.scope not in purpose.scopes:
        raise RefusedCallError(RspCode.SCOPE)
    if asked.api_type is ApiType.SCHEDULED:
        if not purpose.is_scheduled:
            raise RefusedCallError(RspCode.CALL)
        # Who has never asked since has given the consent at least.
        if lapse(accessed_at or consent.terms.valid_from, now) is not Lapse.GOES_ON:
            raise RefusedCallError(RspCode.ENDED)
    return purpose


def rows_of(resource: Resource, facts: Sequence[PaymentFacts], extract: Extract) -> list[Row]:
    """Records of payments, as exports have them."""
    made = approval_row if resource is Resource.APPROVALS else transaction_row
    return [row for f in facts if (row := made(f, extract)) is not None]


def listed(resource: Resource, rows: Sequence[Row]) -> Row:
    """The members that hold a list: its count, and itself where it is not empty."""
    name = _LISTS[resource]
    return {f"{name}_cnt": len(rows)} | ({f"{name}_list": list(rows)} if rows else {})


def apis(asked: Asked) -> tuple[RspCode, Row]:
    """공통-001: what this provider serves."""
    if asked.search_timestamp is not None and asked.search_timestamp >= APIS_SINCE:
        return RspCode.UP_TO_DATE, {"search_timestamp": APIS_SINCE}
    served = [{"api_code": r.resource.value, "api_uri": f"/{VERSION}{r.uri}"} for r in ROUTES]
    told: Row = {"version": VERSION, "min_version": VERSION, "search_timestamp": APIS_SINCE}
    return RspCode.SUCCESS, told | {"api_cnt": len(served), "api_list": served}


def next_search(now: datetime) -> str:
    """``search_timestamp`` of the next call: what is being written now is in that one, and may be in both."""
    return search_timestamp_of((now - OVERLAP - timedelta(microseconds=now.microsecond)).astimezone(SEOUL))
