"""Whatever is changed in the log is found, and its place named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256

import pytest
from msgspec import structs

from gateway.disclosure.rules.entry import SALT_BYTES, Entry, Kind, Use, chain
from gateway.disclosure.rules.merkle import BLOCK
from gateway.disclosure.rules.sequence import Head, append, close_due, of_text
from gateway.disclosure.rules.verification import Destroyed, SignedRoot, Verification, pack_row
from schemas.disclosure import RootStatement
from tests.support.domain_samples import NOW
from tests.support.roots import ROOT_SIGNER, ROOT_VERIFIER

HOUR = timedelta(hours=1)
ENTRIES = 3 * BLOCK + 10
PERIODS = (BLOCK + 5, 2 * BLOCK - 2)
"""Entries that the first two roots cover; seven more are under none."""


def use(number: int) -> Use:
    return Use(
        kind=Kind.PAYMENT,
        customer_id=f"customer-{number}",
        partner_id="partner-1",
        consent_id="consent-1",
        consent_version=1,
        recipient="merchant-1",
        purpose="payment",
        legal_basis="consent",
        what=f"purchase of {number} KRW",
        reference=f"payment-{number}",
        occurred_at=NOW,
    )


@dataclass
class Log:
    """A log as it stands in tables; tests change it."""

    head: Head = field(default_factory=Head)
    entries: list[Entry] = field(default_factory=list)
    blocks: dict[int, bytes] = field(default_factory=dict)
    roots: list[tuple[int, str]] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    destroyed: list[Destroyed] = field(default_factory=list)
    published: list[tuple[int, str]] = field(default_factory=list)

    def write(self, count: int) -> None:
        begin = self.head.seq
        uses = [(n, n, use(n)) for n in range(begin + 1, begin + count + 1)]
        salts = b"".join(sha256(str(n).encode()).digest()[:SALT_BYTES] for n, *_ in uses)
        step = append(self.head, uses, (self.head.tx + count, self.head.id + count), salts, NOW, HOUR)
        self.entries += step.entries
        self.blocks |= dict(step.blocks)
        self.head = step.after

    def close(self) -> None:
        step = close_due(self.head, NOW + HOUR * (len(self.roots) + 1), HOUR)
        assert step is not None
        assert step.root is not None
        statement = ROOT_SIGNER.sign(step.root)
        self.roots.append((step.root.number, statement))
        self.head = replace(step.after, root_hash=sha256(statement.encode()).digest())

    def resign(self, number: int, **changed: object) -> None:
        """Put a root with another content in the place of one."""
        at = next(i for i, (n, _) in enumerate(self.roots) if n == number)
        told = ROOT_VERIFIER.read(self.roots[at][1])
        assert told is not None
        self.roots[at] = (number, ROOT_SIGNER.sign(told.model_copy(update=changed)))

    def change(self, seq: int, **changed: object) -> None:
        at = next(i for i, e in enumerate(self.entries) if e.seq == seq)
        self.entries[at] = structs.replace(self.entries[at], **changed)

    def drop(self, *seqs: int) -> None:
        self.entries = [e for e in self.entries if e.seq not in seqs]

    def findings(self) -> list[str]:
        verification = Verification(_signed(self.roots), self.blocks)
        verification.feed(
            pack_row(
                *(e.seq, (e.source_tx, e.source_id), e.content_hash, e.entry_hash),
                b"" if e.seq in self.gone else e.salt + e.use.content().encode(),
            )
            for e in self.entries
        )
        verification.finish(self.head, self.destroyed, _signed(self.published or self.roots))
        return [f"{f.place}: {f.what}" for f in verification.findings]


def _signed(roots: Sequence[tuple[int, str]]) -> list[SignedRoot]:
    return [SignedRoot(number, statement, ROOT_VERIFIER.read(statement)) for number, statement in roots]


@pytest.fixture
def log() -> Log:
    made = Log()
    for size in PERIODS:
        made.write(size - 3)
        made.write(3)
        made.close()
    made.write(ENTRIES - sum(PERIODS))
    made.published = list(made.roots)
    return made


def test_a_log_that_nobody_touched_is_whole(log: Log) -> None:
    assert log.findings() == []
    assert Log().findings() == []


def _forged(log: Log, seq: int) -> None:
    """Rewrite an entry and all that follow, as whoever owns the tables can."""
    before = log.entries[seq - 2]
    lied = structs.replace(log.entries[seq - 1].use, recipient="nobody")
    uses = [(e.source_tx, e.source_id, lied if e.seq == seq else e.use) for e in log.entries[seq - 1 :]]
    salts = b"".join(e.salt for e in log.entries[seq - 1 :])
    log.entries[seq - 1 :] = chain(uses, salts, after_seq=before.seq, after_hash=before.entry_hash)
    log.head = replace(log.head, entry_hash=log.entries[-1].entry_hash)


CHANGES: dict[str, tuple[Callable[[Log], object], list[str]]] = {
    "what is told": (
        lambda log: log.change(17, use=structs.replace(use(17), recipient="nobody")),
        ["entry 17: what it tells is not what was hashed"],
    ),
    "whose it is": (
        lambda log: log.change(17, use=structs.replace(use(17), customer_id="another")),
        ["entry 17: what it tells is not what was hashed"],
    ),
    "salt": (lambda log: log.change(3, salt=bytes(16)), ["entry 3: what it tells is not what was hashed"]),
    "source": (
        lambda log: log.change(5, source_id=999),
        ["entry 5: its hash does not follow from entry 4 and from what it holds"],
    ),
    "one entry's hash": (
        lambda log: log.change(5, entry_hash=bytes(32)),
        [
            "entry 5: its hash does not follow from entry 4 and from what it holds",
            "entry 6: its hash does not follow from entry 5 and from what it holds",
            "entry 1: the node kept for proofs of entries 1 to 256 is another",
            "root 1: it is not the root over entries 1 to 261",
        ],
    ),
    "a gap": (
        lambda log: log.drop(7, 8),
        ["entry 7: entries 7 to 8 are missing", "root 1: it covers 261 entries, of which 259 are there"],
    ),
    "the first": (
        lambda log: log.drop(1),
        ["entry 1: entry 1 is missing", "root 1: it covers 261 entries, of which 260 are there"],
    ),
    "the end": (
        lambda log: log.drop(ENTRIES - 1, ENTRIES),
        [f"entry {ENTRIES - 1}: entries {ENTRIES - 1} to {ENTRIES} are missing at the end"],
    ),
    "an entry twice": (lambda log: log.entries.insert(5, log.entries[4]), ["entry 5: it is there twice"]),
    "a forged root": (
        lambda log: log.roots.__setitem__(0, (1, log.roots[0][1][:-8] + "AAAAAAAA")),
        [
            "root 1: its signature is not one of a key that is known",
            "root 2: it does not follow from root 1",
            "root 2: it covers 510 entries, of which 771 are there",
            "root 1: it was published, and is not in the log",
        ],
    ),
    "a root that was signed anew": (
        lambda log: log.resign(2, closed_at=NOW),
        ["root 2: another one was published: the log has two histories"],
    ),
    "a root that is gone": (
        lambda log: log.roots.pop(),
        ["root 2: roots 2 to 2 are missing at the end", "root 2: it was published, and is not in the log"],
    ),
    "a root that nobody was shown": (
        lambda log: log.published.pop(0),
        ["root 1: it is in the log, and was not published"],
    ),
    "a root that is on its way": (lambda log: log.published.pop(), []),
    "a node for proofs": (
        lambda log: log.blocks.__setitem__(1, bytes(32)),
        ["entry 1: the node kept for proofs of entries 1 to 256 is another"],
    ),
    "contents that are gone": (
        lambda log: log.gone.update((2, 3)),
        [f"entry {n}: what it tells is gone, and nothing says that it was destroyed" for n in (2, 3)],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_where_it_is(log: Log, name: str) -> None:
    change, found = CHANGES[name]
    change(log)
    assert log.findings() == found


@pytest.mark.parametrize("seq", [2, BLOCK + 5, ENTRIES - 8, ENTRIES - 7])
def test_a_rewritten_history_does_not_fit_what_was_signed(log: Log, seq: int) -> None:
    _forged(log, seq)
    told = log.findings()
    assert any("is not the root over" in line for line in told)
    assert all(line.startswith(("root", "entry")) for line in told)


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        # As the outbox has them: several of a transaction, not by number alone.
        ([(5, 2), (5, 3), (5, 1), (7, 4), (8, 2)], []),
        ([(5, 2), (5, 3), (5, 2), (6, 1)], ["entry 3: the event that it tells of has an entry before it"]),
        ([(5, 2), (5, 2)], ["entry 2: the event that it tells of has an entry before it"]),
        ([(5, 2), (6, 3), (5, 2), (6, 3)], ["entry 3: the event that it tells of stands before that of entry 2"]),
    ],
)
def test_an_event_that_became_an_entry_twice_is_found(sources: list[tuple[int, int]], found: list[str]) -> None:
    log, uses = Log(), [(*source, use(n)) for n, source in enumerate(sources, 1)]
    log.entries += (step := append(log.head, uses, (9, 9), bytes(SALT_BYTES * len(uses)), NOW, HOUR)).entries
    log.head = step.after
    assert log.findings() == found


def test_what_was_destroyed_is_told_by_evidence_and_by_nothing_else(log: Log) -> None:
    log.gone.update(range(1, 5))
    digest = sha256(b"".join(e.content_hash for e in log.entries[:4])).digest()
    log.destroyed = [Destroyed(1, 4, digest)]
    assert log.findings() == []
    log.gone.add(5)
    assert log.findings() == ["entry 5: what it tells is gone, and nothing says that it was destroyed"]
    log.gone = {1, 2, 4}
    assert log.findings() == ["entry 1: contents of entries 1 to 4 are said to be destroyed, and 3 of them are"]
    log.gone, log.destroyed = set(range(1, 5)), [Destroyed(1, 4, bytes(32))]
    assert log.findings() == ["entry 1: the evidence of destruction is about other contents"]


def test_a_statement_of_another_key_or_type_is_none(log: Log) -> None:
    statement = log.roots[0][1]
    head, payload, signature = statement.split(".")
    assert isinstance(ROOT_VERIFIER.read(statement), RootStatement)
    for forged in (f"{head}.{payload}", f"{payload}.{head}.{signature}", f"{head}.{payload}.", statement + "A", ""):
        assert ROOT_VERIFIER.read(forged) is None
    assert of_text("A" * 43) == bytes(32)
