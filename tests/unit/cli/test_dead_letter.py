"""`mypay dead-letter …` over a topic in memory: what is listed, shown and sent again, and what others wrote."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.cli import dead_letter as command
from gateway.messaging.records import Record
from gateway.settlement.files import FILE_TOPIC_PREFIX
from schemas.topics import DEAD_LETTER
from tests.support.cli import mypay
from tests.unit.app.test_dead_letters import FORGED, KEYS, RECORD, Topic, topic

__all__ = ["topic"]

PAN = b'{"pan": "4929123456789015"}'


@pytest.fixture
def parked(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> Topic:
    """Three letters, one of them sealed; a letter and a note that somebody else wrote."""
    monkeypatch.setattr(command, "kafka", lambda _: None)
    monkeypatch.setattr(command, "letter_keys", lambda _: KEYS)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://x@127.0.0.1:1/x")
    topic.park(RECORD, replace(RECORD, offset=43, value=PAN), replace(RECORD, offset=44))
    note = Record(DEAD_LETTER, 0, 98, 1_767_225_600_008, None, b"", (("mypay-replayed", RECORD.reference.encode()),))
    topic.records += [FORGED, note]
    return topic


def listed(*more: str) -> list[dict[str, Any]]:
    return list(mypay("dead-letter", "list", "--json", *more).expect().json)


def test_the_newest_come_last_and_what_others_wrote_is_told_apart(parked: Topic) -> None:
    assert [(x["reference"], x["stage"], x["note"]) for x in listed()] == [
        ("mypay.orders/3/42", "initiation", ""),
        ("mypay.orders/3/43", "initiation", "sealed"),
        ("mypay.orders/3/44", "initiation", ""),
    ]
    told = mypay("dead-letter", "list", "--limit", "1").expect()
    assert "2 records on the topic were not written by the gateway" in told.err
    assert "2 older ones are not shown: --limit 3 shows them" in told.err
    assert [x["reference"] for x in listed("--limit", "1")] == ["mypay.orders/3/44"]
    assert listed("--stage", "consents") == []
    forged = listed("--forged")
    assert {(x["note"], x["stage"]) for x in forged} == {("not written by the gateway", None)}
    assert len(forged) == 2


@pytest.mark.parametrize("command", ["list", "replay"])
def test_a_stage_that_writes_none_is_refused_with_those_that_do(parked: Topic, command: str) -> None:
    all_ = ["--all", "--yes"] if command == "replay" else []
    told = " ".join(mypay("dead-letter", command, *all_, "--stage", "initation").expect(2).err.split())
    assert "--stage" in told
    assert "initiation, consents, execution" in told
    assert not parked.published


@pytest.mark.parametrize("command", ["show", "replay"])
def test_what_is_no_place_is_refused_before_anything_is_read(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://x@127.0.0.1:1/x")
    assert "TOPIC/PARTITION/OFFSET" in mypay("dead-letter", command, "mypay.orders/42").expect(2).err


def test_a_clearing_file_has_a_place_of_the_same_form(parked: Topic) -> None:
    place = f"{FILE_TOPIC_PREFIX}bcard-1.csv/0/0"
    assert f"No dead letter has the original {place}." in mypay("dead-letter", "show", place).expect(3).err


def test_one_is_shown_masked(parked: Topic) -> None:
    shown = mypay("dead-letter", "show", "mypay.orders/3/43", "--json").expect().json
    assert (shown["note"], "4929123456789015" in str(shown)) == ("sealed", False)
    people = " ".join(mypay("dead-letter", "show", "mypay.orders/3/42").expect().out.split())
    assert "o-1" in people
    assert "It cannot be read: amount.value: must be a string" in people
    assert "what to do" in people
    assert "DecodeError" not in people
    mypay("dead-letter", "show", "mypay.orders/0/9").expect(3)


def test_originals_are_sent_again_once_and_those_of_others_never(
    parked: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cli.operating._recorded", lambda _s, _a, _c, _w, do: do())
    replay = ("dead-letter", "replay", "--json")
    assert mypay(*replay, "mypay.orders/3/43").expect().json == {"replayed": ["mypay.orders/3/43"], "refused": []}
    [sent] = [o for o in parked.published if o.topic == "mypay.orders"]
    assert sent.value == PAN
    assert [x["reference"] for x in listed()] == ["mypay.orders/3/42", "mypay.orders/3/44"]
    assert [x["note"] for x in listed("--all")] == ["", "sealed, sent again", ""]
    for forged in listed("--forged"):
        told = mypay(*replay, forged["reference"]).expect(1).json
        assert [r["why"] for r in told["refused"]] == ["it was not written by the gateway, and is not sent anywhere"]
    assert mypay(*replay, "--all", "--yes", "--stage", "consents").expect().json == {"replayed": [], "refused": []}
    told = mypay(*replay, "--all", "--yes").expect().json
    assert (sorted(told["replayed"]), told["refused"]) == (["mypay.orders/3/42", "mypay.orders/3/44"], [])
    assert listed() == []
    mypay("dead-letter", "replay").expect(2)
    assert len([o for o in parked.published if o.topic == "mypay.orders"]) == 3
