"""Bugs in what customers' proofs are taken for."""

from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Final

from gateway.consents import commands
from gateway.identity import rules
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.payments import execution
from gateway.payments.rules import intent as intents
from gateway.proving.simulation.bugs.planting import Mutant, edited, replaced


def _used_twice() -> AbstractContextManager[None]:
    return edited(execution, "use_proofs", ("for key, use in uses.items() if use in refused", "for key, use in ()"))


def _command_used_twice() -> AbstractContextManager[None]:
    return edited(commands, "_with_replayed", ("trust.replayed | replayed", "trust.replayed"))


def _anybodys() -> AbstractContextManager[None]:
    return edited(rules, "_refuse_by_link", ("if linked != customer_id:", "if linked is None:"))


def _unlinked() -> AbstractContextManager[None]:
    return edited(rules, "_refuse_by_link", ("if linked != customer_id:", "if linked not in (None, customer_id):"))


def _for_any_amount() -> AbstractContextManager[None]:
    kind, fields, _ = rules._PAYMENT_SHAPE  # noqa: SLF001 - planted inside of it
    fields = tuple(f for f in fields if f != "amount")
    return replaced(rules, "_PAYMENT_SHAPE", (kind, fields, attrgetter(*fields)))


def _of_any_level() -> AbstractContextManager[None]:
    return edited(rules, "_refuse_by_strength", ("if level < requirement.level:", "if level < 1:"))


def _of_any_age() -> AbstractContextManager[None]:
    old = "if now - assertion.authenticated_at > requirement.max_age + CLOCK_SKEW_MAX:"
    return edited(rules, "_refuse_by_strength", (old, "if assertion.authenticated_at > now + CLOCK_SKEW_MAX:"))


def _unverified() -> AbstractContextManager[None]:
    return edited(JwsAssertionVerifier, "_verify", ("if not verify(signed, _decoded(parts[2])):", "if not verify:"))


def _not_asked_for() -> AbstractContextManager[None]:
    return edited(intents, "judge_payment_assertion", ("if exempt or requirement.level == 0:", "if exempt or order:"))


def _not_asked_for_commands() -> AbstractContextManager[None]:
    return edited(rules, "_judge_giving", ("if requirement.level == 0:", "if link:"))


def _exempt_uncounted() -> AbstractContextManager[None]:
    window = "return window if exempt and _proof_is_asked(trust.policy, received.order.amount) else None"
    return edited(intents, "_judge_proof", (window, "return None"))


def _exempt_sum_uncounted() -> AbstractContextManager[None]:
    spent = "spent = (used.taken_count, used.taken_minor)"
    return edited(intents, "_judge_proof", (spent, "spent = (used.taken_count, 0)"))


PROOFS: Final = (
    Mutant("proof-used-twice", "accepts a proof whose id another payment has used", _used_twice),
    Mutant("command-proof-used-twice", "lets a command be proven by what proved another", _command_used_twice),
    Mutant("proof-of-another", "accepts the proof of another customer", _anybodys),
    Mutant("proof-of-nobody", "accepts a proof of somebody who is linked to no customer", _unlinked),
    Mutant("proof-for-any-amount", "accepts a proof for another amount", _for_any_amount),
    Mutant("proof-of-any-level", "accepts a proof that is too weak", _of_any_level),
    Mutant("proof-of-any-age", "accepts a proof that is too old", _of_any_age),
    Mutant("proof-unverified", "does not look at a proof's signature", _unverified),
    Mutant("proof-not-asked-for", "asks nobody for a proof of a payment", _not_asked_for),
    Mutant("command-proof-not-asked-for", "asks nobody for a proof of a command", _not_asked_for_commands),
    Mutant("exemption-uncounted", "counts no payments that pass without a proof", _exempt_uncounted),
    Mutant("exemption-sum-uncounted", "counts them, and not what they come to", _exempt_sum_uncounted),
)
