"""What a card network's participant manual says, as a file: addresses, dialect, terminals, timings, policies.

Any ISO 8583:1987 host with one of the known dialects and frame headers is reached by writing such a file; nothing in
the gateway knows one network from another. Durations are seconds, amounts are minor units.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import time
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from gateway.base.causes import cause_of
from gateway.base.loopback import is_loopback
from gateway.network.iso8583.base import Seconds, SecondsOrNone, Section
from gateway.network.iso8583.framing import FrameFormat, FrameHeader
from gateway.network.iso8583.sections import Breaker, DefinedCode, LayoutSection, ProcessingCodes, Terminals
from gateway.network.iso8583.tls import TlsSection
from gateway.network.iso8583.wire import Dialect, wire_of
from gateway.network.matching import MatchBy
from gateway.network.response_codes import CodeDefinitionError, ResponseCodes, codes_of
from schemas.primitives import NUMERIC_CODES, CurrencyCode, MerchantCategoryCode, NetworkIdField
from schemas.wording import faults_of

_TIME_OF_DAY: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class NetworkConfigError(ValueError):
    """A network's file cannot be used; the text names the file and every field that is wrong, never a value."""


class Address(NamedTuple):
    """Where a host listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if colon and host and port.isascii() and port.isdigit() and 0 < int(port) <= 65535:
            return Address(host, int(port))
    raise ValueError('must be "host:port"')


def _time_zone(value: object) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must be an IANA time zone") from error


def _time_of_day(value: object) -> time | None:
    if value is None or (isinstance(value, time) and value.tzinfo is None):
        return value
    if isinstance(value, str) and _TIME_OF_DAY.fullmatch(value):
        return time.fromisoformat(value)
    raise ValueError('must be "HH:MM"')


class NetworkConfig(Section):
    """One card network. Load it with :func:`load_network`."""

    network_id: NetworkIdField
    """The network's name: in topics, in `mypay run execution --network`, in every table."""
    addresses: Annotated[tuple[Annotated[Address, BeforeValidator(_address)], ...], Field(min_length=1, strict=False)]
    """Where its hosts listen: `["host:port", …]`."""
    dialect: Literal["iso87-ascii", "iso87-bcd"]
    """How messages lie on the wire: everything ASCII, or digits packed. `[layout]` changes single parts of it."""
    frame: Literal["binary2", "binary4", "ascii4", "bcd2", "tpdu"]
    """What stands in front of each message: its length as 2 or 4 bytes, as 4 ASCII digits, as 2 packed bytes, or a
    TPDU."""
    acquirer_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,11}$")]
    """DE32: the number that the network gave this gateway."""
    terminals: Terminals
    """The terminal ids that the network registered for this gateway."""
    currencies: Annotated[frozenset[CurrencyCode], Field(min_length=1, strict=False)]
    """ISO 4217 codes of the currencies that it takes."""
    time_zone: Annotated[ZoneInfo, BeforeValidator(_time_zone)]
    """Zone of DE12 and DE13, the local time of the transaction."""

    links_per_address: Annotated[int, Field(ge=1, le=64)] = 2
    """TCP connections to each address. Two, so that the loss of one never stops the network."""
    bcd_pad: Literal["F", "0"] = "F"
    """The filler of packed variable fields of odd length. F cannot be taken for a digit; both are read."""
    layout: LayoutSection = LayoutSection()
    """What the host does otherwise than the dialect: bitmap, single fields, a character set, constants."""
    processing_codes: ProcessingCodes = ProcessingCodes()
    """DE3 of what the gateway sends, where the network has codes of its own."""
    frame_counts_itself: bool = False
    """The length in front of a message counts itself too."""
    match_by: Literal["strict", "reference", "terminal", "stan"] = "reference"
    """What an answer must echo beside DE11 to be its request's. The default serves hosts that stamp a DE7 of their own,
    or leave DE41 out, as long as they echo DE37."""
    tpdu: Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{10}$")] = "6000010000"
    """NAC/TPDU: protocol 60, destination 0001, source 0000. Only used with `frame = "tpdu"`."""
    frame_bytes_max: Annotated[int, Field(ge=64, le=65_535)] = 8192
    """The longest message. Four times the largest that the field tables are used for: a longer length is a lost frame
    boundary."""
    pos_entry_mode: Annotated[str, StringConstraints(pattern=r"^[0-9]{3}$")] = "012"
    """DE22: 01 number entered by hand or from file, 2 no PIN entry capability."""
    pos_condition_code: Annotated[str, StringConstraints(pattern=r"^[0-9]{2}$")] = "08"
    """DE25: 08 card holder and card not present. Networks with a code for electronic commerce use 59."""

    tls: TlsSection | None = None
    """TLS of every link. Without it only loopback addresses are taken, unless `plaintext` says that the line is
    safe."""
    plaintext: bool = False
    """Let bytes, card numbers among them, leave as they are: for a leased line or a tunnel."""

    sign_on: bool = True
    """Sign on at each link, as nearly every host asks. A host that does not know 0800 needs false, and no echoes."""
    echo_interval_s: SecondsOrNone = 30.0
    """Pause between echoes. Firewalls commonly forget an idle connection after 60 s. 0: no echoes."""
    echo_timeout_s: Seconds = 5.0
    """How long the answer to an echo is waited for. The host gives it without asking an issuer."""
    echo_missed_max: Annotated[int, Field(ge=1)] = 3
    """After so many lost echoes in a row a link is dead. One may be a host's garbage collection."""
    connect_timeout_s: Seconds = 5.0
    """How long a TCP connection may take. One that takes more than a few retransmissions will not come."""
    sign_off_wait_s: SecondsOrNone = 60.0
    """How long a host that signed the gateway off is left in peace, unless it signs it on again: a host's
    change-over."""
    write_deadline_s: Seconds = 5.0
    """A peer that has not read one socket buffer for this long is stuck: its link is closed."""
    answer_timeout_s: Seconds = 15.0
    """How long an answer is waited for. Above the time-out that hosts commonly have towards issuers (10 s), so that the
    host's own refusal arrives first."""
    window: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Requests in flight over all links: throughput × answer time (1,500/s × 0.3 s), rounded up."""
    backoff_min_s: Seconds = 0.5
    """The first pause before a link is opened again: random between 0 and this, which then doubles."""
    backoff_max_s: Seconds = 30.0
    """What that pause grows to at most."""
    breaker: Breaker = Breaker()
    """When to stop sending to a network that does not answer."""

    response_codes: dict[Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{2}$")], DefinedCode] = Field(
        default_factory=dict
    )
    """What DE39 means here beyond ISO 8583: `[response_codes.N7]` and so on. A code that neither defines is unknown."""

    unknown_policy: Literal["inquire", "reverse"] = "reverse"
    """What is done when no answer comes: `reverse` undoes the payment at once, which loses the sale; `inquire` asks
    first, which may still end in an approval and needs a host that knows the inquiry."""
    supports_inquiry: bool = False
    """The host knows the inquiry, 0100 with DE3 380000: a convention of some networks, no part of ISO 8583:1987."""
    inquiry_interval_s: Seconds = 5.0
    """An inquiry that settled nothing is repeated after this long, then after twice as long, up to four times as
    long."""
    inquiry_deadline_s: Seconds = 60.0
    """What asking has not settled by then is reversed: the customer waits for the outcome."""
    reversal_repeat_interval_s: Seconds = 30.0
    """A reversal that was not confirmed is repeated after this long, then after twice as long. Hosts ask not to be
    repeated to faster than they time out themselves."""
    reversal_repeat_max_s: Seconds = 300.0
    """What that pause grows to at most."""
    follow_ups_in_order: bool = False
    """Send the reversals and inquiries of one terminal one after the other, the oldest first, as some hosts want. One
    that cannot be sent at all (its card is gone from the vault) then holds up its terminal until people see to it."""
    reversal_alert_after_s: Seconds = 900.0
    """A reversal that is still open after this long needs a person and the network's operator."""

    cutover: Annotated[time | None, BeforeValidator(_time_of_day)] = None
    """When the network closes its day, local time of time_zone: what it approved can be reversed until then. Left out:
    until it is cleared. A little before the network's own hour, for a reversal takes a moment to get there."""

    categories: Annotated[frozenset[MerchantCategoryCode], Field(strict=False)] = frozenset()
    """Merchant categories (ISO 18245) that it takes; empty: all."""
    cost_basis_points: Annotated[int, Field(ge=0, le=10_000)] = 0
    """What the network charges, for routing alone: ten-thousandths of the amount."""
    cost_fixed_minor: Annotated[int, Field(ge=0)] = 0
    """What it charges for each payment beside that, in minor units."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.unknown_policy == "inquire" and not self.supports_inquiry:
            raise ValueError('unknown_policy "inquire" needs supports_inquiry = true')
        if self.tls is not None and self.plaintext:
            raise ValueError("plaintext = true and [tls] exclude each other")
        if self.tls is None and not self.plaintext and not all(is_loopback(a.host) for a in self.addresses):
            raise ValueError("an address that is not loopback needs [tls], or plaintext = true where the line is safe")
        if self.reversal_repeat_max_s < self.reversal_repeat_interval_s:
            raise ValueError("reversal_repeat_max_s must not be below reversal_repeat_interval_s")
        if self.backoff_max_s < self.backoff_min_s:
            raise ValueError("backoff_max_s must not be below backoff_min_s")
        if unknown := sorted(self.currencies - NUMERIC_CODES.keys()):
            raise ValueError(f"currencies not in ISO 4217: {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _wire_fits(self) -> Self:
        if self.frame in {"ascii4", "bcd2"} and self.frame_bytes_max > 9999:
            raise ValueError("frame_bytes_max is at most 9999 with four digits of length")
        wire = wire_of(self.layout.layout(self.dialect, self.bcd_pad))
        for number, value in {n: value for fields in wire.constants.values() for n, value in fields.items()}.items():
            if wire.fields[number].check(value) is None:
                raise ValueError(f"layout.fields.{number}: its constant does not fit its class and length")
        try:
            codes_of({code: defined.definition for code, defined in self.response_codes.items()})
        except CodeDefinitionError as error:
            raise ValueError(f"response_codes: {error}") from error
        return self

    @cached_property
    def codes(self) -> ResponseCodes:
        """What DE39 means at this network."""
        return codes_of({code: defined.definition for code, defined in self.response_codes.items()})

    @cached_property
    def wire(self) -> Dialect:
        """How ``dialect``, ``bcd_pad`` and ``layout`` put fields on the wire."""
        return wire_of(self.layout.layout(self.dialect, self.bcd_pad))

    @cached_property
    def matching(self) -> MatchBy:
        """What ``match_by`` names."""
        return MatchBy(self.match_by)

    @cached_property
    def framing(self) -> FrameFormat:
        """The frame header that ``frame``, ``tpdu``, ``frame_bytes_max`` and ``frame_counts_itself`` name."""
        return FrameFormat(
            FrameHeader(self.frame),
            tpdu=bytes.fromhex(self.tpdu),
            bytes_max=self.frame_bytes_max,
            counts_itself=self.frame_counts_itself,
        )


def network_from(data: Mapping[str, Any], *, source: str) -> NetworkConfig:
    """Check one network's settings.

    Args:
        data: the settings, as TOML gives them.
        source: what to call them in an error.

    Raises:
        NetworkConfigError: naming ``source`` and every field that is missing, unknown or wrong.
    """
    try:
        return NetworkConfig.model_validate(dict(data))
    except ValidationError as error:
        text = f"{source}: {faults_of(error)}"
    raise NetworkConfigError(text)


_TLS_FILES: Final = ("ca", "certificate", "key")


def load_network(path: Path) -> NetworkConfig:
    """Read one network's TOML file.

    Raises:
        NetworkConfigError: the file cannot be read, is not TOML, or a field is wrong.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NetworkConfigError(f"{path}: cannot be read: {cause_of(error)}") from error
    tls = data.get("tls")
    if isinstance(tls, dict):
        files = {name: str(path.parent / tls[name]) for name in _TLS_FILES if isinstance(tls.get(name), str)}
        data["tls"] = {**tls, **files}
    return network_from(data, source=str(path))


def load_networks(directory: Path) -> dict[str, NetworkConfig]:
    """Read every ``*.toml`` of a directory, by network id.

    Raises:
        NetworkConfigError: as :func:`load_network`, or there is none, or two files name the same network.
    """
    networks: dict[str, NetworkConfig] = {}
    for path in sorted(directory.glob("*.toml")):
        config = load_network(path)
        if config.network_id in networks:
            raise NetworkConfigError(f"{path}: network_id: another file already names this network")
        networks[config.network_id] = config
    if not networks:
        raise NetworkConfigError(f"{directory}: no network file (*.toml)")
    return networks
