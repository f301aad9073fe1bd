"""What is hashed of an entry: the JSON array that PostgreSQL writes of its members, whatever stands in them."""

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.disclosure.rules.entry import (
    CONTENT_VERSION,
    HASH_BYTES,
    SALT_BYTES,
    Kind,
    Use,
    chain,
    hash_content,
    hash_entry,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MAYBE = st.none() | TEXTS
MEMBERS = (
    st.sampled_from(Kind),
    st.tuples(MAYBE, MAYBE, MAYBE),
    st.none() | st.integers(1, 2**40),
    st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS),
)


@given(*MEMBERS, st.integers(0, 2**52))
def test_a_content_is_the_json_array_of_its_members(
    kind: Kind,
    who: tuple[str | None, str | None, str | None],
    version: int | None,
    texts: tuple[str, str, str, str, str],
    micros: int,
) -> None:
    use = Use(kind, *who, version, *texts, EPOCH + timedelta(microseconds=micros))
    members = [CONTENT_VERSION, kind.value, *who, version, *texts, micros]
    assert use.content() == json.dumps(members, ensure_ascii=False)


def _use(kind: Kind, who: tuple[str | None, str | None, str | None], version: int | None, *rest: Any) -> Use:
    texts, micros = rest
    return Use(kind, *who, version, *texts, EPOCH + timedelta(microseconds=micros))


SEQ = st.integers(0, 2**63)
HASHES = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)
USES = st.builds(_use, *MEMBERS, st.integers(-2, 2) | st.integers(-(2**50), 2**52))


@given(st.lists(st.tuples(SEQ, SEQ, USES), max_size=5), SEQ, HASHES, st.randoms(use_true_random=False))
def test_entries_are_chained_by_the_hashes_of_the_definition(
    uses: list[tuple[int, int, Use]], seq: int, previous: bytes, random: Random
) -> None:
    """Also where several were decided at one time."""
    salts = random.randbytes(SALT_BYTES * len(uses))
    entries = chain(uses, salts, after_seq=seq, after_hash=previous)
    assert [(e.source_tx, e.source_id, e.use) for e in entries] == uses
    assert b"".join(e.salt for e in entries) == salts
    for entry in entries:
        seq += 1
        assert entry.seq == seq
        assert entry.content_hash == hash_content(entry.salt, entry.use.content())
        previous = hash_entry(previous, seq, entry.source_tx, entry.source_id, entry.content_hash)
        assert entry.entry_hash == previous
