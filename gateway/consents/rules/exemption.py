"""The low-value exemption: payments that a consent lets pass without a proof, between two that carry one.

Its count and sum are of the exempt payments since the last authentication, those in flight included. The terms are the
partner's to propose, but how much passes without a proof is the trust policy's to say: terms beyond it are refused
(:func:`refuse_beyond`), and what older terms allow beyond it does not count (:func:`capped`).
"""

from datetime import datetime
from typing import Final

from gateway.consents.rules.limits import WindowKey
from gateway.identity.exemption_caps import ExemptionCaps
from schemas.consents import ConsentTerms, LowValueExemption
from schemas.primitives import Money, decimal_of
from schemas.reasons import Reason, ReasonCode

LIMIT_NAME: Final = "without-proof"
"""As ``mypay consent usage`` names the exemption's limits."""


def refuse_beyond(exemption: LowValueExemption | None, caps: ExemptionCaps) -> Reason | None:
    """Why terms with this exemption are refused: names the member and what the policy allows. None if it fits."""
    if exemption is None or caps is None:
        return None
    currency = exemption.max_amount.currency
    cap = caps.get(currency)
    if cap is None:
        return _beyond("max_amount", f"no payment in {currency} without proof")
    for member, wanted, most in (
        ("max_amount", exemption.max_amount.minor, cap.max_amount_minor),
        ("max_sum", exemption.max_sum.minor, cap.max_sum_minor),
    ):
        if wanted > most:
            return _beyond(member, f"{decimal_of(most, currency)} {currency} at most")
    if exemption.max_count > cap.max_count:
        return _beyond("max_count", f"{cap.max_count} payments at most")
    return None


def capped(exemption: LowValueExemption | None, caps: ExemptionCaps) -> LowValueExemption | None:
    """What counts of an exemption: never more than the policy allows now, whatever the terms say. None: nothing."""
    if exemption is None or caps is None:
        return exemption
    currency = exemption.max_amount.currency
    cap = caps.get(currency)
    if cap is None:
        return None
    if refuse_beyond(exemption, caps) is None:
        return exemption
    return LowValueExemption(
        max_amount=Money.of(min(exemption.max_amount.minor, cap.max_amount_minor), currency),
        max_count=min(exemption.max_count, cap.max_count),
        max_sum=Money.of(min(exemption.max_sum.minor, cap.max_sum_minor), currency),
    )


def exempt_window(terms: ConsentTerms, authenticated_at: datetime | None) -> WindowKey | None:
    """The window that payments without proof count in: it runs from one authenticated payment to the next.

    Not a limit of its own: a payment that does not fit needs a proof. None where the terms have no exemption.
    """
    purpose = terms.payment
    if purpose is None or purpose.low_value_exemption is None:
        return None
    currency = purpose.low_value_exemption.max_amount.currency
    return WindowKey(f"exempt/{currency}", authenticated_at or terms.valid_from)


def _beyond(member: str, allowed: str) -> Reason:
    text = f"terms.payment.low_value_exemption.{member} is beyond the trust policy, which allows {allowed}"
    return Reason(code=ReasonCode.AG01, text=text)


def exemption_allows(exemption: LowValueExemption | None, used_count: int, used_sum_minor: int, amount: Money) -> bool:
    """True if the consent's low-value exemption lets one more payment of ``amount`` pass without an assertion.

    Args:
        exemption: the consent's; None where it has none.
        used_count: exempt payments since the last authentication.
        used_sum_minor: their sum.
        amount: of the payment.
    """
    return (
        exemption is not None
        and amount.currency == exemption.max_amount.currency
        and amount.minor <= exemption.max_amount.minor
        and used_count + 1 <= exemption.max_count
        and used_sum_minor + amount.minor <= exemption.max_sum.minor
    )


def with_exemption_told(
    refused: Reason, exemption: LowValueExemption | None, used_count: int, used_sum_minor: int, amount: Money
) -> Reason:
    """The refusal of a payment that lacks a proof, with the limit of the exemption that it does not fit into.

    Names the limit, its value and what is left. Any other refusal, and one where the exemption is of no concern, is
    returned as it is. The other arguments are those of :func:`exemption_allows`.
    """
    if refused.code is not ReasonCode.DS0A or exemption is None or amount.currency != exemption.max_amount.currency:
        return refused
    currency, until = amount.currency, "left until the next payment with a proof"
    if amount.minor > exemption.max_amount.minor:
        lacks = f"limit {LIMIT_NAME} of {decimal_of(exemption.max_amount.minor, currency)} {currency} per payment"
    elif used_count + 1 > exemption.max_count:
        left = max(0, exemption.max_count - used_count)
        lacks = f"limit {LIMIT_NAME}/count of {exemption.max_count} payments: {left} {until}"
    elif used_sum_minor + amount.minor > exemption.max_sum.minor:
        most = decimal_of(exemption.max_sum.minor, currency)
        left_text = decimal_of(max(0, exemption.max_sum.minor - used_sum_minor), currency)
        lacks = f"limit {LIMIT_NAME}/{currency} of {most} {currency}: {left_text} {currency} {until}"
    else:
        return refused
    return Reason(code=refused.code, text=f"{refused.text}; {lacks}")
