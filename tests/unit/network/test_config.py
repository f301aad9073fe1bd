"""Network files: the shipped examples load, and a wrong file says which field of which file is wrong."""

import tomllib
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from gateway.network.iso8583.config import Address, NetworkConfigError, load_network, load_networks, network_from
from gateway.network.iso8583.framing import FrameHeader
from tests.support.iso8583_host import BASE

EXAMPLES = Path(__file__).parents[3] / "deploy" / "networks"


def test_the_examples_load() -> None:
    networks = load_networks(EXAMPLES)
    assert set(networks) == {"bcard"}
    bcard, kcard = networks["bcard"], load_networks(EXAMPLES / "examples")["kcard"]
    assert (bcard.dialect, bcard.framing.header) == ("iso87-ascii", FrameHeader.BINARY2)
    assert (kcard.dialect, kcard.framing.header) == ("iso87-bcd", FrameHeader.TPDU)
    assert bcard.addresses == (Address("127.0.0.1", 8583),)
    assert kcard.acquirer_id == "41000200001"


def test_terminal_ids_fill_eight_characters() -> None:
    ids = network_from(BASE, source="x").terminals.ids
    assert ids == ("GW000000", "GW000001", "GW000002", "GW000003")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"dialect": "iso93"}, "dialect: must be 'iso87-ascii' or 'iso87-bcd'"),
        ({"adresses": []}, "adresses: unknown field"),
        ({"addresses": []}, "addresses: "),
        ({"addresses": ["127.0.0.1"]}, 'addresses.0: must be "host:port"'),
        ({"addresses": ["127.0.0.1:99999"]}, 'addresses.0: must be "host:port"'),
        ({"addresses": [":1"]}, 'addresses.0: must be "host:port"'),
        ({"acquirer_id": "41-1"}, "acquirer_id: "),
        ({"window": "512"}, "window: must be a whole number"),
        ({"window": 0}, "window: "),
        ({"answer_timeout_s": float("nan")}, "answer_timeout_s: "),
        ({"answer_timeout_s": 15_000_000}, "answer_timeout_s: must be at most 604800"),
        ({"echo_interval_s": 1e300}, "echo_interval_s: must be at most 604800"),
        ({"breaker": {"open_max_s": 1e300}}, "breaker.open_max_s: must be at most 604800"),
        ({"time_zone": "Mars/Olympus"}, "time_zone: must be an IANA time zone"),
        ({"cutover": "24:00"}, 'cutover: must be "HH:MM"'),
        ({"cutover": "9:00"}, 'cutover: must be "HH:MM"'),
        ({"cutover": 900}, 'cutover: must be "HH:MM"'),
        ({"currencies": ["KRW", "XYZ"]}, "currencies not in ISO 4217: XYZ"),
        ({"terminals": {"prefix": "GATEWAY", "count": 11}}, "terminals: prefix leaves too few characters"),
        ({"terminals": {"prefix": "GW"}}, "terminals.count: field is missing"),
        ({"breaker": {"open_s": 9, "open_max_s": 1}}, "breaker: open_max_s must not be below open_s"),
        ({"response_codes": {"00": {"means": "decline"}}}, "response_codes: 00 cannot be defined anew"),
        ({"response_codes": {"51": {"means": "approve"}}}, "response_codes: 51 is no approval in ISO 8583"),
        ({"response_codes": {"7": {"means": "decline"}}}, "response_codes.7.[key]: must be two letters or digits"),
        ({"response_codes": {"N7": {"means": "declined"}}}, "response_codes.N7.means: must be 'decline'"),
        ({"response_codes": {"N7": {"means": "decline", "reason": "XX"}}}, "response_codes.N7.reason: must be"),
        ({"response_codes": {"N7": {"means": "retry", "settles_inquiry": True}}}, "response_codes.N7: settles_inquiry"),
        ({"unknown_policy": "inquire"}, 'unknown_policy "inquire" needs supports_inquiry = true'),
        ({"backoff_max_s": 0.001}, "backoff_max_s must not be below"),
        ({"frame": "ascii4", "frame_bytes_max": 20_000}, "frame_bytes_max is at most 9999"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(NetworkConfigError) as caught:
        network_from(BASE | change, source="networks/x.toml")
    assert str(caught.value).startswith(f"networks/x.toml: {problem}")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(NetworkConfigError) as caught:
        network_from({"network_id": "x"}, source="f")
    for field in ("addresses", "dialect", "frame", "acquirer_id", "terminals", "currencies", "time_zone"):
        assert f"{field}: field is missing" in str(caught.value)


def test_a_cut_over_is_a_time_of_the_day() -> None:
    assert network_from(BASE, source="x").cutover is None
    assert network_from(BASE | {"cutover": "23:30"}, source="x").cutover == time(23, 30)
    # TOML has times of its own.
    assert network_from(BASE | tomllib.loads("cutover = 23:30:00"), source="x").cutover == time(23, 30)


def test_ipv6_addresses() -> None:
    config = network_from(BASE | {"addresses": ["[::1]:8583"]}, source="x")
    assert config.addresses == (Address("::1", 8583),)
    assert str(config.addresses[0]) == "[::1]:8583"


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NetworkConfigError, match=r"a\.toml: cannot be read: No such file or directory"):
        load_network(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text("network_id = ")
    with pytest.raises(NetworkConfigError, match=r"b\.toml: cannot be read: it is not TOML"):
        load_network(tmp_path / "b.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(NetworkConfigError, match="cannot be read"):
        load_network(tmp_path / "b.toml")


def test_one_network_one_file(tmp_path: Path) -> None:
    with pytest.raises(NetworkConfigError, match="no network file"):
        load_networks(tmp_path)
    text = (EXAMPLES / "bcard.toml").read_text()
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(NetworkConfigError, match=r"b\.toml: network_id: another file"):
        load_networks(tmp_path)
