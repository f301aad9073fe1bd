"""What a card network's participant manual says, as a file: addresses, dialect, terminals, timings, policies.

Any ISO 8583:1987 host with one of the known dialects and frame headers is reached by writing such a file; nothing in
the gateway knows one network from another. Durations are seconds, amounts are minor units.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import time
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from gateway.network.iso8583.base import Section
from gateway.network.iso8583.framing import FrameFormat, FrameHeader
from gateway.network.iso8583.sections import Breaker, DefinedCode, LayoutSection, ProcessingCodes, Terminals
from gateway.network.iso8583.tls import TlsSection
from gateway.network.iso8583.wire import Dialect, wire_of
from gateway.network.matching import MatchBy
from gateway.network.response_codes import CodeDefinitionError, ResponseCodes, codes_of
from schemas.primitives import NUMERIC_CODES, CurrencyCode, MerchantCategoryCode, NetworkIdField
from schemas.wording import told

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


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    addresses: Annotated[tuple[Annotated[Address, BeforeValidator(_address)], ...], Field(min_length=1, strict=False)]
    dialect: Literal["iso87-ascii", "iso87-bcd"]
    frame: Literal["binary2", "binary4", "ascii4", "bcd2", "tpdu"]
    acquirer_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,11}$")]
    """DE32."""
    terminals: Terminals
    currencies: Annotated[frozenset[CurrencyCode], Field(min_length=1, strict=False)]
    time_zone: Annotated[ZoneInfo, BeforeValidator(_time_zone)]
    """Zone of DE12 and DE13, the local time of the transaction."""

    # Two, so that the loss of one connection never stops the network.
    links_per_address: Annotated[int, Field(ge=1, le=64)] = 2
    # The filler nibble of odd-length variable BCD fields: F cannot be taken for a digit. Both are read.
    bcd_pad: Literal["F", "0"] = "F"
    # What the host does otherwise than the dialect: bitmap, single fields, a character set, constants.
    layout: LayoutSection = LayoutSection()
    processing_codes: ProcessingCodes = ProcessingCodes()
    # The length in front of a message counts itself too.
    frame_counts_itself: bool = False
    # What an answer must echo beside DE11 to be taken for its request's: see gateway/network/matching.py. The default
    # serves hosts that stamp a DE7 of their own, or leave DE41 out, as long as they echo DE37.
    match_by: Literal["strict", "reference", "terminal", "stan"] = "reference"
    # NAC/TPDU: protocol 60, destination 0001, source 0000. Only used with frame = "tpdu".
    tpdu: Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{10}$")] = "6000010000"
    # Four times the largest message that the field tables are used for; a longer length is a lost frame boundary.
    frame_bytes_max: Annotated[int, Field(ge=64, le=65_535)] = 8192
    # DE22: 01 number entered by hand or from file, 2 no PIN entry capability.
    pos_entry_mode: Annotated[str, StringConstraints(pattern=r"^[0-9]{3}$")] = "012"
    # DE25: 08 card holder and card not present. Networks with a code for electronic commerce use 59.
    pos_condition_code: Annotated[str, StringConstraints(pattern=r"^[0-9]{2}$")] = "08"

    # Without it only loopback addresses are taken, unless the next one says that the line is protected otherwise.
    tls: TlsSection | None = None
    # The bytes, card numbers among them, leave as they are: for a leased line or a tunnel.
    plaintext: bool = False

    # Nearly every acquirer link must be signed on; a host that does not know 0800 needs false, and no echoes.
    sign_on: bool = True
    # Firewalls commonly forget an idle connection after 60 s. Zero: no echoes, for a host that does not know 0800.
    echo_interval_s: Annotated[float, Field(ge=0)] = 30.0
    # An echo is answered by the host itself without asking an issuer.
    echo_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    # One lost echo may be a host's garbage collection; three in a row are a dead peer.
    echo_missed_max: Annotated[int, Field(ge=1)] = 3
    # A TCP handshake that takes longer than a few retransmissions will not come.
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    # How long a host that signed the gateway off is left in peace, unless it signs it on again: a host's change-over.
    sign_off_wait_s: Annotated[float, Field(ge=0)] = 60.0
    # A peer that has not read one socket buffer for this long is stuck.
    write_deadline_s: Annotated[float, Field(gt=0)] = 5.0
    # Above the time-out towards issuers that hosts commonly use (10 s), so that the host's own refusal arrives first.
    answer_timeout_s: Annotated[float, Field(gt=0)] = 15.0
    # In flight over all links: throughput × answer time (1,500/s × 0.3 s), rounded up.
    window: Annotated[int, Field(ge=1, le=100_000)] = 512
    # Full jitter between 0 and a ceiling that doubles from the first to the second.
    backoff_min_s: Annotated[float, Field(gt=0)] = 0.5
    backoff_max_s: Annotated[float, Field(gt=0)] = 30.0
    breaker: Breaker = Breaker()

    # What DE39 means here beyond ISO 8583: [response_codes.N7] and so on. A code that neither defines is unknown.
    response_codes: dict[Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{2}$")], DefinedCode] = Field(
        default_factory=dict
    )

    # Asking first can still end in an approval; reversing always loses the sale. Needs a host that knows the inquiry.
    unknown_policy: Literal["inquire", "reverse"] = "reverse"
    # 0100 with DE3=380000 is a convention of some networks, not a part of ISO 8583:1987.
    supports_inquiry: bool = False
    # The host may still be working on it: asked again after this long, then twice as long each time up to four times.
    inquiry_interval_s: Annotated[float, Field(gt=0)] = 5.0
    # What asking has not settled by then is reversed: the customer waits for the outcome.
    inquiry_deadline_s: Annotated[float, Field(gt=0)] = 60.0
    # Hosts ask not to be repeated to faster than they time out themselves. Doubles with each repeat up to the second.
    reversal_repeat_interval_s: Annotated[float, Field(gt=0)] = 30.0
    reversal_repeat_max_s: Annotated[float, Field(gt=0)] = 300.0
    # Some hosts want the reversals and inquiries of one terminal one after the other, the oldest first. One that cannot
    # be sent at all (its card is gone from the vault) then holds up its terminal until people see to it.
    follow_ups_in_order: bool = False
    # A reversal that is still open after this long needs a person and the network's operator.
    reversal_alert_after_s: Annotated[float, Field(gt=0)] = 900.0

    # When the network closes its day, local time of time_zone: what it approved can be reversed until then. Left out:
    # until it is cleared. A little before the network's own hour, for a reversal takes a moment to get there.
    cutover: Annotated[time | None, BeforeValidator(_time_of_day)] = None

    # Empty: every merchant category (ISO 18245) is accepted.
    categories: Annotated[frozenset[MerchantCategoryCode], Field(strict=False)] = frozenset()
    # What the network charges, for routing alone: parts of ten thousand of the amount, and minor units each.
    cost_basis_points: Annotated[int, Field(ge=0, le=10_000)] = 0
    cost_fixed_minor: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.unknown_policy == "inquire" and not self.supports_inquiry:
            raise ValueError('unknown_policy "inquire" needs supports_inquiry = true')
        if self.tls is not None and self.plaintext:
            raise ValueError("plaintext = true and [tls] exclude each other")
        if self.tls is None and not self.plaintext and not all(_is_loopback(a.host) for a in self.addresses):
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


def _problems(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        place = ".".join(str(part) for part in problem["loc"]) or "file"
        lines.append(f"{place}: {told(problem)}")
    return "; ".join(lines)


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
        text = f"{source}: {_problems(error)}"
    raise NetworkConfigError(text)


_TLS_FILES: Final = ("ca", "certificate", "key")


def load_network(path: Path) -> NetworkConfig:
    """Read one network's TOML file.

    Raises:
        NetworkConfigError: the file cannot be read, is not TOML, or a field is wrong.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NetworkConfigError(f"{path}: cannot be read ({type(error).__name__})") from error
    except tomllib.TOMLDecodeError as error:
        raise NetworkConfigError(f"{path}: is not TOML: {error}") from error
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
