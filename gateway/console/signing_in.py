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
from gateway.directory.console_roles import ConsoleRole, ConsoleSession, ConsoleUser, SignIn
from gateway.sealing.passwords import NOBODYS, PASSWORD_CHARS_MAX, is_password

WINDOW: Final = timedelta(minutes=15)
FAILURES_OF_NAME_MAX: Final = 10
"""Refused attempts under one name within :data:`WINDOW`; further ones are not even looked at."""
FAILURES_OF_PEER_MAX: Final = 50
"""The same from one place, where a whole office may sit behind one address."""

NAME_CHARS_MAX: Final = 64

ATTEMPTS_MAX: Final = 20
"""Attempts that may wait for the one that is looked at; further ones are refused, and leave nothing behind."""

_SEEN_EVERY: Final = timedelta(seconds=30)


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
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _attempts: int = 0

    async def with_password(self, name: str, password: str, peer: str | None) -> SignedIn | SignIn:
        """Let somebody in with a password, or say why not. ``peer``: where they are; None where nobody can know."""
        if self._attempts > ATTEMPTS_MAX:
            return SignIn.TOO_MANY
        self._attempts += 1
        try:
            # One at a time: each counts what those before it came to. So attempts take one connection of the two that
            # sessions are looked up with, however many come.
            async with self._one:
                user = await self._attempt(_printable(name), password, peer)
        finally:
            self._attempts -= 1
        return user if isinstance(user, SignIn) else await self.let_in(user.name, user.role, peer, identity=None)

    async def _attempt(self, name: str, password: str, peer: str | None) -> ConsoleUser | SignIn:
        since, place = self.clock.now() - WINDOW, self._peer(peer)
        async with self.database.sign_ins() as sign_ins:
            # Until the end of this attempt: what other processes look at meanwhile is counted as well.
            await sign_ins.lock_name(name)
            # What nobody is called may be a password that was typed into the wrong field: it is told apart, not kept.
            noted = await sign_ins.spelling(name) or f"?{self._hidden(name.casefold())}"
            failures = await sign_ins.failures(noted, place, since=since)
            is_of_name = failures.of_name >= FAILURES_OF_NAME_MAX
            if is_of_name or (peer is not None and failures.of_peer >= FAILURES_OF_PEER_MAX):
                if not (failures.told_name if is_of_name else failures.told_peer):
                    await sign_ins.note(noted, place, SignIn.TOO_MANY)
                return SignIn.TOO_MANY
            user = await sign_ins.user(name)
            # Also where there is no such user: it takes as long.
            known = user.password_hash if user else NOBODYS
            if await asyncio.to_thread(is_password, password[:PASSWORD_CHARS_MAX], known) and user is not None:
                return user
            await sign_ins.note(noted, place, SignIn.REFUSED)
        return SignIn.REFUSED

    async def let_in(self, name: str, role: ConsoleRole, peer: str | None, *, identity: str | None) -> SignedIn:
        """Begin a session for somebody whose name is proved. ``identity``: by a provider; None: by a password."""
        now, token = self.clock.now(), secrets.token_urlsafe(32)
        session = ConsoleSession(name, role, identity is None, now, now, identity)
        async with self.database.sign_ins() as sign_ins:
            await sign_ins.begin(_hash(token), session, idle_since=now - self.idle, old=now - self.longest)
            await sign_ins.note(name, self._peer(peer), SignIn.LET_IN)
        return SignedIn(token, session)

    async def session(self, token: str, *, is_use: bool = True) -> SignedIn | None:
        """Who holds this token, if their session counts still. ``is_use``: a person asks, which puts off its end."""
        now, hashed = self.clock.now(), _hash(token)
        async with self.database.sign_ins() as sign_ins:
            found = await sign_ins.session(hashed, idle_since=now - self.idle, old=now - self.longest)
            if found is not None and is_use and now - found.seen_at >= _SEEN_EVERY:
                await sign_ins.seen(hashed, now)
        return None if found is None else SignedIn(token, found)

    async def sign_out(self, signed_in: SignedIn, peer: str | None) -> None:
        """End a session."""
        async with self.database.sign_ins() as sign_ins:
            await sign_ins.end(_hash(signed_in.token))
            await sign_ins.note(signed_in.session.name, self._peer(peer), SignIn.SIGNED_OUT)

    def _peer(self, address: str | None) -> str:
        # An address is personal: it is told apart, and not kept.
        return self._hidden(address or "")

    def _hidden(self, text: str) -> str:
        # The key lives as long as this process.
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), sha256).hexdigest()[:32]


def _hash(token: str) -> bytes:
    # A cookie may hold any bytes: those that are no UTF-8 are surrogates here.
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _printable(name: str) -> str:
    return "".join(c for c in name[:NAME_CHARS_MAX] if c.isprintable())
