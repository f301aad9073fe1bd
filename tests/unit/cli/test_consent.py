"""`mypay consent …`: what is shown of limits, digests as partners compute them, and what is refused before sending."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from gateway.cli import common
from gateway.cli.consent_usage import COLUMNS, exempt_windows, window_json, window_row
from gateway.consents.rules.limits import Usage, windows_at
from gateway.identity.jose.jwk import generate_key, write_private_key
from gateway.views.consents import WindowUse
from schemas.consents import Alignment, ConsentTerms, LowValueExemption, Period, PeriodLimit
from schemas.primitives import Money
from tests.support.cli import mypay
from tests.support.consents import document
from tests.support.domain_samples import krw, purpose, terms

AT = datetime(2026, 3, 10, 3, 0, tzinfo=UTC)
START = datetime(2026, 1, 15, 1, 30, tzinfo=UTC)


def of_every_kind() -> ConsentTerms:
    return terms(
        valid_from=START,
        valid_until=START + timedelta(days=900),
        payment=purpose(
            single_use=True,
            lifetime_count=12_000,
            lifetime_amounts=(krw(100_000_000), Money.of(1_234_567, "USD")),
            period_limits=(
                PeriodLimit(period=Period.DAY, max_count=5),
                PeriodLimit(period=Period.WEEK, max_amount=krw(70_000)),
                PeriodLimit(period=Period.MONTH, alignment=Alignment.CONSENT, max_amount=Money.of(50_000, "USD")),
                PeriodLimit(period=Period.YEAR, max_amount=krw(36_500)),
            ),
            low_value_exemption=LowValueExemption(max_amount=krw(1_000), max_count=5, max_sum=krw(4_000)),
        ),
    )


USED = WindowUse(taken=Usage(21_500, 4), reserved=Usage(1_500, 1))

SHOWN = """
  single-use          |           1 |      3 | 1     |           0 | never
  lifetime/count      |      12,000 |      3 | 1     |      11,996 | never
  lifetime/KRW        | 100,000,000 | 20,000 | 1,500 |  99,978,500 | never
  lifetime/USD        |   12,345.67 | 200.00 | 15.00 |   12,130.67 | never
  day/calendar/count  |           5 |      3 | 1     |           1 | 2026-03-11 00:00
  week/calendar/KRW   |      70,000 | 20,000 | 1,500 |      48,500 | 2026-03-16 00:00
  month/consent/USD   |      500.00 | 200.00 | 15.00 |      285.00 | 2026-03-15 10:30
  year/calendar/KRW   |      35,100 | 20,000 | 1,500 |      13,600 | 2027-01-01 00:00
  without-proof/KRW   |       4,000 | 20,000 | 1,500 |           0 | at next proof
  without-proof/count |           5 |      3 | 1     |           1 | at next proof
"""


def test_every_kind_of_limit_is_shown_with_what_is_left_and_when_it_begins_anew() -> None:
    windows = [(w, USED) for w in windows_at(of_every_kind(), AT)] + exempt_windows(of_every_kind(), USED)
    rows = [tuple(map(str, window_row(w, u))) for w, u in windows]
    assert rows == [tuple(c.strip() for c in line.split("|")) for line in SHOWN.strip().splitlines()]
    assert len(COLUMNS) == len(rows[0])


def test_the_same_for_programs_in_the_form_of_the_contract() -> None:
    windows = windows_at(of_every_kind(), AT)
    told = {w["limit"]: w for w in (window_json(w, USED) for w in windows)}
    assert told["month/consent/USD"] == {
        "limit": "month/consent/USD",
        "starts_at": datetime(2026, 2, 15, 1, 30, tzinfo=UTC),
        "ends_at": datetime(2026, 3, 15, 1, 30, tzinfo=UTC),
        "max": {"currency": "USD", "value": "500.00"},
        "used": {"currency": "USD", "value": "200.00"},
        "reserved": {"currency": "USD", "value": "15.00"},
    }
    assert (told["day/calendar/count"]["max"], told["day/calendar/count"]["used"]) == (5, 3)
    assert [w["starts_at"] for w in (window_json(w, u) for w, u in exempt_windows(of_every_kind(), USED))] == [None] * 2


def test_without_an_exemption_none_is_shown() -> None:
    assert exempt_windows(terms(), None) == []


def test_the_table_fits_a_narrow_terminal_with_limits_named_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    monkeypatch.setattr(common, "out", lambda: console)
    windows = [(w, USED) for w in windows_at(of_every_kind(), AT)] + exempt_windows(of_every_kind(), USED)
    common.print_table("Limits", COLUMNS, [window_row(w, u) for w, u in windows], right=COLUMNS[1:5], whole=COLUMNS[:1])
    text = console.export_text()
    assert all(window.key.limit_key in text for window, _ in windows)
    assert max(map(len, text.splitlines())) <= 80


# --- digests ---


@pytest.mark.parametrize("indent", [None, 4])
def test_the_digest_is_what_a_partner_computes_in_one_line(tmp_path: Path, indent: int | None) -> None:
    fields = document(of_every_kind())
    file = tmp_path / "terms.json"
    file.write_text(json.dumps(fields, indent=indent))
    own = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert mypay("consent", "digest", file).expect().out.strip() == hashlib.sha256(own.encode()).hexdigest()


def test_the_digest_is_of_the_terms_as_they_were_sent() -> None:
    fields = document(terms())
    spelt = fields | {"valid_from": fields["valid_from"].replace("+00:00", "Z")}
    left_out = fields | {"sharing": None}
    digests = [mypay("consent", "digest", "-", given=json.dumps(f)).expect().out for f in (fields, spelt, left_out)]
    assert len(set(digests)) == 3


# --- nothing is sent that cannot be read ---


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key.pem"
    write_private_key(file, generate_key("ES256")[0])
    return file


def test_terms_that_are_none_are_refused_before_anything_is_sent(key: Path) -> None:
    broken = document(terms()) | {"valid_untill": "x"}
    told = mypay("consent", "request", "-", "--key", key, given=json.dumps(broken)).expect(1).err
    assert "valid_untill: unknown field; nothing was sent" in told
    two = json.dumps(document(terms()))
    assert "more than one" in mypay("consent", "request", "-", "--key", key, given=f"{two}\n{two}").expect(2).err


def test_an_assertion_that_is_none_is_refused_before_anything_is_sent(key: Path) -> None:
    grant = ("consent", "grant", "c-1", "--partner", "p-1", "--key", key, "--assertion", "-")
    assert "authentication" in mypay(*grant, given="not a jws").expect(1).err
    assert "holds no assertion" in mypay(*grant, given='{"error": "x"}').expect(2).err


def test_operators_and_partners_options_do_not_mix(key: Path) -> None:
    revoke = ("consent", "revoke", "c-1", "--partner", "p-1")
    assert "--reason" in mypay(*revoke, "--key", key, "--reason", "x").expect(2).err
    assert "--key" in mypay(*revoke, "--assertion", "-").expect(2).err


@pytest.mark.parametrize("command", ["revoke", "suspend", "resume"])
def test_no_card_number_goes_to_the_partner_as_an_operator_s_reason(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever --why says: that is for the record alone."""
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr("gateway.cli.operating.run", lambda step: step.close())
    monkeypatch.setattr("gateway.cli.consent.run", lambda step: pytest.fail("it was done"))
    given = ("--partner", "p-1", "--operator", "kim", "--why", "asked for", "--reason", "card 4111 1111 1111 1111")
    told = mypay("consent", command, "c-1", *given).expect(2).err
    assert "reason holds what looks like a card number" in " ".join(told.split())
    assert "4111" not in told
