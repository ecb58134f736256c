"""What users test their apps with: a browser that is signed in, closed, opened again and copied."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from http.cookies import Morsel
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from yarl import URL

from aiohttp_persistent_session import (
    PERSISTENT_SESSIONS,
    BackendError,
    MemoryBackend,
    PersistentSessionManager,
    persistent_session_middleware,
    send_persistent_session_cookie,
    setup,
)
from aiohttp_persistent_session.testing import Browser, BrowserJar, Clock, SentSignal, SignalRecorder

from .browser import SESSION, TOKEN, routes
from .faults import FaultyBackend
from .test_session_storages import ServerSideStorage

STORAGES: dict[str, Callable[[], aiohttp_session.AbstractStorage]] = {
    "simple": aiohttp_session.SimpleCookieStorage,
    "encrypted": lambda: EncryptedCookieStorage(b"0123456789abcdef0123456789abcdef", max_age=3600, secure=True),
    "server-side": lambda: ServerSideStorage(max_age=3600),
}

HOURS = timedelta(hours=1)


def make_app(storage: str = "simple", store: Any = None, **options: Any) -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, STORAGES[storage]())
    setup(app, store or MemoryBackend(), **options)
    app.add_routes(routes)
    return app


async def me(browser: Browser) -> Any:
    async with browser.get("/me") as response:
        assert response.status == 200
        return await response.json()


@pytest.fixture
def app() -> web.Application:
    return make_app()


@pytest.fixture
def signals(app: web.Application) -> SignalRecorder:
    return SignalRecorder(app)


@pytest.fixture
async def browser(app: web.Application, signals: SignalRecorder) -> AsyncIterator[Browser]:
    async with Browser(app) as browser:
        yield browser


# Signing in


@pytest.mark.parametrize("storage", STORAGES)
async def test_whoever_is_signed_in_is_as_after_the_login_form(storage: str) -> None:
    """The app sees the user, a fresh session and what the login handler would put there; on_remember is sent."""
    app = make_app(storage)
    signals = SignalRecorder(app)
    async with Browser(app, headers={"User-Agent": "Firefox on Windows"}) as browser:
        signed_in = await browser.sign_in("alice", data={"device": "laptop"}, session={"cart": "book"})
        assert await me(browser) == {
            "user": "alice",
            "id": signed_in.id,
            "fresh": True,
            "restore_failed": False,
            "cart": "book",
        }
        assert signals.sent == [SentSignal("on_remember", signed_in)]
        (stored,) = await app[PERSISTENT_SESSIONS].sessions("alice", current=signed_in.id)
    assert stored == signed_in
    assert (stored.user_agent, stored.address) == ("Firefox on Windows", "127.0.0.1")
    assert (stored.persistent, stored.data) == (True, {"device": "laptop"})


@pytest.mark.parametrize("keep", [True, False])
async def test_it_holds_the_cookies_that_the_login_form_sends(browser: Browser, keep: bool) -> None:
    """By name, and by whether closing the browser drops them."""
    form = {"user": "alice"} | ({} if keep else {"for_now": "on"})
    by_form, by_helper = browser.another(), browser.another()
    await by_form.post("/login", data=form)
    await by_helper.sign_in("alice", persistent=keep)
    assert by_form.cookies.keys() == by_helper.cookies.keys() == {TOKEN, SESSION}
    by_form.close_browser()
    by_helper.close_browser()
    assert by_form.cookies.keys() == by_helper.cookies.keys() == ({TOKEN} if keep else set())


@pytest.mark.parametrize("storage", STORAGES)
async def test_whoever_is_not_fresh_is_restored_by_the_first_request(storage: str) -> None:
    """The browser holds the token alone; the session that it opens is not fresh."""
    app = make_app(storage)
    signals = SignalRecorder(app)
    async with Browser(app) as browser:
        await browser.sign_in("alice", fresh=False)
        assert browser.cookies.keys() == {TOKEN}
        seen = await me(browser)
        assert (seen["user"], seen["fresh"]) == ("alice", False)
        assert signals.names == ["on_remember", "on_restore"]


@pytest.mark.parametrize("user", [42, "42"])
async def test_the_users_id_keeps_its_type(browser: Browser, user: int | str) -> None:
    """42 and "42" are different users."""
    assert (await browser.sign_in(user)).user == user
    assert (await me(browser))["user"] == user


async def test_a_sign_in_ends_what_the_browser_held(browser: Browser, signals: SignalRecorder) -> None:
    """As at the login form, where another user signs in."""
    first = await browser.sign_in("alice")
    await browser.sign_in("bob")
    assert (await me(browser))["user"] == "bob"
    (forgotten,) = signals.of("on_forget")
    assert (forgotten.id, forgotten.reason) == (first.id, "signed in anew")


async def test_the_apps_own_middlewares_do_not_stop_a_sign_in() -> None:
    """One that sends anonymous visitors to the login form, say."""

    @web.middleware
    async def refuse(request: web.Request, handler: Any) -> web.StreamResponse:
        if "user" not in await aiohttp_session.get_session(request):
            raise web.HTTPForbidden
        response: web.StreamResponse = await handler(request)
        return response

    app = make_app()
    app.middlewares.append(refuse)
    async with Browser(app) as browser:
        async with browser.get("/me") as response:
            assert response.status == 403
        await browser.sign_in("alice")
        assert (await me(browser))["user"] == "alice"


async def test_a_store_that_fails_is_told_and_leaves_no_cookie() -> None:
    """As ``remember`` does."""
    store = FaultyBackend(MemoryBackend())
    async with Browser(make_app(store=store)) as browser:
        await browser.start_server()
        store.break_down()
        with pytest.raises(BackendError):
            await browser.sign_in("alice")
        assert browser.cookies == {}


async def test_what_cannot_be_stored_is_refused(browser: Browser) -> None:
    """As ``remember`` does."""
    with pytest.raises(ValueError, match="user"):
        await browser.sign_in("")
    with pytest.raises(TypeError, match="data"):
        await browser.sign_in("alice", data=["no dict"])  # type: ignore[arg-type]  # that is the test
    assert browser.cookies == {}


@pytest.mark.parametrize("path", ["/", "/shop"])
async def test_a_sub_application_is_signed_in_to(path: str) -> None:
    """Where ``setup`` was called for it; also where the token is for its part of the site only."""
    root, shop = web.Application(), make_app(path=path)
    root.add_subapp("/shop", shop)
    signals = SignalRecorder(shop)
    async with Browser(root, sub_app=shop) as browser:
        for user in ("alice", "bob"):
            await browser.sign_in(user, path="/shop/login")
            async with browser.get("/shop/me") as response:
                assert (await response.json())["user"] == user
        other = browser.another()
        await other.sign_in("carol", path="/shop/login")
        other.close_browser()
        async with other.get("/shop/me") as response:
            assert (await response.json())["user"] == "carol"
    assert signals.names == ["on_remember", "on_forget", "on_remember", "on_remember", "on_restore"]


async def test_an_app_that_was_wired_by_hand_is_signed_in_to() -> None:
    """Once its manager stands under the key."""
    app, manager = web.Application(), PersistentSessionManager(MemoryBackend())
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    app.middlewares.append(persistent_session_middleware(manager))
    app.on_response_prepare.append(send_persistent_session_cookie)
    app.add_routes(routes)
    app[PERSISTENT_SESSIONS] = manager
    async with manager, Browser(app) as browser:
        await browser.sign_in("alice")
        assert (await me(browser))["user"] == "alice"


@pytest.mark.parametrize("options", [{"partitioned": True}, {"secure": False}, {"cookie_name": "stay"}])
async def test_the_cookies_attributes_do_not_matter(options: dict[str, Any]) -> None:
    """The token is sent by the test server's plain http, whatever the app says of it."""
    async with Browser(make_app(**options)) as browser:
        await browser.sign_in("alice")
        browser.close_browser()
        assert len(browser.cookies) == 1
        assert (await me(browser))["user"] == "alice"


# Closing the browser and coming back


@pytest.mark.parametrize("storage", STORAGES)
async def test_whoever_comes_back_is_restored(storage: str) -> None:
    """After three days the session is gone and the token is not, with each storage, as often as one likes."""
    app = make_app(storage)
    signals = SignalRecorder(app)
    async with Browser(app) as browser:
        await browser.sign_in("alice")
        for _ in range(12):
            browser.come_back(after=timedelta(days=3))
            seen = await me(browser)
            assert (seen["user"], seen["fresh"]) == ("alice", False)
    assert signals.names == ["on_remember", *["on_restore"] * 12]


async def test_without_the_box_closing_the_browser_signs_out(browser: Browser) -> None:
    """Both cookies are for as long as the browser is open."""
    await browser.sign_in("alice", persistent=False)
    assert (await me(browser))["user"] == "alice"
    browser.close_browser()
    assert browser.cookies == {}
    assert (await me(browser))["user"] is None


@pytest.mark.parametrize(("days", "user"), [(30 - 1e-4, "alice"), (30, None)])
async def test_a_token_expires_to_the_second(browser: Browser, days: float, user: str | None) -> None:
    """The browser drops it when its Max-Age is over by the clock of the test."""
    await browser.sign_in("alice")
    browser.come_back(after=timedelta(days=days))
    assert browser.cookies.keys() == ({TOKEN} if user else set())
    assert (await me(browser))["user"] == user


@pytest.mark.parametrize(("hours", "fresh"), [(0.9, True), (1.1, False)])
async def test_a_session_with_a_max_age_survives_closing_the_browser(hours: float, fresh: bool) -> None:
    """Until its time is over: that is what browsers do with such a cookie."""
    async with Browser(make_app("encrypted")) as browser:
        await browser.sign_in("alice")
        browser.come_back(after=hours * HOURS)
        seen = await me(browser)
        assert (seen["user"], seen["fresh"]) == ("alice", fresh)


@pytest.mark.parametrize("storage", STORAGES)
async def test_losing_the_session_leaves_the_other_cookies(storage: str) -> None:
    """Also those that closing the browser would drop."""

    async def set_locale(_: web.Request) -> web.Response:
        response = web.Response()
        response.set_cookie("locale", "de")
        return response

    app = make_app(storage)
    app.add_routes([web.get("/locale", set_locale)])
    async with Browser(app) as browser:
        await browser.get("/locale")
        await browser.sign_in("alice", persistent=False)
        await browser.lose_session()
        assert browser.cookies.keys() == {TOKEN, "locale"}
        assert (await me(browser))["fresh"] is False


async def test_losing_the_session_sends_no_signal(browser: Browser, signals: SignalRecorder) -> None:
    """Nothing is exchanged for it."""
    await browser.sign_in("alice")
    await browser.lose_session()
    assert signals.names == ["on_remember"]


@pytest.mark.parametrize("after", [-1, float("nan")])
async def test_a_time_that_is_none_is_refused_and_nothing_happens(browser: Browser, after: float) -> None:
    """The browser stays open."""
    await browser.sign_in("alice")
    with pytest.raises(ValueError, match="after"):
        browser.come_back(after=after)
    assert browser.cookies.keys() == {TOKEN, SESSION}


# Other browsers


async def test_a_copy_is_found_out(browser: Browser, signals: SignalRecorder) -> None:
    """A thief with the cookies of a closed browser is served beside its owner, and then not."""
    await browser.sign_in("alice")
    browser.close_browser()
    thief = browser.copy(headers={"User-Agent": "The thief"})
    assert thief.cookies == browser.cookies
    assert (await me(browser))["user"] == "alice"
    browser.clock.advance(91)
    assert (await me(browser))["user"] == "alice"
    assert (await me(thief))["user"] is None
    assert (await me(browser))["user"] is None
    assert signals.names == ["on_remember", "on_restore", "on_reuse"]


async def test_a_copy_is_one_of_its_own(browser: Browser) -> None:
    """What becomes of one browser's cookies is nothing to the other's."""
    await browser.sign_in("alice", persistent=False)
    copy = browser.copy()
    browser.close_browser()
    assert browser.cookies == {}
    assert copy.cookies.keys() == {TOKEN, SESSION}
    copy.close_browser()
    assert copy.cookies == {}


async def test_another_browser_of_the_user_is_listed_and_signed_out_from_here(browser: Browser) -> None:
    """Two devices of one user."""
    other = browser.another(headers={"User-Agent": "Phone"})
    assert other.cookies == {}
    await browser.sign_in("alice")
    await other.sign_in("alice")
    async with browser.get("/devices") as response:
        assert {row[2] for row in await response.json()} >= {"Phone"}
    async with browser.post("/logout-everywhere?keep") as response:
        assert await response.json() == 2
    browser.clock.advance(61)
    assert (await me(other))["user"] is None
    assert (await me(browser))["user"] == "alice"


async def test_closing_a_copy_leaves_the_app_running(browser: Browser) -> None:
    """And closing the browser closes what was copied from it."""
    await browser.sign_in("alice")
    async with browser.copy() as copy:
        assert (await me(copy))["user"] == "alice"
        kept = copy.copy()
        another = browser.another()
    assert copy.session.closed
    assert kept.session.closed
    assert (await me(browser))["user"] == "alice"
    await browser.close()
    assert another.session.closed


async def test_a_browser_is_copied_once_its_server_runs(app: web.Application) -> None:
    """Before that there is no server to share."""
    browser = Browser(app)
    with pytest.raises(RuntimeError, match="start"):
        browser.copy()
    await browser.close()


async def test_two_browsers_may_be_given_one_server(app: web.Application) -> None:
    """A server that runs already will do, as its signals were not needed."""
    async with TestServer(app) as server:
        first, second = Browser(server), Browser(server)
        await first.sign_in("alice")
        await second.sign_in("bob")
        assert ((await me(first))["user"], (await me(second))["user"]) == ("alice", "bob")
        await second.close()
        await first.close()


async def test_an_app_that_is_not_set_up_is_refused() -> None:
    """Each helper says so, and names the app's key."""
    helpers: list[Callable[[web.Application], Any]] = [Browser, Clock.of, SignalRecorder]
    for helper in helpers:
        with pytest.raises(RuntimeError, match="not set up"):
            helper(web.Application())
        with pytest.raises(TypeError):
            helper("app")  # type: ignore[arg-type]  # that is the test


# The clock


async def test_the_clock_stands_still_until_it_is_moved(app: web.Application) -> None:
    """It begins at the system's time, in whole milliseconds, and takes a timedelta or seconds."""
    clock = Clock.of(app)
    began = clock()
    assert abs(began - time.time()) < 60
    assert clock() == began == app[PERSISTENT_SESSIONS].clock()
    clock.advance(timedelta(minutes=1))
    clock.advance(0.5)
    assert clock() == round(began + 60.5, 3)


async def test_an_app_has_one_clock(app: web.Application) -> None:
    """Whoever asks for it gets the same; a clock of the test's own is taken over from."""
    manager = app[PERSISTENT_SESSIONS]
    manager.clock = lambda: 1_800_000_000.0
    clock = Clock.of(manager)
    assert clock() == 1_800_000_000
    assert Clock.of(app) is clock
    browser = Browser(app)
    assert browser.clock is clock
    await browser.close()


@pytest.mark.parametrize(("by", "error"), [(-1, ValueError), (float("inf"), ValueError), ("1", TypeError)])
def test_a_clock_goes_forward_by_seconds(by: Any, error: type[Exception]) -> None:
    """What is no duration is refused, and the clock stays."""
    clock = Clock(1000)
    with pytest.raises(error, match="by"):
        clock.advance(by)
    assert clock() == 1000


# The signals


async def test_each_signal_is_recorded(browser: Browser, signals: SignalRecorder) -> None:
    """All six, by their names as attributes of the manager, in their order."""
    lost = await browser.sign_in("alice")
    browser.close_browser()
    thief = browser.copy()
    await me(thief)  # the owner's token is exchanged, and the owner does not know
    browser.clock.advance(11)
    await me(browser)
    browser.clock.advance(91)
    await me(browser)
    await me(thief)
    await browser.sign_in("alice")
    await browser.post("/logout")
    kept = await browser.sign_in("alice")
    await browser.app[PERSISTENT_SESSIONS].revoke(kept.id)
    names = signals.names
    assert {*names} == {"on_remember", "on_restore", "on_repeat", "on_reuse", "on_forget", "on_revoke"}
    assert names.index("on_restore") < names.index("on_repeat") < names.index("on_reuse") < names.index("on_forget")
    assert [one.id for one in signals.of("on_reuse")] == [lost.id]
    assert [one.reason for one in signals.of("on_revoke")] == ["revoked"]
    signals.clear()
    assert signals.sent == []


async def test_a_signal_that_does_not_exist_is_refused(signals: SignalRecorder) -> None:
    """A test that asks for ``restore`` would otherwise find none, and pass."""
    assert signals.of("on_restore") == []
    with pytest.raises(ValueError, match="on_restore"):
        signals.of("restore")


async def test_signals_are_recorded_from_before_the_start(browser: Browser, app: web.Application) -> None:
    """Later the manager takes no receivers."""
    with pytest.raises(RuntimeError, match="before"):
        SignalRecorder(app)


# The cookies


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000)


@pytest.fixture
async def jar(clock: Clock) -> BrowserJar:
    return BrowserJar(clock)


HOST = URL("http://127.0.0.1:8080/")


def held(jar: BrowserJar, url: URL = HOST) -> dict[str, str]:
    return {name: cookie.coded_value for name, cookie in jar.filter_cookies(url).items()}


def take(jar: BrowserJar, field: str, url: URL = HOST) -> None:
    """Take a Set-Cookie field over."""
    value, *attributes = field.split("; ")
    name, _, value = value.partition("=")
    cookie: Morsel[str] = Morsel()
    cookie.set(name, value, value)
    for attribute in attributes:
        key, _, text = attribute.partition("=")
        cookie[key] = text or True
    jar.update_cookies({name: cookie}, url)


async def test_max_age_counts_before_expires_and_by_the_clock(jar: BrowserJar, clock: Clock) -> None:
    """And what has neither stays until the browser is closed."""
    take(jar, "a=1; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
    take(jar, "b=1; Expires=Fri, 15 Jan 2027 08:00:20 GMT")
    take(jar, "c=1")
    take(jar, "d=1; Max-Age=nonsense; Expires=nonsense")
    take(jar, "e=1; Expires=Thu, 01-Jan-1970 00:00:00 GMT")
    assert held(jar).keys() == {"a", "b", "c", "d"}
    clock.advance(10)
    assert held(jar).keys() == {"b", "c", "d"}
    jar.close_browser()
    assert held(jar).keys() == {"b"}
    clock.advance(10)
    assert held(jar) == {}
    assert len(list(jar)) == 0


async def test_a_cookie_that_is_set_again_lasts_as_long_as_it_says_then(jar: BrowserJar, clock: Clock) -> None:
    """Also where it said something else before."""
    take(jar, "a=1; Max-Age=10")
    take(jar, "b=1; Max-Age=10")
    take(jar, "c=1")
    clock.advance(9)
    take(jar, "a=2; Max-Age=10")
    take(jar, "b=2")
    take(jar, "c=2; Max-Age=10")
    clock.advance(9)
    assert held(jar) == {"a": "2", "b": "2", "c": "2"}
    jar.close_browser()
    assert held(jar) == {"a": "2", "c": "2"}
    take(jar, "a=; Max-Age=0")
    assert held(jar) == {"c": "2"}


async def test_no_cookie_lasts_for_longer_than_browsers_keep_it(jar: BrowserJar, clock: Clock) -> None:
    """They keep none for more than 400 days."""
    take(jar, "a=1; Max-Age=" + "9" * 400)
    take(jar, "b=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT")
    clock.advance(timedelta(days=399))
    assert held(jar).keys() == {"a", "b"}
    clock.advance(timedelta(days=1))
    assert held(jar) == {}


async def test_the_systems_time_lets_nothing_expire(jar: BrowserJar, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that takes long does not see its cookies go."""
    take(jar, "a=1; Max-Age=1")
    later = time.time() + 10**6
    monkeypatch.setattr(time, "time", lambda: later)
    assert held(jar) == {"a": "1"}
    jar.clear(lambda cookie: cookie.key == "b")
    assert [cookie.key for cookie in jar] == ["a"]


@pytest.mark.parametrize(
    ("field", "is_taken"),
    [
        ("__Host-a=1; Secure; Path=/", True),
        ("__Host-a=1; Path=/", False),
        ("__Host-a=1; Secure; Path=/shop", False),
        ("__HOST-a=1; Secure; Path=/; Domain=127.0.0.1", False),
        ("__Secure-a=1; Secure", True),
        ("__Secure-a=1", False),
        ("a=1; Secure", True),
    ],
)
async def test_a_cookie_is_refused_that_browsers_refuse(jar: BrowserJar, field: str, is_taken: bool) -> None:
    """By the prefix of its name. Secure ones are sent over plain http, as on http://localhost."""
    take(jar, field)
    assert bool(held(jar)) is is_taken


async def test_cookies_are_sent_where_they_belong(jar: BrowserJar) -> None:
    """By host, domain and path; a cookie without a path is for the folder that set it."""
    take(jar, "host=1", URL("http://shop.example/cart/add"))
    take(jar, "wide=1; Domain=.shop.example; Path=/", URL("http://shop.example/"))
    take(jar, "other=1; Domain=bank.example", URL("http://shop.example/"))
    assert held(jar, URL("http://shop.example/")) == {"wide": "1"}
    assert held(jar, URL("http://shop.example/cart")) == {"wide": "1", "host": "1"}
    assert held(jar, URL("http://www.shop.example/cart")) == {"wide": "1"}
    assert held(jar, URL("http://bank.example/")) == {}
    copied = BrowserJar(Clock(0))
    copied.fill(jar)
    assert held(copied, URL("http://www.shop.example/cart")) == {"wide": "1"}
    assert held(copied, URL("http://shop.example/cart")) == {"wide": "1", "host": "1"}


async def test_a_cookie_of_the_tests_own_is_sent(jar: BrowserJar) -> None:
    """By name and value, as aiohttp's jar takes them, for every host; its copy too."""
    jar.update_cookies({"locale": "de"})
    jar.update_cookies([("theme", "dark")], HOST)
    copied = BrowserJar(Clock(0))
    copied.fill(jar)
    assert held(jar) == held(copied) == {"locale": "de", "theme": "dark"}
    jar.drop("locale", "theme")
    assert held(jar) == {}
    assert len(held(copied)) == 2


async def test_the_jar_is_one_of_aiohttps(jar: BrowserJar, clock: Clock) -> None:
    """It tells what it holds as aiohttp's own does."""
    take(jar, "a=1", URL("http://shop.example/cart/"))
    take(jar, "b=1; Domain=shop.example.; Path=/x/", URL("http://shop.example/"))
    take(jar, "c=1; Domain=Shop.Example; Path=/; Max-Age=9", URL("http://www.shop.example/"))
    take(jar, "d=1", HOST)
    assert {key: [*cookies] for key, cookies in jar.cookies.items()} == {
        ("shop.example", "/cart"): ["a"],
        ("shop.example", "/x/"): ["b"],
        ("shop.example", "/"): ["c"],
        ("127.0.0.1", "/"): ["d"],
    }
    assert {name for _, _, name in jar.host_only_cookies} == {"a", "b", "d"}
    assert (len(jar), jar.unsafe, jar.quote_cookie) == (4, True, True)
    clock.advance(9)
    assert len(jar) == 3
    jar.clear_domain("shop.example")
    assert [cookie.key for cookie in jar] == ["d"]
    jar.clear()
    assert len(jar) == 0


async def test_a_request_may_bring_cookies_of_its_own(browser: Browser) -> None:
    """Beside those of the browser, as with any client."""
    await browser.sign_in("alice")
    async with browser.get("/me", cookies={"locale": "de"}) as response:
        assert (await response.json())["user"] == "alice"
        assert "locale" in response.request_info.headers["Cookie"]
    assert "locale" not in browser.cookies


# What they need


def test_the_helpers_need_no_pytest() -> None:
    """Only the contract of stores does."""
    code = """
import sys
sys.modules["pytest"] = None
from aiohttp_persistent_session import testing
assert {"Browser", "BackendContract"} <= {*dir(testing)}
testing.Browser, testing.make_record()
try:
    testing.BackendContract
except ImportError as error:
    assert "pytest" in str(error)
else:
    raise AssertionError
assert not hasattr(testing, "NoSuchName")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


@pytest.fixture
def aiohttp_client_cls() -> type[Browser]:
    return Browser


async def test_the_clients_of_pytest_aiohttp_may_be_browsers(aiohttp_client: Any, app: web.Application) -> None:
    """By its fixture ``aiohttp_client_cls``."""
    browser = await aiohttp_client(app, headers={"User-Agent": "Phone"})
    assert (await browser.sign_in("alice")).user_agent == "Phone"
    browser.close_browser()
    assert (await me(browser))["user"] == "alice"
