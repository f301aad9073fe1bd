"""Addresses of the database: where they lead, and which are used."""

from pathlib import Path

import pytest

from gateway.database.dsn import DsnError, check_dsn, is_local, with_user

# fmt: off
ADDRESSES = [
    # address                                                  used
    ("postgresql://u@/d?host=/run/postgresql",                 True),
    ("postgresql:///d",                                        True),
    ("postgresql://u@localhost/d",                             True),
    ("postgresql://u@127.0.0.1:5433/d",                        True),
    ("postgresql://u@127.8.8.8/d",                             True),
    ("postgresql://u@[::1]:5433/d",                            True),
    ("postgresql://u@/d?host=/tmp,localhost",                  True),
    ("postgresql://u@db.example/d",                            False),
    ("postgresql://u@10.0.0.5/d",                              False),
    ("postgresql://u@[2001:db8::1]/d",                         False),
    ("postgresql://u@localhost,db.example/d",                  False),
    ("postgresql://u@localhost.evil.example/d",                False),
    ("postgresql://u@/d?host=db.example",                      False),
    ("postgresql://u@db.example/d?sslmode=disable",            False),
    ("postgresql://u@db.example/d?sslmode=prefer",             False),
    ("postgresql://u@db.example/d?sslmode=require",            False),
    ("postgresql://u@db.example/d?sslmode=verify-ca",          True),
    ("postgresql://u@db.example/d?sslmode=verify-full",        True),
    ("postgresql://u@a,b:5433/d?sslmode=verify-full",          True),
]
# fmt: on


@pytest.mark.parametrize(("address", "used"), ADDRESSES)
def test_another_machine_must_show_who_it_is(address: str, used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.delenv("PGSSLMODE", raising=False)
    check_dsn(address, allow_plaintext=True)
    if used:
        check_dsn(address)
    else:
        with pytest.raises(DsnError, match="another machine"):
            check_dsn(address)


def test_the_environment_of_the_driver_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    with pytest.raises(DsnError, match=r"db\.example"):
        check_dsn("postgresql:///d")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    check_dsn("postgresql:///d")


@pytest.mark.parametrize(
    "address",
    [
        *("mysql://u:secret@h/d", "h/d secret", "postgresql://u:se/cret@h/d", "http://[secret/"),
        # What stands where the host does is a piece of the password.
        *("postgresql://u:s@cret/w@h/d", "postgresql://cret:1/w@h/d", "postgresql://cret:1#w@h/d"),
        "postgresql://cret:1?w@h/d",
    ],
)
def test_what_is_no_address_is_refused_without_saying_what_it_holds(address: str) -> None:
    with pytest.raises(DsnError) as caught:
        check_dsn(address)
    assert "cret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("sslmode=verify_full", "sslmode is none of disable,"),
        ("port=abc", "port is no number"),
        ("sslmode", "it is no URL"),
        ("sslmode=verify-full&sslrootcert={folder}/none", "sslrootcert names .*none: No such file"),
        ("sslmode=verify-full&sslrootcert={folder}", "sslrootcert names .*: Is a directory"),
        ("sslmode=verify-full&sslrootcert={folder}/text", "sslrootcert names .*text: NO_CERTIFICATE"),
        ("sslmode=require&sslkey={folder}/none", "sslkey names .*none: No such file"),
    ],
)
def test_an_option_that_the_driver_never_takes_is_told_by_name(options: str, told: str, tmp_path: Path) -> None:
    """Taken for an outage, the address was tried for as long as the process ran."""
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(DsnError, match=told):
        check_dsn(f"postgresql://u@localhost/d?{options.format(folder=tmp_path)}", name="MYPAY_POSTGRES_DSN")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://postgres@/d?host=/tmp/x", "postgresql://mypay_relay@/d?host=/tmp/x"),
        ("postgresql://a:secret@h:1/d?sslmode=verify-full", "postgresql://mypay_relay@h:1/d?sslmode=verify-full"),
        ("postgresql://h/d", "postgresql://mypay_relay@h/d"),
        ("postgresql:///d", "postgresql://mypay_relay@/d"),
    ],
)
def test_another_user_of_the_same_place(given: str, expected: str) -> None:
    assert with_user(given, "mypay_relay") == expected
    assert is_local(given) == is_local(expected)


@pytest.mark.parametrize(
    ("dsn", "local"),
    [
        ("postgresql://mypay@127.0.0.1:5432/mypay", True),
        ("postgresql://mypay@localhost/mypay", True),
        ("postgresql://mypay@[::1]:5432/mypay", True),
        ("postgresql:///mypay", True),
        ("postgresql:///mypay?host=/var/run/postgresql", True),
        ("postgresql://mypay@%2Fvar%2Frun%2Fpostgresql/mypay", True),
        ("postgresql://mypay@db.example/mypay", False),
        ("postgresql://mypay@10.0.0.5/mypay", False),
        ("postgresql://127.0.0.1@db.example/mypay", False),
        ("postgresql://mypay:p@127.0.0.1@db.example/mypay", False),
        ("postgresql://mypay@127.0.0.1,db.example:5432/mypay", False),
        ("postgresql://127.0.0.1/mypay?host=db.example", False),
        ("postgresql://mypay@127.0.0.1.example/mypay", False),
        ("postgresql://[127.0.0.1/mypay", False),
    ],
)
def test_a_database_is_local_when_every_host_is(dsn: str, local: bool) -> None:
    assert is_local(dsn) is local
