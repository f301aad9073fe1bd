"""What may need two people, and what carries it out; how it is proposed and decided: :mod:`gateway.app.proposals`.

What all of these have in common: :mod:`gateway.app.operation`.

Two kinds of them: those that give somebody a right, and those after which money may move, or is looked for no more.
Taking a right away, pausing and suspending are never here: one person must be able to do it at once.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from gateway.app import bound_state
from gateway.app.clock import SystemClock
from gateway.app.errors import OperationRefusedError
from gateway.app.operating import Actor
from gateway.app.operation import Doing, Gives, Operation, Payload, as_it_stands, enabling
from gateway.app.registries import Registries, open_registries
from gateway.app.sending_again import Asked, replay_references
from gateway.app.settings import Settings
from gateway.base.keys import ConsentKey
from gateway.consents.changing import ConsentCommandRefusedError, ConsentUnknownError, change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.directory.console_roles import ConsoleRole, ListedUser
from gateway.directory.partners import PartnerKey
from gateway.directory.public_keys import Holder, refuse_key, well_spelt
from gateway.identity.store import IdentityLink
from gateway.marketing.rules.campaign import Campaign, CampaignRefusedError
from gateway.settlement.resolutions import OpenBreak, RecordPlace, Resolution
from schemas.codec import decode, encode_json
from schemas.consents import ConsentStatus
from schemas.primitives import ConsentId, FundingToken, NetworkId, PartnerId
from schemas.sharing import SharingUse, ShortText
from schemas.wording import told

REPLAY_PROPOSED_MAX: Final = 500
"""Dead letters of one proposal: more are not looked through by whoever is to approve it."""

_SHORT_TEXT: Final[TypeAdapter[str]] = TypeAdapter(ShortText)


def _key_of(payload: Payload) -> PartnerKey:
    until = payload["valid_until"]
    return PartnerKey(
        kid=payload["kid"],
        partner_id=PartnerId(payload["partner_id"]),
        algorithm=payload["algorithm"],
        jwk=well_spelt(payload["jwk"]),
        # What is approved today is no older than today.
        valid_from=datetime.now(UTC),
        valid_until=until and datetime.fromisoformat(until),
        disabled_at=None,
    )


async def _add_key(doing: Doing, payload: Payload) -> str:
    key = _key_of(payload)
    await _refuse_key(doing.registries, key.jwk, Holder.PARTNER, key.partner_id)
    return _registered(key, is_new=bool(await doing.registries.directory.add_keys([key])))


async def _add_link(doing: Doing, payload: Payload) -> str:
    link = IdentityLink(payload["issuer"], payload["subject"], payload["customer_id"], datetime.now(UTC))
    if not await doing.registries.identities.link([link]):
        raise OperationRefusedError(
            "This identity is linked already.", hint="`mypay auth links remove` ends that link first."
        )
    return f"The identity is linked to customer {link.customer_id}."


async def _allow_token(doing: Doing, payload: Payload) -> str:
    token, partners = FundingToken(payload["token"]), payload["partners"]
    await doing.registries.tokens.allow([(token, PartnerId(p)) for p in partners], now=datetime.now(UTC))
    return f"{', '.join(partners)} may pay with token {token}."


async def _add_affiliate_key(doing: Doing, payload: Payload) -> str:
    key = _key_of(payload)
    await _refuse_key(doing.registries, key.jwk, Holder.AFFILIATE, key.partner_id)
    return _registered(key, is_new=bool(await doing.registries.affiliates.add_keys([key])))


async def _refuse_key(registries: Registries, jwk: Mapping[str, Any], holder: Holder, owner: str) -> None:
    if (why := refuse_key(jwk, holder, owner, await registries.public_keys.lock())) is not None:
        raise OperationRefusedError(f"{why}.", hint="Ask for a new key pair.")


def _registered(key: PartnerKey, *, is_new: bool) -> str:
    if not is_new:
        raise OperationRefusedError(f"Key id {key.kid} is already in use.", hint="Give another one with --kid.")
    return f"Key {key.kid} ({key.algorithm}) is registered."


async def _approve_affiliate(doing: Doing, payload: Payload) -> str:
    affiliate, use = payload["affiliate_id"], SharingUse(payload["use"])
    for name, text in (("legal basis", payload["legal_basis"]), ("approver's name", doing.actor.operator)):
        # Told with every share: where it may not be, nothing could be shared with anybody.
        try:
            _SHORT_TEXT.validate_python(text)
        except ValidationError as error:
            raise OperationRefusedError(f"The {name} {told(error.errors(include_input=False)[0])}.") from None
    await doing.registries.affiliates.approve(
        affiliate, use, payload["legal_basis"], approved_by=doing.actor.operator, now=datetime.now(UTC)
    )
    return f"{affiliate} may be given data for {use}, of customers who agree."


async def grant_recipient(registries: Registries, payload: Payload) -> str:
    """Give a recipient a key, a certificate, or both: whichever the payload has."""
    org_code, told = payload["org_code"], []
    if (kid := payload.get("kid")) is not None:
        jwk = well_spelt(payload["jwk"])
        await _refuse_key(registries, jwk, Holder.RECIPIENT, org_code)
        if not await registries.recipients.add_key(org_code, kid, jwk, now=datetime.now(UTC)):
            raise OperationRefusedError(f"Recipient {org_code} has a key {kid} already.")
        told.append(f"Key {kid} is registered.")
    if (shown := payload.get("certificate_sha256")) is not None:
        if not await registries.recipients.set_certificate(org_code, shown):
            raise OperationRefusedError(f"There is no recipient {org_code}.", missing=True)
        told.append(f"Recipient {org_code} has the certificate {shown[:16]}….")
    return " ".join(told)


async def _grant_recipient(doing: Doing, payload: Payload) -> str:
    return await grant_recipient(doing.registries, payload)


async def _apply_campaign(doing: Doing, payload: Payload) -> str:
    # As the rules are today: a proposal may be older.
    campaign = decode(Campaign, encode_json(payload["campaign"]))
    try:
        is_new = await doing.registries.campaigns.apply(campaign, now=datetime.now(UTC))
    except CampaignRefusedError as error:
        raise OperationRefusedError(f"{error}.") from error
    # No row was there to be locked: of two that are new at once, the one that was written has the name.
    if not is_new and "before" in payload and payload["before"]["applied_at"] is None:
        raise OperationRefusedError(f"Campaign {campaign.campaign_id} is there since: propose again.")
    return f"Campaign {campaign.campaign_id} is {'new' if is_new else 'changed'}, and makes offers."


async def _console_user(registries: Registries, payload: Payload) -> ListedUser:
    found = await registries.console_users.lock(payload["name"])
    if found is None:
        raise OperationRefusedError(
            f"There is no user {payload['name']}.", hint="`mypay console user list` shows them.", missing=True
        )
    return found


async def _bind_user(registries: Registries, payload: Payload) -> Payload:
    user = await _console_user(registries, payload)
    if user.disabled_at is None:
        raise OperationRefusedError(f"{user.name} may sign in already.")
    return {**payload, "role": user.role.value, "disabled_at": user.disabled_at.isoformat()}


async def _enable_user(doing: Doing, payload: Payload) -> str:
    user = await _console_user(doing.registries, payload)
    now = {"role": user.role.value, "disabled_at": user.disabled_at and user.disabled_at.isoformat()}
    if any(name in payload and payload[name] != value for name, value in now.items()):
        raise OperationRefusedError(f"{user.name} was disabled anew or has another role since: propose again.")
    await doing.registries.console_users.set_enabled(user.name, enabled=True)
    return f"{user.name} may sign in again."


async def _bind_role(registries: Registries, payload: Payload) -> Payload:
    return {**payload, "before": (await _console_user(registries, payload)).role.value}


async def _set_role(doing: Doing, payload: Payload) -> str:
    user, role = await _console_user(doing.registries, payload), ConsoleRole(payload["role"])
    if payload.get("before", user.role.value) != user.role.value:
        raise OperationRefusedError(f"{user.name} has another role since: propose again.")
    await doing.registries.console_users.set_role(user.name, role)
    return f"{user.name} is {role}."


async def _bind_policy(registries: Registries, payload: Payload) -> Payload:
    applied = await registries.identities.applied_policy()
    return {**payload, "before": applied and applied[0]}


async def _apply_policy(doing: Doing, payload: Payload) -> str:
    digest, identities = payload["digest"], doing.registries.identities
    applied = await identities.applied_policy()
    if payload.get("before", applied and applied[0]) != (applied and applied[0]):
        raise OperationRefusedError("Another trust policy counts since: propose again.")
    changed = await identities.apply_policy(digest)
    return f"The trust policy {digest[:12]} counts from now on." if changed else "This trust policy counts already."


def _not_paused(network: NetworkId) -> OperationRefusedError:
    return OperationRefusedError(f"Network {network} is not paused.", hint="`mypay network list` shows them.")


async def _bind_pause(registries: Registries, payload: Payload) -> Payload:
    network = NetworkId(payload["network_id"])
    if (since := await registries.directory.paused_at(network)) is None:
        raise _not_paused(network)
    return {**payload, "paused_at": since.isoformat()}


async def _resume_network(doing: Doing, payload: Payload) -> str:
    network, directory = NetworkId(payload["network_id"]), doing.registries.directory
    since = payload.get("paused_at") and datetime.fromisoformat(payload["paused_at"])
    if not await directory.resume_network(network, paused_at=since):
        if since is None or await directory.paused_at(network) is None:
            raise _not_paused(network)
        raise OperationRefusedError(f"Network {network}: it was paused anew since: propose again.")
    return f"Network {network} takes payments again."


async def _bind_consent(registries: Registries, payload: Payload) -> Payload:
    key = (PartnerId(payload["partner_id"]), ConsentId(payload["consent_id"]))
    if (changes := await registries.consents.lock_changes(key)) is None:
        raise OperationRefusedError("The partner has no such consent.", missing=True)
    return {**payload, "changes": changes}


async def _resume_consent(doing: Doing, payload: Payload) -> str:
    key = partner, consent = PartnerId(payload["partner_id"]), ConsentId(payload["consent_id"])
    bound = payload.get("changes")
    if bound is not None and await doing.registries.consents.lock_changes(key) != bound:
        raise OperationRefusedError(f"Consent {consent} of {partner}: it was changed since: propose again.")
    return f"Consent {consent} of {partner} is {await _resumed(doing, key, payload.get('reason'))}."


async def _resumed(doing: Doing, key: ConsentKey, reason: str | None) -> ConsentStatus:
    store, clock = doing.registries.consent_changes, SystemClock()
    try:
        return (await change_consent_status(store, clock, key, ConsentCommand.RESUME, reason=reason)).status
    except (ConsentUnknownError, ConsentCommandRefusedError) as error:
        text = str(error)
        raise OperationRefusedError(
            f"{text[0].upper()}{text[1:]}.", missing=isinstance(error, ConsentUnknownError)
        ) from None


async def _let_consents_count(doing: Doing, payload: Payload) -> str:
    """Those that were added suspended, each as it was added: whoever changed one since has the last word."""
    for added in payload["consents"]:
        key = PartnerId(added["partner_id"]), ConsentId(added["consent_id"])
        if await doing.registries.consents.lock_changes(key) != 0:
            raise OperationRefusedError(f"Consent {key[1]} of {key[0]}: it was changed since it was added.")
        await _resumed(doing, key, payload.get("reason"))
    return f"{len(payload['consents'])} consents count."


def _place_of(payload: Payload) -> RecordPlace:
    return RecordPlace(payload["network_id"], payload["cycle_id"], int(payload["record_no"]))


async def _bind_break(registries: Registries, payload: Payload) -> Payload:
    place = _place_of(payload)
    found = await registries.breaks.open_break(place)
    if found is None:
        raise OperationRefusedError(
            f"Record {place} has no break that is open.", hint="`mypay clearing breaks` shows them.", missing=True
        )
    return {**payload, "version": found.version, "break_kind": found.break_kind}


async def _resolve_break(doing: Doing, payload: Payload) -> str:
    if "version" not in payload:
        payload = await _bind_break(doing.registries, payload)
    place, how = _place_of(payload), Resolution(payload["resolution"])
    of = OpenBreak(payload["version"], payload["break_kind"])
    why, by = payload["reason"], doing.actor.operator
    if not await doing.registries.breaks.resolve(place, of, how, why=why, by=by):
        raise OperationRefusedError(f"Record {place} is resolved, or stands otherwise since: look again.")
    return f"The break of record {place} is resolved: {how.value.replace('_', ' ')}."


async def _bind_letters(_: Registries, payload: Payload) -> Payload:
    if len(payload["references"]) > REPLAY_PROPOSED_MAX:
        raise OperationRefusedError(f"At most {REPLAY_PROPOSED_MAX} letters are proposed at a time.")
    return payload


async def _replay(doing: Doing, payload: Payload) -> str:
    references = payload["references"]
    # One that somebody named is sent whatever became of it. An attempt that was cut off has sent some already,
    # and these may have been parked anew since.
    proposal = None if doing.proposal_id is None else str(doing.proposal_id)
    asked = Asked(references, only_open=len(references) > 1, proposal_id=proposal, go_on=doing.still)
    replayed, refused = await replay_references(doing.settings, asked)
    before = len(set(references)) - len(replayed) - len(refused)
    sent = f"{len(replayed)} sent again" + (f", {before} were before" if before else "")
    if refused:
        told = "; ".join(f"{reference}: {why}" for reference, why in refused.items())
        if not replayed and not before:
            raise OperationRefusedError(f"Nothing was sent again. {told}.")
        return f"{sent}, {len(refused)} not: {told}."
    return f"{sent}."


_RECIPIENT_KEYS: Final = bound_state.of_keys(Holder.RECIPIENT, "org_code")

OPERATIONS: Final[Mapping[str, Operation]] = {
    "partner.key.add": as_it_stands(_add_key, keys_before=bound_state.of_keys(Holder.PARTNER, "partner_id")),
    "auth.link.add": as_it_stands(_add_link, before=bound_state.of_identity),
    "token.allow": as_it_stands(_allow_token, before=bound_state.of_token),
    "affiliate.key.add": as_it_stands(
        _add_affiliate_key, keys_before=bound_state.of_keys(Holder.AFFILIATE, "partner_id")
    ),
    "affiliate.approve": as_it_stands(_approve_affiliate, before=bound_state.of_approval),
    "recipient.add": as_it_stands(_grant_recipient, before=bound_state.of_certificate, keys_before=_RECIPIENT_KEYS),
    "recipient.key.add": as_it_stands(_grant_recipient, keys_before=_RECIPIENT_KEYS),
    "recipient.certificate": as_it_stands(_grant_recipient, before=bound_state.of_certificate),
    "recipient.enable": enabling("recipient", "org_code", lambda r, whom: r.recipients.set_active(whom, active=True)),
    "affiliate.enable": enabling(
        "affiliate", "affiliate_id", lambda r, whom: r.affiliates.set_active(whom, active=True)
    ),
    "partner.enable": enabling(
        "partner", "partner_id", lambda r, whom: r.directory.set_partner_active(PartnerId(whom), active=True)
    ),
    "console.user.enable": Operation(Gives.RIGHT, _enable_user, _bind_user),
    "console.user.role": Operation(Gives.RIGHT, _set_role, _bind_role),
    "auth.policy.apply": Operation(Gives.RIGHT, _apply_policy, _bind_policy),
    "campaign.apply": as_it_stands(_apply_campaign, before=bound_state.of_campaign),
    # They are there already, suspended.
    "consent.add": Operation(Gives.RIGHT, _let_consents_count),
    "network.resume": Operation(Gives.MONEY, _resume_network, _bind_pause),
    "consent.resume": Operation(Gives.MONEY, _resume_consent, _bind_consent),
    "break.resolve": Operation(Gives.MONEY, _resolve_break, _bind_break),
    # Kafka has what was sent, though the decision may not be kept. Again does no harm: stages handle a record once.
    "dead-letter.replay": Operation(Gives.MONEY, _replay, _bind_letters, lasts=True),
}
"""Kind → what carries it out. A payload holds public data alone."""


async def carry_out(settings: Settings, dsn: str, actor: Actor, kind: str, payload: Payload) -> str:
    """Do it in one transaction; return a sentence for people.

    Raises:
        OperationRefusedError: it cannot be done.
    """
    async with open_registries(dsn) as registries, registries.transaction():
        return await OPERATIONS[kind].do(Doing(settings, dsn, registries, actor), payload)
