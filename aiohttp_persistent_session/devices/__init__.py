"""A page to mount on which users see the browsers that they are signed in on, and sign them out."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aiohttp import web

from ..options import Duration, of_type
from .answers import END, END_OTHERS, PAGE, STYLE, Device
from .csrf import Csrf
from .options import Confirm, PageOptions
from .texts import Texts
from .views import Views

__all__ = ("Confirm", "Csrf", "Device", "Texts", "setup")


def setup(
    app: web.Application,
    path: str = "/account/devices",
    *,
    csrf: Csrf | None = None,
    confirm: Confirm | None = None,
    fresh_within: Duration | None = None,
    login_url: str | None = None,
    texts: Texts | Callable[[web.Request], Texts] = Texts(),  # noqa: B008 -- it is frozen
    template: str | None = None,
    origins: Collection[str] = (),
) -> None:
    """Add the page to an app, or to a sub-application, for which :func:`aiohttp_persistent_session.setup` was called.

    Routes: GET ``path`` (named ``devices``; JSON where Accept prefers ``application/json``), GET ``path/style.css``
    (``devices-style``), POST ``path/end`` with the field ``id`` (``devices-end``) and POST ``path/end-others``
    (``devices-end-others``). A GET of these two leads to the page.

    Args:
        path: where the page is, within ``app``.
        csrf: the app's own tokens against cross-site request forgery. None: forms are taken by their headers
            ``Sec-Fetch-Site`` and ``Origin``.
        confirm: ``confirm(request, user, password) -> bool``, a coroutine function that checks a password; it limits
            how often. Where the session is not fresh, the page asks for the password before it ends others, and goes on
            only if this returns True. None: nothing is asked.
        fresh_within: how long ago the password was typed at most (timedelta or seconds), see :func:`.is_fresh`; None
            for "in this session".
        login_url: where anonymous visitors are sent, with the page as ``next`` (see :func:`.way_back`); who signs this
            browser out gets a link there. None: they get 401.
        texts: the words of the page, or a function of the request that returns them.
        template: a template of the app, rendered by aiohttp_jinja2, in the place of the page around the list.
        origins: more origins whose forms are taken where ``Sec-Fetch-Site`` is missing, as ``"https://example.org"``:
            for proxies that change ``Host``.

    Raises:
        TypeError, ValueError: an option is wrong; the message names it.
        ImportError: ``template`` is given, and aiohttp-jinja2 is not installed.
    """
    if not of_type("path", path, str).startswith("/"):
        raise ValueError(f"path must begin with a slash, not {path!r}")
    if isinstance(origins, str):
        raise TypeError("origins must be a collection of origins, not a str")
    options = PageOptions(
        csrf=csrf,
        confirm=confirm,
        fresh_within=fresh_within,
        login_url=login_url,
        texts=texts,
        template=template,
        origins=tuple(origins),
    )
    views, base = Views(options), path.rstrip("/")
    app.router.add_get(path, views.show, name=PAGE)
    app.router.add_get(f"{base}/style.css", views.style, name=STYLE)
    for route, name, action in (("end", END, views.end), ("end-others", END_OTHERS, views.end_others)):
        app.router.add_post(f"{base}/{route}", action, name=name)
        app.router.add_get(f"{base}/{route}", views.back, name=name)
