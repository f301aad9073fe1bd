"""The simulated card networks of a run: their settings, the gateway's files about them, and their control interface."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.proving.traffic.mix import DECLINES

ANSWER_TIMEOUT_S: Final = 3.0
"""The simulated network answers within milliseconds, on a busy machine within a second; and a run stays short."""

_SIMULATORS: Final[Mapping[str, Mapping[str, str]]] = {
    "bcard": {"dialect": "iso87-ascii", "header": "binary2"},
    "kcard": {"dialect": "iso87-bcd", "header": "tpdu"},
}
NETWORKS: Final = tuple(_SIMULATORS)

_GATEWAY: Final = """\
# Written by a run of `mypay demo`, `mypay bench` or `mypay prove`; see deploy/networks for files with explanations.
network_id = "{network_id}"
addresses = ["127.0.0.1:{port}"]
links_per_address = 2
dialect = "{dialect}"
frame = "{header}"
acquirer_id = "410001"
time_zone = "Asia/Seoul"
currencies = {currencies}
{only}cost_basis_points = {cost}
unknown_policy = "{policy}"
supports_inquiry = {answers}
answer_timeout_s = {answer_timeout_s}
inquiry_interval_s = 1.0
inquiry_deadline_s = 20.0
reversal_repeat_interval_s = 1.0
reversal_repeat_max_s = 4.0
window = {window}
backoff_min_s = 0.1
backoff_max_s = 2.0

[terminals]
prefix = "{prefix}"
count = 64

[breaker]
# Short pauses: the faults of a run last for seconds.
open_s = 0.5
open_max_s = 2.0
"""


@dataclass(frozen=True, slots=True)
class Network:
    """One simulated network of a run.

    Attributes:
        ledger: its own books.
        inbox: where it puts clearing files; seal_key: the secret that it seals them with.
        gateway_port: where the gateway connects to: the network itself, or whoever stands in between.
        asked: the gateway asks it what became of a payment (inquiry) before it reverses.
        latency_ms: it takes this long to answer, give or take four fifths.
        has_habits: it stamps a time of its own into DE7 of its answers and leaves DE41 out.
        papers: folder of certificates (``host``, ``gateway``) for mutual TLS on its links; None: plaintext.
    """

    network_id: str
    port: int
    control_port: int
    ledger: Path
    inbox: Path
    seal_key: Path
    gateway_port: int
    asked: bool = False
    latency_ms: float = 0.0
    has_habits: bool = False
    papers: Path | None = None

    def simulator_file(self, *, seed: int, cycle_seconds: float | None) -> str:
        """The simulator's settings (TOML)."""
        kind = _SIMULATORS[self.network_id]
        cycle = f"cycle_seconds = {cycle_seconds}\n" if cycle_seconds else ""
        latency = f"[latency]\nbase_ms = {self.latency_ms}\njitter_ms = {0.8 * self.latency_ms}\n"
        habits = "[policy]\nown_time = true\nomits_terminal = true\n" if self.has_habits else ""
        declines = "".join(f'"{suffix}" = "{code}"\n' for suffix, code in DECLINES.items())
        return (
            f'network_id = "{self.network_id}"\nport = {self.port}\ncontrol_port = {self.control_port}\n'
            f'dialect = "{kind["dialect"]}"\nheader = "{kind["header"]}"\nseed = {seed}\n'
            f"{self._tls('certificate', 'key', 'client_ca', 'host')}{habits}"
            f"[ledger]\npath = {json.dumps(str(self.ledger))}\n"
            f"[clearing]\ndirectory = {json.dumps(str(self.inbox))}\n"
            f"seal_key = {json.dumps(str(self.seal_key))}\n{cycle}"
            f"{latency if self.latency_ms else ''}[declines.amount_suffixes]\n{declines}"
        )

    def gateway_file(self, *, window: int) -> str:
        """What the gateway knows of this network (TOML)."""
        kind = _SIMULATORS[self.network_id]
        dear = self.network_id == "bcard"
        return _GATEWAY.format(
            network_id=self.network_id,
            port=self.gateway_port,
            dialect=kind["dialect"],
            header=kind["header"],
            currencies='["KRW", "USD"]' if dear else '["KRW"]',
            # The cheaper one takes some categories only, so that routing has a choice to make.
            only="" if dear else 'categories = ["5411", "5812", "5814", "5912", "5999"]\n',
            cost=80 if dear else 60,
            answer_timeout_s=ANSWER_TIMEOUT_S,
            window=window,
            policy="inquire" if self.asked else "reverse",
            answers="true" if self.asked else "false",
            prefix="GW" if dear else "KG",
        ) + self._tls("certificate", "key", "ca", "gateway")

    def _tls(self, certificate: str, key: str, ca: str, whose: str) -> str:
        if self.papers is None:
            return ""
        files = {certificate: f"{whose}.pem", key: f"{whose}.key", ca: "ca.pem"}
        return "[tls]\n" + "".join(f"{name} = {json.dumps(str(self.papers / file))}\n" for name, file in files.items())

    async def state(self) -> dict[str, Any]:
        """``{"links", "signed_on", "faults", "counters", …}``."""
        return await self._ask("GET", "/state")

    async def set_faults(self, **faults: Any) -> None:
        """Make things go wrong from now on; what is not named stays as it is."""
        await self._ask("POST", "/faults", faults)

    async def clear_faults(self) -> None:
        """Nothing goes wrong any more."""
        await self._ask("DELETE", "/faults")

    async def close_cycle(self) -> dict[str, Any]:
        """Close the clearing cycle; its file is then in the inbox."""
        return await self._ask("POST", "/cycle")

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.control_port}{path}"
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.request(method, url, json=body) as answer,
        ):
            found: dict[str, Any] = await answer.json()
            return found
