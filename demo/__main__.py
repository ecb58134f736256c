"""``python -m demo``, or ``make demo``: serves the demo on http://127.0.0.1:8090 until Ctrl-C."""

from __future__ import annotations

import argparse
import errno
import sys

from aiohttp import web
from platformdirs import user_cache_path

import aiohttp_persistent_session
from aiohttp_persistent_session import Backend, BackendError, MemoryBackend

from .app import create_app

BACKENDS = {"sqlite": "SQLBackend", "postgresql": "SQLBackend", "redis": "RedisBackend", "mongodb": "MongoBackend"}


def open_backend(url: str) -> Backend:
    """Return the backend that a URL names, or "memory"."""
    scheme = url.partition(":")[0].partition("+")[0]
    name = BACKENDS.get({"rediss": "redis", "unix": "redis"}.get(scheme, scheme))
    try:
        if url == "memory":
            return MemoryBackend()
        if name is None:
            raise ValueError(f"{url!r} is none of memory, sqlite:///..., postgresql://..., redis://..., mongodb://...")
        backend: Backend = getattr(aiohttp_persistent_session, name)(url)
    except ImportError as error:
        hint = "for the demo of a checkout: .venv/bin/pip install -e '.[all]'"
        raise argparse.ArgumentTypeError(f"{error} ({hint})") from error
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return backend


def chosen_store(url: str) -> tuple[Backend, str | None]:
    """Return a backend, and its URL where the page may show it: that of a file holds no password."""
    return open_backend(url), url if url.startswith("sqlite:") else None


def default_backend() -> str:
    """Return the URL of a SQLite file that outlives the demo: who is signed in stays so when it is started again."""
    folder = user_cache_path("aiohttp_persistent_session_demo", ensure_exists=True)
    return f"sqlite:///{folder / 'demo.db'}"


def port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: choose 0 to 65535")
    return int(text)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description="Persistent sessions, to click through.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=port, default=8090, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--secure",
        action="store_true",
        help="set Secure cookies, named __Host-...: behind a proxy that speaks https, or on localhost",
    )
    parser.add_argument(
        "--backend",
        type=chosen_store,
        default=default_backend(),
        metavar="URL",
        help="where records are kept: memory, sqlite:///demo.db, postgresql://..., redis://... or mongodb://... "
        "(default: a SQLite file in the user's cache folder)",
    )
    parser.add_argument(
        "--grace-period",
        type=float,
        default=10,
        metavar="SECONDS",
        help="how long a request with a spent token counts as a reload (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    backend, store = options.backend
    try:
        app = create_app(backend, secure=options.secure, grace_period=options.grace_period, store=store)
    except ValueError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2

    def announce(_: str) -> None:
        print(f"The demo is on http://{options.host}:{options.port} - Ctrl-C stops it.", flush=True)

    try:
        web.run_app(app, host=options.host, port=options.port, print=announce, shutdown_timeout=1)
    except BackendError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = "is in use: choose another with --port" if error.errno == errno.EADDRINUSE else error.strerror
        print(f"demo: {options.host}:{options.port} {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
