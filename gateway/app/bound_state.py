"""How that stands which a proposal would change: what is proposed is bound to it, and approved only while it stands so.

Each function locks the rows that it reads, for as long as the caller's transaction lasts: who changes one meanwhile is
waited for, or waits and has the last word. What it returns is JSON, for it is kept with the proposal: times are in ISO
8601, and None stands for what is not there.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from gateway.app.registries import Registries
from gateway.directory.approval import Phase
from gateway.directory.public_keys import Holder
from schemas.primitives import FundingToken, PartnerId
from schemas.sharing import SharingUse

_Payload = Mapping[str, Any]


async def of_token(registries: Registries, payload: _Payload) -> dict[str, Any]:
    """Since when each of the partners may use the token, or may no longer; and who took that away last."""
    token, partners = FundingToken(payload["token"]), [PartnerId(p) for p in payload["partners"]]
    rows = await registries.tokens.lock_permissions(token, partners)
    found: dict[str, Any] = {}
    for partner in partners:
        allowed, withdrawn = rows.get(partner, (None, None))
        found[partner] = {
            "allowed_at": _iso(allowed),
            "withdrawn_at": _iso(withdrawn),
            "disallowed_by": await _latest(registries, "token disallow", f"{token} {partner}"),
        }
    return found


async def of_identity(registries: Registries, payload: _Payload) -> dict[str, Any] | None:
    """Whose the identity was before, and until when; None where no link of it has ended."""
    if (ended := await registries.identities.last_ended_link(payload["issuer"], payload["subject"])) is None:
        return None
    return {"customer_id": ended[0], "unlinked_at": _iso(ended[1])}


async def of_approval(registries: Registries, payload: _Payload) -> dict[str, Any]:
    """On what the affiliate is given data for the use, if it is; and who took that away last."""
    affiliate, use = payload["affiliate_id"], SharingUse(payload["use"])
    approval = await registries.affiliates.lock_approval(affiliate, use)
    return {
        "legal_basis": approval and approval.legal_basis,
        "approved_at": approval and _iso(approval.approved_at),
        "withdrawn_at": approval and _iso(approval.withdrawn_at),
        "withdrawn_by": await _latest(registries, "affiliate withdraw", f"{affiliate} {use.value}"),
    }


async def of_campaign(registries: Registries, payload: _Payload) -> dict[str, Any]:
    """When the campaign was written last, whether it makes offers, and who stopped it last."""
    campaign_id = payload["campaign"]["campaign_id"]
    applied = await registries.campaigns.lock_applied(campaign_id)
    return {
        "applied_at": applied and _iso(applied[0]),
        "active": applied and applied[1],
        "stopped_by": await _latest(registries, "campaign stop", campaign_id),
    }


async def of_certificate(registries: Registries, payload: _Payload) -> dict[str, Any] | None:
    """The certificate that the recipient shows, and which command changed it last; None where only a key is given."""
    if payload.get("certificate_sha256") is None:
        return None
    shown = await registries.recipients.lock_certificate(payload["org_code"])
    # Who only proposes one begins this command, too.
    changed = await registries.operators.latest_action("recipient certificate", payload["org_code"], Phase.DONE)
    return {"certificate_sha256": shown, "changed_by": changed and str(changed)}


def of_keys(holder: Holder, field: str) -> Callable[[Registries, _Payload], Awaitable[dict[str, Any] | None]]:
    """Which public keys the holder's owner in ``payload[field]`` has, by id, and since when each is disabled.

    And who disabled last what the payload would add: an id may be stopped before anything is registered under it. None
    where the payload adds no key.
    """

    async def state(registries: Registries, payload: _Payload) -> dict[str, Any] | None:
        if (kid := payload.get("kid")) is None:
            return None
        owner, held = payload[field], await registries.public_keys.lock()
        return {
            "disabled_at": {k.kid: _iso(k.disabled_at) for k in held if (k.holder, k.owner) == (holder, owner)},
            "disabled_by": await _latest(registries, f"{holder} key disable", f"{owner} {kid}"),
        }

    return state


async def _latest(registries: Registries, command: str, subject: str) -> str | None:
    """Who takes away writes that down before doing it: so it counts from that moment on, and if there was nothing."""
    found = await registries.operators.latest_action(command, subject)
    return None if found is None else str(found)


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
