"""What affiliates and partners are told of shares and of what must be erased, as events of the outbox.

Shares are many: their bodies are written by :func:`schemas.codec.encode_fields`, of values that were checked as they
came in. A property test holds what is written against the contract's models. One teller serves one batch, and makes
once what is the same in all of its shares.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from gateway.outbox.store import OutboxEvent
from gateway.sharing.pseudonyms import Named, Pseudonyms
from gateway.sharing.rules.deciding import Granted, Uses, data_of
from gateway.sharing.rules.records import Holder, Notice, SettledPayment, ShareRow
from schemas.codec import encode, encode_fields
from schemas.consents import SharingField
from schemas.events import EventType
from schemas.sharing import CustomerName, EraseNotice, SharedData, ShareUse
from schemas.topics import events_topic, sharing_topic

_SHARED: Final = EventType.PAYMENT_SHARED.value
_TOLD: Final = EventType.CONSENT_SHARED.value


class ShareTeller:
    """Tells of one batch's shares.

    Args:
        customers: (affiliate, customer) → name that was made before, and will be used again.
    """

    def __init__(self, pseudonyms: Pseudonyms, customers: dict[tuple[str, str], str] | None = None) -> None:
        self._pseudonyms = pseudonyms
        self._customers = {} if customers is None else customers
        self._topics: dict[str, str] = {}
        self._datas: dict[tuple[int, frozenset[SharingField]], tuple[SettledPayment, dict[str, object]]] = {}
        # Many payments are shared under one and the same uses, which live as long as the batch.
        self._bases: dict[int, tuple[Uses, str]] = {}

    def affiliates_event(self, granted: Granted, row: ShareRow, reference: str) -> OutboxEvent:
        """For the affiliate, in its own names; ``reference``: of the consent."""
        affiliate = granted.affiliate_id

        def name_token(token: str) -> str:
            return self._pseudonyms.name(affiliate, Named.TOKEN, token)

        topic = self._topics.get(affiliate)
        if topic is None:
            topic = self._topics[affiliate] = sharing_topic(affiliate)
        body = {
            "share_id": row.share_id,
            "affiliate_id": affiliate,
            "customer": self._customer(affiliate, granted.customer_id),
            "key_id": row.key_id,
            "consent_ref": reference,
            "use_until": row.use_until,
            "uses": [
                {
                    "purpose": use.approval.use,
                    "legal_basis": use.approval.legal_basis,
                    "approved_by": use.approval.approved_by,
                    "data": self._data(granted.payment, use.fields, name_token),
                }
                for use in granted.uses
            ],
            "shared_at": row.shared_at,
        }
        # Shares under one consent and its notice keep their order.
        return OutboxEvent(topic, reference, row.share_id, _SHARED, row.shared_at, encode_fields(body))

    def partners_event(self, granted: Granted, row: ShareRow) -> OutboxEvent:
        """For the consent's partner, and the disclosure log: in the names that they know."""
        partner_id, payment_id, affiliate = row.key
        payment, consent_id = str(payment_id), row.consent_key[1]
        topic = self._topics.get(f"/{partner_id}")
        if topic is None:
            topic = self._topics[f"/{partner_id}"] = events_topic(partner_id)
        body = {
            "partner_id": partner_id,
            "consent_id": consent_id,
            "consent_version": row.consent_version,
            "payment_id": payment,
            "affiliate_id": affiliate,
            "purposes": " ".join(row.uses),
            "legal_basis": self._basis(granted.allowed),
            "fields": " ".join(row.fields),
            "use_until": row.use_until,
            "occurred_at": row.shared_at,
        }
        name = f"{payment}:{affiliate}"
        return OutboxEvent(topic, consent_id, name, _TOLD, row.shared_at, encode_fields(body))

    def _data(
        self, payment: SettledPayment, fields: frozenset[SharingField], name_token: Callable[[str], str]
    ) -> dict[str, object]:
        if SharingField.TOKEN in fields:
            return data_of(payment, fields, name_token)
        # It has no name of the affiliate's own: what one may see, another with the same fields sees, too.
        place = (id(payment), fields)
        known = self._datas.get(place)
        if known is None:
            # With the payment, for no other may come to have its place in memory.
            known = self._datas[place] = (payment, data_of(payment, fields, name_token))
        return known[1]

    def _customer(self, affiliate: str, customer_id: str) -> str:
        name = self._customers.get((affiliate, customer_id))
        if name is None:
            name = self._pseudonyms.name(affiliate, Named.CUSTOMER, customer_id)
            self._customers[affiliate, customer_id] = name
        return name

    def _basis(self, uses: Uses) -> str:
        """On what the uses rest, in their order; what they say is checked here, as nothing else of an approval is."""
        known = self._bases.get(id(uses))
        if known is None:
            for use in uses.of:
                told = use.approval
                ShareUse(
                    purpose=told.use, legal_basis=told.legal_basis, approved_by=told.approved_by, data=SharedData()
                )
            known = self._bases[id(uses)] = (uses, "; ".join(use.approval.legal_basis for use in uses.of))
        return known[1]


def notice_event(
    holder: Holder, notice: Notice, pseudonyms: Pseudonyms, *, reminder: int = 0, at: datetime | None = None
) -> OutboxEvent:
    """For an affiliate that must erase.

    Args:
        holder: who it is.
        notice: the same each time that it is told.
        pseudonyms: names the customer.
        reminder: how often it was told again: an event of its own, for whoever has the first one may pass over that.
        at: when it is told; None: when it was noticed.
    """
    affiliate = holder.affiliate_id
    names: Mapping[str, str] = {
        k: pseudonyms.name(affiliate, Named.CUSTOMER, holder.customer_id, key_id=k) for k in holder.key_ids
    }
    body = EraseNotice(
        notice_id=notice.notice_id,
        affiliate_id=affiliate,
        consent_ref=holder.reference,
        customers=tuple(CustomerName(key_id=k, customer=name) for k, name in names.items()),
        cause=notice.cause,
        noticed_at=notice.noticed_at,
        erase_by=notice.erase_by,
    )
    return OutboxEvent(
        topic=sharing_topic(affiliate),
        key=holder.reference,
        event_id=f"{notice.notice_id}:{reminder}" if reminder else str(notice.notice_id),
        event_type=EventType.ERASE_NOTICE,
        occurred_at=at or notice.noticed_at,
        body=encode(body),
    )
