"""Merkle trees against RFC 6962's own definition of them, word for word."""

from collections.abc import Sequence
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from gateway.disclosure.rules.merkle import BLOCK, Frontier, path_in, root_by_path, root_of

LEAVES = [sha256(b"\x00" + str(n).encode()).digest() for n in range(5 * BLOCK)]
SIZES = st.one_of(
    st.integers(1, 20), st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 1023]), st.integers(1, 1280)
)


def split(count: int) -> int:
    """The largest power of two below ``count``."""
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1, of leaves that are hashed already."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def audit_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*audit_path(index, leaves[:k]), tree_hash(leaves[k:])]
    return [*audit_path(index - k, leaves[k:]), tree_hash(leaves[:k])]


def test_the_root_of_nothing() -> None:
    assert root_of([]) == tree_hash([])
    assert root_by_path(LEAVES[0], 0, 0, []) is None


@given(SIZES, st.lists(st.integers(1, 400), max_size=30))
def test_a_tree_that_grows_in_any_steps_is_the_tree_over_all(size: int, steps: list[int]) -> None:
    frontier, blocks, at = Frontier(), [], 0
    for step in [*steps, size]:
        frontier, completed = frontier.add(LEAVES[at : min(size, at + step)])
        blocks += completed
        at = min(size, at + step)
    assert frontier.root() == tree_hash(LEAVES[:size])
    assert Frontier.of_bytes(size, frontier.to_bytes()) == frontier
    assert blocks == [(n, tree_hash(LEAVES[n : n + BLOCK])) for n in range(0, size - BLOCK + 1, BLOCK)]


@given(SIZES, st.data())
def test_a_path_is_the_one_of_the_definition_and_leads_to_the_root(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    blocks = [tree_hash(LEAVES[n : n + BLOCK]) for n in range(0, size - BLOCK + 1, BLOCK)]
    own = index // BLOCK * BLOCK
    leaves = LEAVES[own : min(own + BLOCK, size)]
    tail = size // BLOCK * BLOCK
    if own != tail:
        leaves += LEAVES[tail:size]
    path = path_in(blocks, leaves, index, size)
    assert path == audit_path(index, LEAVES[:size])
    root = tree_hash(LEAVES[:size])
    assert root_by_path(LEAVES[index], index, size, path) == root
    assert root_by_path(LEAVES[index + 1], index, size, path) != root
    assert root_by_path(LEAVES[index], index, size, [*path, root]) is None
    if path:
        assert root_by_path(LEAVES[index], index, size, path[:-1]) is None
        assert root_by_path(LEAVES[index], index, size, [*path[:-1], bytes(32)]) != root
