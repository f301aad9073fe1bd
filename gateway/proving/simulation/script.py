"""What partners, customers and operators do in one world: drawn from the seed before it begins."""

from datetime import datetime, time, timedelta
from functools import lru_cache
from random import Random
from typing import Any, Final

from gateway.domain.cancellation import CutOver
from gateway.domain.consent import Merchant
from gateway.domain.exchange import Acceptor
from gateway.domain.execution import UnknownPolicy
from gateway.domain.limits import SEOUL
from gateway.ports import Outgoing
from gateway.proving.simulation.orders import write_orders
from gateway.proving.simulation.scene import (
    BEFORE_MIDNIGHT,
    CUSTOMER,
    MERCHANT,
    NETWORK,
    NOON,
    PARTNER,
    SIGNED,
    TOKEN,
    TRAFFIC_S,
    Act,
    Command,
    Script,
    krw,
)
from schemas.codec import encode
from schemas.consent_commands import (
    CONSENT_AMEND_TYPE,
    CONSENT_RESUME_TYPE,
    CONSENT_REVOKE_TYPE,
    CONSENT_SUSPEND_TYPE,
    ConsentAmendment,
    ConsentInstruction,
)
from schemas.consents import ConsentTerms, PaymentPurpose, Period, PeriodLimit
from schemas.envelope import Envelope, write_envelope
from schemas.primitives import ConsentId
from schemas.topics import CONSENT_COMMANDS


def merchant() -> Merchant:
    """The one merchant."""
    return Merchant(MERCHANT, Acceptor("ACCEPTOR1", "Shop Seoul KR", "5411"), frozenset({NETWORK}), active=True)


def write_script(rng: Random) -> Script:
    """Draw one world's input."""
    script = Script(
        rng.choice((NOON, BEFORE_MIDNIGHT)),
        rng.choice((UnknownPolicy.INQUIRE, UnknownPolicy.REVERSE)),
        rng.random() < 0.3,
        CutOver(time(0, 0, 3), SEOUL) if rng.random() < 0.3 else None,
    )
    script.consents = [
        terms(number, rng.choice(_SHAPES), rng.choice((0, 0, 0, rng.randrange(2, 9))), script.epoch)
        for number in range(rng.randrange(1, 4))
    ]
    amounts = [rng.randrange(1_000, 9_999) for _ in range(4)]
    script.decline_amounts = frozenset(a for a in amounts if rng.random() < 0.25)
    write_orders(script, rng, amounts)
    _write_commands(script, rng)
    return script


_ACT_TYPES: Final = {
    Act.REVOKE: CONSENT_REVOKE_TYPE,
    Act.SUSPEND: CONSENT_SUSPEND_TYPE,
    Act.RESUME: CONSENT_RESUME_TYPE,
    Act.AMEND: CONSENT_AMEND_TYPE,
}


def _write_commands(script: Script, rng: Random) -> None:
    for of in script.consents:
        if rng.random() < 0.5:
            continue
        at = rng.uniform(0.0, TRAFFIC_S / 2)
        for number in range(rng.randrange(1, 4)):
            act = rng.choice((Act.REVOKE, Act.SUSPEND, Act.SUSPEND, Act.RESUME, Act.RESUME, Act.AMEND))
            by_operator = act is not Act.AMEND and rng.random() < 0.3
            record = None if by_operator else _command(script, of, act, f"command-{number}", rng)
            script.commands.append(Command(at, act, of.consent_id, record))
            at += rng.expovariate(0.7)
    script.commands.sort(key=lambda c: c.at)


def _command(script: Script, of: ConsentTerms, act: Act, command_id: str, rng: Random) -> Outgoing:
    told: dict[str, Any] = {
        "partner_id": PARTNER,
        "consent_id": of.consent_id,
        "command_id": command_id,
        "issued_at": script.epoch,
    }
    message: ConsentAmendment | ConsentInstruction
    if act is Act.AMEND:
        number = script.consents.index(of)
        until = 0 if of.valid_until - script.epoch > timedelta(hours=1) else 9
        message = ConsentAmendment(**told, terms=terms(number, rng.choice(_SHAPES), until, script.epoch))
    else:
        message = ConsentInstruction(**told)
    envelope = Envelope(f"ce-{command_id}", "/partner", _ACT_TYPES[act], script.epoch, signature=SIGNED)
    return Outgoing(CONSENT_COMMANDS, of.consent_id.encode(), encode(message), write_envelope(envelope))


_SHAPES: Final = (0, 0, 0, 1, 1, 2, 3, 4, 5)
"""Kinds of terms, from no limit at all to a single use, each as often as it is drawn."""


@lru_cache(maxsize=1024)
def terms(number: int, shape: int, until_s: int, epoch: datetime) -> ConsentTerms:
    """Terms of the ``number``-th consent; ``until_s``: it ends then, or long after if 0. One object for equal terms."""
    daily = PeriodLimit(period=Period.DAY, max_amount=krw(22_000))
    few = PeriodLimit(period=Period.DAY, max_count=3)
    purposes: tuple[dict[str, Any], ...] = (
        {},
        {"period_limits": (daily,)},
        {"period_limits": (daily, few)},
        {"lifetime_amounts": (krw(30_000),)},
        {"lifetime_count": 4, "period_limits": (daily,)},
        {"single_use": True},
    )
    return ConsentTerms(
        consent_id=ConsentId(f"consent-{number}"),
        partner_id=PARTNER,
        customer_id=CUSTOMER,
        valid_from=epoch - timedelta(days=40),
        valid_until=epoch + (timedelta(seconds=until_s) if until_s else timedelta(days=400)),
        payment=PaymentPurpose(funding_token=TOKEN, max_per_payment=(krw(50_000),), **purposes[shape]),
    )
