"""What a world at rest has left behind, and what partners have read."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.proving.memory import Database, MemoryHost
from gateway.proving.memory.kafka import MemoryKafka, Parked
from gateway.proving.simulation.affiliates import Affiliates
from gateway.proving.simulation.checks.watching_exports import ExportAuditor
from gateway.proving.simulation.script.scene import PARTNER, DataScript, Produced
from gateway.proving.simulation.script.showing import Asked
from gateway.proving.simulation.wire.wire import Sent
from schemas.topics import events_topic


@dataclass(frozen=True, slots=True)
class Remains:
    """What a world at rest has left behind.

    Attributes:
        written: what partners wrote, with each record's reference.
        forged: references of what others wrote for execution.
        affiliates: what they read and wrote.
        exports: what was seen of exports as they were made.
        data: what became of customers' data; None: nothing.
        key_gone: the partner's key was disabled.
        parked: every dead letter.
        states: payment id → every state it went through.
        sent: every message that left for the network.
        notes: every line of the logs.
        asked: of customers.
        violated: told of a promise that was broken: its name, and what is wrong.
    """

    database: Database
    kafka: MemoryKafka
    host: MemoryHost
    written: Sequence[tuple[Produced, str]]
    forged: frozenset[str]
    affiliates: Affiliates
    exports: ExportAuditor
    data: DataScript | None
    key_gone: bool
    parked: Sequence[Parked]
    states: Mapping[str, list[str]]
    sent: Sequence[Sent]
    notes: Sequence[str]
    asked: Asked
    violated: Callable[[str, str], None]


class Told:
    """What partners read: events of the topic, the first of each id."""

    def __init__(self, remains: Remains) -> None:
        self.states: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.reported: dict[str, set[str]] = defaultdict(set)
        self.refused: Counter[str] = Counter()
        self.changes: dict[str, list[int]] = defaultdict(list)
        # Kind → reference of the record that is answered → the answers' bodies.
        self.answers: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        seen: set[str] = set()
        for record in remains.kafka.records(events_topic(PARTNER)):
            headers = dict(record.headers)
            event_id = headers["ce_id"].decode()
            if event_id in seen:
                continue
            seen.add(event_id)
            kind = headers["ce_type"].decode().removeprefix("kr.mypay.").removesuffix(".v1")
            self._take(kind, event_id, json.loads(record.value))

    def _take(self, kind: str, event_id: str, body: dict[str, Any]) -> None:
        if kind == "payment.reported":
            subject, _, rest = event_id.partition(":")
            self.reported[subject].add(rest.partition(":")[2])
        elif kind.startswith("payment."):
            self.states[body["payment_id"]].append((body["version"], body["state"]))
        elif kind == "order.refused":
            self.refused[body["reference"]] += 1
        elif kind == "consent.changed":
            self.changes[body["consent_id"]].append(body["change"])
        elif "reference" in body:
            self.answers[kind][body["reference"]].append(body)
        else:
            self.answers[kind][body.get("standing_order_id", "")].append(body)

    def answer(self, kind: str, reference: str) -> list[dict[str, Any]]:
        """Bodies of one kind that answer one record."""
        return self.answers[kind].get(reference, [])
