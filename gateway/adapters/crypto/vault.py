"""Sealing what may only be stored unreadable: cards behind funding tokens, and dead letters that hold a secret.

AES-256-GCM with a random 96-bit nonce for each sealing. The keys that seal are derived (HKDF-SHA256, RFC 5869) from a
master key and a purpose, so that what was sealed for one purpose opens for no other. The context (a token, a record's
place) and the key's id are authenticated with it: a sealed row that is moved to another place does not open. Random
nonces are safe for 2^32 sealings under one key (NIST SP 800-38D); rotate long before.

Several master keys live side by side: the newest seals, all of them open.
"""

import asyncio
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from string import ascii_lowercase
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.adapters.crypto.files import SecretFileError
from gateway.adapters.crypto.key_ring import KEY_BYTES, create_key, read_ring
from gateway.domain.exchange import CardData
from gateway.domain.funding import OwnedToken
from gateway.ports import Unopened
from schemas.primitives import FundingToken

MASTER_KEY_BYTES: Final = KEY_BYTES
KEYS_REREAD_SECONDS: Final = 1.0
"""Rows under a key that is nowhere cost one look into the directory a second."""

TOKEN_LETTERS: Final = 28
"""26^28 is 2^131: whoever tries a million ids a second for the age of the universe finds none."""

_NONCE_BYTES: Final = 12
_KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PAN: Final = re.compile(r"[0-9]{12,19}")
_EXPIRY: Final = re.compile(r"[0-9]{4}")


@unique
class Purpose(StrEnum):
    """What a derived key is for."""

    FUNDING_TOKEN = "funding-token"  # noqa: S105 - a name
    DEAD_LETTER = "dead-letter"
    DEAD_LETTER_MARK = "dead-letter-mark"
    DISPATCH_MARK = "dispatch-mark"
    WAITING_MARK = "waiting-mark"


class NoMasterKeyError(Exception):
    """There is no master key to seal with, or not the one that something was sealed under."""


class UnsealError(Exception):
    """What was to be opened was changed, moved, or sealed under another key with the same id."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """Sealed bytes. ``key_id`` names the master key."""

    key_id: str
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


SealedCard = Sealed
"""A card as it stands in the database beside its token."""


class MasterKeys:
    """The keys of one ring (cards, dead letters, internal); empty where none is configured. Holds nothing but memory.

    Args:
        keys: id → 32 bytes. The greatest id, as text, is the newest: ids begin with a date.

    Raises:
        ValueError: an id or a key of the wrong form.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id) or len(key) != MASTER_KEY_BYTES:
                raise ValueError(
                    f"a master key is {MASTER_KEY_BYTES} bytes under an id of letters, digits, '.', '_', '-'"
                )
        self._keys = dict(keys)
        self._derived: dict[tuple[Purpose, str], AESGCM] = {}

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a ring (:func:`gateway.adapters.crypto.key_ring.read_ring`). A missing directory holds none.

        Raises:
            SecretFileError: the directory or a file cannot be used.
        """
        return cls(read_ring(directory))

    @staticmethod
    def create(directory: Path) -> str:
        """Make a new master key file, newer than all others; return its id. Processes take it up when they restart."""
        return create_key(directory)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"MasterKeys({sorted(self._keys)})"

    @property
    def newest(self) -> str | None:
        """Id of the key that seals."""
        return max(self._keys, default=None)

    @property
    def ids(self) -> list[str]:
        """Ids of all keys, oldest first."""
        return sorted(self._keys)

    def derive(self, purpose: Purpose, key_id: str) -> bytes:
        """The key of one purpose that follows from a master key: 32 bytes."""
        info = f"mypay/{purpose}/v1".encode()
        return HKDF(SHA256(), length=32, salt=None, info=info).derive(self._keys[key_id])

    def seal(self, purpose: Purpose, plaintext: bytes, context: str) -> Sealed:
        """Seal under the newest key; ``context`` must be given again to open.

        Raises:
            NoMasterKeyError: there is none.
        """
        key_id = self.newest
        if key_id is None:
            raise NoMasterKeyError("no master key is configured")
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._cipher(purpose, key_id).encrypt(nonce, plaintext, _associated(key_id, context))
        return Sealed(key_id, nonce, ciphertext)

    def open(self, purpose: Purpose, sealed: Sealed, context: str) -> bytes:
        """Open what :meth:`seal` made with the same purpose and context.

        Raises:
            NoMasterKeyError: the key it names is not here.
            UnsealError: anything of it was changed.
        """
        if sealed.key_id not in self._keys:
            raise NoMasterKeyError(f"master key {sealed.key_id} is not configured")
        cipher = self._cipher(purpose, sealed.key_id)
        try:
            return cipher.decrypt(sealed.nonce, sealed.ciphertext, _associated(sealed.key_id, context))
        except (InvalidTag, ValueError):
            raise UnsealError(f"what was sealed as {purpose} does not open") from None

    def _cipher(self, purpose: Purpose, key_id: str) -> AESGCM:
        cipher = self._derived.get((purpose, key_id))
        if cipher is None:
            cipher = self._derived[purpose, key_id] = AESGCM(self.derive(purpose, key_id))
        return cipher


def new_token() -> str:
    """Make a funding token's id: 28 random letters, more than 128 bits, and never a digit that a card could have."""
    return "".join(secrets.choice(ascii_lowercase) for _ in range(TOKEN_LETTERS))


class CardSealer:
    """Turns cards into sealed rows and back; stores nothing.

    Token and owner are bound into what is sealed: a row that is moved to another token, or given to another customer,
    does not open.
    """

    def __init__(self, keys: MasterKeys) -> None:
        self._keys = keys

    def seal_card(self, owned: OwnedToken, card: CardData) -> SealedCard:
        """Seal a customer's card for its funding token.

        Raises:
            NoMasterKeyError: there is none.
            ValueError: not 12 to 19 digits, or an expiry that is not YYMM. The text holds nothing of the card.
        """
        if not _PAN.fullmatch(card.pan):
            raise ValueError("a card number has 12 to 19 digits")
        if card.expiry is not None and not _EXPIRY.fullmatch(card.expiry):
            raise ValueError("a card's expiry is YYMM")
        return self._keys.seal(Purpose.FUNDING_TOKEN, f"{card.pan}={card.expiry or ''}".encode(), _context(owned))

    def open_card(self, owned: OwnedToken, sealed: SealedCard) -> CardData:
        """Open the card behind a customer's funding token.

        Raises:
            NoMasterKeyError: the key that sealed it is not configured.
            UnsealError: the row was changed, or belongs to another token or customer.
        """
        return _card(self._keys.open(Purpose.FUNDING_TOKEN, sealed, _context(owned)))

    def open_unowned_card(self, token: FundingToken, sealed: SealedCard) -> CardData:
        """Open a card that was sealed before tokens had owners: to seal it anew for one, and for nothing else.

        Raises:
            NoMasterKeyError, UnsealError: as :meth:`open_card`.
        """
        return _card(self._keys.open(Purpose.FUNDING_TOKEN, sealed, token))

    def reseal_unowned_card(self, token: FundingToken, sealed: SealedCard) -> SealedCard:
        """Seal such a card under the newest key, still for no owner.

        Raises:
            NoMasterKeyError, UnsealError: as :meth:`open_card`.
        """
        return self._keys.seal(Purpose.FUNDING_TOKEN, self._keys.open(Purpose.FUNDING_TOKEN, sealed, token), token)


class MasterKeyRing:
    """Opens stored cards with a directory's master keys: a :class:`gateway.adapters.postgres.vault.CardOpener`.

    A key that is made while the process runs is taken up when the first row under it is met, so that cards can be
    sealed anew without a restart.
    """

    def __init__(
        self, directory: Path, keys: MasterKeys | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the keys, unless they were read from there already.

        Raises:
            SecretFileError: a file cannot be used.
        """
        self._directory = directory
        self._monotonic = monotonic
        self._keys = MasterKeys.load(directory) if keys is None else keys
        self._sealer = CardSealer(self._keys)
        self._missing: dict[str, float] = {}

    def open(self, owned: OwnedToken, key_id: str, nonce: bytes, ciphertext: bytes) -> CardData | Unopened:
        """The card, or why it does not open."""
        try:
            return self._sealer.open_card(owned, Sealed(key_id, nonce, ciphertext))
        except NoMasterKeyError:
            return Unopened.NO_KEY
        except UnsealError:
            return Unopened.CHANGED

    async def reload(self, key_ids: Collection[str]) -> bool:
        """Read the directory again for keys that are not known; True if it was read.

        Once in :data:`KEYS_REREAD_SECONDS` at most for each of them that is not there either. A directory that cannot
        be read leaves the keys as they are.
        """
        now = self._monotonic()
        if all(now - self._missing.get(key_id, -math.inf) < KEYS_REREAD_SECONDS for key_id in key_ids):
            return False
        try:
            keys = await asyncio.to_thread(MasterKeys.load, self._directory)
        except (SecretFileError, ValueError):
            return False
        finally:
            # None but those of this moment: what names keys that are nowhere fills no memory.
            self._missing = dict.fromkeys(key_ids, now)
        self._keys, self._sealer = keys, CardSealer(keys)
        return True


def _context(owned: OwnedToken) -> str:
    # No id holds a "/", so no two pairs spell the same, nor does a pair spell what was sealed for a token alone.
    return f"{owned.token}/{owned.customer_id}"


def _card(plaintext: bytes) -> CardData:
    pan, _, expiry = plaintext.decode().partition("=")
    return CardData(pan=pan, expiry=expiry or None)


def _associated(key_id: str, context: str) -> bytes:
    # Key ids hold no "/", so no two pairs of id and context spell the same.
    return f"{key_id}/{context}".encode()
