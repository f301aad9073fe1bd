"""Base64url as joserfc reads it: the same texts, the same bytes, the same refusals."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.util import urlsafe_b64decode

from gateway.identity.jose import base64url

ALPHABET = "AEQgwz059-_"


@given(st.binary(max_size=80))
def test_what_was_written_is_read(raw: bytes) -> None:
    assert base64url.decode(base64.urlsafe_b64encode(raw).rstrip(b"=").decode()) == raw


@given(st.text(alphabet=ALPHABET + "+/=! \n\x00é", max_size=9) | st.text(alphabet=ALPHABET, max_size=9))
def test_refuses_exactly_what_the_library_refuses(text: str) -> None:
    try:
        expected = urlsafe_b64decode(text.encode())
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - binascii's own, or ours
            base64url.decode(text)
    else:
        assert base64url.decode(text) == expected


@pytest.mark.parametrize("text", ["A", "QQ==", "QQ=", "=", "QR", "QUJ", "Q+==", "QUJD\n", "QU JD", "QUJ/", "Qé"])
def test_no_second_spelling(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        base64url.decode(text)
