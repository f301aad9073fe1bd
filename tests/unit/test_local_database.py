import pytest

from gateway.cli.local_database import is_local


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
