"""What is traced, what a span says, and what a stranger cannot bring about by its headers."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.base.process import SilentObserver
from gateway.base.tracing import Exemplar, exemplar, processing, trace_id_of
from gateway.observability.sampling import Allowance, Context, Opened, Sampling, is_ours, ours, sampled_context
from gateway.observability.tracing import FIELDS, LINKS_MAX, Kind, StageTraces, template_of
from gateway.sealing.redaction import redact
from schemas.envelope import read_envelope
from tests.support.traces import PARENT, TRACE_ID, Spans

NOW = datetime(2026, 3, 2, 3, 4, 5, tzinfo=UTC)
UNSAMPLED = PARENT[:-1] + "0"


def all_behind_the_door(traces: StageTraces, context: str | None) -> None:
    """Whatever stages report of a record that is not traced."""
    traces.step("payment sent", context, began=NOW)
    assert traces.asking("0200 bcard", context) is None
    assert traces.exemplar([context]) is None
    with traces.processing("mypay.dispatch.bcard", [context]):
        pass
    with traces.publishing([("mypay.events.shop", context)]) as told:
        assert list(told) == [context]


def carried_on(came: list[str | None], **terms: Any) -> list[str | None]:
    with Spans().traces(**terms).arriving("mypay.orders", came) as carried:
        return list(carried)


# --- contexts as strangers write them ---

# fmt: off
HOSTILE: dict[str, str] = {
    "nothing":                 "",
    "too short":               PARENT[:-1],
    "too long":                PARENT + "-00",
    "another separator":       PARENT.replace("-", "_"),
    "no hexadecimal":          PARENT.replace("0af7", "0ag7"),
    "a sign":                  PARENT.replace("0af7", "+af7"),
    "a gap as Python has it":  PARENT.replace("0af7", "0_f7"),
    "blanks":                  PARENT.replace("0af7", " af7"),
    "capitals":                PARENT.upper(),
    "a version that is none":  "ff" + PARENT[2:],
    "a trace of noughts":      "00-" + "0" * 32 + PARENT[35:],
    "a span of noughts":       PARENT[:36] + "0" * 16 + "-01",
    "other digits":            PARENT.replace("0", "٠"),
    "other parts":             "00-" + "a" * 16 + "-" + "b" * 32 + "-01",
}
# fmt: on


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_context_begins_no_trace_and_goes_nowhere(case: str) -> None:
    assert sampled_context(HOSTILE[case]) is None
    headers = [
        ("ce_specversion", b"1.0"),
        *(("ce_id", b"1"), ("ce_source", b"/x"), ("ce_type", b"t"), ("ce_time", b"2026-03-02T03:04:05Z")),
        ("traceparent", HOSTILE[case].encode()),
    ]
    assert read_envelope(headers).traceparent is None


@given(
    st.one_of(st.text(max_size=80), st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True))
)
def test_no_text_breaks_the_reading_of_a_context(text: str) -> None:
    found = sampled_context(text)
    assert found is None or (found.trace_id > 0 and found.span_id > 0)
    with Spans().traces(ratio=0).arriving("mypay.orders", [text]) as carried:
        assert len(carried) == 1


@given(st.integers(1, 2**128 - 1), st.integers(0, 2**32))
def test_our_own_spans_are_known_by_their_ids(trace_id: int, seed: int) -> None:
    context = ours(trace_id, random.Random(seed).getrandbits)
    assert is_ours(context)
    assert sampled_context(context.text) == context
    assert context.trace_id == trace_id
    assert not is_ours(Context(trace_id, context.span_id ^ 1))
    assert not is_ours(Context(trace_id ^ 1, context.span_id))


# --- at the door ---


def test_a_partners_trace_is_continued_by_a_span_of_ours() -> None:
    spans = Spans()
    with spans.traces().arriving("mypay.orders", [PARENT, UNSAMPLED]) as (first, second):
        assert second == UNSAMPLED
        assert trace_id_of(first) == TRACE_ID
        assert first not in {None, PARENT}
    judged, batch = spans.made
    assert (judged.name, judged.kind, judged.context.text) == ("judge", Kind.INTERNAL, first)
    assert judged.parent_id == int(PARENT[36:52], 16)
    assert (batch.name, batch.kind, batch.parent_id) == ("process mypay.orders", Kind.CONSUMER, 0)
    assert batch.context.trace_id != judged.context.trace_id
    assert (list(batch.links), list(judged.links)) == ([judged.context], [batch.context])
    assert dict(batch.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mypay.orders",
        "messaging.batch.message_count": 2,
    }


def test_what_comes_without_a_context_begins_one_for_its_share() -> None:
    spans = Spans()
    with spans.traces(ratio=0.25, per_s=1e9).arriving("mypay.orders", [None] * 4_000) as carried:
        begun = [c for c in carried if c is not None]
    assert 850 < len(begun) < 1_150
    assert len({trace_id_of(c) for c in begun}) == len(begun)
    # By the trace's id, as whoever samples by it does.
    assert all(int(c[19:35], 16) < 0.25 * 2**64 for c in begun)
    assert {s.parent_id for s in spans.named("judge")} == {0}


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 0), (1.0, 500)])
def test_the_ends_of_a_ratio(ratio: float, kept: int) -> None:
    came = carried_on([None] * 500, ratio=ratio)
    assert sum(c is not None for c in came) == kept


def test_of_what_partners_mark_a_share_is_traced_and_the_rest_goes_on_as_it_came() -> None:
    came: list[str | None] = [f"00-{7:016x}{n << 56:016x}-{1:016x}-01" for n in range(1, 256)]
    carried = carried_on(came, partner_ratio=0.5, per_s=1e9)
    taken = [n for n, (a, b) in enumerate(zip(came, carried, strict=True), 1) if a != b]
    assert taken == list(range(1, 128))


def test_a_partner_that_marks_everything_gets_no_more_than_the_rate() -> None:
    at = [0.0]
    traces = Spans().traces(ratio=0, per_s=5, monotonic=lambda: at[0])
    for moment, expected in ((0.0, 5), (0.0, 0), (0.4, 2), (100.0, 5)):
        at[0] = moment
        with traces.arriving("mypay.orders", [PARENT] * 100) as carried:
            assert sum(c != PARENT for c in carried) == expected, moment


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), max_size=30), st.floats(0.5, 50))
def test_an_allowance_gives_no_more_than_its_rate_and_one_burst(steps: list[tuple[float, int]], per_s: float) -> None:
    at = [0.0]
    allowance, taken = Allowance(per_s, monotonic=lambda: at[0]), 0
    for pause, wanted in steps:
        at[0] += pause
        taken += sum(allowance.take() for _ in range(wanted))
    assert taken <= at[0] * per_s + max(1.0, per_s) + 1e-6


PAN = "4111111111111111"


def shows_no_pan(text: str) -> bool:
    return PAN not in text


def forged(trace_id: int) -> str:
    """A context with the ids of the gateway's own spans, which anybody can make who has read how."""
    return ours(trace_id, random.Random(trace_id).getrandbits).text


def spelling(text: str) -> str:
    """With a span's id that spells this, and passes for one of the gateway's."""
    return next(c.text for n in range(1, 2**20) if is_ours(c := Context(n, int(text, 16))))


@pytest.mark.parametrize(
    "hidden",
    [
        f"00-{PAN}{'a' * 16}-{'b' * 16}-01",
        f"00-{'a' * 32}-{PAN}-01",
        forged(int(PAN, 16)),
        spelling(PAN),
    ],
)
def test_an_id_in_which_a_card_number_is_spelt_goes_nowhere(hidden: str) -> None:
    spans = Spans()
    traces = spans.traces(is_harmless=shows_no_pan)
    with traces.arriving("mypay.orders", [hidden]) as carried:
        assert list(carried) == [None]
    # As it stands in a row of a time when nothing was traced, or not at the door.
    all_behind_the_door(traces, hidden)
    assert spans.made == []


@pytest.mark.parametrize("terms", [{"partner_ratio": 0.0}, {"per_s": 1e-9}])
def test_a_context_that_passes_for_ours_is_continued_only_where_the_door_takes_it(terms: dict[str, float]) -> None:
    """Else a partner that can reckon has all traced that it sends, whatever the share and the rate."""
    spans = Spans()
    traces = spans.traces(**terms)
    # The one that any rate allows.
    with traces.arriving("mypay.orders", [PARENT]):
        pass
    spans.made.clear()
    came = [forged(n) for n in range(1, 100)]
    with traces.arriving("mypay.orders", came) as carried:
        assert [c and (c[:-2], c[-2:]) for c in carried] == [(c[:-2], "00") for c in came]
    for one in carried:
        all_behind_the_door(traces, one)
    assert spans.made == []


def test_other_flags_stay() -> None:
    came = forged(1)[:-2] + "03"
    assert carried_on([came], partner_ratio=0.0) == [came[:-2] + "02"]


def test_a_span_of_ours_spells_nothing_by_chance() -> None:
    tried: list[str] = []

    def is_harmless(text: str) -> bool:
        tried.append(text)
        return len(tried) != 2

    (going,) = carried_on([PARENT], is_harmless=is_harmless)
    assert len(tried) == 3
    assert going is not None
    assert tried[1].split()[1] not in going
    assert tried[2].split() == [going[3:35], going[36:52]]
    tried.clear()
    assert carried_on([PARENT], is_harmless=lambda text: text.endswith(PARENT[36:52])) == [PARENT]


def test_of_what_comes_without_a_context_a_share_is_traced_as_processes_judge_ids() -> None:
    """None was: the span above the first, which there is not, was judged as sixteen zeros, as a card number."""
    spans = Spans()
    traces = spans.traces(ratio=0.1, is_harmless=lambda ids: redact(ids) == ids)
    with traces.arriving("mypay.orders", [None] * 1000) as carried:
        begun = [one for one in carried if one is not None]
    assert 70 < len(begun) < 130
    assert len(spans.named("judge")) == len(begun)


# --- behind the door ---


def test_only_what_the_door_has_begun_is_continued() -> None:
    spans = Spans()
    for context in (None, PARENT, UNSAMPLED, "trace-1", ""):
        all_behind_the_door(spans.traces(), context)
    assert spans.made == []


def test_a_trace_goes_through_every_process_of_the_gateway() -> None:
    """Each has traces of its own, and knows of the others' decision by the context alone."""
    spans = Spans()
    with spans.traces(seed=1).arriving("mypay.orders", [PARENT]) as (carried,):
        pass
    later = spans.traces(seed=2, ratio=0, partner_ratio=0)
    with later.processing("mypay.dispatch.bcard", [None, carried]):
        later.step("payment sent", carried, began=NOW, payment_id=UUID(int=7), state="sent")
        ended = later.asking("0200 bcard", carried, network_id="bcard")
        assert ended is not None
        ended(outcome="answered", code="00")
    with later.publishing([("mypay.events.shop", carried), ("mypay.events.shop", UNSAMPLED)]) as (told, other):
        assert (trace_id_of(told), other) == (TRACE_ID, UNSAMPLED)
    of_it = [s for s in spans.made if f"{s.context.trace_id:032x}" == TRACE_ID]
    assert [(s.name, s.kind) for s in of_it] == [
        ("judge", Kind.INTERNAL),
        ("payment sent", Kind.INTERNAL),
        ("0200 bcard", Kind.CLIENT),
        ("create mypay.events.{partner}", Kind.PRODUCER),
    ]
    judged, *others = of_it
    assert {s.parent_id for s in others} == {judged.context.span_id}
    assert others[-1].context.text == told
    (dispatched,) = spans.named("process mypay.dispatch.{network}")
    assert list(dispatched.links) == [judged.context]
    assert dispatched.attributes["messaging.destination.name"] == "mypay.dispatch.bcard"
    assert dispatched.attributes["messaging.destination.template"] == "mypay.dispatch.{network}"
    (sent,) = spans.named("send events")
    assert (sent.kind, list(sent.links)) == (Kind.CLIENT, [others[-1].context])
    assert (sent.attributes["messaging.batch.message_count"], sent.attributes["messaging.operation.type"]) == (
        2,
        "send",
    )


@pytest.mark.parametrize("spread", [0, 1])
def test_a_batch_for_many_topics_names_none(spread: int) -> None:
    spans = Spans()
    traces = spans.traces()
    with traces.arriving("mypay.orders", [None, None]) as carried:
        pass
    with traces.publishing([(f"mypay.events.shop-{n * spread}", c) for n, c in enumerate(carried)]):
        pass
    (sent,) = spans.named("send events")
    assert ("messaging.destination.name" in sent.attributes) == (not spread)


def test_a_span_of_a_batch_has_no_more_links_than_a_collector_takes() -> None:
    spans = Spans()
    with spans.traces().arriving("mypay.orders", [None] * (LINKS_MAX + 50)):
        pass
    assert len(spans.made[-1].links) == LINKS_MAX


def test_what_fails_is_said_by_its_class_alone() -> None:
    spans = Spans()
    traces = spans.traces()

    def fail() -> None:
        raise ValueError("4111111111111111 of somebody")

    with traces.arriving("mypay.orders", [None]) as (carried,):
        pass
    spans.made.clear()
    for block in (
        traces.arriving("mypay.orders", [PARENT]),
        traces.processing("mypay.dispatch.bcard", [carried]),
        traces.publishing([("mypay.events.shop", carried)]),
    ):
        with pytest.raises(ValueError, match="somebody"), block:
            fail()
    assert {s.error for s in spans.made} == {"ValueError"}
    assert len(spans.made) == 5
    assert "4111111111111111" not in repr(spans.made)


def test_a_span_says_only_what_is_listed() -> None:
    spans = Spans()
    traces = spans.traces()
    with traces.arriving("mypay.orders", [None]) as (carried,):
        pass
    traces.step(
        "payment sent", carried, began=NOW, payment_id=UUID(int=7), consent_id="C-1", amount="1000", reason=None
    )
    assert dict(spans.made[-1].attributes) == {"mypay.payment_id": str(UUID(int=7))}
    assert spans.untold == 2


def test_no_list_names_what_belongs_to_a_customer() -> None:
    words = ("consent", "customer", "token", "amount", "card", "pan", "subject", "merchant", "key", "name")
    named = {*FIELDS, *FIELDS.values()}
    assert not [n for n in named if any(w in n for w in words)]


def test_a_step_never_ends_before_it_began() -> None:
    spans = Spans()
    traces = spans.traces()
    with traces.arriving("mypay.orders", [None]) as (carried,):
        pass
    for began in (NOW, datetime.now(UTC) + timedelta(hours=1)):
        traces.step("payment sent", carried, began=began)
        assert spans.made[-1].began_ns <= spans.made[-1].ended_ns
    assert spans.made[-2].began_ns == int(NOW.timestamp() * 1e9)


def test_spans_are_bounded_whatever_contexts_say() -> None:
    spans = Spans()
    traces = spans.traces(spans_per_s=10)
    for _ in range(50):
        traces.step("payment sent", ours(7).text, began=NOW)
    assert (len(spans.made), spans.untold) == (10, 40)


def test_an_exemplar_is_one_that_is_traced() -> None:
    traces = Spans().traces()
    with traces.arriving("mypay.orders", [PARENT]) as (carried,):
        pass
    assert traces.exemplar([None, PARENT, carried, carried]) == Exemplar(2, TRACE_ID)


def test_without_tracing_nobody_is_asked_for_a_context() -> None:
    def never() -> list[str | None]:
        raise AssertionError("asked")

    assert SilentObserver().traces is None
    with processing(None, "mypay.dispatch.bcard", never):
        pass
    assert exemplar(None, never) is None


def test_a_topics_template() -> None:
    assert template_of("mypay.orders") == "mypay.orders"
    assert template_of("mypay.events.shop") == "mypay.events.{partner}"
    assert template_of("mypay.portability.requests") == "mypay.portability.requests"


def test_sampling_asks_for_an_allowance_only_where_a_trace_would_begin() -> None:
    taken = []

    class Counted(Allowance):
        def take(self) -> bool:
            taken.append(1)
            return True

    sampling = Sampling(ratio=0, partner_ratio=0, allowance=Counted(1))
    assert [sampling.opened(c) for c in (None, PARENT, UNSAMPLED)] == [Opened(None), Opened(PARENT), Opened(UNSAMPLED)]
    assert taken == []
