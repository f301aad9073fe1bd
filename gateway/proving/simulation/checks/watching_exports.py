"""What recipients are handed: judged as it commits, and as it leaves.

Whose consent permits it, to whom, and how much is written out anew here.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.base.keys import ConsentKey
from gateway.messaging.records import Record
from gateway.portability.rules.records import Export, StoredRequest
from gateway.portability.verifying import AttemptKey
from gateway.proving.memory import Database
from gateway.proving.simulation.checks.states import Report
from gateway.proving.simulation.script.recipient import KIDS
from gateway.proving.simulation.script.scene import (
    GATEWAY_ORG,
    OTHER_RECIPIENT,
    PARTNER,
    RECIPIENT,
    DataScript,
)
from gateway.proving.simulation.script.showing import Asked, ProofKind
from schemas.consents import ConsentTerms, PortabilityPurpose
from schemas.portability import EXPORT_CHUNK_TYPE
from schemas.topics import exports_topic

ENDED: Final = "nothing is exported after its consent's end"
SCOPE: Final = "nothing is exported beyond its consent"
ONCE: Final = "an export is whole once, or void"
COUNTED: Final = "what may have left is logged"
ASKED: Final = "nothing is exported that nobody may ask for"
COMPLETE: Final = "an export is complete"
KEYED: Final = "an export is sealed to the recipient's key"

LISTS: Final = {"card.list": "card_list", "card.approval": "approved_list", "paid.transaction": "trans_list"}
_FINAL: Final = frozenset({"complete", "void"})


@dataclass(frozen=True, slots=True)
class Whole:
    """How things stood when an export became whole; ``kids``: of the keys that the recipient had from the last look on.

    A key is no consent: whoever reads it holds no lock of it.
    """

    terms: ConsentTerms
    kids: frozenset[str]
    attempt: int


class ExportAuditor:
    """Looks at every commit, and at every chunk that leaves.

    Attributes:
        counted: export and attempt → how many chunks were counted as such that may leave.
        whole: of each export that became whole.
        begun_at: loop time at which each export was begun.
        changed_at: of each payment, when it changed last.
    """

    def __init__(
        self, database: Database, data: DataScript | None, asked: Asked, report: Report, now: Callable[[], float]
    ) -> None:
        self._db = database
        self._asked = asked
        self._report = report
        self._now = now
        self._requests = {hashlib.sha256(r.record.value).digest(): r for r in data.requests} if data else {}
        self._keys: list[tuple[str, float | None]] = [(KIDS[0], None)]
        self._held_at: dict[AttemptKey, float] = {}
        self.counted: Counter[AttemptKey] = Counter()
        self.whole: dict[str, Whole] = {}
        self.begun_at: dict[str, float] = {}
        self.changed_at: dict[Any, float] = {}

    def key_changed(self, kid: str) -> None:
        """The recipient has another key from now on."""
        self._keys[-1] = (self._keys[-1][0], self._now())
        self._keys.append((kid, None))

    def committed(self, written: Mapping[str, Mapping[Any, Any]]) -> None:
        """Look at one commit, right before it becomes visible."""
        for key in written.get("payment", ()):
            self.changed_at[key] = self._now()
        for key, stored in written.get("portability_request", {}).items():
            if key not in self._db.transmissions.rows:
                self._accepted(stored)
        for key, export in written.get("portability_export", {}).items():
            self._export(self._db.exports.rows.get(key), export)

    def left(self, record: Record) -> None:
        """Look at a record of any topic as it comes to stand there."""
        if record.topic not in (exports_topic(RECIPIENT), exports_topic(OTHER_RECIPIENT)):
            return
        if dict(record.headers)["ce_type"].decode() != EXPORT_CHUNK_TYPE:
            return
        told = json.loads(record.value)
        name = (told["export_id"], told["attempt"])
        if told["chunk"] > self.counted[name]:
            self._report(COUNTED, f"chunk {told['chunk']} of {name} leaves, {self.counted[name]} are counted")

    def _accepted(self, stored: StoredRequest) -> None:
        """A request is taken: somebody may ask for it, and nobody has before."""
        made = self._requests.get(stored.digest)
        request = stored.request
        if made is None or not made.believed:
            self._report(ASKED, f"{request.request_id} was taken, which no partner wrote")
            return
        purpose = self._permitted(stored.consent_key, f"{request.request_id} was taken")
        if purpose is not None and not _within(stored, purpose):
            self._report(ASKED, f"{request.request_id} asks for more than {request.consent_id} permits")
        if self._asked is Asked.PROOFS and made.shown.kind is not ProofKind.GOOD:
            self._report(ASKED, f"{request.request_id} was taken on a proof that is {made.shown.kind}")

    def _export(self, before: Export | None, export: Export) -> None:
        name = (export.export_id, export.attempt)
        if before is None:
            self.begun_at[export.export_id] = self._now()
            return
        if before.state.value in _FINAL and before != export:
            self._report(ONCE, f"{name} was {before.state}, and is {export.state}")
        same = before.attempt == export.attempt
        sends = same and export.sent_chunks > before.sent_chunks
        if export.state.value == "sending":
            self.counted[name] = max(self.counted[name], export.sent_chunks if same else 0)
        if sends:
            self._held_at[name] = self._now()
        if sends or export.state.value == "complete":
            self._permitted(export.consent_key, f"{name} goes on to chunk {export.sent_chunks}, {export.state}")
        if export.state.value == "complete":
            consent = self._db.consents.rows[export.consent_key]
            kids = {kid for kid, until in self._keys if until is None or until >= self._held_at.get(name, 0.0)}
            self.whole[export.export_id] = Whole(consent.terms, frozenset(kids), export.attempt)

    def _permitted(self, key: ConsentKey, what: str) -> PortabilityPurpose | None:
        consent = self._db.consents.rows.get(key)
        purpose = consent.terms.portability if consent is not None else None
        if consent is None or consent.status.value != "AUTH" or "portability" in consent.ended or purpose is None:
            status = "missing" if consent is None else f"{consent.status}, without {', '.join(sorted(consent.ended))}"
            self._report(ENDED, f"{what}: {key[1]} is {status}")
            return None
        return purpose


def _within(stored: StoredRequest, purpose: PortabilityPurpose) -> bool:
    request = stored.request
    cycles = (purpose.fnd_cycle, purpose.add_cycle) if request.is_scheduled else (None, None)
    return (
        request.partner_id == PARTNER
        and request.snd_org_code == GATEWAY_ORG
        and request.rcv_org_code == RECIPIENT
        and {s.value for s in request.scopes} <= {s.value for s in purpose.scopes}
        and (request.fnd_cycle, request.add_cycle) == cycles
        and request.purpose == purpose.purpose
    )
