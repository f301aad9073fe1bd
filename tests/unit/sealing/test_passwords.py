"""People's passwords."""

from gateway.sealing.passwords import NOBODYS, hash_password, is_password


def test_a_password_is_known_by_its_hash_and_no_other_is() -> None:
    one, two = hash_password("correct horse battery"), hash_password("correct horse battery")
    assert one != two
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "horse" not in one
    assert is_password("correct horse battery", one)
    assert not is_password("Correct horse battery", one)
    assert not is_password("", NOBODYS)
