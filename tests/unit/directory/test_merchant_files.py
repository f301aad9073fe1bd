"""Merchant files: every wrong line is named, none spoils another."""

import json

import pytest

from gateway.directory.merchant_files import read_merchants
from gateway.directory.merchants import Merchant
from gateway.network.exchange import Acceptor
from schemas.codec import DecodeError

HEAD = "merchant_id,acceptor_id,name_location,mcc,networks,active\n"
CAFE = Merchant("cafe-1", Acceptor("CAFE1", "KIM'S, CAFE SEOUL KR", "5812"), frozenset({"bcard", "kcard"}), active=True)
ROW = """cafe-1,CAFE1,"KIM'S, CAFE SEOUL KR",5812,bcard kcard,true\n"""
FIELDS = {
    "merchant_id": "cafe-1",
    "acceptor_id": "CAFE1",
    "name_location": "KIM'S, CAFE SEOUL KR",
    "mcc": "5812",
    "networks": ["bcard", "kcard"],
}


def test_csv_and_json_lines_say_the_same() -> None:
    for text in (HEAD + ROW, "\ufeff" + HEAD + ROW, HEAD.replace(",", " ,") + ROW, json.dumps(FIELDS) + "\n\n"):
        found = read_merchants(text.encode())
        assert (found.merchants, found.errors) == ([CAFE], {})


def test_columns_may_stand_in_any_order_and_active_may_be_missing() -> None:
    text = "mcc,networks,merchant_id,acceptor_id,name_location\n5812,bcard,m,A,N\n"
    assert read_merchants(text.encode()).merchants[0].active


def test_a_name_for_people_may_be_in_any_script() -> None:
    text = HEAD.replace("active", "active,name") + ROW.replace("true", "true,김씨네 카페")
    assert read_merchants(text.encode()).merchants[0].name == "김씨네 카페"
    text = HEAD.replace("active", "active,name") + ROW.replace("true", "true,")
    assert read_merchants(text.encode()).merchants[0].name is None


@pytest.mark.parametrize(("text", "active"), [("true", True), ("YES", True), ("1", True), ("", True), ("no", False)])
def test_ways_to_say_yes_and_no(text: str, active: bool) -> None:
    assert read_merchants((HEAD + ROW.replace("true", text)).encode()).merchants[0].active is active


BAD_ROWS = {
    "an id with a slash": (ROW.replace("cafe-1", "a/b"), "merchant_id"),
    "an acceptor that a spreadsheet rewrote": (ROW.replace("CAFE1", "1.00E+08"), "spreadsheet"),
    "an acceptor with a comma for a point": (ROW.replace("CAFE1", "1E+14"), "spreadsheet"),
    "an acceptor in another script": (ROW.replace("CAFE1", "카페"), "acceptor_id"),
    "a network that is not configured": (ROW.replace("bcard kcard", "bcard bcrad"), "there are: bcard, kcard"),
    "a name_location that is told what it must be": (ROW.replace("CAFE SEOUL", "카페"), "printable ASCII"),
    "a long acceptor": (ROW.replace("CAFE1", "A" * 16), "acceptor_id"),
    "no acceptor": (ROW.replace("CAFE1", ""), "acceptor_id"),
    "a name that networks cannot write": (ROW.replace("CAFE SEOUL", "카페"), "name_location"),
    "a long name": (ROW.replace("CAFE SEOUL", "C" * 40), "name_location"),
    "a category that is none": (ROW.replace("5812", "58x2"), "mcc"),
    "no networks": (ROW.replace("bcard kcard", ""), "networks"),
    "a network that is none": (ROW.replace("bcard kcard", "b/card"), "networks"),
    "maybe": (ROW.replace("true", "maybe"), "active"),
    "too few fields": ("cafe-1,CAFE1\n", "name_location"),
    "too many fields": (ROW.replace("true", "true,more"), "surplus"),
    "a stray quote": ('x,"a"b,c\n', "CSV"),
    "a quote without end": ('x,"a,c\n', "CSV"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_wrong_row_is_named_and_the_others_are_taken(name: str) -> None:
    row, field = BAD_ROWS[name]
    text = HEAD + ROW.replace("cafe-1", "first") + row + ROW.replace("cafe-1", "last")
    found = read_merchants(text.encode(), configured=("bcard", "kcard"))
    assert [m.merchant_id for m in found.merchants] == ["first", "last"]
    assert list(found.errors) == [3]
    assert field in found.errors[3]


def test_one_merchant_twice_is_refused_the_second_time() -> None:
    found = read_merchants((HEAD + ROW + ROW).encode())
    assert found.merchants == [CAFE]
    assert found.errors == {3: "merchant_id: stands in line 2 already"}


def test_json_lines_are_as_strict() -> None:
    lines = [json.dumps({**FIELDS, **change}) for change in ({"active": "yes"}, {"memo": "x"}, {"mcc": 5812})]
    found = read_merchants("\n".join([*lines, "{", json.dumps(FIELDS)]).encode())
    assert found.merchants == [CAFE]
    assert list(found.errors) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text", ["", "merchant_id,mcc\n", HEAD.replace("mcc", "memo"), HEAD.replace("mcc", "networks")]
)
def test_other_columns_are_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="must name these columns"):
        read_merchants(text.encode())


def test_other_encodings_are_refused() -> None:
    with pytest.raises(DecodeError, match="UTF-8"):
        read_merchants("카페".encode("euc-kr"))
