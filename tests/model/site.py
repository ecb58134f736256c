"""One worker of a site: the real middleware, signal handler, manager, registry and lifecycle, on a store of steps.

What is not real: the store, the clock, aiohttp's request, and aiohttp-session's storage, whose cookie is the number of
the session in plain.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace as changed
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp_session import SESSION_KEY, AbstractStorage, Session, session_middleware
from multidict import CIMultiDict

from aiohttp_persistent_session import CookiePolicy, MemoryBackend, PersistentSession, PersistentSessionManager, tokens
from aiohttp_persistent_session.lifecycle import Lifecycle
from aiohttp_persistent_session.record import Record
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.setup import persistent_session_middleware, send_persistent_session_cookie
from aiohttp_persistent_session.tokens import Token
from aiohttp_persistent_session.visit import Visit

from .records import NOW, first_record
from .scheduler import Call, Stepped, SteppedStore

USER = "alice"
COOKIE = CookiePolicy()
SESSION_COOKIE = "AIOHTTP_SESSION"
GONE = "gone"
"""A cookie's value in an answer that deletes it."""
_SELECTOR = bytes(tokens.SELECTOR_BYTES)


# Tokens have names: 0 for that of the sign-in, then numbers.


class Names:
    """Tokens by name, and names by digest and by cookie. What is random elsewhere follows from a counter here."""

    def __init__(self) -> None:
        self.next = 1
        self._tokens: dict[int, Token] = {}
        self.by_digest: dict[bytes, int] = {}
        self.by_cookie: dict[str, int] = {}
        self.by_hash: dict[int, int] = {}

    def token(self, name: int) -> Token:
        token = self._tokens.get(name)
        if token is None:
            token = self._tokens[name] = Token(_SELECTOR, name.to_bytes(tokens.SECRET_BYTES, "big"))
            self.by_digest[token.digest] = name
            self.by_cookie[token.cookie_value] = name
            self.by_hash[hash(token.cookie_value)] = name
        return token

    def token_bytes(self, count: int) -> bytes:
        """Stand in the place of ``secrets.token_bytes``: the secret of the token whose turn it is."""
        name, self.next = self.next, self.next + 1
        return self.token(name).secret[:count]


NAMES = Names()
ID = NAMES.token(0).id


@contextmanager
def modelled() -> Iterator[None]:
    """Let tokens have names, and no warning be logged."""
    real, tokens.secrets = tokens.secrets, NAMES  # type: ignore[assignment]  # it stands in its place
    logger = logging.getLogger("aiohttp_persistent_session")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        tokens.secrets = real
        logger.setLevel(level)


class Presented(NamedTuple):
    """What a request brings."""

    session: int | None
    """The number of its session; None where it has none."""
    token: int | None
    """The name of its token."""
    number: int = 0
    """The request's. It is its User-Agent, and names the tokens that it offers."""


class Answer(NamedTuple):
    """What a response does to the two cookies: None where it leaves one alone."""

    session: int | str | None = None
    token: int | str | None = None


class Served(NamedTuple):
    """A request whose handler has run."""

    visit: Visit
    is_served: bool
    """Whether the handler saw the user."""
    session: int | str | None
    """What the response does to the session's cookie."""


class Request(dict[str, Any]):
    """As much of aiohttp's request as the middleware and the signal handler look at."""

    method = "GET"
    rel_url = SimpleNamespace(raw_path="/")
    remote = ""
    scheme = "https"
    host = "example.com"
    match_info = SimpleNamespace(
        apps=[SimpleNamespace(on_response_prepare=[send_persistent_session_cookie], middlewares=[])],
        route=SimpleNamespace(resource=None),
    )

    def __init__(self, presented: Presented) -> None:
        super().__init__()
        self.presented = presented
        self.headers = CIMultiDict({"User-Agent": str(presented.number)})
        cookies = []
        if presented.session is not None:
            cookies.append(f"{SESSION_COOKIE}={presented.session}")
        if presented.token is not None:
            cookies.append(f"{COOKIE.name}={NAMES.token(presented.token).cookie_value}")
        if cookies:
            self.headers["Cookie"] = "; ".join(cookies)
        self.protocol = SimpleNamespace(_current_request=self)
        self.writer = self.protocol

    __hash__ = object.__hash__  # type: ignore[assignment]  # as aiohttp's


class Storage(AbstractStorage):
    """Sessions in a cookie in plain: only the number is not always the same."""

    def __init__(self) -> None:
        super().__init__(cookie_name=SESSION_COOKIE, samesite="Lax", secure=True)

    async def load_session(self, request: Any) -> Session:
        number = request.presented.session
        return Session(None, data=None, new=True) if number is None else session_of(number)

    async def save_session(self, request: Any, response: Any, session: Session) -> None:
        number = number_of(session)
        response.headers.add("Set-Cookie", f"{SESSION_COOKIE}={GONE if number is None else number}")


def session_of(number: int) -> Session:
    content = {"user": USER, "persistent_session": f"{ID} {number}"}
    return Session(SESSION_COOKIE, data={"created": 1, "session": content}, new=False)


def number_of(session: Session) -> int | None:
    """Return a session's number; None where it holds nobody."""
    return int(session["persistent_session"].split()[1]) if session.get("user") == USER else None


Handler = Callable[[Any], Awaitable[web.StreamResponse]]


class Worker:
    """One worker. Its clock is ``now``; ``told`` is what receivers of signals were told, ``found`` its results."""

    def __init__(self, **options: Any) -> None:
        self.now = NOW
        self.told: list[tuple[str, Any]] = []
        self.found: list[Any] = []
        manager = self.manager = PersistentSessionManager(MemoryBackend(), **options)
        manager.clock = lambda: self.now
        manager.registry.store = SteppedStore()  # type: ignore[assignment]  # it stands in its place
        manager.registry._uncancelled = _awaited  # type: ignore[method-assign]  # nobody is cancelled here
        manager.registry.signals.send = _send  # type: ignore[method-assign]  # there is no event loop
        self._listen()
        lifecycle = manager.lifecycle = Lifecycle(manager.registry)
        # Looks of the same request are not shared, which takes tasks. Each is made, as if there were no interval.
        lifecycle._policy = changed(manager.policy, check_interval=0)
        lifecycle.restore = self._noted(lifecycle.restore)  # type: ignore[method-assign]  # to know the outcome
        lifecycle.check = self._noted(lifecycle.check)  # type: ignore[method-assign]  # likewise
        self._key_of_visit: Any = None
        self.storage = Storage()
        self._ours = persistent_session_middleware(manager, cookie=COOKIE)
        self._sessions = session_middleware(self.storage)
        self.wiring = self._wiring()

    @property
    def policy(self) -> Any:
        return self.manager.policy

    @property
    def seen(self) -> Any:
        return self.manager.registry.seen

    def _wiring(self) -> Any:
        """Return what the middleware made of the options: the visit of any request has it."""
        try:
            self.handle(Presented(None, None)).send(None)
        except StopIteration as done:
            return done.value.visit.wiring

    async def handle(self, presented: Presented, *, touches: bool = False) -> Served:
        """Let a request run through the middlewares and a handler, which changes the session if it ``touches`` it."""
        request = Request(presented)
        users = []

        async def handler(request: Any) -> web.StreamResponse:
            session = request.get(SESSION_KEY)
            users.append(None if session is None else number_of(session))
            if touches and session is not None:
                session.changed()
            return web.Response()

        response = await self._sessions(request, partial(self._ours, handler=handler))  # type: ignore[arg-type]  # as much of it as is needed
        self._key_of_visit, visit = next(item for item in request.items() if isinstance(item[1], Visit))
        return Served(visit, users[-1] is not None, _session_cookie(response))

    async def begin(self, presented: Presented, served: Served) -> Answer:
        """Let the response of a request begin; return what it carries."""
        request, response = Request(presented), web.Response()
        request[self._key_of_visit] = served.visit
        if served.session is not None:
            response.headers.add("Set-Cookie", f"{SESSION_COOKIE}={served.session}")
        await send_persistent_session_cookie(request, response)  # type: ignore[arg-type]  # as much of it as is needed
        return Answer(_session_cookie(response), _token_cookie(response))

    def forget(self) -> None:
        """Begin anew, in another world."""
        self.seen.drop(ID)
        self.told.clear()
        self.found.clear()

    def _listen(self) -> None:
        """Note what receivers of signals are told."""
        for name in ("on_restore", "on_repeat", "on_reuse", "on_revoke", "on_forget"):

            async def receiver(session: PersistentSession, _: Any, name: str = name) -> None:
                self.told.append((name, session))

            getattr(self.manager, name).append(receiver)

    def _noted(self, function: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
        async def noted(*args: Any, **options: Any) -> Any:
            result = await function(*args, **options)
            self.found.append(result)
            return result

        return noted


async def _send(signal: Any, session: PersistentSession) -> None:
    for receiver in signal:
        await receiver(session, None)


def _after(held: int | None, set_cookie: int | str | None) -> int | None:
    if set_cookie is None:
        return held
    return None if set_cookie == GONE else int(set_cookie)


async def _awaited(work: Coroutine[Any, Any, Any]) -> Any:
    return await work


def _cookies(response: web.StreamResponse, name: str) -> Iterator[str]:
    for field in response.headers.getall("Set-Cookie", ()):
        key, _, value = field.partition(";")[0].partition("=")
        if key == name:
            yield value


def _session_cookie(response: web.StreamResponse) -> int | str | None:
    value = next(_cookies(response, SESSION_COOKIE), None)
    return value if value in {None, GONE} else int(value)


def _token_cookie(response: web.StreamResponse) -> int | str | None:
    values = list(_cookies(response, COOKIE.name))
    assert len(values) <= 1, "two Set-Cookie fields of one name"
    if not values:
        return None
    return NAMES.by_cookie[values[0]] if values[0] else GONE


class Person(NamedTuple):
    """The cookies of somebody."""

    session: int | None = None
    token: int | None = None

    def after(self, answer: Answer) -> Person:
        """Return what he holds once an answer has arrived."""
        return Person(_after(self.session, answer.session), _after(self.token, answer.token))


class Handled(NamedTuple):
    """A request that was handled, and whose response has not begun."""

    presented: Presented
    served: Served
    worker: Worker


class Site:
    """Two workers, and a store that answers at once. ``now`` is in seconds since it began, with a sign-in."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.workers = (Worker(**options), Worker(**options))
        self.told: Counter[str] = Counter()
        self.reuse_at: float | None = None
        """When a copy was found out."""
        NAMES.next = 1
        record = first_record(ID, NAMES.token(0).digest)
        self.record: Record | None = changed(record, secrets=(changed(record.secrets[0], issued_at=NOW),))

    def request(self, person: Person, worker: int = 0) -> tuple[bool, Person]:
        """Let somebody make a request; return whether he is served, and what he holds after the response."""
        handled = self.handle(person, worker)
        return handled.served.is_served, person.after(self.begin(handled))

    def handle(self, person: Person, worker: int = 0) -> Handled:
        """Let a request be handled now."""
        chosen, presented = self.workers[worker], Presented(*person)
        return Handled(presented, self._drive(chosen, chosen.handle(presented)), chosen)

    def begin(self, handled: Handled) -> Answer:
        """Let its response begin now."""
        return self._drive(handled.worker, handled.worker.begin(handled.presented, handled.served))

    def _drive(self, worker: Worker, coroutine: Coroutine[Any, Any, Any]) -> Any:
        worker.now = NOW + self.now
        stepped = Stepped(coroutine)
        waits = stepped.advance()
        while isinstance(waits, Call):
            waits = stepped.advance(self._answer(waits))
        self.told.update(name for name, _ in worker.told)
        if any(result.outcome is Outcome.REUSE for result in worker.found):
            self.reuse_at = self.now
        worker.told.clear()
        worker.found.clear()
        return waits.result

    def _answer(self, call: Call) -> Any:
        record = self.record
        if call.operation == "replace":
            swapped = record is not None and call.argument.revision == record.revision + 1
            self.record = call.argument if swapped else record
            return swapped
        if call.operation == "delete":
            self.record = None
            return record is not None
        return record
