"""`mypay plan`: the same figures for people and for programs, and what was not measured said once."""

import json
from pathlib import Path

from tests.support.cli import mypay

RESULT = {
    "processes": {"initiation": {"cpu_us_per_payment": 400.0}, "PostgreSQL": {"cpu_us_per_payment": 200.0}},
    "settled_in_window": 1_000,
    "settled_per_s": 700.0,
    "others_cores": 0.0,
    "stored_bytes": {"wal": 5_000_000, "database": 3_000_000, "kafka": 1_000_000},
}


def test_programs_are_told_what_people_are(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(RESULT))
    asked = ("plan", "--tps", 1_000, "--hours", 10, "--measured", file)
    told = mypay(*asked, "--json").expect().json
    assert [(s["name"], s["cores"]) for s in told["stages"]] == [("initiation", 0.4)]
    # 36 million payments a day, each of 5,000, 3,000 and three times 1,000 bytes.
    assert told["bytes_a_day"] == {"wal": 180e9, "tables": 108e9, "kafka": 108e9}
    shown = mypay(*asked).expect().out
    assert "PostgreSQL 180.0 GB of log and 108.0 GB of tables, Kafka 108.0 GB in 3 replicas" in shown


def test_what_was_not_measured_is_said_so(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({k: v for k, v in RESULT.items() if k != "stored_bytes"}))
    asked = ("plan", "--tps", 1, "--measured", file)
    assert set(mypay(*asked, "--json").expect().json["bytes_a_day"].values()) == {None}
    assert mypay(*asked).expect().out.count("not measured") == 1
