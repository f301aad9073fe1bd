"""A key that signs roots in tests, and what reads them."""

from typing import Final

from gateway.disclosure.signing import RootSigner, RootVerifier
from gateway.identity.jose.jwk import generate_key

_PRIVATE, ROOT_KEY = generate_key("ES256")
ROOT_SIGNER: Final = RootSigner(_PRIVATE, "disclosure-test")
ROOT_VERIFIER: Final = RootVerifier({"disclosure-test": ROOT_KEY})
