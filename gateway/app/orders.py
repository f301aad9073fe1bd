"""The intake of ``mypay.orders``, put together: everything that partners may send there, in one list."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.app.unit import GatewayUnit
from gateway.base.calendar import BusinessDays
from gateway.base.process import Clock, Observer
from gateway.database.unit import Store
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.messaging.records import DeadLetters, Publisher
from gateway.orders.bulk.service import BulkKind
from gateway.orders.cancellations import CancellationKind
from gateway.orders.intake import OrderIntake
from gateway.orders.judging import OrderJudge
from gateway.orders.kinds import AnyKind
from gateway.orders.purchases import PurchaseKind
from gateway.orders.refunds import RefundKind
from gateway.orders.room import ExecutionRoom
from gateway.orders.scheduled.rules import AHEAD_DAYS_DEFAULT
from gateway.orders.standing.service import StandingOrderKind
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.dispatch import Dispatch
from gateway.payments.rules.routing import NetworkProfile
from schemas.primitives import NetworkId


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeParts:
    """What the intake is made of.

    Attributes:
        networks: what routing knows of the networks at this moment.
        trust, assertions: of an installation without identity providers, as they are.
        cut_overs: of the networks that have one.
        days: business days.
        ahead_days_max: how far ahead an order's day may be.
        room: handing the items of bulks on waits for it. None: it does not.
    """

    store: Store[GatewayUnit]
    keys: KeySource
    verifier: SignatureVerifier
    networks: Callable[[], Sequence[NetworkProfile]]
    publisher: Publisher
    dispatch: Dispatch
    dead_letters: DeadLetters
    observer: Observer
    clock: Clock
    trust: TrustTable = field(default_factory=NoIdentityProviders)
    assertions: AssertionVerifier = field(default_factory=NoIdentityProviders)
    cut_overs: Mapping[NetworkId, CutOver] = field(default_factory=dict)
    days: BusinessDays = field(default_factory=BusinessDays)
    ahead_days_max: int = AHEAD_DAYS_DEFAULT
    room: ExecutionRoom | None = None


def order_kinds(parts: IntakeParts) -> list[AnyKind]:
    """Everything that partners may send on ``mypay.orders``."""
    judge = OrderJudge(trust=parts.trust, networks=parts.networks, ahead_days_max=parts.ahead_days_max)
    return [
        PurchaseKind(
            store=parts.store,
            judge=judge,
            publisher=parts.publisher,
            dispatch=parts.dispatch,
            observer=parts.observer,
            trust=parts.trust,
            assertions=parts.assertions,
        ),
        CancellationKind(store=parts.store, cut_overs=parts.cut_overs, observer=parts.observer, clock=parts.clock),
        RefundKind(store=parts.store, publisher=parts.publisher, dispatch=parts.dispatch, observer=parts.observer),
        StandingOrderKind(
            store=parts.store,
            networks=parts.networks,
            observer=parts.observer,
            trust=parts.trust,
            assertions=parts.assertions,
            days=parts.days,
            ahead_days_max=parts.ahead_days_max,
        ),
        BulkKind(
            store=parts.store,
            judge=judge,
            publisher=parts.publisher,
            dispatch=parts.dispatch,
            observer=parts.observer,
            clock=parts.clock,
            trust=parts.trust,
            assertions=parts.assertions,
            room=parts.room,
        ),
    ]


def order_intake(parts: IntakeParts) -> OrderIntake:
    """The intake with all kinds."""
    return OrderIntake(
        order_kinds(parts),
        store=parts.store,
        keys=parts.keys,
        verifier=parts.verifier,
        dead_letters=parts.dead_letters,
        observer=parts.observer,
        clock=parts.clock,
    )
