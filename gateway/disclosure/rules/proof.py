"""A disclosure with its proof: what anybody can check without the database, as ``mypay audit check-proof`` does.

What is told is hashed with its salt, the entry with what it follows; the entry's hash leads by the audit path to a root
that the gateway has signed and published.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import asdict

from gateway.disclosure.rules.entry import Entry, Kind, Use, hash_content, hash_entry
from gateway.disclosure.rules.merkle import root_by_path
from gateway.disclosure.rules.sequence import of_text, text_of
from schemas.disclosure import ProvenDisclosure, RootStatement, ToldUse


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry in the tree of its root.

    Attributes:
        previous: the hash that it follows.
        root: number of the root; None where none covers it yet.
        path: the hashes that lead to the root, the lowest first.
    """

    entry: Entry
    previous: bytes
    root: int | None
    path: tuple[bytes, ...] = ()


def proven(placed: Placed) -> ProvenDisclosure:
    """Write one down."""
    entry = placed.entry
    return ProvenDisclosure.of_stored(
        seq=entry.seq,
        source=(entry.source_tx, entry.source_id),
        use=told_use(entry.use),
        salt=text_of(entry.salt),
        previous=text_of(placed.previous),
        root=placed.root,
        path=tuple(text_of(h) for h in placed.path),
    )


def told_use(use: Use) -> ToldUse:
    """A use as it is told."""
    return ToldUse.of_stored(**asdict(use))


def problem_of(told: ProvenDisclosure, roots: Mapping[int, RootStatement], customer_id: str) -> str | None:
    """Why a disclosure is not proven; None: it is.

    Args:
        told: with its proof.
        roots: by number, those whose signature holds.
        customer_id: whose disclosures they are said to be.
    """
    if told.use.customer_id != customer_id:
        return "it is another customer's"
    if told.root is None:
        return "no root covers it yet"
    root = roots.get(told.root)
    if root is None:
        return f"root {told.root} is not there, or is not signed by a key that is trusted"
    if not root.first_seq <= told.seq <= root.last_seq:
        return f"root {told.root} covers entries {root.first_seq} to {root.last_seq}"
    try:
        use = Use(**{name: getattr(told.use, name) for name in Use.__struct_fields__} | {"kind": Kind(told.use.kind)})
        content_hash = hash_content(of_text(told.salt), use.content())
        leaf = hash_entry(of_text(told.previous), told.seq, *told.source, content_hash)
        path = [of_text(h) for h in told.path]
    except ValueError:
        return "it is not written as a proof is"
    found = root_by_path(leaf, told.seq - root.first_seq, root.last_seq - root.first_seq + 1, path)
    return None if found is not None and text_of(found) == root.root else "it does not lead to the signed root"
