"""Pages of a gateway in which nothing has happened yet."""

from datetime import UTC, datetime
from types import SimpleNamespace

from gateway.console.web import environment


def test_approvals_say_that_nothing_was_done_where_nothing_was() -> None:
    """It showed the head of a table, as if rows were missing."""
    given = {"t": str, "who": str, "can": lambda _: True, "now": datetime(2026, 11, 27, tzinfo=UTC), "languages": {}}
    rest = dict.fromkeys(("language", "csrf", "here", "full_path", "refresh_s", "with_oidc"), "")
    me = SimpleNamespace(name="kim", role=SimpleNamespace(value="approver"))
    text = (
        environment()
        .get_template("approvals.html")
        .render({**rest, **given, "me": me, "waiting": [], "decided": [], "done": []})
    )
    assert "Nothing was done yet." in text
    assert "<table" not in text
