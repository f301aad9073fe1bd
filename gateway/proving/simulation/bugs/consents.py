"""Bugs in limits, consents and cards."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, TypeVar

from gateway.consents.rules import change as consent_change
from gateway.consents.rules import consent as consents
from gateway.directory.funding import OwnedToken
from gateway.directory.store import OpenedCards
from gateway.payments import execution, transitions
from gateway.payments.rules import intent as intents
from gateway.payments.rules.lifecycle import TRANSITIONS, LimitEffect, PaymentEventKind, PaymentState
from gateway.proving.memory import MemoryVault
from gateway.proving.simulation.bugs.planting import Instead, Mutant, edited, replaced, swapped, together

T = TypeVar("T")
_S, _E, _L = PaymentState, PaymentEventKind, LimitEffect


def _effects(rows: Mapping[Any, LimitEffect]) -> AbstractContextManager[None]:
    return swapped(TRANSITIONS, {pair: replace(TRANSITIONS[pair], limit=effect) for pair, effect in rows.items()})


def _signs(effect: LimitEffect, sign: int) -> AbstractContextManager[None]:
    return swapped(transitions._USAGE_SIGNS, {effect: sign})  # noqa: SLF001 - planted inside of it


def _release_on_unknown() -> AbstractContextManager[None]:
    return _effects(
        {
            (_S.SENT, _E.UNANSWERED): LimitEffect.GIVE_BACK,
            (_S.SENT, _E.MISMATCHED): LimitEffect.GIVE_BACK,
            (_S.UNKNOWN, _E.REVERSAL_CONFIRMED): LimitEffect.NONE,
        }
    )


def _unlocked() -> AbstractContextManager[None]:
    return _locked_by(lambda consents: consents.read)


def _locked_weakly() -> AbstractContextManager[None]:
    """As FOR KEY SHARE does: who changes the consent waits all the same, and others who pay under it do not."""
    return _locked_by(lambda consents: consents.hold)


def _locked_by(way: Callable[[Any], Any]) -> AbstractContextManager[None]:
    async def facts(self: Any, uow: Any, orders: Any) -> Any:
        consents = Instead(uow.consents, lock=way(uow.consents))
        return await before(self, Instead(uow, consents=consents), orders)

    before = execution.ExecutionService._facts  # noqa: SLF001 - planted inside of it
    return replaced(execution.ExecutionService, "_facts", facts)


def _not_checked_again() -> AbstractContextManager[None]:
    def passing(order: Any, *, consent: Any, merchant: Any, now: Any) -> Any:
        known = consent is not None and merchant is not None
        return None if known else before(order, consent=consent, merchant=merchant, now=now)

    before = consents.refuse_order
    return replaced(intents, "refuse_order", passing)


def _in_flight_not_counted() -> AbstractContextManager[None]:
    undone = [pair for pair, row in TRANSITIONS.items() if row.limit is LimitEffect.GIVE_BACK]
    return together(
        replaced(intents, "_count", lambda *_: None),
        _effects(
            dict.fromkeys((p for p in undone if p[0] is not _S.REVERSING), LimitEffect.NONE)
            | dict.fromkeys(((_S.SENT, _E.APPROVED), (_S.UNKNOWN, _E.INQUIRY_APPROVED)), LimitEffect.TAKE)
        ),
    )


def _owner_unchecked_at_grant() -> AbstractContextManager[None]:
    return replaced(consent_change, "refuse_token", lambda *_: None)


_ASKED: Final = "await uow.directory.usable_tokens(token_uses(c.terms for c in paying.values()))"


def _permission_unchecked_under_lock() -> AbstractContextManager[None]:
    return edited(
        execution.ExecutionService, "_facts", (_ASKED, "frozenset(token_uses(c.terms for c in paying.values()))")
    )


def _owner_unchecked_under_lock() -> AbstractContextManager[None]:
    """Both walls are gone: any customer's permission will do, and the vault opens for anybody."""

    async def open_for_anybody(self: MemoryVault, tokens: Sequence[OwnedToken]) -> OpenedCards:
        by_token = {owned.token: card for owned, card in self.cards.items()}
        return OpenedCards({owned: by_token[owned.token] for owned in tokens})

    anybodys = """frozenset(
            use
            for use in token_uses(c.terms for c in paying.values())
            if use.partner_id in uow.directory._db.tokens.rows[use.token].partners
        )"""
    return together(
        edited(execution.ExecutionService, "_facts", (_ASKED, anybodys)),
        replaced(MemoryVault, "open", open_for_anybody),
    )


_ENDED: Final = "if purpose in consent.ended:"


def _purpose_unchecked() -> AbstractContextManager[None]:
    return edited(consents, "refuse_use", (_ENDED, "if False:"))


CONSENTS: Final = (
    Mutant("release-twice", "gives limits back twice", lambda: _signs(LimitEffect.GIVE_BACK, -2)),
    Mutant("release-on-unknown", "gives limits back before the outcome is known", _release_on_unknown),
    Mutant("consume-twice", "uses limits up twice", lambda: _effects({(_S.SENT, _E.APPROVED): LimitEffect.TAKE})),
    Mutant("in-flight-uncounted", "counts limits without what is in flight", _in_flight_not_counted),
    Mutant("consent-unlocked", "reads the consent without its lock", _unlocked),
    Mutant("consent-locked-weakly", "lets others pay under the consent while it decides", _locked_weakly),
    Mutant("consent-unchecked", "does not check the consent again under its lock", _not_checked_again),
    Mutant("purpose-unchecked", "pays although the purpose to pay was revoked", _purpose_unchecked),
    Mutant("owner-unchecked-at-grant", "lets a consent name another customer's card", _owner_unchecked_at_grant),
    Mutant("owner-unchecked-when-sent", "pays with another customer's card", _owner_unchecked_under_lock),
    Mutant("permission-unchecked-when-sent", "pays with a card that was withdrawn", _permission_unchecked_under_lock),
    Mutant(
        "undone-still-used",
        "gives nothing back when an approved payment is undone",
        lambda: _effects({(_S.REVERSING, _E.REVERSAL_CONFIRMED): LimitEffect.NONE}),
    ),
)
