"""People's passwords: kept as Argon2id hashes, with the parameters that OWASP's cheat sheet names."""

import os
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

PASSWORD_CHARS_MIN: Final = 12
"""NIST SP 800-63B asks for 8 with a second factor; there is none here."""

PASSWORD_CHARS_MAX: Final = 256

_MEMORY_KIB: Final = 19 * 1024
_ITERATIONS: Final = 2
_LANES: Final = 1


def hash_password(password: str) -> str:
    """A PHC string with a salt of its own; takes some 50 ms and 19 MiB."""
    hashing = Argon2id(salt=os.urandom(16), length=32, iterations=_ITERATIONS, lanes=_LANES, memory_cost=_MEMORY_KIB)
    return hashing.derive_phc_encoded(password.encode())


def is_password(password: str, phc: str) -> bool:
    """True if the hash is this password's; takes as long either way."""
    try:
        Argon2id.verify_phc_encoded(password.encode(), phc)
    except InvalidKey:
        return False
    return True


NOBODYS: Final = hash_password(os.urandom(16).hex())
"""What a password is compared with where there is no such user: whether there is one cannot be told from the time."""
