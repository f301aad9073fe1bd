"""What a long run tells where no terminal is: plain lines, none of them twice."""

from io import StringIO

from rich.console import Console

from gateway.cli.live import LiveView


def test_a_line_that_was_told_is_not_told_again_where_it_settles() -> None:
    out = StringIO()
    view = LiveView(Console(file=out, width=118))
    view.line("round 1")
    view.settle()
    view.line("too soon after it")
    view.line("the last form")
    view.settle()
    view.settle()
    assert out.getvalue().splitlines() == ["  round 1", "  the last form"]
