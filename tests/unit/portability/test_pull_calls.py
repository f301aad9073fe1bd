"""Calls of the API: what is read of them, codes, pages and how many there may be: pure."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.app.settings import Settings
from gateway.base.calendar import SEOUL
from gateway.portability.api.paging import read_next_page, write_next_page
from gateway.portability.api.rules.calls import (
    LIMIT_MAX,
    ROUTES,
    ApiType,
    Asked,
    Call,
    Position,
    Resource,
    first_position,
    read_call,
    search_moment,
    tran_id_of,
)
from gateway.portability.api.rules.codes import MESSAGES, RefusedCallError, RspCode
from gateway.portability.api.rules.decision import next_search
from gateway.portability.api.rules.rates import take
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose
from tests.support.domain_samples import NOW

OWN = "MYPAY00000"
TRAN_ID = "A1AAAA0000M00000000000001"
MARKS = HmacMarks(MasterKeys({"page": bytes(32)}), Purpose.NEXT_PAGE)
HEADERS = {
    "x-api-tran-id": TRAN_ID,
    "x-api-type": "user-search",
    "x-user-ci": base64.b64encode(b"customer-1").decode(),
    "x-mypay-consent": "partner-1/consent-1",
}
SPAN = {"org_code": OWN, "from_date": "20250501", "to_date": "20250531"}
PAID = "/v1/efin/paid/transactions"


def call(path: str = PAID, method: str = "GET", headers: dict[str, str] | None = None, **query: str) -> Call:
    return Call(method, path, list((SPAN | query).items()), list((HEADERS | (headers or {})).items()))


def read(asked: Call) -> Asked:
    return read_call(asked, org_code=OWN, now=NOW)


def code(asked: Call) -> RspCode | None:
    try:
        read(asked)
    except RefusedCallError as refused:
        # Words of the table and a member's name, and no value.
        values = {v for _, v in (*asked.query, *asked.headers)} - {"limit", "from_date", "to_date"}
        return None if any(len(v) > 8 and v in str(refused) for v in values) else refused.code
    return None


def test_every_code_has_its_words_and_a_status_of_http() -> None:
    assert MESSAGES.keys() == set(RspCode)
    assert {c.value: c.status for c in RspCode if c.status == 200} == {"00000": 200, "00001": 200}
    assert {c.status for c in RspCode} == {200, 400, 401, 403, 404, 405, 429, 500}


def test_a_call_is_read() -> None:
    asked = read(call(limit="7", search_timestamp="20250517120000", next_page="abc-1~page.x"))
    assert asked.route.resource is Resource.TRANSACTIONS
    assert (asked.tran_id, asked.api_type, asked.customer_id) == (TRAN_ID, ApiType.USER_SEARCH, "customer-1")
    assert asked.consent_key == ("partner-1", "consent-1")
    assert asked.span is not None
    assert (asked.span.limit, asked.span.next_page) == (7, "abc-1~page.x")
    assert asked.span.begins.isoformat() == "2025-04-30T15:00:00+00:00"
    assert asked.span.ends.isoformat() == "2025-05-31T15:00:00+00:00"
    body = json.dumps(SPAN | {"limit": 9}).encode()
    posted = read(Call("POST", PAID, (), list(HEADERS.items()), body))
    assert posted.span == replace(asked.span, limit=9, since=None, search_timestamp=None, next_page=None)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (call("/v1/cards"), RspCode.NO_URL),
        (call("/v1"), RspCode.NO_URL),
        (call("nowhere"), RspCode.NO_URL),
        (call(PAID + "/"), RspCode.NO_URL),
        (call("/v1/card/cards/a/b/approval-domestic"), RspCode.NO_URL),
        (call("/v2/efin/paid/transactions"), RspCode.VERSION),
        (call("/v2x/apis"), RspCode.NO_URL),
        (call(method="PUT"), RspCode.METHOD),
        (call("/v1/apis", "POST"), RspCode.METHOD),
        (call(headers={"x-api-tran-id": TRAN_ID + "1"}), RspCode.HEADER),
        (call(headers={"x-api-tran-id": TRAN_ID[:-1] + "-"}), RspCode.HEADER),
        (call(headers={"x-api-type": ""}), RspCode.HEADER),
        (call(headers={"x-user-ci": "customer-1"}), RspCode.HEADER),
        (call(headers={"x-user-ci": ""}), RspCode.HEADER),
        (call(headers={"x-user-ci": "A" * 104}), RspCode.HEADER),
        (call(headers={"x-user-ci": "고객"}), RspCode.HEADER),
        (call(headers={"x-mypay-consent": "consent-1"}), RspCode.HEADER),
        (call(headers={"x-mypay-consent": "a/b/c"}), RspCode.HEADER),
        (Call("GET", PAID, list(SPAN.items()), [*HEADERS.items(), ("x-user-ci", "YQ==")]), RspCode.HEADER),
        (Call("GET", PAID, [*SPAN.items(), ("limit", "1"), ("limit", "2")], list(HEADERS.items())), RspCode.PARAMETER),
        (replace(call(), body=b"{}"), RspCode.PARAMETER),
        (replace(call(method="POST"), body=b"{"), RspCode.PARAMETER),
        (replace(call(method="POST"), body=b"\xff"), RspCode.PARAMETER),
        (replace(call(method="POST"), body=b"[]"), RspCode.PARAMETER),
        (replace(call(method="POST"), body=b'{"limit": true}'), RspCode.PARAMETER),
        (replace(call(method="POST"), body=b'{"limit": 1.5}'), RspCode.PARAMETER),
        (replace(call(method="POST"), body=b'{"org_code": "MYPAY00000"}'), RspCode.PARAMETER),
        (call(customer_id="customer-2"), RspCode.PARAMETER),
        (call("/v1/consents"), RspCode.PARAMETER),
        (call(org_code=""), RspCode.PARAMETER),
        (call(org_code="OTHER00000"), RspCode.ORG_CODE),
        (call(from_date="2025-05-01"), RspCode.PARAMETER),
        (call(from_date="20250230"), RspCode.PARAMETER),
        (call(from_date="99990101", to_date="99991231"), RspCode.RANGE),
        (call(from_date="20250601"), RspCode.RANGE),
        (call(from_date="20200516"), RspCode.TOO_OLD),
        (call(from_date="20200517"), None),
        (call(limit="0"), RspCode.RANGE),
        (call(limit="501"), RspCode.RANGE),
        (call(limit="500"), None),
        (call(limit="-1"), RspCode.PARAMETER),
        (call(limit="١"), RspCode.PARAMETER),
        (call(search_timestamp="20251301000000"), RspCode.PARAMETER),
        (call(search_timestamp="00010101000000"), RspCode.PARAMETER),
        (call(search_timestamp="0"), None),
        (call(next_page=""), RspCode.PARAMETER),
        (call(next_page="a b"), RspCode.PARAMETER),
    ],
)
def test_what_is_no_call_is_told_its_code(asked: Call, expected: RspCode | None) -> None:
    assert code(asked) == expected


def test_every_resource_takes_what_it_names_alone() -> None:
    for route in ROUTES:
        path = "/v1" + route.uri.replace("{card_id}", "c1")
        known = {"org_code": OWN} | (
            {n: SPAN[n] for n in ("from_date", "to_date")} if "limit" in route.parameters else {}
        )
        asked = read(Call("GET", path, list(known.items()), list(HEADERS.items())))
        assert (asked.route, asked.card_id) == (route, "c1" if "{card_id}" in route.uri else None)
        assert code(Call("GET", path, [*known.items(), ("x", "y")], list(HEADERS.items()))) is RspCode.PARAMETER


_TEXT = st.text(max_size=30) | st.sampled_from(["0", "20250517", "20250517120000", OWN, "500"])


@given(
    st.sampled_from(["GET", "POST", "PATCH"]),
    st.sampled_from([PAID, "/v1/apis", "/v1/card/cards/x/approval-domestic"]) | st.text(max_size=40).map("/".__add__),
    st.lists(st.tuples(st.sampled_from(sorted(SPAN)) | st.sampled_from(["limit", "search_timestamp"]), _TEXT)),
    st.dictionaries(st.sampled_from(sorted(HEADERS)), _TEXT),
    st.binary(max_size=60),
)
def test_any_call_is_read_or_told_a_code(
    method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], body: bytes
) -> None:
    asked = Call(method, path, query, list((HEADERS | headers).items()), body)
    expected = code(asked)
    if expected is not None:
        assert expected.value[0] == "4"
        return
    found = read(asked)
    assert tran_id_of(asked) == found.tran_id
    assert found.span is None or (1 <= found.span.limit <= LIMIT_MAX and found.span.begins < found.span.ends)


@given(st.datetimes(min_value=NOW.replace(year=1971, tzinfo=None), timezones=st.just(NOW.tzinfo)), st.uuids())
def test_a_page_names_its_position_to_whom_it_was_made_for(decided_at: object, payment_id: UUID) -> None:
    asked = read(call())
    position = Position(decided_at, payment_id)  # type: ignore[arg-type]
    name = write_next_page(position, asked, "A1AAAA0000", MARKS)
    again = read(call(next_page=name, limit="3"))
    assert read_next_page(name, again, "A1AAAA0000", MARKS) == position


ASKED = read(call())
NEXT = write_next_page(Position(NOW, UUID(int=7)), ASKED, "A1AAAA0000", MARKS)


@pytest.mark.parametrize(
    ("name", "asked", "org_code"),
    [
        (NEXT, ASKED, "B2BBBB0000"),
        (NEXT, read(call(to_date="20250530")), "A1AAAA0000"),
        (NEXT, read(call(from_date="20250502")), "A1AAAA0000"),
        (NEXT, read(call(search_timestamp="20250517120000")), "A1AAAA0000"),
        (NEXT, read(call(headers={"x-mypay-consent": "partner-1/consent-2"})), "A1AAAA0000"),
        (NEXT, read(call(headers={"x-user-ci": "YQ=="})), "A1AAAA0000"),
        (NEXT, read(call("/v1/card/cards/c1/approval-domestic")), "A1AAAA0000"),
        ("0" + NEXT, ASKED, "A1AAAA0000"),
        (NEXT[:-1], ASKED, "A1AAAA0000"),
        (NEXT.partition("~")[0], ASKED, "A1AAAA0000"),
        ("~" + NEXT, ASKED, "A1AAAA0000"),
    ],
)
def test_a_page_of_anything_else_is_refused(name: str, asked: Asked, org_code: str) -> None:
    with pytest.raises(RefusedCallError) as refused:
        read_next_page(name, asked, org_code, MARKS)
    assert (refused.value.code, refused.value.member) == (RspCode.PARAMETER, "next_page")


def test_a_list_begins_before_everything() -> None:
    assert ASKED.span is not None
    assert first_position(ASKED.span).decided_at == ASKED.span.ends


def test_the_next_search_overlaps_this_one() -> None:
    told = search_moment(next_search(NOW))
    assert told is not None
    assert timedelta(minutes=5) <= NOW - told < timedelta(minutes=5, seconds=2)


def test_a_bucket_fills_steadily_and_never_over() -> None:
    bucket, waits = None, []
    for at in (0.0, 0.0, 0.0, 0.1, 0.5, 100.0, 100.0, 100.0):
        bucket, wait = take(bucket, at, per_second=2, burst=2)
        waits.append(wait)
    assert waits == [0, 0, 1, 1, 0, 0, 0, 1]


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 50), st.integers(1, 50))
def test_no_more_calls_than_its_rate_and_one_burst(pauses: list[float], per_second: int, burst: int) -> None:
    bucket, now, taken = None, 0.0, 0
    for pause in pauses:
        now += pause
        bucket, wait = take(bucket, now, per_second=per_second, burst=burst)
        taken += not wait
        assert taken <= burst + now * per_second + 1e-6


@given(st.integers(0, 15 * 365 * 24).map(lambda hours: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)))
@example(datetime(2029, 2, 28, 23, 59, tzinfo=UTC))
@example(datetime(2028, 2, 29, 0, 0, tzinfo=UTC))
def test_nothing_is_archived_that_can_still_be_asked_for(now: datetime) -> None:
    archived = now - timedelta(days=Settings.model_fields["archive_after_days"].default)
    day = archived.astimezone(SEOUL)
    with pytest.raises(RefusedCallError) as refused:
        read_call(call(from_date=f"{day:%Y%m%d}", to_date=f"{now:%Y%m%d}"), org_code=OWN, now=now)
    assert refused.value.code is RspCode.TOO_OLD
