"""The simulated network's settings: one TOML file, checked whole, refused by the name of the wrong key.

Rates are probabilities 0 … 1 per message; times name their unit. Nothing here is read by the gateway: a network is
configured there by its own file, as any foreign host would be.
"""

import ssl
import tomllib
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from gateway.network.iso8583.framing import FrameHeader
from gateway.network.iso8583.layout import DialectName, Layout
from gateway.network.iso8583.sections import LayoutSection, ProcessingCodes

Rate = Annotated[float, Field(ge=0, le=1)]
ResponseCode = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{2}$")]
"""DE39, two characters."""


class Section(BaseModel):
    """Base of every section: frozen, closed, and silent about its input when it refuses it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


@unique
class MessageClass(StrEnum):
    """The three kinds of request that concern money."""

    FINANCIAL = "financial"
    REVERSAL = "reversal"
    INQUIRY = "inquiry"


@unique
class Silence(StrEnum):
    """What a silent network does with what it receives: it never answers, but it may still book."""

    OFF = "off"
    APPLY = "apply"
    IGNORE = "ignore"


@unique
class OnDuplicate(StrEnum):
    """The answer to a repeated 0200; none of them books twice."""

    REPLAY = "replay"
    REFUSE_94 = "refuse_94"


@unique
class OnLateOriginal(StrEnum):
    """A 0200 that arrives after its own reversal was answered 25 (unable to locate the original)."""

    DECLINE = "decline"
    REVERSE = "reverse"
    APPLY = "apply"


@unique
class OnUnsigned(StrEnum):
    """Traffic on a link that has not signed on."""

    REFUSE_91 = "refuse_91"
    CLOSE = "close"


@unique
class OnClearedReversal(StrEnum):
    """A reversal of what an earlier clearing file already holds: undone in the next file, or refused."""

    ADJUST = "adjust"
    REFUSE = "refuse"


@unique
class Synchronous(StrEnum):
    """SQLite's ``synchronous``: NORMAL survives a killed process, FULL a power cut as well."""

    NORMAL = "normal"
    FULL = "full"


class Declines(Section):
    """Which purchases and refunds are refused, and with what DE39. The first that matches wins, in this order.

    Attributes:
        last4: last four digits of the card → code.
        pan_hashes: keyed hash of the card (hex, see ``pan_hash_key``) → code.
        amount_suffixes: trailing digits of ``amount_minor`` → code; the longest suffix wins.
        random_rate: share refused with ``random_code``, a function of the seed and the message's key alone.
    """

    last4: dict[Annotated[str, StringConstraints(pattern=r"^\d{4}$")], ResponseCode] = {}
    pan_hashes: dict[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")], ResponseCode] = {}
    amount_suffixes: dict[Annotated[str, StringConstraints(pattern=r"^\d{1,12}$")], ResponseCode] = {}
    random_rate: Rate = 0.0
    random_code: ResponseCode = "05"


class Policy(Section):
    """How the network behaves where hosts differ.

    Attributes:
        own_time: answers carry the host's own time in DE7, not the request's.
        omits_terminal: answers leave DE41 out.
    """

    on_duplicate: OnDuplicate = OnDuplicate.REPLAY
    on_late_original: OnLateOriginal = OnLateOriginal.DECLINE
    late_original_code: ResponseCode = "12"
    on_unsigned: OnUnsigned = OnUnsigned.REFUSE_91
    on_cleared_reversal: OnClearedReversal = OnClearedReversal.ADJUST
    answers_inquiry: bool = True
    own_time: bool = False
    omits_terminal: bool = False


class Latency(Section):
    """Time between the commit of a transaction and its answer: ``base_ms`` ± ``jitter_ms``, evenly spread."""

    base_ms: Annotated[float, Field(ge=0, le=60_000)] = 0.0
    jitter_ms: Annotated[float, Field(ge=0, le=60_000)] = 0.0


class Faults(Section):
    """What goes wrong, for the message classes named; drawn from a seeded stream in order of arrival.

    Attributes:
        drop_before_apply: neither booked nor answered.
        drop_after_apply: booked, never answered.
        close_before_apply: the link is closed; nothing is booked.
        close_after_apply: booked, and the link is closed instead of an answer.
        late: answered ``late_ms`` after the usual time.
        duplicate_answer: the answer is sent twice.
        other_link: answered on another signed-on link, where there is one.
        garbled: the answer's body cannot be decoded; its frame is whole.
        wrong_amount: DE4 of the answer is one minor unit above the request's.
        wrong_rrn: DE37 of the answer is not the request's.
        unlisted: DE39 of the answer is one that no standard lists, whatever was booked.
        noisy: DE12 and DE63 of the answer hold what nobody can read: another character set, separators, 24 o'clock.
        silence: overrides all of the above; ``silence_seconds`` ends it by itself (None: until it is set back).
        ignore_management: 0800 is not answered, so sign-on and echo time out.
        refuse_sign_on: sign-on is answered 91.
    """

    classes: frozenset[MessageClass] = frozenset(MessageClass)
    drop_before_apply: Rate = 0.0
    drop_after_apply: Rate = 0.0
    close_before_apply: Rate = 0.0
    close_after_apply: Rate = 0.0
    late: Rate = 0.0
    late_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 5_000
    duplicate_answer: Rate = 0.0
    other_link: Rate = 0.0
    garbled: Rate = 0.0
    wrong_amount: Rate = 0.0
    wrong_rrn: Rate = 0.0
    unlisted: Rate = 0.0
    noisy: Rate = 0.0
    silence: Silence = Silence.OFF
    silence_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    ignore_management: bool = False
    refuse_sign_on: bool = False


class ClearingFaults(Section):
    """How many records of one clearing file are wrong. The ledger stays right: only the file lies.

    Attributes:
        omit: booked as cleared, missing from the file.
        duplicate: written twice.
        wrong_amount: one minor unit too much.
        clear_reversed: reversed transactions written as if they stood.
        garbage: lines that are no record.
        wrong_trailer: the trailer's count and sum are off by one; otherwise they describe the lines as written.
    """

    omit: Annotated[int, Field(ge=0)] = 0
    duplicate: Annotated[int, Field(ge=0)] = 0
    wrong_amount: Annotated[int, Field(ge=0)] = 0
    clear_reversed: Annotated[int, Field(ge=0)] = 0
    garbage: Annotated[int, Field(ge=0)] = 0
    wrong_trailer: bool = False


class Clearing(Section):
    """When and where clearing files are written; without a directory no cycle can be closed.

    Attributes:
        seal_key: file with a secret in hexadecimal, under which each file gets its HMAC-SHA256 beside it.
    """

    directory: Path | None = None
    seal_key: Path | None = None
    cycle_seconds: Annotated[float, Field(gt=0)] | None = None
    close_on_stop: bool = False
    faults: ClearingFaults = ClearingFaults()


class Ledger(Section):
    """The network's own books.

    Attributes:
        path: SQLite file; created with its schema when missing.
        commit_window_ms: how long the first request of a batch waits for others. 4 ms is little beside a network's
            own latency and makes batches of two dozen at 6,000 requests a second, a third less work than at 1 ms.
        batch_max: requests per transaction; bounds the time that encoding one batch holds the event loop.
    """

    path: Path
    synchronous: Synchronous = Synchronous.NORMAL
    commit_window_ms: Annotated[float, Field(ge=0, le=1_000)] = 4.0
    batch_max: Annotated[int, Field(ge=1, le=1_000)] = 256


class Tls(Section):
    """The host's side of TLS, PEM files. ``client_ca``: who connects must show a certificate signed by it."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    minimum_version: Literal["1.2", "1.3"] = "1.2"

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            OSError: one cannot be read or used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = getattr(ssl.TLSVersion, f"TLSv{self.minimum_version.replace('.', '_')}")
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(cafile=self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class SimulatorConfig(Section):
    """Everything about one simulated network.

    Attributes:
        network_id: names the network in clearing files.
        port: 0 takes a free one.
        seed: of random declines, faults and latency.
        echo_seconds: interval of the host's own 0800/301 on signed-on links; None sends none.
        control_port: of the control interface on 127.0.0.1; None: none; 0: a free one.
        layout, processing_codes: what it does otherwise than the dialect, as in the gateway's file of the network.
        header_counts_itself: the length in front of a message counts itself too.
        tls: without it the host speaks plaintext.
        pan_hash_key: with it the ledger holds a keyed hash of each card beside its last four digits.
    """

    network_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,34}$")] = "simnet"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    dialect: DialectName = "iso87-ascii"
    layout: LayoutSection = LayoutSection()
    processing_codes: ProcessingCodes = ProcessingCodes()
    header: FrameHeader = FrameHeader.BINARY2
    header_counts_itself: bool = False
    seed: int = 0
    echo_seconds: Annotated[float, Field(gt=0)] | None = None
    control_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    pan_hash_key: SecretStr | None = Field(default=None, min_length=16, max_length=64)
    tls: Tls | None = None
    ledger: Ledger
    declines: Declines = Declines()
    policy: Policy = Policy()
    latency: Latency = Latency()
    faults: Faults = Faults()
    clearing: Clearing = Clearing()

    @property
    def wire_layout(self) -> Layout:
        """The dialect with what ``layout`` changes of it."""
        return self.layout.layout(self.dialect, "F")


def load(file: Path | None, overrides: dict[str, Any]) -> SimulatorConfig:
    """Read the TOML file, if any, and lay the overrides over it; nested sections are merged key by key.

    Raises:
        OSError: the file cannot be read.
        tomllib.TOMLDecodeError: it is not TOML.
        pydantic.ValidationError: a key is unknown, missing or out of range.
    """
    given = tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    return SimulatorConfig.model_validate(_merge(given, overrides))


def _merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in override.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
