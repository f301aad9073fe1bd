"""The disclosure log of a run: compared with its payments, verified, proven to a customer, and caught when changed."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg

from gateway.disclosure.rules.entry import Entry
from gateway.disclosure.rules.proof import problem_of, proven
from gateway.disclosure.signing import RootVerifier, public_keys
from gateway.proving.books import Checked
from gateway.views.disclosures import DisclosuresView
from schemas.codec import decode, encode
from schemas.disclosure import DisclosureProof

_WRITTEN_S: Final = 40.0
"""For so long it is waited until every use is an entry, and every entry under a root: some periods of the run."""

_POLL_S: Final = 0.1
_SHOWN: Final = 3

_WAITS: Final = """
SELECT h.root_seq < h.seq OR EXISTS (
    SELECT FROM outbox o WHERE (o.tx, o.id) > (h.tx, h.id) AND o.event_type <> 'kr.mypay.disclosure.root.v1')
FROM disclosure_head h
"""

_UNLIKE: Final = """
SELECT coalesce(p.payment_id::text, c.reference) AS reference, p.payment_id IS NOT NULL AS sent, count(c.seq) AS entries
FROM (SELECT * FROM payment WHERE rrn IS NOT NULL) p
FULL JOIN (SELECT * FROM disclosure_content WHERE kind IN ('payment', 'refund')) c
  ON c.reference = p.payment_id::text AND c.partner_id = p.partner_id AND c.consent_id = p.consent_id
     AND c.consent_version = p.consent_version AND c.recipient = p.merchant_id
GROUP BY p.payment_id, c.reference HAVING count(c.seq) <> 1 OR p.payment_id IS NULL
"""


async def check_disclosures(dsn: str, keys: Path, file: Path) -> tuple[Checked, list[str]]:
    """Check the log of a run at rest; return what was found, and what there is to see of it.

    Args:
        dsn: as a superuser: a copy is tampered with, in a transaction that is rolled back.
        keys: folder of the keys that sign roots.
        file: where one customer's disclosures are written with their proofs.
    """
    verifier = RootVerifier(public_keys(keys))
    connection = await asyncpg.connect(dsn)
    try:
        waits = await _until_written(connection)
        view = DisclosuresView(connection)
        verification = await view.verify(verifier)
        wrong = [f"{f.place}: {f.what}" for f in verification.findings]
        wrong += [
            f"{r['reference']}: sent {r['sent']}, entries {r['entries']}" for r in await connection.fetch(_UNLIKE)
        ]
        if waits:
            wrong.append("uses still wait to be logged, or entries for a root")
        lines = [f"Disclosure log: {verification.entries:,} uses of consents, verified against their signed roots"]
        entries = await _of_one_customer(connection, view)
        if entries:
            lines += await _prove(view, entries, verifier, file, wrong)
            lines += await _tamper(connection, view, verifier, entries[0].seq, wrong)
    finally:
        await connection.close()
    title = "Every payment that was sent is one entry of the disclosure log, and a change of it is found"
    return Checked("disclosures", title, verification.entries, tuple(wrong), len(wrong)), lines


async def _until_written(connection: "asyncpg.Connection[Any]") -> bool:
    for _ in range(round(_WRITTEN_S / _POLL_S)):
        if not await connection.fetchval(_WAITS):
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def _of_one_customer(connection: "asyncpg.Connection[Any]", view: DisclosuresView) -> list[Entry]:
    row: Mapping[str, Any] | None = await connection.fetchrow(
        "SELECT customer_id, min(occurred_at) AS since, max(occurred_at) + interval '1 second' AS until "
        "FROM disclosure_content WHERE customer_id IS NOT NULL GROUP BY customer_id ORDER BY count(*) DESC, 1 LIMIT 1"
    )
    if row is None:
        return []
    customer = row["customer_id"]
    return await view.of_customer(customer, since=row["since"], until=row["until"], partner_id=None, limit=1000)


async def _prove(
    view: DisclosuresView, entries: list[Entry], verifier: RootVerifier, file: Path, wrong: list[str]
) -> list[str]:
    """Write a customer's disclosures with their proofs, and check the file as somebody without the database does."""
    placed, roots = await view.proofs(entries)
    proof = DisclosureProof.of_stored(
        customer_id=str(entries[0].use.customer_id),
        since=entries[0].use.occurred_at,
        until=entries[-1].use.occurred_at,
        disclosures=tuple(proven(p) for p in placed),
        roots=tuple(roots),
    )
    await asyncio.to_thread(file.write_bytes, encode(proof))
    read = decode(DisclosureProof, await asyncio.to_thread(file.read_bytes), bytes_max=64 * 1024 * 1024)
    trusted = {r.number: r for s in read.roots if (r := verifier.read(s)) is not None}
    problems = {d.seq: problem_of(d, trusted, read.customer_id) for d in read.disclosures}
    wrong += [f"entry {seq}: {problem}" for seq, problem in problems.items() if problem]
    lines = [f"{read.customer_id} sees {len(entries):,} of them, each proven offline by its path to a root:"]
    lines += [
        f"  {e.use.occurred_at:%H:%M:%S}  {e.use.what}, to {e.use.recipient}, under {e.use.consent_id} "
        f"v{e.use.consent_version}: {problems[e.seq] or 'proven'}"
        for e in entries[:_SHOWN]
    ]
    return lines


async def _tamper(
    connection: "asyncpg.Connection[Any]", view: DisclosuresView, verifier: RootVerifier, seq: int, wrong: list[str]
) -> list[str]:
    """Change one entry as whoever owns the tables could, see that it is found, and take it back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SET LOCAL session_replication_role TO replica")
        await connection.execute("UPDATE disclosure_content SET recipient = 'somebody else' WHERE seq = $1", seq)
        found = (await view.verify(verifier)).findings
    finally:
        await transaction.rollback()
    if [f.place for f in found] != [f"entry {seq}"]:
        wrong.append(f"entry {seq} was changed, and found was: {', '.join(f.place for f in found) or 'nothing'}")
    return [f"One entry changed by the tables' owner is found: {f.place}: {f.what}" for f in found[:1]]
