"""The console over HTTP: every request's way in, what every answer carries, and pages from templates."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import resources
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from gateway.app.console import ConsoleDatabase
from gateway.app.payloads import facts_of
from gateway.app.settings import Settings
from gateway.base.calendar import SEOUL
from gateway.base.errors import StoreUnavailableError
from gateway.base.expecting import answer_expect
from gateway.base.process import Clock, Observer
from gateway.console.letters import Letters
from gateway.console.oidc import OidcClient
from gateway.console.rules.access import GUARDED, POLLED, ROUTES, Route, may
from gateway.console.rules.peers import Proxies, peer_of
from gateway.console.rules.states import LOOKS, UNFORESEEN
from gateway.console.sampling import Samples
from gateway.console.signing_in import SignedIn, SigningIn
from gateway.console.words import LANGUAGES, language_of, translated
from gateway.directory.console_roles import ConsoleRole
from gateway.network.iso8583.config import NetworkConfig
from gateway.views import wording
from gateway.views.wording import money

Handler = Callable[["Console", web.Request], Awaitable[web.StreamResponse]]

SESSION_COOKIE: Final = "mypay_console"
LANGUAGE_COOKIE: Final = "mypay_language"
FORM_BYTES_MAX: Final = 16 * 1024
FORM_FIELDS_MAX: Final = 50
REFRESH_S: Final = 5

HEADERS: Final[Mapping[str, str]] = {
    # Nothing but our own files, no script or style in a page, nobody's frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}
"""What every answer carries; static files may be kept."""

HTMX: Final = ("django_htmx", "static/django_htmx/htmx-2.min.js")
"""The package that carries htmx, and where in it."""

_STATIC: Final = {"console.css": "text/css", "htmx.js": "text/javascript", "icon.svg": "image/svg+xml"}

SIGNED_IN: Final = web.RequestKey("signed_in", SignedIn)
LANGUAGE: Final = web.RequestKey("language", str)


@dataclass(slots=True, kw_only=True)
class Console:
    """What handlers are given.

    Attributes:
        url: what browsers call the console.
    """

    settings: Settings
    database: ConsoleDatabase
    signing_in: SigningIn
    samples: Samples
    letters: Letters
    networks: Mapping[str, NetworkConfig]
    proxies: Proxies
    clock: Clock
    observer: Observer
    url: str
    templates: Environment
    oidc: OidcClient | None = None

    @property
    def is_secure(self) -> bool:
        """True if browsers speak TLS with what is in front of it."""
        return self.url.startswith("https://")

    def peer(self, request: web.Request) -> str | None:
        """The address that a request comes from; None where it cannot be known."""
        hops = request.headers.getall("X-Forwarded-For", [])
        return peer_of(request.remote or "", hops, self.proxies, is_proxied=self.is_secure)

    def page(self, request: web.Request, template: str, *, status: int = 200, **given: Any) -> web.Response:
        """A page, in the language of whoever asked."""
        signed_in, language = request.get(SIGNED_IN), request[LANGUAGE]

        def t(text: object) -> str:
            return translated(str(text), language)

        def who(value: str | None) -> str | Markup:
            """Whose something is: for those who act, not for those who only look."""
            if value is None:
                return ""
            return value if signed_in and may(signed_in.session.role, ConsoleRole.OPERATOR) else f"{value[:2]}•••"

        text = self.templates.get_template(template).render(
            t=t,
            who=who,
            language=language,
            languages=LANGUAGES,
            me=signed_in.session if signed_in else None,
            csrf=signed_in.csrf if signed_in else "",
            can=lambda role: signed_in is not None and may(signed_in.session.role, ConsoleRole(role)),
            here=request.path,
            full_path=request.path_qs,
            now=self.clock.now(),
            refresh_s=REFRESH_S,
            with_oidc=self.oidc is not None,
            **given,
        )
        return web.Response(text=text, content_type="text/html", status=status)

    def set_cookie(
        self, response: web.StreamResponse, name: str, value: str, *, max_age: float, path: str = "/"
    ) -> None:
        """A cookie that no script reads, and that other sites' requests carry only where somebody follows a link."""
        response.set_cookie(
            self.cookie_name(name),
            value,
            max_age=int(max_age),
            httponly=True,
            secure=self.is_secure,
            samesite="Lax",
            path=path,
        )

    def cookie_name(self, name: str) -> str:
        """With TLS a browser takes such a cookie from this host alone."""
        return f"__Host-{name}" if self.is_secure else name


def application(console: Console, handlers: Mapping[str, Handler]) -> web.Application:
    """The console's application. ``handlers``: by the name of their routes; each route has one."""
    app = web.Application(middlewares=[_way_in(console)], client_max_size=FORM_BYTES_MAX)
    for route in ROUTES:
        handle = _guarded(console, route, handlers[route.name])
        app.router.add_route(route.method, route.path, handle, name=route.name, expect_handler=answer_expect)
    # Whatever else is asked for, under whatever expectation.
    app.router.add_route("*", "/{_:.*}", _nothing_here, expect_handler=answer_expect)
    app.on_response_prepare.append(_headers)
    return app


async def _nothing_here(_: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


class UnreadableFormError(Exception):
    """What came is not as a browser sends a form of ours."""


async def form_of(request: web.Request) -> Mapping[str, str]:
    """The fields of a form that was sent; of those that came twice the first. Nothing where no form came.

    Raises:
        UnreadableFormError: it is no UTF-8, or has more fields than any form.
        HTTPRequestEntityTooLarge: it is longer than any form.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        return {}
    body = await request.read()
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        raise UnreadableFormError from None
    return dict(reversed(fields))


def _guarded(
    console: Console, route: Route, handler: Handler
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Let a request through to its handler if whoever sends it may."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if route.method == "POST" and not _is_own(request, console.url):
            return refused(console, request, 403, "This page has expired. Go back, reload and try again.")
        if route.needs is not None:
            signed_in = request.get(SIGNED_IN)
            if signed_in is None:
                return _to_sign_in(request)
            if not may(signed_in.session.role, route.needs):
                console.observer.note("console_denied", operator=signed_in.session.name, route=route.name)
                return refused(console, request, 403, "Your role does not permit this.")
            if route.method == "POST":
                form = await form_of(request)
                if not hmac.compare_digest(form.get("csrf", "").encode(), signed_in.csrf.encode()):
                    return refused(console, request, 403, "This page has expired. Go back, reload and try again.")
        return await handler(console, request)

    return handle


def _way_in(console: Console) -> Any:
    @web.middleware
    async def handle(request: web.Request, handler: Any) -> web.StreamResponse:
        request[LANGUAGE] = language_of(
            request.cookies.get(console.cookie_name(LANGUAGE_COOKIE)), request.headers.get("Accept-Language", "")
        )
        if request.path.startswith(("/static/", "/healthz")):
            return await _answered(console, request, handler, is_somebodys=False)
        loop = asyncio.get_running_loop()
        started, status = loop.time(), 500
        try:
            response = await _answered(console, request, handler, is_somebodys=True)
            status = response.status
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            console.observer.delay("console_request", loop.time() - started)
            console.observer.count("console", f"request_{_outcome_of(status)}")
        return response

    return handle


def _outcome_of(status: int) -> str:
    return "failed" if status >= 500 else "refused" if status >= 400 else "answered"


async def _answered(console: Console, request: web.Request, handler: Any, *, is_somebodys: bool) -> web.StreamResponse:
    try:
        token = request.cookies.get(console.cookie_name(SESSION_COOKIE))
        if token and is_somebodys:
            signed_in = await console.signing_in.session(token, is_use=_name_of(request) not in POLLED)
            if signed_in is not None:
                request[SIGNED_IN] = signed_in
        response: web.StreamResponse = await handler(request)
    except web.HTTPNotFound:
        return refused(console, request, 404, "There is no such page.")
    except web.HTTPException:
        raise
    except UnreadableFormError:
        return refused(console, request, 400, "This form cannot be read. Go back, reload and try again.")
    except StoreUnavailableError:
        return refused(console, request, 503, "The database does not answer. Try again in a moment.")
    except Exception as error:  # noqa: BLE001 - told and logged here: a page's fault ends no console
        # Its text may quote rows, and the path has ids in it.
        console.observer.note("console_failed", level="error", route=_name_of(request), reason=type(error).__name__)
        return refused(console, request, 500, "Something went wrong here. It has been logged.")
    return response


def _name_of(request: web.Request) -> str:
    """Its route's name; empty where there is none."""
    return request.match_info.route.name or ""


async def _headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "mypay"


def refused(console: Console, request: web.Request, status: int, text: str, *, detail: str = "") -> web.Response:
    """A page that says why there is no other."""
    return console.page(request, "refused.html", status=status, text=text, detail=detail)


def _to_sign_in(request: web.Request) -> web.Response:
    if request.headers.get("HX-Request"):
        # A part of a page is not replaced by a form: the page goes there.
        return web.Response(status=401, headers={"HX-Redirect": "/sign-in"})
    return web.Response(status=303, headers={"Location": "/sign-in"})


def _is_own(request: web.Request, url: str) -> bool:
    """True if a form comes from a page of ours, as far as the browser says where it comes from."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None and site not in {"same-origin", "none"}:
        return False
    if origin is None:
        return True
    return urlsplit(origin)[:2] == urlsplit(url)[:2]


# --- templates --------------------------------------------------------------------------------------------------------


def environment() -> Environment:
    """The templates. Everything that is put into them is escaped; a name that is not given is a bug."""
    made = Environment(
        loader=PackageLoader("gateway.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"when": when, "money": money, "age": age, "look": look, "tone": tone, "facts": facts_of}
    made.globals["titles"] = {g.operation: g.title for g in GUARDED.values() if g.operation}
    return made


def when(at: datetime | None, *, milliseconds: bool = False) -> str | Markup:
    """A time as people read it, in Seoul, with its offset for machines."""
    if not isinstance(at, datetime):
        return "" if at is None else str(at)
    local = at.astimezone(SEOUL)
    text = f"{local:%Y-%m-%d %H:%M:%S}" + (f".{local.microsecond // 1000:03d}" if milliseconds else "")
    return Markup('<time datetime="{}">{}</time>').format(local.isoformat(timespec="milliseconds"), text)


@pass_context
def age(context: Context, span: timedelta) -> str:
    """``42 s``, ``3 min``, ``5 h``, ``12 d``, in the page's language."""
    number, unit = wording.age(span)
    return f"{number} {context.resolve('t')(unit)}"


def look(state: str) -> str:
    """A state's shape."""
    return LOOKS.get(str(state), UNFORESEEN)[0]


def tone(state: str) -> str:
    """A state's tone, which repeats its shape and word."""
    return LOOKS.get(str(state), UNFORESEEN)[1]


def static_file(name: str) -> tuple[bytes, str] | None:
    """A static file and its type; None where there is none."""
    if name not in _STATIC:
        return None
    package, path = HTMX if name == "htmx.js" else ("gateway.console", f"static/{name}")
    return resources.files(package).joinpath(path).read_bytes(), _STATIC[name]
