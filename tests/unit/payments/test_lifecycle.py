from collections.abc import Iterator

from gateway.payments.rules.lifecycle import (
    EVENT_TYPE,
    IGNORED,
    STATUS,
    TERMINAL,
    TRANSITIONS,
    LimitEffect,
    PaymentEventKind,
    PaymentState,
    is_outcome,
    next_states,
    transition,
)

ALL_STATES: tuple[PaymentState | None, ...] = (None, *PaymentState)

# Every transition with everything that is written with it. "-" before the first state: there is no payment yet.
LIFE = """
  before     event               after      limit      ledger                follow_up
  -          refused             rejected   none       -                     -
  -          scheduled           scheduled  none       -                     -
  -          intended            sent       take       -                     -
  scheduled  refused             rejected   none       -                     -
  scheduled  intended            sent       take       -                     -
  scheduled  cancelled           reversed   none       -                     -
  sent       withdrawn           rejected   give_back  -                     -
  sent       approved            approved   none       authorised            -
  sent       declined            declined   give_back  -                     -
  sent       unanswered          unknown    none       -                     reverse
  sent       mismatched          unknown    none       -                     reverse
  sent       inquiry_started     unknown    none       -                     inquire
  unknown    inquiry_approved    approved   none       authorised            -
  unknown    inquiry_declined    declined   give_back  -                     -
  unknown    inquiry_not_seen    unknown    none       -                     reverse
  unknown    inquiry_unanswered  unknown    none       -                     reverse
  unknown    reversal_confirmed  reversed   give_back  -                     -
  approved   reversal_started    reversing  none       -                     reverse
  approved   cancelled           reversing  none       -                     reverse
  approved   cleared             settled    none       settled               -
  reversing  reversal_confirmed  reversed   give_back  authorisation_undone  -
  settled    uncleared           approved   none       settlement_undone     -
"""

# T: a transition of the table above. h: nothing happens, which is harmless. !: nothing happens, which is an incident.
# U: an incident too, and what the network holds of it is undone.
EVERY_PAIR = """
                      -  scheduled  sent  approved  unknown  reversing  rejected  declined  reversed  settled
  refused             T  T          h     h         h        h          h         h         h         h
  scheduled           T  h          h     h         h        h          h         h         h         h
  intended            T  T          h     h         h        h          h         h         h         h
  withdrawn           !  !          T     !         h        !          h         !         h         !
  approved            !  !          T     h         h        h          U         U         U         h
  declined            !  !          T     !         h        !          !         h         h         !
  unanswered          !  !          T     h         h        h          h         h         h         h
  mismatched          !  !          T     !         !        !          U         U         U         !
  inquiry_started     !  !          T     h         h        h          h         h         h         h
  inquiry_approved    !  !          !     h         T        h          U         U         U         h
  inquiry_declined    !  !          !     !         T        !          !         h         h         !
  inquiry_not_seen    !  !          !     !         T        !          h         h         h         !
  inquiry_unanswered  !  !          !     h         T        h          h         h         h         h
  reversal_started    !  h          h     T         h        h          h         h         h         h
  reversal_confirmed  !  !          !     !         T        T          h         h         h         !
  cancelled           h  T          h     T         h        h          h         h         h         h
  cleared             !  !          !     T         !        !          !         !         !         !
  uncleared           !  !          !     !         !        !          !         !         !         T
"""


def state_of(name: str) -> PaymentState | None:
    return None if name == "-" else PaymentState(name)


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


def test_transitions_are_those_of_the_table() -> None:
    told = {
        (state_of(before), PaymentEventKind(event)): (after, limit, ledger, reversal)
        for before, event, after, limit, ledger, reversal in rows(LIFE)[1:]
    }
    built = {
        pair: (
            done.state.value,
            done.limit.value,
            "+".join(kind.value for kind in done.transfers) or "-",
            "+".join(name for name, wanted in (("reverse", done.reverse), ("inquire", done.inquire)) if wanted) or "-",
        )
        for pair, done in TRANSITIONS.items()
    }
    assert built == told


def test_every_pair_is_in_exactly_one_table_and_judged_as_told() -> None:
    header, *lines = rows(EVERY_PAIR)
    told = {
        (state_of(state), PaymentEventKind(event)): mark
        for event, *marks in lines
        for state, mark in zip(header, marks, strict=True)
    }
    assert set(told) == {(state, event) for state in ALL_STATES for event in PaymentEventKind}
    assert not set(TRANSITIONS) & set(IGNORED)
    marks = {(False, False): "h", (True, False): "!", (True, True): "U"}
    built = dict.fromkeys(TRANSITIONS, "T") | {pair: marks[why.incident, why.undo] for pair, why in IGNORED.items()}
    assert built == told
    for (state, event), mark in told.items():
        assert (transition(state, event) is not None) == (mark == "T")


def test_every_ignored_pair_says_why() -> None:
    assert all(ignored.why for ignored in IGNORED.values())


def test_terminal_states_are_those_that_nothing_leaves_but_a_correction() -> None:
    assert {s.value for s in TERMINAL} == {"rejected", "declined", "reversed", "settled"}
    assert all(not next_states(state) for state in TERMINAL - {PaymentState.SETTLED})
    # Nothing leaves SETTLED but the network's own correction of its clearing.
    assert [event for state, event in TRANSITIONS if state is PaymentState.SETTLED] == [PaymentEventKind.UNCLEARED]


def test_every_state_can_be_reached_and_can_end() -> None:
    def reachable(start: PaymentState | None) -> set[PaymentState]:
        seen: set[PaymentState] = set()
        frontier = set(next_states(start))
        while frontier:
            seen |= frontier
            frontier = {after for state in frontier for after in next_states(state)} - seen
        return seen

    assert reachable(None) == set(PaymentState)
    for state in set(PaymentState) - TERMINAL:
        assert reachable(state) & TERMINAL, state


def test_a_payment_has_few_versions_because_no_state_comes_twice() -> None:
    # Only UNKNOWN may be told again, when its inquiry turns into a reversal, and what the network itself corrects; else
    # a payment could circle for ever.
    def longest(state: PaymentState | None, path: tuple[PaymentState, ...]) -> int:
        lengths = [len(path)]
        for after in next_states(state) if state is not PaymentState.SETTLED else ():
            if after is state:
                assert after is PaymentState.UNKNOWN
                continue
            assert after not in path, f"{after} comes twice in {path}"
            lengths.append(longest(after, (*path, after)))
        return max(lengths)

    assert longest(None, ()) == len(["scheduled", "sent", "unknown", "approved", "reversing", "reversed"])


def test_what_may_have_moved_money_ends_without_effect_only_on_certain_word() -> None:
    certain = {
        PaymentEventKind.WITHDRAWN,
        PaymentEventKind.DECLINED,
        PaymentEventKind.INQUIRY_DECLINED,
        PaymentEventKind.REVERSAL_CONFIRMED,
    }
    may_have_moved = {PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.APPROVED, PaymentState.REVERSING}
    without_effect = {PaymentState.REJECTED, PaymentState.DECLINED, PaymentState.REVERSED}
    for (state, event), done in TRANSITIONS.items():
        if state in may_have_moved and done.state in without_effect:
            assert event in certain, (state, event)


def test_every_uncertain_end_of_an_exchange_is_followed_up() -> None:
    # Without an inquiry, entering UNKNOWN or REVERSING queues the reversal in the same transaction.
    for (_, event), done in TRANSITIONS.items():
        if done.state in (PaymentState.UNKNOWN, PaymentState.REVERSING):
            assert done.reverse == (event is not PaymentEventKind.INQUIRY_STARTED)
        else:
            assert not done.reverse


def test_limits_are_taken_exactly_when_a_payment_is_sent() -> None:
    for (_, event), done in TRANSITIONS.items():
        assert (
            (done.limit is LimitEffect.TAKE)
            == (done.state is PaymentState.SENT)
            == (event is PaymentEventKind.INTENDED)
        )


def test_each_state_has_its_iso_20022_status_and_its_event() -> None:
    assert {s.value: STATUS[s].value for s in PaymentState} == {
        "rejected": "RJCT",
        "scheduled": "PDNG",
        "sent": "ACTC",
        "approved": "ACSP",
        "declined": "RJCT",
        "unknown": "PDNG",
        "reversing": "PDNG",
        "reversed": "CANC",
        "settled": "ACSC",
    }
    assert {s: EVENT_TYPE[s].value for s in PaymentState} == {s: f"kr.mypay.payment.{s}.v1" for s in PaymentState}


def test_the_network_is_asked_again_to_undo_what_it_may_have_captured_after_it_found_nothing() -> None:
    again = {pair for pair, ignored in IGNORED.items() if ignored.again}
    assert again == {
        (PaymentState.UNKNOWN, PaymentEventKind.APPROVED),
        (PaymentState.UNKNOWN, PaymentEventKind.MISMATCHED),
    }


def test_what_came_of_a_payment_is_told_once_on_every_way() -> None:
    def ways(state: PaymentState | None, told: int, seen: frozenset[tuple[object, object]]) -> Iterator[int]:
        steps = {(s, t.state) for (s, _), t in TRANSITIONS.items() if s is state} - seen
        if state in TERMINAL:
            yield told
        for before, after in steps:
            yield from ways(after, told + is_outcome(before, after), seen | {(before, after)})

    assert set(ways(None, 0, frozenset())) == {1}
