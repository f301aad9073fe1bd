"""Sealing stored cards anew under the newest master key, so that an old one can be retired.

A batch is one statement and stands for itself: whoever is stopped in the middle, however hard, runs it again and goes
on with what is left. Payments go on meanwhile: a row is sealed under the one key or under the other, and execution
takes a key up when it meets it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.directory.cards import CardSealer
from gateway.directory.funding import OwnedToken, SealedToken
from gateway.directory.store import Unopened
from gateway.directory.tokens import PostgresTokens
from gateway.sealing.sealing import NoMasterKeyError, Sealed, UnsealError
from schemas.primitives import FundingToken

RESEAL_BATCH: Final = 1000
"""Rows a statement: tens of milliseconds, so that nobody waits for a row's lock."""

NAMED_MAX: Final = 20
"""Tokens that are named where something is wrong with them; the others are counted."""

RETIRED_SUFFIX: Final = ".retired"


@dataclass(slots=True)
class Resealed:
    """What a run did.

    Attributes:
        done: rows sealed anew.
        left: rows that another process changed meanwhile: run it again.
        unopened: rows that do not open, by cause; they stay as they are, and so must their keys.
        named: some of these.
    """

    done: int = 0
    left: int = 0
    unopened: Counter[Unopened] = field(default_factory=Counter)
    named: list[FundingToken] = field(default_factory=list)


async def reseal_all(
    tokens: PostgresTokens,
    sealer: CardSealer,
    newest: str,
    *,
    batch: int = RESEAL_BATCH,
    progress: Callable[[Resealed], None],
) -> Resealed:
    """Seal every card that is under another key under the newest; ``progress`` is called after each batch.

    Raises:
        StoreUnavailableError: what was done so far stands; run it again.
    """
    made = Resealed()
    after = ""
    while rows := await tokens.sealed_under_others(newest, after=after, limit=batch):
        anew: list[tuple[SealedToken, Sealed]] = []
        for row in rows:
            sealed = _sealed_anew(sealer, row)
            if isinstance(sealed, Unopened):
                made.unopened[sealed] += 1
                made.named += [row.token] if len(made.named) < NAMED_MAX else []
            else:
                anew.append((row, sealed))
        done = await tokens.reseal(anew, now=datetime.now(UTC)) if anew else 0
        made.done += done
        made.left += len(anew) - done
        after = rows[-1].token
        progress(made)
    return made


def _sealed_anew(sealer: CardSealer, row: SealedToken) -> Sealed | Unopened:
    was = Sealed(row.key_id, row.nonce, row.ciphertext)
    try:
        if row.customer_id is None:
            return sealer.reseal_unowned_card(row.token, was)
        owned = OwnedToken(row.token, row.customer_id)
        return sealer.seal_card(owned, sealer.open_card(owned, was))
    except NoMasterKeyError:
        return Unopened.NO_KEY
    except UnsealError:
        return Unopened.CHANGED


@dataclass(frozen=True, slots=True)
class MasterKeyUse:
    """A master key and what still needs it.

    Attributes:
        is_here: False for a key that rows name and that is not in the folder.
        seals: it is the newest.
        tokens: rows sealed under it.
    """

    key_id: str
    is_here: bool
    seals: bool
    tokens: int


def key_uses(ids: list[str], counts: Mapping[str, int]) -> list[MasterKeyUse]:
    """Every key that is here or that a row names, oldest first."""
    newest = max(ids, default=None)
    return [
        MasterKeyUse(key_id, key_id in ids, key_id == newest, counts.get(key_id, 0))
        for key_id in sorted({*ids, *counts})
    ]


def set_aside(directory: Path, key_id: str) -> Path:
    """Take a key out of use: its file stays beside the others under another name, which no process reads."""
    path = directory / f"{key_id}.key"
    return path.rename(path.with_name(path.name + RETIRED_SUFFIX))
