"""Parts of a network's file that are tables of their own."""

from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from gateway.domain.response_codes import CodeClass, CodeDefinition
from schemas.reasons import ReasonCode

TERMINAL_ID_LENGTH: Final = 8
"""DE41 is ans8."""


class Section(BaseModel):
    """Base of every table: frozen, closed, and silent about its input when it refuses it."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, validate_default=True
    )


class Terminals(Section):
    """The terminal ids (DE41) that the network registered for this gateway: ``prefix`` and a zero-filled number.

    STANs are unique per terminal and day, so ``count`` × 999,999 is the most that can be sent in one day.
    """

    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{0,7}$")]
    count: Annotated[int, Field(ge=1, le=10_000)]

    @model_validator(mode="after")
    def _numbers_fit(self) -> Self:
        if self.count > 10 ** (TERMINAL_ID_LENGTH - len(self.prefix)):
            raise ValueError(f"prefix leaves too few characters of {TERMINAL_ID_LENGTH} for count numbers")
        return self

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """All terminal ids, eight characters each, in order."""
        width = TERMINAL_ID_LENGTH - len(self.prefix)
        return tuple(f"{self.prefix}{number:0{width}d}" for number in range(self.count))


class Breaker(Section):
    """When to stop sending to a network that does not answer."""

    # Above any honest run of slow answers, far below one window of unknown outcomes.
    open_after_failures: Annotated[int, Field(ge=1)] = 20
    # Long enough for a host to fail over, short enough that the backlog stays small.
    open_s: Annotated[float, Field(gt=0)] = 5.0
    # Repeated failure doubles the pause up to here, so that a dead network is not pestered.
    open_max_s: Annotated[float, Field(gt=0)] = 60.0
    # An answered echo proves the host, not its issuers: this many requests at a time until one is answered.
    trial_window: Annotated[int, Field(ge=1)] = 8

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.open_max_s < self.open_s:
            raise ValueError("open_max_s must not be below open_s")
        return self


def _reason(value: object) -> object:
    return ReasonCode(value) if isinstance(value, str) and value in set(ReasonCode) else value


class DefinedCode(Section):
    """One DE39 value as the network's manual defines it: ``[response_codes.N7]``.

    Attributes:
        means: ``decline``, ``unknown``, ``retry`` or, for a plain approval of what was asked, ``approve``.
        reason: ISO 20022, for the partner.
        text: one sentence for the partner.
        settles_inquiry: with ``decline``: no inquiry is ever refused with it.
    """

    means: Literal["decline", "unknown", "retry", "approve"]
    reason: Annotated[ReasonCode, BeforeValidator(_reason)] = ReasonCode.MS03
    text: Annotated[str, StringConstraints(max_length=140)] = ""
    settles_inquiry: bool = False

    @model_validator(mode="after")
    def _only_declines_settle(self) -> Self:
        if self.settles_inquiry and self.means != "decline":
            raise ValueError('settles_inquiry goes with means = "decline"')
        return self

    @property
    def definition(self) -> CodeDefinition:
        """The same for the decisions."""
        return CodeDefinition(CodeClass(self.means), self.reason, self.text, settles_inquiry=self.settles_inquiry)
