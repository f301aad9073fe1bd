"""Everything recomputed: what is wrong with a chain that was changed, and where.

The chain is given in its order as :data:`packed rows <HEAD_BYTES>`, and costs three hashes an entry. After a finding it
goes on from what is stored, so that one change is one finding, and others are found as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Final

from gateway.disclosure.rules.entry import ENTRY_PREFIX, GENESIS, HASH_BYTES
from gateway.disclosure.rules.merkle import BLOCK
from gateway.disclosure.rules.sequence import Head, text_of
from schemas.disclosure import RootStatement

HEAD_BYTES: Final = 88
"""A packed row: seq, source tx, source id (8 bytes each, big-endian), content hash, entry hash (32 each), then salt and
content as they are hashed, or nothing where they are gone. A row of 8 bytes is a content that has no entry."""

PUBLISHED_WITHIN: Final = timedelta(minutes=10)
"""Longer than a root takes to those who read roots, also of a log that catches up and closes many of them in a row."""

FINDINGS_MAX: Final = 1000
"""Told in all; more would say nothing more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written.

    Attributes:
        place: where: ``entry 17``, ``root 3``.
        what: is wrong there.
    """

    place: str
    what: str


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """A root as it is stored or published.

    Attributes:
        statement: compact JWS.
        content: what it says, if its signature is one of a known key; else None.
    """

    number: int
    statement: str
    content: RootStatement | None


@dataclass(frozen=True, slots=True)
class Destroyed:
    """Evidence of what was destroyed: its range, and the digest over the content hashes."""

    first_seq: int
    last_seq: int
    digest: bytes


class Verification:
    """Verifies a chain that is fed to it.

    Args:
        roots: as they are stored, by number.
        blocks: nodes that are stored for proofs, by the first entry of each.
    """

    def __init__(self, roots: Sequence[SignedRoot], blocks: dict[int, bytes] | None = None) -> None:
        self.findings: list[Finding] = []
        self.entries = 0
        self._seq = 0
        self._previous = GENESIS
        self._source_tx = b""
        self._source_ids: set[bytes] = set()
        self._roots = {r.content.last_seq: r.content for r in roots if r.content is not None}
        self._last_root = roots[-1].number if roots else 0
        self._blocks = blocks
        self._leaves: list[bytes] = []
        self._without: list[tuple[int, bytes]] = []
        self._check_roots(roots)

    def feed(self, rows: Iterable[bytes]) -> None:
        """Take the next rows."""
        seq, previous, leaves = self._seq, self._previous, self._leaves
        roots = self._roots
        for row in rows:
            found = int.from_bytes(row[:8])
            if found != seq + 1 or len(row) < HEAD_BYTES:
                if not self._fits(found, seq, row):
                    continue
                # Behind a gap nobody can say what its hash should follow from.
                previous = b""
            seq = found
            entry_hash = row[56:88]
            if sha256(ENTRY_PREFIX + previous + row[:56]).digest() == entry_hash:
                if row[8:16] != self._source_tx or row[16:24] in self._source_ids:
                    self._check_source(seq, row[8:16], row[16:24])
                self._source_ids.add(row[16:24])
            elif previous:
                self._note(f"entry {seq}", f"its hash does not follow from entry {seq - 1} and from what it holds")
            content = row[88:]
            if content:
                if sha256(content).digest() != row[24:56]:
                    self._note(f"entry {seq}", "what it tells is not what was hashed")
            else:
                self._without.append((seq, row[24:56]))
            previous = entry_hash
            leaves.append(entry_hash)
            if seq in roots:
                self._close(roots[seq], entry_hash)
                leaves = self._leaves
            self.entries += 1
        self._seq, self._previous = seq, previous

    def finish(self, head: Head, destroyed: Sequence[Destroyed], published: Sequence[SignedRoot] | None = None) -> None:
        """Compare the end with the head, what is missing with the evidence, and roots with those published.

        Args:
            head: as it is stored, read before the first row.
            destroyed: evidence, by first entry, read after the last row.
            published: as others have them, read before the head; None where they cannot be read.
        """
        if self._seq < head.seq:
            self._note(f"entry {self._seq + 1}", f"entries {self._seq + 1} to {head.seq} are missing at the end")
        for last_seq, root in self._roots.items():
            if last_seq > self._seq:
                self._note(f"root {root.number}", f"it covers entries up to {last_seq}; the log ends at {self._seq}")
        if self._last_root < head.root_number:
            first = self._last_root + 1
            self._note(f"root {first}", f"roots {first} to {head.root_number} are missing at the end")
        self._check_destroyed(destroyed)
        if published is not None:
            self._check_published(published)

    def _fits(self, found: int, seq: int, row: bytes) -> bool:
        """Look at a row that is not just the next one; False if it is no entry."""
        if len(row) < HEAD_BYTES:
            self._note(f"entry {found}", "there is what it tells, but not the entry")
            return False
        if found <= seq:
            self._note(f"entry {found}", "it is there twice")
            return False
        if found > seq + 1:
            gap = f"entry {seq + 1} is" if found == seq + 2 else f"entries {seq + 1} to {found - 1} are"
            self._note(f"entry {seq + 1}", f"{gap} missing")
        return True

    def _check_source(self, seq: int, tx: bytes, number: bytes) -> None:
        """Begin the next transaction's events: entries follow the outbox's order, so no earlier one comes again."""
        if tx == self._source_tx and number in self._source_ids:
            self._note(f"entry {seq}", "the event that it tells of has an entry before it")
        elif tx < self._source_tx:
            self._note(f"entry {seq}", f"the event that it tells of stands before that of entry {seq - 1}")
        if tx != self._source_tx:
            self._source_tx, self._source_ids = tx, set()

    def _close(self, root: RootStatement, entry_hash: bytes) -> None:
        leaves, first = self._leaves, root.first_seq
        place = f"root {root.number}"
        if len(leaves) != root.last_seq - root.first_seq + 1:
            self._note(
                place, f"it covers {root.last_seq - root.first_seq + 1} entries, of which {len(leaves)} are there"
            )
        elif text_of(self._root_over(leaves, first)) != root.root:
            self._note(place, f"it is not the root over entries {root.first_seq} to {root.last_seq}")
        if text_of(entry_hash) != root.head:
            self._note(place, f"entry {root.last_seq} had another hash when it was signed")
        self._leaves = []

    def _root_over(self, leaves: Sequence[bytes], first: int) -> bytes:
        """Level by level, an odd one out going up as it is: the same tree, in less time than leaf by leaf."""
        level, width = list(leaves), 1
        while len(level) > 1:
            paired = [sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
            if len(level) & 1:
                paired.append(level[-1])
            level, width = paired, width * 2
            if width == BLOCK and self._blocks is not None:
                self._check_blocks(level[: len(leaves) // BLOCK], first)
        return level[0]

    def _check_blocks(self, nodes: Sequence[bytes], first: int) -> None:
        blocks = self._blocks or {}
        for number, found in enumerate(nodes):
            at = first + number * BLOCK
            if blocks.get(at) != found:
                self._note(f"entry {at}", f"the node kept for proofs of entries {at} to {at + BLOCK - 1} is another")

    def _check_roots(self, roots: Sequence[SignedRoot]) -> None:
        for signed in roots:
            if signed.content is None:
                self._note(f"root {signed.number}", "its signature is not one of a key that is known")
            elif signed.content.number != signed.number:
                self._note(f"root {signed.number}", f"its statement is that of root {signed.content.number}")
        if roots and roots[0].number != 1:
            self._note("root 1", f"roots 1 to {roots[0].number - 1} are missing")
        self._check_order(roots)

    def _check_order(self, roots: Sequence[SignedRoot]) -> None:
        if roots and (first := roots[0].content) is not None and first.number == 1 and first.first_seq != 1:
            self._note("root 1", f"it begins at entry {first.first_seq}")
        for before, after in pairwise(roots):
            if after.number != before.number + 1:
                self._note(f"root {before.number + 1}", f"roots {before.number + 1} to {after.number - 1} are missing")
            if after.content is None:
                continue
            if after.content.previous != text_of(sha256(before.statement.encode()).digest()):
                self._note(f"root {after.number}", f"it does not follow from root {before.number}")
            if before.content is not None and after.content.first_seq != before.content.last_seq + 1:
                place = f"entry {before.content.last_seq}, but begins at {after.content.first_seq}"
                self._note(f"root {after.number}", f"it should begin behind {place}")

    def _check_destroyed(self, destroyed: Sequence[Destroyed]) -> None:
        without, at = self._without, 0
        for evidence in destroyed:
            start = at
            while at < len(without) and without[at][0] <= evidence.last_seq:
                at += 1
            covered = [h for seq, h in without[start:at] if seq >= evidence.first_seq]
            for seq, _ in without[start : at - len(covered)]:
                self._note(f"entry {seq}", "what it tells is gone, and nothing says that it was destroyed")
            # What is not gone yet is destroyed at once with the evidence: it was read before.
            if len(covered) != evidence.last_seq - evidence.first_seq + 1:
                self._note(
                    f"entry {evidence.first_seq}",
                    f"contents of entries {evidence.first_seq} to {evidence.last_seq} are said to be destroyed, and "
                    f"{len(covered)} of them are",
                )
            elif sha256(b"".join(covered)).digest() != evidence.digest:
                self._note(f"entry {evidence.first_seq}", "the evidence of destruction is about other contents")
        for seq, _ in without[at:]:
            self._note(f"entry {seq}", "what it tells is gone, and nothing says that it was destroyed")

    def _check_published(self, published: Sequence[SignedRoot]) -> None:
        for signed in published:
            self._compare(signed)
        told = {signed.number for signed in published}
        # What was closed a while before the last one is on its way no more.
        last = max((root.closed_at for root in self._roots.values()), default=None)
        for root in self._roots.values():
            if last is not None and root.number not in told and root.closed_at < last - PUBLISHED_WITHIN:
                self._note(f"root {root.number}", "it is in the log, and was not published")

    def _compare(self, published: SignedRoot) -> None:
        stored = next((r for r in self._roots.values() if r.number == published.number), None)
        place = f"root {published.number}"
        if published.content is None:
            self._note(place, "the published one bears no signature of a key that is known")
        elif stored is None:
            self._note(place, "it was published, and is not in the log")
        elif stored != published.content:
            self._note(place, "another one was published: the log has two histories")

    def _note(self, place: str, what: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(place, what))


def pack_row(seq: int, source: tuple[int, int], content_hash: bytes, entry_hash: bytes, content: bytes) -> bytes:
    """A row as :class:`Verification` takes it; ``content`` behind its salt, or empty."""
    numbers = b"".join(n.to_bytes(8) for n in (seq, *source))
    if len(content_hash) != HASH_BYTES or len(entry_hash) != HASH_BYTES:
        raise ValueError("a hash has 32 bytes")
    return numbers + content_hash + entry_hash + content
