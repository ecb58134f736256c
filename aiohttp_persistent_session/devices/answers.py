"""The responses: as a page, or as JSON for programs; their headers; where they lead."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from aiohttp import hdrs, web
from yarl import URL

from ..fresh import NEXT
from ..record import PersistentSession
from .labels import label, names_of
from .options import PageOptions
from .texts import Texts

try:
    import jinja2
    from markupsafe import Markup
except ImportError as error:
    raise ImportError(
        'aiohttp_persistent_session.devices needs jinja2: pip install "aiohttp-persistent-session[devices]"'
    ) from error

PAGE, STYLE, END, END_OTHERS = "devices", "devices-style", "devices-end", "devices-end-others"
"""The names of the routes."""

CSS = files(__package__).joinpath("style.css").read_text("utf-8")
VERSION = hashlib.sha256(CSS.encode()).hexdigest()[:16]

_TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader(__package__), autoescape=True, trim_blocks=True)
_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    hdrs.VARY: hdrs.ACCEPT,
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would send "Origin: null" with the forms
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
}
_POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_DONE_TEXTS = {"one": "ended_one", "others": "ended_others", "already": "ended_already"}
_DONE = "done"
"""The parameter of the page's address that says what was done."""


@dataclass(frozen=True)
class Device:
    """One row of the page."""

    id: str
    label: str
    """``"Chrome on Windows"``."""
    first_seen: datetime
    last_seen: datetime
    address: str
    current: bool
    """Whether it is the browser that asks."""
    session: PersistentSession
    """All that is known of it."""


async def devices_of(sessions: Sequence[PersistentSession], texts: Texts) -> list[Device]:
    """Return what to show of them: this browser first, then by when they were last seen."""
    names = await names_of(one.user_agent for one in sessions)
    ordered = sorted(sessions, key=lambda one: (one.current, one.seen_at), reverse=True)
    return [
        Device(one.id, label(names[one.user_agent], texts), one.created_at, one.seen_at, one.address, one.current, one)
        for one in ordered
    ]


def url_of(request: web.Request, route: str) -> URL:
    """Return a route's path, in whichever sub-application the page is mounted."""
    url = request.app.router[route].url_for(**request.match_info)
    if url.path.startswith(("//", "/\\")):
        raise web.HTTPNotFound  # a varying part of the path held a slash, and a browser would take it for a host
    return url


def style(request: web.Request) -> web.Response:
    """Answer with the style sheet, to be kept for a year where its address has the version."""
    is_this = request.query.get("v") == VERSION
    caching = "public, max-age=31536000, immutable" if is_this else "no-cache"
    headers = {hdrs.CACHE_CONTROL: caching, "X-Content-Type-Options": "nosniff"}
    return web.Response(text=CSS, content_type="text/css", headers=headers)


class Answers:
    """What the page answers one request."""

    def __init__(self, request: web.Request, options: PageOptions) -> None:
        self._request = request
        self._options = options
        self.texts = options.texts_for(request)
        self._is_json = prefers_json(request.headers.get(hdrs.ACCEPT, ""))

    async def show(self, sessions: Sequence[PersistentSession], *, asks: bool) -> web.Response:
        """Show the devices; ``asks``: whether ending one asks for the password."""
        devices = await devices_of(sessions, self.texts)
        if self._is_json:
            csrf = await self._csrf()
            rows = [_as_json(one) for one in devices]
            return self._json({"devices": rows, "password_required": asks, "csrf": csrf and list(csrf)})
        done = _DONE_TEXTS.get(self._request.query.get(_DONE, ""))
        return await self._page(
            "list",
            title=self.texts.title,
            message=done and getattr(self.texts, done),
            devices=devices,
            has_others=any(not one.current for one in devices),
        )

    async def ask(self, route: str, asked: dict[str, str], message: str, *, wrong: bool) -> web.Response:
        """Ask for the password, and keep what it is asked for: the form is sent to ``route`` again."""
        status = 403 if wrong or self._is_json else 200
        if self._is_json:
            return self._json({"error": "password_wrong" if wrong else "password_required"}, status)
        return await self._page(
            "password",
            status,
            title=self.texts.ask_title,
            message=message,
            error=self.texts.ask_wrong if wrong else None,
            action_url=url_of(self._request, route),
            asked=asked,
        )

    def done(self, what: str) -> web.Response:
        """Go back to the page, which says what was done."""
        if self._is_json:
            return self._json({"done": what})
        return self.back(what)

    def back(self, what: str | None = None) -> web.Response:
        """Go to the page."""
        page = url_of(self._request, PAGE)
        return self._redirect(page if what is None else page.with_query({_DONE: what}))

    async def anonymous(self) -> web.Response:
        """Lead to the login page and back, or answer 401.

        A form is led to no login page, but to a link: Chromium applies ``form-action`` to every redirect that follows
        a form, and a login page may redirect to another origin.
        """
        if self._is_json:
            return self._json({"error": "anonymous"}, 401)
        login = self._options.login_url and URL(self._options.login_url)
        sign_in_url = login and login.update_query({NEXT: str(url_of(self._request, PAGE))})
        if sign_in_url and self._request.method != hdrs.METH_POST and _DONE not in self._request.query:
            return self._redirect(sign_in_url)
        title, message = self.texts.anonymous_title, self.texts.anonymous
        return await self._page("anonymous", 401, title=title, message=message, sign_in_url=sign_in_url)

    def unreadable(self) -> web.Response:
        """No form was sent."""
        if self._is_json:
            return self._json({"error": "no_form"}, 400)
        return web.Response(text="This is no form, or it cannot be read.", status=400, headers=_HEADERS)

    async def unavailable(self) -> web.Response:
        """The store failed."""
        headers: dict[str, str] = {hdrs.RETRY_AFTER: "5"}
        if self._is_json:
            return self._json({"error": "unavailable"}, 503, headers)
        title, message = self.texts.unavailable_title, self.texts.unavailable
        return await self._page("unavailable", 503, headers, title=title, message=message)

    async def refused(self) -> web.Response:
        """The form was sent by another page."""
        if self._is_json:
            return self._json({"error": "cross_site"}, 403)
        return await self._page("refused", 403, title=self.texts.refused_title, message=self.texts.refused)

    async def _page(
        self, view: str, status: int = 200, headers: Mapping[str, str] | None = None, **content: Any
    ) -> web.Response:
        style_url = url_of(self._request, STYLE).with_query(v=VERSION)
        routes = {"page_url": PAGE, "end_url": END, "end_others_url": END_OTHERS}
        urls = {name: url_of(self._request, route) for name, route in routes.items()}
        csrf = await self._csrf()
        context = {"view": view, "texts": self.texts, "csrf": csrf, "style_url": style_url, **urls, **content}
        # It escaped its own values: markup from here on.
        body = Markup(_TEMPLATES.get_template("body.html").render(context))  # noqa: S704 -- escaped by the template
        text = await self._rendered(context | {"body": body})
        all_headers = {**_HEADERS, "Content-Security-Policy": self._policy, **(headers or {})}
        return web.Response(text=text, status=status, content_type="text/html", headers=all_headers)

    async def _rendered(self, context: dict[str, Any]) -> str:
        template = self._options.template
        if template is None:
            return _TEMPLATES.get_template("page.html").render(context)
        import aiohttp_jinja2  # noqa: PLC0415 -- only apps that have it set up name a template

        environment = self._request.config_dict.get(aiohttp_jinja2.APP_KEY)  # an outer app's, in a sub-application
        if environment is not None and environment.is_async:
            return await aiohttp_jinja2.render_string_async(template, self._request, context)
        return aiohttp_jinja2.render_string(template, self._request, context)

    @property
    def _policy(self) -> str:
        # What else a page of the app's loads is for the app to say.
        return _POLICY if self._options.template is None else "frame-ancestors 'none'"

    async def _csrf(self) -> tuple[str, str] | None:
        if self._options.csrf is None:
            return None
        field = self._options.csrf.field(self._request)
        return await field if inspect.isawaitable(field) else field

    def _redirect(self, url: URL) -> web.Response:
        return web.Response(status=303, headers={**_HEADERS, hdrs.LOCATION: str(url)})

    def _json(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
        return web.json_response(content, status=status, headers={**_HEADERS, **(headers or {})})


def prefers_json(accept: str) -> bool:
    """Tell whether a client would rather have JSON than a page (RFC 9110, 12.5.1)."""
    weights = {"application/json": 0.0, "text/html": 0.0}
    for part in accept.split(","):
        kind, *parameters = (one.strip().lower() for one in part.split(";"))
        if kind in weights:
            weights[kind] = next((_weight(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
    return weights["application/json"] > weights["text/html"]


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _as_json(device: Device) -> dict[str, Any]:
    times = {"first_seen": device.first_seen, "last_seen": device.last_seen, "expires_at": device.session.expires_at}
    return {
        "id": device.id,
        "label": device.label,
        **{name: when.isoformat() for name, when in times.items()},
        "address": device.address,
        "user_agent": device.session.user_agent,
        "persistent": device.session.persistent,
        "current": device.current,
    }
