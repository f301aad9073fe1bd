"""Signing in: passwords, sessions, and how often somebody may try."""

import asyncio
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Final

from gateway.app.console import ConsoleDatabase
from gateway.base.process import Clock
from gateway.directory.console_roles import ConsoleRole, ConsoleSession, SignIn
from gateway.sealing.passwords import NOBODYS, PASSWORD_CHARS_MAX, is_password

WINDOW: Final = timedelta(minutes=15)
FAILURES_OF_NAME_MAX: Final = 10
"""Refused attempts under one name within :data:`WINDOW`; further ones are not even looked at."""
FAILURES_OF_PEER_MAX: Final = 50
"""The same from one place, where a whole office may sit behind one address."""

NAME_CHARS_MAX: Final = 64

_SEEN_EVERY: Final = timedelta(seconds=30)
_HASHING_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody who is signed in, and the token that their browser holds."""

    token: str = field(repr=False)
    session: ConsoleSession

    @property
    def csrf(self) -> str:
        """What every form of this session carries: nobody else's page can know it."""
        return hmac.new(self.token.encode(), b"csrf", sha256).hexdigest()


@dataclass(slots=True)
class SigningIn:
    """Lets people in. Sessions live in the database: any process serves them, and a restart ends none."""

    database: ConsoleDatabase
    clock: Clock
    idle: timedelta
    longest: timedelta
    _peers: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _hashing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_HASHING_MAX))

    async def with_password(self, name: str, password: str, peer: str) -> SignedIn | SignIn:
        """Let somebody in with a password, or say why not."""
        name, peer = _printable(name), self._peer(peer)
        since = self.clock.now() - WINDOW
        async with self.database.sign_ins() as sign_ins:
            failures = await sign_ins.failures(name, peer, since=since)
            if failures.of_name >= FAILURES_OF_NAME_MAX or failures.of_peer >= FAILURES_OF_PEER_MAX:
                await sign_ins.note(name, peer, SignIn.TOO_MANY)
                return SignIn.TOO_MANY
            user = await sign_ins.user(name)
        async with self._hashing:
            # Also where there is no such user: it takes as long.
            known = user.password_hash if user else NOBODYS
            good = await asyncio.to_thread(is_password, password[:PASSWORD_CHARS_MAX], known) and user is not None
        if not good or user is None:
            async with self.database.sign_ins() as sign_ins:
                await sign_ins.note(name, peer, SignIn.REFUSED)
            return SignIn.REFUSED
        return await self.let_in(user.name, user.role, peer, is_local=True, peer_is_hashed=True)

    async def let_in(
        self, name: str, role: ConsoleRole, peer: str, *, is_local: bool, peer_is_hashed: bool = False
    ) -> SignedIn:
        """Begin a session for somebody whose name is proved."""
        now, token = self.clock.now(), secrets.token_urlsafe(32)
        session = ConsoleSession(name, role, is_local, now, now)
        async with self.database.sign_ins() as sign_ins:
            await sign_ins.begin(_hash(token), session, idle_since=now - self.idle, old=now - self.longest)
            await sign_ins.note(name, peer if peer_is_hashed else self._peer(peer), SignIn.LET_IN)
        return SignedIn(token, session)

    async def session(self, token: str) -> SignedIn | None:
        """Who holds this token, if their session counts still."""
        now, hashed = self.clock.now(), _hash(token)
        async with self.database.sign_ins() as sign_ins:
            found = await sign_ins.session(hashed, idle_since=now - self.idle, old=now - self.longest)
            if found is not None and now - found.seen_at >= _SEEN_EVERY:
                await sign_ins.seen(hashed, now)
        return None if found is None else SignedIn(token, found)

    async def sign_out(self, signed_in: SignedIn, peer: str) -> None:
        """End a session."""
        async with self.database.sign_ins() as sign_ins:
            await sign_ins.end(_hash(signed_in.token))
            await sign_ins.note(signed_in.session.name, self._peer(peer), SignIn.SIGNED_OUT)

    def _peer(self, address: str) -> str:
        # An address is personal: it is told apart, and not kept. The key lives as long as this process.
        return hmac.new(self._peers, address.encode(), sha256).hexdigest()[:32]


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _printable(name: str) -> str:
    return "".join(c for c in name[:NAME_CHARS_MAX] if c.isprintable())
