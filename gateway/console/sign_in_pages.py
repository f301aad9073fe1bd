"""Signing in and out, and choosing a language."""

import re

from aiohttp import web

from gateway.app.operating import OPERATOR_PATTERN
from gateway.console.oidc import Attempt, OidcError
from gateway.console.signing_in import SignedIn
from gateway.console.web import LANGUAGE_COOKIE, SESSION_COOKIE, SIGNED_IN, Console, form_of
from gateway.console.words import LANGUAGES
from gateway.directory.console_roles import SignIn

OIDC_COOKIE = "mypay_oidc"
OIDC_S = 600

_WHY = {
    SignIn.REFUSED: (403, "Name or password is wrong."),
    SignIn.TOO_MANY: (429, "Too many attempts. Wait a quarter of an hour."),
}


async def sign_in_form(console: Console, request: web.Request) -> web.StreamResponse:
    """The form."""
    if SIGNED_IN in request:
        return _to("/")
    return console.page(request, "sign_in.html", error="")


async def sign_in(console: Console, request: web.Request) -> web.StreamResponse:
    """Let somebody in with a password."""
    form = await form_of(request)
    name, password = form.get("name", ""), form.get("password", "")
    came = await console.signing_in.with_password(name, password, console.peer(request))
    if isinstance(came, SignedIn):
        return _let_in(console, came)
    # A user's name is in the record of attempts; a mistyped one may be a password, so it is in no log.
    console.observer.note("console_sign_in_refused", level="warning", outcome=came.value)
    console.observer.count("console", f"sign_in_{came.value}")
    status, text = _WHY[came]
    return console.page(request, "sign_in.html", status=status, error=text)


async def sign_out(console: Console, request: web.Request) -> web.StreamResponse:
    """End the session."""
    await console.signing_in.sign_out(request[SIGNED_IN], console.peer(request))
    response = _to("/sign-in")
    response.del_cookie(console.cookie_name(SESSION_COOKIE), secure=console.is_secure, httponly=True, samesite="Lax")
    return response


async def oidc_start(console: Console, request: web.Request) -> web.StreamResponse:
    """Send the browser to the provider."""
    if console.oidc is None:
        return _to("/sign-in")
    try:
        where, attempt = await console.oidc.begin()
    except OidcError as error:
        return _not_let_in(console, request, error)
    response = web.Response(status=303, headers={"Location": where})
    console.set_cookie(response, OIDC_COOKIE, attempt.cookie(), max_age=OIDC_S)
    return response


async def oidc_callback(console: Console, request: web.Request) -> web.StreamResponse:
    """Let in whom the provider sent back."""
    attempt = Attempt.read(request.cookies.get(console.cookie_name(OIDC_COOKIE), ""))
    if console.oidc is None or attempt is None:
        return _to("/sign-in")
    try:
        name, role, identity = await console.oidc.finish(attempt, request.query)
        if not re.fullmatch(OPERATOR_PATTERN, name):
            raise OidcError("the operator's name is none that the record takes")
    except OidcError as error:
        return _not_let_in(console, request, error)
    came = await console.signing_in.let_in(name, role, console.peer(request), identity=identity)
    response = _let_in(console, came)
    # It was for one attempt.
    console.set_cookie(response, OIDC_COOKIE, "", max_age=0)
    return response


async def language(console: Console, request: web.Request) -> web.StreamResponse:
    """Keep the language that somebody chose."""
    form = await form_of(request)
    chosen, back = form.get("language", ""), form.get("back", "/")
    # Back to a page of ours, never to another site.
    response = _to(back if re.fullmatch(r"/(?!/)[\x21-\x5b\x5d-\x7e]*", back) else "/")
    if chosen in LANGUAGES:
        console.set_cookie(response, LANGUAGE_COOKIE, chosen, max_age=365 * 86_400)
    return response


def _let_in(console: Console, came: SignedIn) -> web.Response:
    console.observer.count("console", "sign_in_let_in")
    console.observer.note("console_signed_in", operator=came.session.name, role=came.session.role.value)
    response = _to("/")
    console.set_cookie(response, SESSION_COOKIE, came.token, max_age=console.signing_in.longest.total_seconds())
    return response


def _not_let_in(console: Console, request: web.Request, error: OidcError) -> web.Response:
    console.observer.count("console", "sign_in_refused")
    console.observer.note("console_oidc_refused", level="warning", reason=str(error))
    return console.page(request, "sign_in.html", status=403, error="Your organisation did not let you in.")


def _to(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})
