"""Merkle trees over entries, as RFC 6962 §2.1 makes them: 0x00 before a leaf, 0x01 before a node.

A leaf is an entry's hash as it stands in the log, which has its 0x00 in it. A tree that grows is known by its frontier:
the hashes of its complete parts, the largest first, one for each bit of its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

BLOCK: Final = 256
"""Leaves whose common node is kept: a proof then needs one block's leaves, and the nodes of the other blocks."""

_BLOCK_LEVEL: Final = BLOCK.bit_length() - 1


def node(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of a tree over these leaves; of none it is SHA-256 of nothing."""
    return Frontier().add(leaves)[0].root()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree that grows.

    Attributes:
        size: how many leaves it has.
        parts: one hash for each bit of ``size``, that of the largest part first.
    """

    size: int = 0
    parts: tuple[bytes, ...] = ()

    def add(self, leaves: Sequence[bytes]) -> tuple["Frontier", list[tuple[int, bytes]]]:
        """The tree with more leaves, and the nodes of blocks that they complete, each with its first leaf's index."""
        parts, size = list(self.parts), self.size
        blocks: list[tuple[int, bytes]] = []
        for leaf in leaves:
            found, left, level = leaf, size, 0
            # As many carries as the number of leaves so far ends in ones.
            while left & 1:
                found = sha256(b"\x01" + parts.pop() + found).digest()
                left >>= 1
                level += 1
                if level == _BLOCK_LEVEL:
                    blocks.append((size + 1 - BLOCK, found))
            parts.append(found)
            size += 1
        return Frontier(size, tuple(parts)), blocks

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        if not self.parts:
            return sha256(b"").digest()
        *parts, found = self.parts
        for part in reversed(parts):
            found = node(part, found)
        return found

    def to_bytes(self) -> bytes:
        """As it is stored beside the chain's head; the size is known from there."""
        return b"".join(self.parts)

    @classmethod
    def of_bytes(cls, size: int, stored: bytes) -> "Frontier":
        """Read one back.

        Raises:
            ValueError: there are not as many hashes as a tree of this size has parts.
        """
        if len(stored) != 32 * size.bit_count():
            raise ValueError(
                f"the frontier of a tree of {size} has {size.bit_count()} hashes, not {len(stored) / 32:g}"
            )
        return cls(size, tuple(stored[n : n + 32] for n in range(0, len(stored), 32)))


def path_in(blocks: Sequence[bytes], leaves: Sequence[bytes], index: int, size: int) -> list[bytes]:
    """The audit path (RFC 6962 §2.1.1) of one leaf, the node beside it first.

    Args:
        blocks: the nodes of all complete blocks of the tree, in their order.
        leaves: of the block in which the leaf is, and of the incomplete one at the tree's end, if that is another.
        index: the leaf's, from 0.
        size: of the tree.
    """
    own = index // BLOCK
    tail = leaves[BLOCK:] if own < len(blocks) else leaves
    path = _path(index % BLOCK, leaves[:BLOCK])
    nodes = list(blocks)
    if size % BLOCK:
        nodes.append(root_of(tail))
    return path + _path(own, nodes)


def _path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Of hashes that are leaves or complete nodes of one level; the last may be an incomplete one."""
    if len(leaves) <= 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*_path(index, leaves[:split]), root_of(leaves[split:])]
    return [*_path(index - split, leaves[split:]), root_of(leaves[:split])]


def root_by_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root to which an audit path leads (RFC 9162 §2.1.3.2); None where it is no path for this place.

    Args:
        leaf: an entry's hash.
        index: the leaf's, from 0.
        size: of the tree.
        path: the lowest first.
    """
    if not 0 <= index < size:
        return None
    found, at, last = leaf, index, size - 1
    for beside in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = node(beside, found)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            found = node(found, beside)
        at >>= 1
        last >>= 1
    return found if last == 0 else None
