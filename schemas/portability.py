"""Handing a customer's data to recipients that they name: requests, and what recipients are sent (MyData).

Members are named as in the standard API. An optional member without a value is left out; none is ever null or empty.

**Digest of a request.** The customer authenticates it by its digest: SHA-256, in lower-case hexadecimal, over the
canonical JSON (RFC 8785) of the request as it is sent, without ``authentication``.

**An export** is a row of chunks, each a JWE (RFC 7516, ECDH-ES with A256GCM) to the recipient's key, and then one
record that makes it whole. Chunks of which no such record tells, by ``export_id`` and ``attempt``, are void: they must
be deleted. A record that says so follows where an attempt came to nothing.
"""

import hashlib
import json
from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from schemas.codec import canonical, encode_json
from schemas.consents import Cycle, OrgCode, PortabilityScope, PurposeText
from schemas.orders import CompactJws
from schemas.primitives import (
    NO_CARD_NUMBER,
    ConsentIdField,
    Model,
    PartnerIdField,
    SeoulDate,
    UtcTime,
    id_field,
)
from schemas.reasons import Reason

PORTABILITY_REQUEST_TYPE: Final = "kr.mypay.portability.request.v1"
EXPORT_CHUNK_TYPE: Final = "kr.mypay.portability.export-chunk.v1"
EXPORT_COMPLETE_TYPE: Final = "kr.mypay.portability.export-complete.v1"
EXPORT_VOID_TYPE: Final = "kr.mypay.portability.export-void.v1"

EXPORT_SCHEMA_VERSION: Final = "1"
"""Of the rows in chunks; a manifest names it."""

RequestIdField = Annotated[str, id_field(35), NO_CARD_NUMBER]
ExportIdField = Annotated[str, id_field(48), NO_CARD_NUMBER]
TranId = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{25}$", strict=True)]
"""``x-api-tran-id``, AN(25): the sender's org code and 15 characters that it never uses again."""


def search_moment(text: str) -> datetime:
    """The moment, without an offset, that a ``search_timestamp`` names in Asia/Seoul.

    Raises:
        ValueError: there is no such day, or no such time of a day.
    """
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S")  # noqa: DTZ007 - as it is written, its zone is told apart
    except ValueError:
        raise ValueError("must be a time of a day that its month has") from None


def _names_a_moment(text: str) -> str:
    search_moment(text)
    return text


SearchTimestamp = Annotated[
    str,
    StringConstraints(pattern=r"^2[0-9]{3}(0[1-9]|1[0-2])[0-3][0-9][0-2][0-9][0-5][0-9][0-5][0-9]$", strict=True),
    AfterValidator(_names_a_moment),
]
"""``search_timestamp``, N(14): YYYYMMDDhhmmss in Asia/Seoul."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", strict=True)]


class TargetInfo(Model):
    """One kind of data that is asked for."""

    scope: Annotated[PortabilityScope, Field(strict=False)]


class PortabilityRequest(Model):
    """A transmission request: hand a customer's data to one recipient. Closed: an unknown field is refused by name.

    Attributes:
        partner_id: the partner that signs.
        consent_id: whose purpose ``portability`` permits it; also the record's Kafka key.
        request_id: chosen by the partner, unique per partner for ever.
        issued_at: when the partner issued it.
        snd_org_code: the gateway's; rcv_org_code: the recipient's.
        is_scheduled: again and again until ``end_date``, or once.
        fnd_cycle, add_cycle: of a scheduled one, as in the consent; fnd_cycle: of the list of cards.
        end_date: the last day on which data is sent; purpose: what for; period: the last day to which it may be kept.
        target_info: the scopes that are asked for.
        search_timestamp: only what changed after it; left out: everything.
        authentication: the customer's proof (:mod:`schemas.assertions`) for this request.
    """

    partner_id: PartnerIdField
    consent_id: ConsentIdField
    request_id: RequestIdField
    issued_at: UtcTime
    snd_org_code: OrgCode
    rcv_org_code: OrgCode
    is_scheduled: bool = False
    fnd_cycle: Annotated[Cycle, Field(strict=False)] | None = None
    add_cycle: Annotated[Cycle, Field(strict=False)] | None = None
    end_date: SeoulDate
    purpose: PurposeText
    period: SeoulDate
    target_info: Annotated[tuple[TargetInfo, ...], Field(min_length=1, max_length=16)]
    search_timestamp: SearchTimestamp | None = None
    authentication: CompactJws | None = Field(default=None, repr=False)

    @property
    def record_key(self) -> str:
        """The record's Kafka key: what is asked under one consent keeps its order."""
        return self.consent_id

    @property
    def scopes(self) -> tuple[PortabilityScope, ...]:
        """What is asked for."""
        return tuple(t.scope for t in self.target_info)


def request_digest(body: bytes) -> str:
    """The digest of a request that :func:`schemas.codec.decode` has accepted, as the customer authenticates it."""
    members = json.loads(body)
    members.pop("authentication", None)
    return hashlib.sha256(canonical(encode_json(members))).hexdigest()


class PortabilityEvent(Model):
    """What became of a transmission request.

    Attributes:
        status: accepted, reported (it came again), refused, delivered, pulled, voided, abandoned or stopped: as the
            event's type says.
        request_id: the request's; of an answer through the API the ``x-api-tran-id`` of its call.
        consent_version: of the terms under which it was delivered, or answered.
        export_id: of one that was delivered, voided or abandoned; attempt: which at it.
        records: how many were handed over, of all kinds; chunks: in how many records; of one that was
            abandoned, how many may have left.
        x_api_type: of an answer through the API: ``scheduled``, or that the customer asked, on the recipient's word.
        receipt: signed by the gateway (compact JWS) over the export's manifest.
        reference: topic, partition and offset of the request that this answers.
    """

    partner_id: PartnerIdField
    consent_id: str
    request_id: str
    status: str
    rcv_org_code: str | None = None
    consent_version: int | None = None
    purpose: str | None = None
    export_id: str | None = None
    records: int | None = None
    chunks: int | None = None
    attempt: int | None = None
    x_api_tran_id: str | None = None
    x_api_type: str | None = None
    receipt: str | None = None
    reason: Reason | None = None
    reference: str | None = None
    occurred_at: UtcTime


class ExportChunk(Model):
    """One piece of an export.

    Attributes:
        attempt: which attempt at this export it belongs to; one of them becomes whole at most.
        chunk: 1, 2, 3 …
        jwe: compact JWE to the recipient's key; inside JSON: these three members, ``schema_version`` and lists of
            records, ``consent_list`` ``approved_list`` ``trans_list`` ``card_list``, those without records left out.
    """

    export_id: ExportIdField
    attempt: Annotated[int, Field(ge=1)]
    chunk: Annotated[int, Field(ge=1)]
    jwe: str


class ManifestChunk(Model):
    """A chunk as the manifest lists it: how many records it holds, and SHA-256 over ``jwe`` as it was sent."""

    records: Annotated[int, Field(ge=0)]
    sha256: Sha256


class ExportManifest(Model):
    """What an export holds: nothing that is not listed here belongs to it.

    Attributes:
        snapshot_at: everything is as it stood at this moment; the next ``search_timestamp``.
        search_timestamp: only what changed after it is in it; left out: everything.
        counts: records by the name of their list.
        kid: the recipient's key that the chunks are encrypted to.
    """

    schema_version: str
    partner_id: PartnerIdField
    request_id: RequestIdField
    export_id: ExportIdField
    attempt: Annotated[int, Field(ge=1)]
    x_api_tran_id: TranId
    snd_org_code: OrgCode
    rcv_org_code: OrgCode
    scopes: tuple[str, ...]
    purpose: str
    period: SeoulDate
    search_timestamp: str | None = None
    snapshot_at: UtcTime
    kid: str
    counts: dict[str, int]
    chunks: tuple[ManifestChunk, ...]


class ExportComplete(Model):
    """An export is whole.

    Attributes:
        receipt: compact JWS by the gateway, ``typ`` ``mypay-export-receipt``; its payload is the manifest
            (:class:`ExportManifest`).
    """

    export_id: ExportIdField
    attempt: Annotated[int, Field(ge=1)]
    receipt: str


class ExportVoid(Model):
    """An attempt at an export came to nothing: its chunks must be deleted, and used for nothing."""

    export_id: ExportIdField
    attempt: Annotated[int, Field(ge=1)]
    reason: Reason
    occurred_at: UtcTime


def search_timestamp_of(moment: datetime) -> str:
    """A moment as ``search_timestamp``; it must be in Asia/Seoul."""
    return f"{moment:%Y%m%d%H%M%S}"
