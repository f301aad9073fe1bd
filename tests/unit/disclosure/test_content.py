"""What is hashed of an entry: the JSON array that PostgreSQL writes of its members, whatever stands in them."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.disclosure.rules.entry import CONTENT_VERSION, Kind, Use

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MAYBE = st.none() | TEXTS


@given(
    st.sampled_from(Kind),
    st.tuples(MAYBE, MAYBE, MAYBE),
    st.none() | st.integers(1, 2**40),
    st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS),
    st.integers(0, 2**52),
)
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
