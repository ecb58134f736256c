"""How the demo's pages are made."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web

HERE = Path(__file__).parent


def set_up(app: web.Application, **known: Any) -> None:
    """Let ``app`` render the templates. What is ``known`` is known to each of them."""
    environment = aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(HERE / "templates"))
    environment.globals |= known | {"zone": zone}
    environment.filters |= {"device": device, "clock": clock, "moment": moment}
    app.router.add_static("/static", HERE / "static")


def render(template: str, request: web.Request, *, status: int = 200, **context: Any) -> web.Response:
    """Return a page that no cache keeps."""
    response = aiohttp_jinja2.render_template(template, request, context, status=status)
    response.headers["Cache-Control"] = "no-store"
    return response


def moment(at: datetime) -> str:
    """Return date and time in the zone of this machine, as all times here."""
    return f"{at.astimezone():%d %B %Y, %H:%M:%S}"


def clock(at: float) -> str:
    """Return the time of day, likewise."""
    return f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S}"


def zone() -> str:
    """Return the name of that zone."""
    return f"{datetime.now().astimezone():%Z}"


def device(user_agent: str) -> str:
    """Name the browser and system that a user agent string most likely stands for."""
    browsers = {
        "The thief": "The thief",
        "Edg/": "Edge",
        "Firefox/": "Firefox",
        "Chrome/": "Chrome",
        "Safari/": "Safari",
    }
    systems = {"Android": "Android", "iPhone": "iPhone", "Windows": "Windows", "Mac OS": "Mac", "Linux": "Linux"}
    browser = next((name for sign, name in browsers.items() if sign in user_agent), "A browser")
    system = next((f" on {name}" for sign, name in systems.items() if sign in user_agent), "")
    return browser + system
