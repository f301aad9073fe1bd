"""The auditor of customers' proofs: who is charged more than is free has proven it, or is exempt within the policy.

It knows of every order and command what was shown with it, for it has read the script.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.proving.memory import Database
from gateway.proving.simulation.checks.states import IN_FLIGHT, STANDING, Report
from gateway.proving.simulation.script.proofs import CAP, FREE_MINOR
from gateway.proving.simulation.script.scene import Script
from gateway.proving.simulation.script.showing import Asked, ProofKind, Shown

PROVEN: Final = "nobody pays without the proof that is asked for"
ONCE: Final = "a proof is used once"
COMMANDED: Final = "nobody gets a permission without the proof that is asked for"
CAPPED: Final = "the policy caps what needs no proof"

_PROVEN_COMMANDS: Final = frozenset({"grant", "amend", "resume"})


class ProofAuditor:
    """Watches one world; where no proofs are asked for it has nothing to say."""

    def __init__(self, database: Database, script: Script, report: Report) -> None:
        self._db = database
        self._script = script
        self._report = report
        # Id of a proof → what it was used for.
        self._used: dict[str, object] = {}
        # Since the last payment with a proof: sent without one, though one is asked for.
        self._exempt: defaultdict[ConsentKey, list[PaymentKey]] = defaultdict(list)
        self._proven_now: set[ConsentKey] = set()

    def intended(self, payment: Payment, consent: Consent, written: Mapping[str, Mapping[Any, Any]]) -> None:
        """Look at a purchase that may be sent."""
        if self._script.asked is not Asked.PROOFS:
            return
        name = f"payment of {payment.order_id} of {payment.amount_minor}"
        key = (payment.partner_id, payment.consent_id)
        found = self._script.shown_in.get(payment.order_digest)
        what = (payment.order_id, payment.consent_id, payment.amount_minor)
        shown = self._script.shown.get(what, []) if found is None else [found]
        # What is free of proof asks for no level of one that is there.
        enough = {ProofKind.GOOD, ProofKind.WEAK} if payment.amount_minor <= FREE_MINOR else {ProofKind.GOOD}
        proof = next((s for s in shown if s.kind in enough), None)
        if proof is not None:
            self._use(proof, payment.key, name)
            self._exempt[key].clear()
            self._proven_now.add(key)
        elif not any(s.kind is ProofKind.NONE for s in shown):
            kinds = " or ".join(s.kind for s in shown) or "nothing"
            self._report(PROVEN, f"{name} is sent on a proof that is {kinds}")
        elif payment.amount_minor > FREE_MINOR:
            self._exempted(name, key, payment, consent, written)

    def _exempted(
        self,
        name: str,
        key: ConsentKey,
        payment: Payment,
        consent: Consent,
        written: Mapping[str, Mapping[Any, Any]],
    ) -> None:
        exempt = self._exempt[key]
        now: Mapping[PaymentKey, Payment] = written.get("payment", {})
        counted = [p for k in exempt if (p := now.get(k) or self._db.payments.rows.get(k)) is not None]
        spent = [p.amount_minor for p in counted if p.state.value in STANDING | IN_FLIGHT]
        exempt.append(payment.key)
        purpose = consent.terms.payment
        if purpose is None or purpose.low_value_exemption is None:
            self._report(PROVEN, f"{name} is sent without a proof, and nothing exempts it")
        elif payment.amount_minor > CAP.max_amount_minor:
            self._report(CAPPED, name)
        elif key not in self._proven_now and (
            len(spent) + 1 > CAP.max_count or sum(spent) + payment.amount_minor > CAP.max_sum_minor
        ):
            # Beside one with a proof in the same commit it is not told which of them came first.
            self._report(CAPPED, f"{name} after {len(spent)} of {sum(spent)} without a proof")

    def committed(self, written: Mapping[str, Mapping[Any, Any]]) -> None:
        """Look at the commands of a commit; its payments were looked at."""
        self._proven_now.clear()
        if self._script.asked is not Asked.PROOFS:
            return
        for (_, consent_id, command_id), handled in written.get("consent_command", {}).items():
            if handled.change is None or handled.command.value not in _PROVEN_COMMANDS:
                continue
            if handled.actor.value == "operator":
                # It answers for what it does.
                continue
            shown = self._script.shown_with.get((consent_id, command_id))
            name = f"{handled.command} of {consent_id} by {command_id}"
            if shown is None or shown.kind is not ProofKind.GOOD:
                self._report(COMMANDED, f"{name}: {shown.kind if shown else 'nothing'}")
            else:
                self._use(shown, (consent_id, command_id), name)

    def _use(self, shown: Shown, what: object, name: str) -> None:
        if self._used.setdefault(shown.jti, what) != what:
            self._report(ONCE, f"{name}: {shown.jti} was used before")
