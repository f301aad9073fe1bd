"""Making the detached signatures that :mod:`gateway.identity.jose.signature` verifies: a partner's side of them."""

from joserfc.jws import JWSRegistry
from joserfc.util import json_b64encode, urlsafe_b64encode

from gateway.identity.jose.jwk import ALGORITHMS, PrivateKey, import_private


def sign_detached(body: bytes, private_key: PrivateKey, *, kid: str, algorithm: str, typ: str) -> str:
    """Sign ``body`` as message type ``typ``: the value of header ``signature``, about 250 characters.

    Args:
        body: the record's value, exactly as it will be sent.
        private_key: as :func:`gateway.identity.jose.jwk.generate_key` or ``read_private_key`` return it.
        kid: the key's registered id.
        algorithm: ``ES256`` or ``Ed25519``.
        typ: the CloudEvents type.

    Raises:
        KeyFormatError: the key is not one for this algorithm.
    """
    key = import_private(private_key, algorithm)
    header = {"alg": algorithm, "kid": kid, "typ": typ, "b64": False, "crit": ["b64"]}
    protected: bytes = json_b64encode(header)
    signature = JWSRegistry.algorithms[ALGORITHMS[algorithm]].sign(protected + b"." + body, key)
    return f"{protected.decode()}..{urlsafe_b64encode(signature).decode()}"
