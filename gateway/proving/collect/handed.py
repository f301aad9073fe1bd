"""What the gateway recorded and logged of data that it handed over, as evidence."""

import base64
import json
from typing import Any, Final

import asyncpg

from gateway.proving.books.handed import (
    Agreement,
    CampaignRow,
    Handed,
    HolderRow,
    LogRow,
    OfferRow,
    ShareRow,
    UseRow,
)

_SHARES: Final = """
SELECT s.partner_id, s.payment_id::text, s.affiliate_id, s.consent_id, s.share_id, h.reference
FROM share s JOIN share_holder h USING (partner_id, consent_id, affiliate_id, round)
"""
_HOLDERS: Final = """
SELECT partner_id, consent_id, affiliate_id, reference, notice_id IS NOT NULL,
       CASE WHEN confirmed_at IS NOT NULL THEN erased END
FROM share_holder
"""
_OFFERS: Final = """
SELECT offer_id::text, campaign_id, affiliate_id, partner_id, consent_id, state, worth_minor, uses_max, uses, used_minor
FROM offer
"""
_USES: Final = """
SELECT affiliate_id, use_id, offer_id::text, amount_minor, reason_code, extract(epoch FROM handled_at)::float8
FROM offer_use
"""
_CAMPAIGNS: Final = "SELECT campaign_id, budget_minor, budget_offers, offers, held_minor, used_minor FROM campaign"
_EXPORTS: Final = "SELECT receipt FROM portability_export WHERE state = 'complete'"
_LOG: Final = """
SELECT CASE WHEN kind = 'export' AND what LIKE '%through the API' THEN 'pull' ELSE kind END,
       partner_id, consent_id, recipient, reference, extract(epoch FROM occurred_at)::float8,
       kind = 'export' AND what LIKE 'up to %'
FROM disclosure_content
"""
_APPROVED: Final = """
SELECT affiliate_id, array_agg(purpose) FROM affiliate_approval WHERE withdrawn_at IS NULL GROUP BY affiliate_id
"""
_AGREEMENTS: Final = "SELECT partner_id, consent_id, (terms -> 'sharing')::text FROM consent WHERE terms ? 'sharing'"
_ENDS: Final = """
SELECT partner_id, consent_id, purpose, extract(epoch FROM max(ended_at))::float8
FROM consent_purpose_end WHERE how IN ('revoked', 'expired') GROUP BY 1, 2, 3
"""


async def collect_handed(dsn: str) -> Handed:
    """Read the gateway's side in one snapshot, about 10 µs a share. The receivers' books are to be added."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "mypay-books"})
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):

            async def rows(sql: str) -> list[Any]:
                return list(await connection.fetch(sql))

            return Handed(
                shares=[ShareRow(*r) for r in await rows(_SHARES)],
                holders=[HolderRow(*r) for r in await rows(_HOLDERS)],
                offers=[OfferRow(*r) for r in await rows(_OFFERS)],
                uses=[UseRow(*r) for r in await rows(_USES)],
                campaigns=[CampaignRow(*r) for r in await rows(_CAMPAIGNS)],
                exports=dict(_whole(*r) for r in await rows(_EXPORTS)),
                log=[LogRow(*r) for r in await rows(_LOG)],
                approved={affiliate: frozenset(uses) for affiliate, uses in await rows(_APPROVED)},
                agreements={(p, c): _agreement(text) for p, c, text in await rows(_AGREEMENTS)},
                ends={(p, c, purpose): at for p, c, purpose, at in await rows(_ENDS)},
            )
    finally:
        await connection.close()


def _whole(receipt: str) -> tuple[str, int]:
    """Id and number of records of an export, as its receipt has them."""
    payload = receipt.split(".")[1]
    manifest = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return manifest["export_id"], sum(manifest["counts"].values())


def _agreement(text: str) -> Agreement:
    terms = json.loads(text)
    return Agreement(frozenset(terms["affiliates"]), frozenset(terms["purposes"]), frozenset(terms["fields"]))
