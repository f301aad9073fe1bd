"""What a recipient was handed, by its own books, beside the consents, the exports and the disclosure log.

Which lists and which members of them may leave is written out anew here.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from gateway.portability.rules.records import Export
from gateway.portability.verifying import AttemptKey, ExportReader, ExportRefusedError, VerifiedExport
from gateway.proving.simulation.checks.told import Remains, Told
from gateway.proving.simulation.checks.watching_exports import (
    ASKED,
    COMPLETE,
    COUNTED,
    KEYED,
    LISTS,
    ONCE,
    SCOPE,
    ExportAuditor,
)
from gateway.proving.simulation.script.recipient import PRIVATE_KEYS, RECEIPT_PUBLIC
from gateway.proving.simulation.script.scene import (
    CUSTOMER,
    OTHER_RECIPIENT,
    OTHER_TOKEN,
    OWN_PANS,
    RECIPIENT,
    TOKEN,
    DataScript,
)
from gateway.proving.simulation.script.showing import Asked
from schemas.portability import EXPORT_CHUNK_TYPE
from schemas.topics import exports_topic


def check_exports(remains: Remains, told: Told, auditor: ExportAuditor, data: DataScript) -> None:
    """Lay the recipient's books beside the consents, the exports and the disclosure log."""
    if remains.kafka.records(exports_topic(OTHER_RECIPIENT)):
        remains.violated(ASKED, f"{OTHER_RECIPIENT} was handed something that no consent names it for")
    reader, chunks = _read(remains)
    exports = {e.export_id: e for e in remains.database.exports.rows.values() if e.export_id in auditor.begun_at}
    _ended_once(remains, told, reader, exports, auditor)
    _logged(remains, told, reader, chunks)
    for export_id, whole in reader.whole.items():
        if export_id in exports and export_id in auditor.whole:
            _as_permitted(remains, exports[export_id], whole, auditor)
    _made(remains, data)


def _read(remains: Remains) -> tuple[ExportReader, Counter[AttemptKey]]:
    reader = ExportReader(private_keys=PRIVATE_KEYS, receipt_key=RECEIPT_PUBLIC, org_code=RECIPIENT)
    chunks: Counter[AttemptKey] = Counter()
    for record in remains.kafka.records(exports_topic(RECIPIENT)):
        kind = dict(record.headers)["ce_type"].decode()
        if any(secret.encode() in record.value for secret in (CUSTOMER, TOKEN, OTHER_TOKEN, *OWN_PANS)):
            remains.violated(SCOPE, f"{record.reference} names a customer or a card in clear")
        if kind == EXPORT_CHUNK_TYPE:
            body = json.loads(record.value)
            name = (body["export_id"], body["attempt"])
            chunks[name] = max(chunks[name], body["chunk"])
        try:
            reader.take(kind, record.value)
        except ExportRefusedError as error:
            remains.violated(COMPLETE, f"{record.reference}: {error}")
    return reader, chunks


def _bodies(told: Told, kind: str) -> list[dict[str, Any]]:
    return [body for bodies in told.answers[f"portability.{kind}"].values() for body in bodies]


def _ended_once(
    remains: Remains, told: Told, reader: ExportReader, exports: Mapping[str, Export], auditor: ExportAuditor
) -> None:
    delivered = Counter(b["export_id"] for b in _bodies(told, "delivered"))
    voided = Counter(b["export_id"] for b in _bodies(told, "voided"))
    for export_id in exports.keys() | reader.whole.keys() | delivered.keys() | voided.keys():
        state = exports[export_id].state.value if export_id in exports else "missing"
        ends = (delivered[export_id], voided[export_id], int(export_id in reader.whole))
        if ends != {"complete": (1, 0, 1), "void": (0, 1, 0)}.get(state):
            text = f"{export_id} is {state}: delivered, voided, whole at the recipient: {ends}"
            remains.violated(ONCE, text)
    for export_id, whole in reader.whole.items():
        known = auditor.whole.get(export_id)
        if known is not None and (whole.manifest.kid not in known.kids or whole.manifest.attempt != known.attempt):
            remains.violated(KEYED, f"{export_id} is sealed to {whole.manifest.kid}, there were {sorted(known.kids)}")
    for name in reader.open_attempts:
        if name not in reader.void and name[0] in exports:
            remains.violated(ONCE, f"the recipient waits for what becomes of {name}")


def _logged(remains: Remains, told: Told, reader: ExportReader, chunks: Counter[AttemptKey]) -> None:
    """Every attempt of which a chunk left is in the log, once, with no fewer chunks than left."""
    logged: Counter[AttemptKey] = Counter()
    for body in _bodies(told, "abandoned"):
        name = (body["export_id"], body["attempt"])
        logged[name] += 1
        if body["chunks"] < max(1, chunks[name]):
            remains.violated(COUNTED, f"{name}: {chunks[name]} chunks left, {body['chunks']} were told")
    for export_id, whole in reader.whole.items():
        logged[export_id, whole.manifest.attempt] += 1
    for name in chunks.keys() | logged.keys():
        if logged[name] != 1:
            remains.violated(COUNTED, f"{name}: {chunks[name]} chunks left, told of {logged[name]} times")
    per_export = Counter(name[0] for name in logged.elements())
    entries = Counter(e.use.reference for e in remains.database.disclosure_entries if e.use.kind.value == "export")
    if per_export != entries:
        remains.violated(COUNTED, f"attempts {dict(per_export)}, in the disclosure log {dict(entries)}")


def _as_permitted(remains: Remains, export: Export, whole: VerifiedExport, auditor: ExportAuditor) -> None:
    at_end = auditor.whole[export.export_id]
    purpose = at_end.terms.portability
    if purpose is None:
        return
    name = f"{export.request_id}, export {export.number}"
    request = remains.database.transmissions.rows[export.request_key].request
    asked = {LISTS[s.value] for s in request.scopes} & {LISTS[s.value] for s in purpose.scopes}
    if beyond := whole.lists.keys() - asked - {"consent_list"}:
        remains.violated(SCOPE, f"{name} has {', '.join(sorted(beyond))}")
    members = {member for rows in whole.lists.values() for row in rows for member in row}
    if "merchant_name" in members and not purpose.is_consent_merchant_name_regno:
        remains.violated(SCOPE, f"{name} tells merchants' names")
    if "trans_category" in members and not purpose.is_consent_trans_category:
        remains.violated(SCOPE, f"{name} tells categories")
    customer = at_end.terms.customer_id
    consents = {k for k, c in remains.database.consents.rows.items() if c.terms.customer_id == customer}
    mine = {str(p.payment_id): p for p in remains.database.payments.rows.values() if p.consent_key in consents}
    told = {row["trans_num"] for row in whole.lists.get("trans_list", ())}
    codes = {row["approved_num"] for row in whole.lists.get("approved_list", ())}
    if (told - mine.keys()) or (codes - {p.approval_code for p in mine.values()}):
        remains.violated(SCOPE, f"{name} tells another customer's payments")
    begun = auditor.begun_at[export.export_id]
    for payment_id, payment in mine.items():
        if payment.state.value not in ("approved", "settled") or auditor.changed_at[payment.key] >= begun:
            continue
        is_told = payment_id in told or "trans_list" not in asked
        is_approved = payment.operation.value == "purchase" and payment.approval_code is not None
        if not is_told or ("approved_list" in asked and is_approved and payment.approval_code not in codes):
            remains.violated(COMPLETE, f"{name} leaves {payment.order_id} out")


def _made(remains: Remains, data: DataScript) -> None:
    """What is right, and under a consent that stayed as it was, is handed over."""
    if remains.asked is Asked.PROOFS:
        # A good proof may have been used before.
        return
    contents: defaultdict[str, set[bytes]] = defaultdict(set)
    for one in data.requests:
        contents[one.request.request_id].add(one.record.value)
    exports: Mapping[Any, Export] = remains.database.exports.rows
    for one in data.requests:
        request = one.request
        key = (request.partner_id, request.consent_id)
        mark = remains.database.consent_marks.rows.get(key)
        if not one.right or remains.key_gone or len(contents[request.request_id]) > 1:
            continue
        if mark is None or mark.changes:
            continue
        made = exports.get((request.partner_id, request.request_id, 1))
        if made is None or made.state.value != "complete":
            state = "not begun" if made is None else made.state.value
            remains.violated(COMPLETE, f"{request.request_id} under {request.consent_id} is {state}")
