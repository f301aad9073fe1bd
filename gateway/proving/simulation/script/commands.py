"""What partners, customers and operators do in one world: drawn from the seed before it begins."""

from datetime import datetime, time, timedelta
from functools import lru_cache
from random import Random
from typing import Any, Final

from gateway.base.calendar import SEOUL
from gateway.directory.merchants import Merchant
from gateway.messaging.records import Outgoing
from gateway.network.exchange import Acceptor
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.proving.simulation.script.data import portability_of, write_data
from gateway.proving.simulation.script.orders import write_orders
from gateway.proving.simulation.script.proofs import Prover
from gateway.proving.simulation.script.scene import (
    BEFORE_MIDNIGHT,
    BEFORE_MONDAY,
    CUSTOMER,
    FOREIGN_TOKEN,
    MERCHANT,
    NETWORK,
    NOON,
    OTHER_CUSTOMER,
    OTHER_TOKEN,
    PARTNER,
    SHARED_WITH,
    SIGNED,
    TOKEN,
    TRAFFIC_S,
    Act,
    Command,
    Script,
    krw,
)
from gateway.proving.simulation.script.showing import NOTHING_SHOWN, Asked, Shown
from schemas.assertions import ConsentLink, LinkedCommand
from schemas.codec import encode
from schemas.consent_commands import (
    CONSENT_AMEND_TYPE,
    CONSENT_GRANT_TYPE,
    CONSENT_REQUEST_TYPE,
    CONSENT_RESUME_TYPE,
    CONSENT_REVOKE_TYPE,
    CONSENT_SUSPEND_TYPE,
    ConsentAmendment,
    ConsentInstruction,
    ConsentMessage,
    ConsentRequest,
    canonical_terms,
    terms_digest,
)
from schemas.consents import (
    Channel,
    ConsentTerms,
    LowValueExemption,
    MarketingPurpose,
    PaymentPurpose,
    Period,
    PeriodLimit,
    Purpose,
    SharingField,
    SharingPurpose,
)
from schemas.envelope import Envelope, write_envelope
from schemas.primitives import ConsentId, CustomerId, FundingToken
from schemas.topics import CONSENT_COMMANDS


def merchant() -> Merchant:
    """The one merchant."""
    acceptor = Acceptor("ACCEPTOR1", "Shop Seoul KR", "5411")
    return Merchant(MERCHANT, acceptor, frozenset({NETWORK}), active=True, name="Shop")


def hands_data_over(rng: Random) -> bool:
    """True if a script drawn of these numbers hands customers' data over: that is drawn first, long before the rest."""
    _, hands_over = _begun(rng)
    return hands_over


def _begun(rng: Random) -> tuple[Script, bool]:
    asked = rng.choices(list(Asked), (60, 12, 28))[0]
    script = Script(
        rng.choice((NOON, BEFORE_MIDNIGHT)),
        rng.choice((UnknownPolicy.INQUIRE, UnknownPolicy.REVERSE)),
        rng.random() < 0.3,
        CutOver(time(0, 0, 3), SEOUL) if rng.random() < 0.3 else None,
        asked,
    )
    return script, rng.random() < DATA_SHARE


def write_script(rng: Random) -> Script:
    """Draw one world's input."""
    script, hands_over = _begun(rng)
    asked = script.asked
    prover = Prover(rng, asked, script.epoch)
    if hands_over and rng.random() < 0.5:
        # Three seconds before a week is over, of which aggregates are told then.
        script.epoch = prover.epoch = BEFORE_MONDAY
    # Whoever proves something there is the first customer.
    others = hands_over and asked is not Asked.PROOFS
    script.consents = [
        # One in twenty-five stands since before it was asked whose a card is.
        terms(
            number,
            rng.choice(_SHAPES),
            rng.choice((0, 0, 0, rng.randrange(2, 9))),
            script.epoch,
            FOREIGN_TOKEN if rng.random() < 0.04 else None,
            OTHER_CUSTOMER if others and 0 < number == count - 1 else CUSTOMER,
            portable=hands_over,
        )
        for count in (rng.randrange(1, 4),)
        for number in range(count)
    ]
    amounts = [rng.randrange(1_000, 9_999) for _ in range(4)]
    script.decline_amounts = frozenset(a for a in amounts if rng.random() < 0.25)
    write_orders(script, rng, amounts, prover)
    _write_commands(script, rng, prover)
    if hands_over:
        script.data = write_data(script, rng, prover)
    script.false_proofs = prover.false
    return script


_ACT_TYPES: Final = {
    Act.REVOKE: CONSENT_REVOKE_TYPE,
    Act.SUSPEND: CONSENT_SUSPEND_TYPE,
    Act.RESUME: CONSENT_RESUME_TYPE,
    Act.AMEND: CONSENT_AMEND_TYPE,
    Act.STEAL: CONSENT_AMEND_TYPE,
}


def _write_commands(script: Script, rng: Random, prover: Prover) -> None:
    for of in script.consents:
        if rng.random() < 0.5:
            continue
        at = rng.uniform(0.0, TRAFFIC_S / 2)
        resuming: tuple[str | None, Shown] | None = None
        for number in range(rng.randrange(1, 4)):
            act = rng.choice(
                (Act.REVOKE, Act.SUSPEND, Act.SUSPEND, Act.RESUME, Act.RESUME, Act.AMEND, Act.AMEND, Act.STEAL)
            )
            by_operator = act not in (Act.AMEND, Act.STEAL) and rng.random() < 0.3
            record = None
            if not by_operator:
                message = _message(script, of, act, f"command-{number}", rng)
                proof = _proof(message, of, act, at, prover)
                if act is Act.RESUME:
                    # Somebody who kept a proof shows it again.
                    proof = resuming = proof if resuming is None or rng.random() < 0.5 else resuming
                record = _signed(script, _with(message, proof, script), _ACT_TYPES[act])
            script.commands.append(Command(at, act, of.consent_id, record))
            at += rng.expovariate(0.7)
    if rng.random() < 0.2:
        _write_theft(script, rng, prover)
    script.commands.sort(key=lambda c: c.at)


def _write_theft(script: Script, rng: Random, prover: Prover) -> None:
    """A partner asks for a consent of its customer over another customer's card, and has its customer grant it."""
    stolen = terms(_THEFT, rng.choice(_SHAPES), 0, script.epoch, FOREIGN_TOKEN)
    told: dict[str, Any] = {"partner_id": PARTNER, "consent_id": stolen.consent_id, "issued_at": script.epoch}
    request = ConsentRequest(**told, command_id="theft-1", terms=stolen)
    at = rng.uniform(0.0, TRAFFIC_S / 2)
    bare = ConsentInstruction(**told, command_id="theft-2")
    grant = _with(bare, prover.prove(_link(stolen, LinkedCommand.GRANT), at), script)
    for message, type_ in ((request, CONSENT_REQUEST_TYPE), (grant, CONSENT_GRANT_TYPE)):
        record = _signed(script, message, type_)
        script.commands.append(Command(at, Act.STEAL, stolen.consent_id, record))
        at += rng.expovariate(2.0)


_Provable = ConsentAmendment | ConsentInstruction
_PROVEN: Final = {Act.RESUME: LinkedCommand.RESUME, Act.AMEND: LinkedCommand.AMEND, Act.STEAL: LinkedCommand.AMEND}


def _link(terms: ConsentTerms, command: LinkedCommand) -> ConsentLink:
    return ConsentLink(
        partner_id=PARTNER,
        consent_id=terms.consent_id,
        command=command,
        terms_digest=terms_digest(canonical_terms(encode(terms))),
    )


def _proof(message: _Provable, of: ConsentTerms, act: Act, at: float, prover: Prover) -> tuple[str | None, Shown]:
    """A proof where the policy may ask for one: of the terms that were in force at first, or of the new ones."""
    if act not in _PROVEN:
        return None, NOTHING_SHOWN
    terms = message.terms if isinstance(message, ConsentAmendment) else of
    return prover.prove(_link(terms, _PROVEN[act]), at, again=0.4)


def _with(message: _Provable, proof: tuple[str | None, Shown], script: Script) -> _Provable:
    token, shown = proof
    script.shown_with[message.consent_id, message.command_id] = shown
    return message.model_copy(update={"authentication": token})


def _message(script: Script, of: ConsentTerms, act: Act, command_id: str, rng: Random) -> _Provable:
    told: dict[str, Any] = {
        "partner_id": PARTNER,
        "consent_id": of.consent_id,
        "command_id": command_id,
        "issued_at": script.epoch,
    }
    if act in (Act.AMEND, Act.STEAL):
        number = script.consents.index(of)
        until = 0 if of.valid_until - script.epoch > timedelta(hours=1) else 9
        token = FOREIGN_TOKEN if act is Act.STEAL else None
        new = terms(
            number,
            rng.choice(_SHAPES),
            until,
            script.epoch,
            token,
            of.customer_id,
            portable=of.portability is not None,
        )
        return ConsentAmendment(**told, terms=new)
    revoked = _REVOKED if of.portability is None else _REVOKED_DATA
    return ConsentInstruction(**told, purposes=rng.choice(revoked) if act is Act.REVOKE else None)


def amended(script: Script, of: ConsentTerms, command_id: str, rng: Random) -> Outgoing:
    """A command that gives a consent other terms, without a customer's proof."""
    return _signed(script, _message(script, of, Act.AMEND, command_id, rng), CONSENT_AMEND_TYPE)


def _signed(script: Script, message: ConsentMessage, type_: str) -> Outgoing:
    envelope = Envelope(f"ce-{message.command_id}", "/partner", type_, script.epoch, signature=SIGNED)
    return Outgoing(CONSENT_COMMANDS, message.consent_id.encode(), encode(message), write_envelope(envelope))


_REVOKED: Final = (None, (Purpose.PAYMENT,), (Purpose.PAYMENT,), (Purpose.MARKETING,))
"""What a revocation takes away; None: all."""

_REVOKED_DATA: Final = (None, (Purpose.PORTABILITY,), (Purpose.PORTABILITY,), (Purpose.MARKETING,), (Purpose.SHARING,))
"""The same where the consent permits that data are handed over."""

DATA_SHARE: Final = 0.2
"""How many worlds hand data over, and make offers."""

_THEFT: Final = 9
"""Number of the consent that a theft asks for: none of the others'."""

_SHAPES: Final = (0, 0, 0, 1, 1, 2, 3, 4, 5)
"""Kinds of terms, from no limit at all to a single use, each as often as it is drawn."""


@lru_cache(maxsize=1024)
def terms(
    number: int,
    shape: int,
    until_s: int,
    epoch: datetime,
    token: FundingToken | None = None,
    customer: CustomerId = CUSTOMER,
    *,
    portable: bool = False,
) -> ConsentTerms:
    """Terms of the ``number``-th consent; ``until_s``: it ends then, or long after if 0. One object for equal terms.

    ``token``: that pays; None: the customer's own.
    """
    token = token or (TOKEN if customer == CUSTOMER else OTHER_TOKEN)
    daily = PeriodLimit(period=Period.DAY, max_amount=krw(22_000))
    few = PeriodLimit(period=Period.DAY, max_count=3)
    # More than the policy lets pass in worlds that ask for proofs.
    generous = LowValueExemption(max_amount=krw(9_999), max_count=99, max_sum=krw(999_999))
    purposes: tuple[dict[str, Any], ...] = (
        {"low_value_exemption": generous},
        {"period_limits": (daily,)},
        {"period_limits": (daily, few)},
        {"lifetime_amounts": (krw(30_000),)},
        {"lifetime_count": 4, "period_limits": (daily,)},
        {"single_use": True},
    )
    return ConsentTerms(
        consent_id=ConsentId(f"consent-{number}"),
        partner_id=PARTNER,
        customer_id=customer,
        valid_from=epoch - timedelta(days=40),
        valid_until=epoch + (timedelta(seconds=until_s) if until_s else timedelta(days=400)),
        payment=PaymentPurpose(funding_token=token, max_per_payment=(krw(50_000),), **purposes[shape]),
        sharing=SharingPurpose(
            affiliates=SHARED_WITH,
            purposes=("loyalty",),
            fields=(SharingField.CATEGORY, SharingField.AMOUNT_BAND, SharingField.MONTH),
            use_until=epoch + (timedelta(seconds=9) if shape == 3 else timedelta(days=300)),
        ),
        marketing=MarketingPurpose(
            affiliates=("points",),
            channels=(Channel.APP,),
            # Of some it is over in the middle of the world, and the rest goes on.
            until=epoch + (timedelta(seconds=6) if shape == 1 else timedelta(days=300)),
        ),
        portability=portability_of(shape, epoch) if portable else None,
    )
