"""Cards behind funding tokens: sealed for their owners, and opened with a directory's master keys."""

import asyncio
import math
import re
import secrets
import time
from collections.abc import Callable, Collection
from pathlib import Path
from string import ascii_lowercase
from typing import Final

from gateway.directory.funding import OwnedToken
from gateway.directory.store import Unopened
from gateway.network.exchange import CardData
from gateway.sealing.files import SecretFileError
from gateway.sealing.sealing import MasterKeys, NoMasterKeyError, Purpose, Sealed, UnsealError
from schemas.primitives import FundingToken

SealedCard = Sealed
"""A card as it stands in the database beside its token."""

KEYS_REREAD_SECONDS: Final = 1.0
"""Rows under a key that is nowhere cost one look into the directory a second."""

TOKEN_LETTERS: Final = 28
"""26^28 is 2^131: whoever tries a million ids a second for the age of the universe finds none."""

_PAN: Final = re.compile(r"[0-9]{12,19}")
_EXPIRY: Final = re.compile(r"[0-9]{4}")


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
    """Opens stored cards with a directory's master keys: a :class:`gateway.directory.vault.CardOpener`.

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
