"""The policy of worlds where proofs are asked for and nobody has one: payments are free, or exempt and capped."""

from datetime import timedelta
from typing import Final

from gateway.identity.exemption_caps import ExemptionCap
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.rules import AssurancePolicy, AssuranceRule, AssuredOperation, Requirement

FREE_MINOR: Final = 4_000
"""Payments up to this much need no proof."""

CAP: Final = ExemptionCap(max_amount_minor=6_000, max_count=3, max_sum_minor=15_000)
"""What consents may let pass above that; their terms say more."""

_ASKED: Final = Requirement(2, timedelta(minutes=5))
_NOTHING: Final = Requirement(0, timedelta(0))


class AskingForProofs(NoIdentityProviders):
    """Implements TrustTable: payments need a proof, commands on consents none."""

    policy = AssurancePolicy(
        (
            AssuranceRule(AssuredOperation.PAYMENT, {"KRW": FREE_MINOR}, _NOTHING),
            AssuranceRule(AssuredOperation.PAYMENT, None, _ASKED),
            *(AssuranceRule(o, None, _NOTHING) for o in AssuredOperation if o is not AssuredOperation.PAYMENT),
        ),
        methods={},
        exemptions={"KRW": CAP},
    )
