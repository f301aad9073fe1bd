"""Pure parts of the console: who may do what, charts, how states look."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.app.operation import Gives
from gateway.app.operations import OPERATIONS
from gateway.console.rules.access import GUARDED, ROUTES, Kind, may
from gateway.console.rules.charts import HEIGHT, WIDTH, line, share_of, stacked
from gateway.console.rules.states import LOOKS
from gateway.console.serving import handlers
from gateway.directory.console_roles import ConsoleRole
from gateway.payments.rules.lifecycle import PaymentState
from schemas.consents import ConsentStatus

VIEWER, OPERATOR, APPROVER = ConsoleRole


def test_a_role_may_what_those_below_it_may() -> None:
    table = {(role, needs): may(role, needs) for role in ConsoleRole for needs in ConsoleRole}
    assert table == {
        (VIEWER, VIEWER): True,
        (VIEWER, OPERATOR): False,
        (VIEWER, APPROVER): False,
        (OPERATOR, VIEWER): True,
        (OPERATOR, OPERATOR): True,
        (OPERATOR, APPROVER): False,
        (APPROVER, VIEWER): True,
        (APPROVER, OPERATOR): True,
        (APPROVER, APPROVER): True,
    }
    assert all(may(role, None) for role in ConsoleRole)


def test_every_route_has_a_handler_and_nothing_that_changes_is_a_get() -> None:
    assert set(handlers()) == {r.name for r in ROUTES}
    open_to_all = {r.name for r in ROUTES if r.needs is None}
    assert open_to_all == {
        *("healthz", "static", "sign_in_form", "sign_in", "oidc_start", "oidc_callback", "language"),
    }
    assert {r.name for r in ROUTES if r.method == "POST"} == {"sign_in", "sign_out", "language", "search", "action"}


def test_whatever_lets_money_move_is_only_proposed() -> None:
    proposed = {g.operation for g in GUARDED.values() if g.operation}
    assert proposed == {name for name, operation in OPERATIONS.items() if operation.gives is Gives.MONEY}
    assert {k for k, g in GUARDED.items() if g.needs is APPROVER} == {Kind.PROPOSAL_APPROVE}
    assert all(g.needs is not VIEWER for g in GUARDED.values())


@given(st.lists(st.floats(min_value=0, max_value=1e9), min_size=2, max_size=400))
def test_a_line_stays_inside_its_chart(values: list[float]) -> None:
    chart = line(values)
    assert chart is not None
    spots = [tuple(map(float, p.split(","))) for p in chart.points.split()]
    assert len(spots) == len(values)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in spots)
    assert [x for x, _ in spots] == sorted(x for x, _ in spots)
    assert chart.top == max(values)
    highest = values.index(max(values))
    assert spots[highest][1] == min(y for _, y in spots)


def test_one_value_is_no_line() -> None:
    assert line([]) is None
    assert line([1.0]) is None


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 10_000)), max_size=8))
def test_parts_fill_the_whole_in_their_order(parts: list[tuple[str, int]]) -> None:
    bars = stacked(parts)
    assert [b.count for b in bars] == [n for _, n in parts if n]
    if bars:
        assert abs(sum(b.width for b in bars) - 100) < 0.1
        assert all(abs(a.x + a.width - b.x) < 0.05 for a, b in pairwise(bars))


def test_a_share_is_between_nothing_and_all() -> None:
    assert [share_of(u, m) for u, m in ((0, 10), (5, 10), (10, 10), (15, 10), (0, 0))] == [0, 50, 100, 100, 100]


def test_every_state_has_a_look_and_no_two_of_a_kind_share_a_shape() -> None:
    for states in (PaymentState, ConsentStatus):
        shapes = [LOOKS[s.value][0] for s in states]
        assert len(set(shapes)) == len(shapes)
