"""What a second person reads before they approve."""

from gateway.app.payloads import ITEMS_MAX, facts_of

# RFC 8037, appendix A.3, and RFC 7638, section 3.1.
OKP = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "own"}
PRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_key_is_its_thumbprint_and_everything_else_is_as_it_will_be_written() -> None:
    payload = {"kid": "k-1", "jwk": OKP, "valid_until": None, "certificate_sha256": "ab" * 32}
    assert facts_of(payload) == [("kid", "k-1"), ("jwk (thumbprint)", PRINT), ("certificate_sha256", "ab" * 32)]


def test_what_is_nested_has_a_name_of_its_own() -> None:
    payload = {"campaign": {"reward": {"value": "10"}, "steps": [{"n": 1}, {"n": 2}]}, "partners": ["a", "b"]}
    assert facts_of(payload) == [
        ("campaign.reward.value", "10"),
        ("campaign.steps.1.n", "1"),
        ("campaign.steps.2.n", "2"),
        ("partners", "a, b"),
    ]


def test_a_long_list_says_how_much_more_there_is() -> None:
    [(name, text)] = facts_of({"references": [f"t/0/{n}" for n in range(ITEMS_MAX + 7)]})
    assert name == "references"
    assert text.endswith(f"t/0/{ITEMS_MAX - 1} … and 7 more")


def test_what_is_no_key_is_said_so() -> None:
    assert facts_of({"jwk": {"kty": "OKP", "crv": "Ed25519"}}) == [("jwk (thumbprint)", "not a valid key")]
