"""Parts of a network's file that are tables of their own."""

from dataclasses import fields
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from gateway.network.exchange import Operation
from gateway.network.iso8583.base import Seconds, Section
from gateway.network.iso8583.dialect import FIELDS, RULES, Content
from gateway.network.iso8583.layout import DialectName, Encoding, FieldChange, Layout, LengthEncoding
from gateway.network.response_codes import CodeClass, CodeDefinition
from schemas.reasons import ReasonCode

TERMINAL_ID_LENGTH: Final = 8
"""DE41 is ans8."""


class Terminals(Section):
    """The terminal ids (DE41) that the network registered for this gateway: ``prefix`` and a zero-filled number.

    STANs are unique per terminal and day, so ``count`` × 999,999 is the most that can be sent in one day.
    """

    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{0,7}$")]
    """How each terminal id (DE41, 8 characters) begins."""
    count: Annotated[int, Field(ge=1, le=10_000)]
    """How many there are: the prefix and a zero-filled number from 0 on. Each can send 999,999 messages a day."""

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

    open_after_failures: Annotated[int, Field(ge=1)] = 20
    """So many unanswered requests in a row stop sending. Above any honest run of slow answers, far below one window of
    unknown outcomes."""
    open_s: Seconds = 5.0
    """The first pause. Long enough for a host to fail over, short enough that the backlog stays small."""
    open_max_s: Seconds = 60.0
    """What the pause grows to at most: repeated failure doubles it, so that a dead network is not pestered."""
    trial_window: Annotated[int, Field(ge=1)] = 8
    """After the pause so many requests at a time, until one is answered: an answered echo proves the host, not its
    issuers."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.open_max_s < self.open_s:
            raise ValueError("open_max_s must not be below open_s")
        return self


def _reason(value: object) -> object:
    return ReasonCode(value) if isinstance(value, str) and value in set(ReasonCode) else value


class DefinedCode(Section):
    """One DE39 value as the network's manual defines it: ``[response_codes.N7]``."""

    means: Literal["decline", "unknown", "retry", "approve"]
    """`decline`, `unknown`, `retry` or, for a plain approval of what was asked, `approve`."""
    reason: Annotated[ReasonCode, BeforeValidator(_reason)] = ReasonCode.MS03
    """ISO 20022 reason for the partner."""
    text: Annotated[str, StringConstraints(max_length=140)] = ""
    """One sentence for the partner."""
    settles_inquiry: bool = False
    """With `decline`: the code ends an original and never refuses an inquiry, so it settles one."""

    @model_validator(mode="after")
    def _only_declines_settle(self) -> Self:
        if self.settles_inquiry and self.means != "decline":
            raise ValueError('settles_inquiry goes with means = "decline"')
        return self

    @property
    def definition(self) -> CodeDefinition:
        """The same for the decisions."""
        return CodeDefinition(CodeClass(self.means), self.reason, self.text, settles_inquiry=self.settles_inquiry)


class ProcessingCodes(Section):
    """DE3 of what the gateway sends."""

    purchase: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")] = "000000"
    """Of a purchase and its reversal."""
    refund: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")] = "200000"
    """Of a refund and its reversal."""
    inquiry: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")] = "380000"
    """Of an inquiry."""

    def of(self, operation: Operation) -> str:
        """The code of a financial message and of its reversal."""
        return self.purchase if operation is Operation.PURCHASE else self.refund


_Mtis = Annotated[frozenset[Annotated[str, StringConstraints(pattern=r"^0[1-8][0-9]{2}$")]], Field(strict=False)]
_GATEWAYS_OWN: Final = frozenset({2, 3, 4, 7, 11, 12, 13, 14, 18, 22, 25, 32, 37, 38, 39, 41, 42, 43, 49, 70, 90})
"""Fields that the gateway fills or judges: their encoding may differ at a network, their content not."""
_ALWAYS_SENT: Final = frozenset({3, 4, 7, 11, 37, 39, 41, 49, 70, 90})


class FieldSection(Section):
    """One data element that a network has otherwise: ``[layout.fields.55]``. What is left out is as in the dialect."""

    content: Annotated[Content | None, Field(alias="class", strict=False)] = None
    """Written `class`: `n`, `an`, `ans`, `b`, `x+n` or `z`."""
    length: Annotated[int | None, Field(ge=1, le=9999)] = None
    """The exact length, or the longest with `length_digits`; in characters, for class b in bytes."""
    length_digits: Annotated[int | None, Field(ge=0, le=4)] = None
    """0: fixed length; else how many decimal digits the length prefix has."""
    encoding: Annotated[Encoding | None, Field(strict=False)] = None
    """`text`, `bcd`, `binary` or `hex`."""
    length_encoding: Annotated[LengthEncoding | None, Field(strict=False)] = None
    """Of the prefix: `ascii`, `bcd` or `binary`."""
    constant: Annotated[str, StringConstraints(min_length=1, max_length=999)] | None = None
    """A value that is always sent."""
    sent_in: _Mtis = frozenset()
    """The MTIs in which the gateway sends the constant."""
    mandatory_in: _Mtis = frozenset()
    """MTIs that must carry it, whether the gateway or the host sends them."""
    omit_in: _Mtis = frozenset()
    """MTIs that the gateway sends without it."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if (self.constant is None) != (not self.sent_in):
            raise ValueError("constant and sent_in go together")
        return self

    @property
    def change(self) -> FieldChange:
        """The same as data of the layout."""
        return FieldChange(**{f.name: getattr(self, f.name) for f in fields(FieldChange)})


_FITTING: Final = {
    Content.N: {Encoding.TEXT, Encoding.PACKED},
    Content.Z: {Encoding.TEXT, Encoding.PACKED},
    Content.XN: {Encoding.TEXT, Encoding.PACKED},
    Content.AN: {Encoding.TEXT},
    Content.ANS: {Encoding.TEXT},
    Content.B: {Encoding.BINARY, Encoding.HEX},
}


class LayoutSection(Section):
    """What a network does otherwise than its dialect: ``[layout]``."""

    mti: Literal["text", "bcd"] | None = None
    """`text` or `bcd`."""
    bitmap: Literal["hex", "binary"] | None = None
    """`hex` or `binary`."""
    charset: str = "ascii"
    """Of text that decides nothing (DE43, 44, 48, 54 …): `ascii`, `euc-kr`, `utf-8` …"""
    fields: dict[Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,2}$")], FieldSection] = Field(
        default_factory=dict
    )
    """What a single data element has otherwise, by its number: `[layout.fields.55]`."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            "a".encode(self.charset)
        except (LookupError, UnicodeError) as error:
            raise ValueError("charset is not known") from error
        for key, section in self.fields.items():
            self._check_field(int(key), section)
        return self

    @staticmethod
    def _check_field(number: int, section: FieldSection) -> None:
        if number not in FIELDS:
            raise ValueError(f"fields.{number}: ISO 8583:1987 has no such field")
        if number in _GATEWAYS_OWN and (section.content, section.length, section.constant) != (None, None, None):
            raise ValueError(f"fields.{number}: class and length stand, and the gateway fills it")
        if number in _ALWAYS_SENT and section.omit_in:
            raise ValueError(f"fields.{number}: cannot be left out")
        for mti in section.mandatory_in | section.sent_in:
            sent = mti in RULES and RULES[mti].response is not None
            if sent and number not in _GATEWAYS_OWN and mti not in section.sent_in:
                raise ValueError(
                    f"fields.{number}: mandatory in {mti}, which the gateway sends, but without a constant"
                )
            if mti in section.sent_in and not sent:
                raise ValueError(f"fields.{number}: {mti} is not sent by the gateway")

    def layout(self, dialect: DialectName, bcd_pad: str) -> Layout:
        """The dialect with these changes.

        Raises:
            ValueError: a field's class and encoding do not go together, or a constant does not fit.
        """
        layout = Layout(
            dialect,
            bcd_pad,
            Encoding(self.mti) if self.mti else None,
            Encoding(self.bitmap) if self.bitmap else None,
            self.charset,
            {int(key): section.change for key, section in self.fields.items()},
        )
        for number, format_ in layout.formats().items():
            if format_.encoding not in _FITTING[format_.content]:
                raise ValueError(f"layout.fields.{number}: class {format_.content} is not sent as {format_.encoding}")
            if format_.length_digits and format_.length >= 10**format_.length_digits:
                raise ValueError(f"layout.fields.{number}: length does not fit its {format_.length_digits} digits")
        return layout
