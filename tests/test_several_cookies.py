"""Several cookies of our name: a domain or path that a deployment changed, a neighbour who plants one."""

from __future__ import annotations

import pytest

from aiohttp_persistent_session import CookiePolicy, MemoryBackend
from aiohttp_persistent_session.tokens import Token

from .browser import SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers
from .faults import FaultyBackend


def together(*tokens: str | None, session: str | None = None) -> str:
    """Write a Cookie field with all of these tokens."""
    fields = [f"{TOKEN}={token}" for token in tokens]
    return "; ".join(fields if session is None else [f"{SESSION}={session}", *fields])


def with_another_secret(token: str | None) -> str:
    return f"{(token or '').partition('.')[0]}.{Token.generate().cookie_value.partition('.')[2]}"


async def send(browser: Browser, *tokens: str | None, live: bool = False, path: str = "/me") -> Reply:
    session = browser.cookies[SESSION] if live else None
    return await browser.send("GET", path, cookie_header=together(*tokens, session=session))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "several cookies" in record.message]


# Equal values


@pytest.mark.parametrize("live", [True, False])
async def test_equal_values_count_as_one(browser: Browser, live: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A renewal under another path makes a second cookie of the same value, which is nobody's fault."""
    await browser.sign_in()
    reply = await send(browser, browser.token, browser.token, browser.token, live=live)
    assert reply.user == "alice"
    assert (reply.token == browser.token) is live
    assert Token.parse(reply.token or "")
    assert not warnings(caplog)


async def test_an_exchange_after_such_a_renewal_works_and_accuses_nobody(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """The leftover goes on coming beside each later token."""
    await browser.sign_in()
    leftover = browser.token
    for _ in range(5):
        clock.advance(3600)
        browser.end_session()
        browser.take(await send(browser, leftover, browser.token))
        clock.advance(100)
        assert (await send(browser, leftover, browser.token, live=True)).user == "alice"
        assert (await send(browser, browser.token, leftover, live=True)).user == "alice"
    assert "reuse" not in dict(worker.events)


# One selector


@pytest.mark.parametrize("order", ["leftover first", "leftover last"])
@pytest.mark.parametrize("live", [True, False])
async def test_of_several_secrets_of_one_selector_the_valid_one_counts(
    worker: Worker, browser: Browser, clock: Clock, order: str, live: bool
) -> None:
    """The others are leftovers and accuse nobody."""
    await browser.sign_in()
    leftover = with_another_secret(browser.token)
    clock.advance(60.001)
    tokens = [leftover, browser.token] if order == "leftover first" else [browser.token, leftover]
    reply = await send(browser, *tokens, live=live)
    assert reply.user == "alice"
    assert Token.parse(reply.token or "")
    assert (await send(browser, *tokens, live=live)).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_of_two_valid_secrets_the_one_that_was_issued_last_counts(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """A browser with the spent token under the old path is one that holds the new one too."""
    await browser.sign_in()
    clock.advance(30)
    spent = browser.token
    browser.end_session()
    await browser.get()
    clock.advance(30)
    for tokens in ((spent, browser.token), (browser.token, spent)):
        reply = await send(browser, *tokens, live=True)
        assert (reply.user, reply.token) == ("alice", browser.token)
    reply = await send(browser, spent, browser.token)
    assert (reply.user, bool(reply.token)) == ("alice", True)
    assert "repeat" not in dict(worker.events)


@pytest.mark.parametrize("live", [True, False])
async def test_several_secrets_of_one_selector_of_which_none_is_valid_are_reuse(
    worker: Worker, browser: Browser, live: bool
) -> None:
    """A copy is not excused by a second one."""
    await browser.sign_in()
    wrong = [with_another_secret(browser.token) for _ in range(3)]
    assert (await send(browser, *wrong, live=live)).user is None
    assert "reuse" in dict(worker.events)


# Different selectors


@pytest.mark.parametrize("order", ["own first", "own last"])
async def test_beside_a_live_session_its_own_record_counts(
    worker: Worker, browser: Browser, clock: Clock, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A planted token switches neither checks nor renewals off; one warning says what is going on."""
    await browser.sign_in()
    attacker = Browser(worker)
    await attacker.sign_in("mallory")
    tokens = [browser.token, attacker.token]
    if order == "own last":
        tokens.reverse()
    for _ in range(3):
        clock.advance(61)
        reply = await send(browser, *tokens, live=True)
        assert (reply.user, reply.token) == ("alice", browser.token)
    clock.advance(24 * 3600)
    assert (await send(browser, *tokens, live=True)).token not in (None, "", browser.token)


@pytest.mark.parametrize("order", ["own first", "own last"])
@pytest.mark.parametrize("other", ["unknown", "ended", "expired"])
async def test_without_a_session_the_one_that_exists_counts_if_only_one_does(
    worker: Worker, browser: Browser, clock: Clock, order: str, other: str
) -> None:
    """A leftover or a made-up token does not switch restores off."""
    stale = Token.generate().cookie_value
    if other != "unknown":
        former = Browser(worker)
        await former.sign_in("bob")
        stale = former.token or ""
        if other == "ended":
            await worker.manager.revoke_all("bob")
        else:
            clock.advance(31 * 24 * 3600)
    await browser.sign_in()
    tokens = [browser.token, stale] if order == "own first" else [stale, browser.token]
    reply = await send(browser, *tokens)
    assert (reply.user, bool(reply.token)) == ("alice", True)


async def test_without_a_session_two_that_exist_restore_nobody(
    worker: Worker, browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Which of two users this is cannot be told: the request is anonymous, and both cookies stay."""
    await browser.sign_in()
    attacker = Browser(worker)
    await attacker.sign_in("mallory")
    for tokens in ((browser.token, attacker.token), (attacker.token, browser.token)):
        reply = await send(browser, *tokens)
        assert (reply.user, reply.cookies) == (None, {})
    assert backend.calls["replace"] == 0
    assert len(warnings(caplog)) == 1


async def test_without_a_session_at_most_two_are_looked_up(browser: Browser, backend: FaultyBackend) -> None:
    """Made-up tokens are no way to have the store asked hundreds of times."""
    backend.calls.clear()
    made_up = [Token.generate().cookie_value for _ in range(60)]
    assert (await send(browser, *made_up)).user is None
    assert backend.calls["get"] <= 2
    assert backend.calls.total() == backend.calls["get"]


async def test_beside_a_live_session_tokens_of_others_cost_nothing(browser: Browser, backend: FaultyBackend) -> None:
    """A token of another record counts as none, however many come."""
    await browser.sign_in()
    await browser.get()
    backend.calls.clear()
    made_up = [Token.generate().cookie_value for _ in range(10)]
    assert (await send(browser, browser.token, *made_up, live=True)).user == "alice"
    assert not backend.calls


async def test_several_cookies_are_warned_of_once(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the cookie and what to do."""
    await browser.sign_in()
    for _ in range(3):
        await send(browser, Token.generate().cookie_value, Token.generate().cookie_value)
    (message,) = warnings(caplog)
    assert TOKEN in message
    assert "__Host-" in message


@pytest.mark.parametrize("live", [True, False])
async def test_leftovers_of_one_selector_are_warned_of_too(
    browser: Browser, caplog: pytest.LogCaptureFixture, live: bool
) -> None:
    """Different values under one name mean that a path or domain was changed."""
    await browser.sign_in()
    for _ in range(2):
        await send(browser, browser.token, with_another_secret(browser.token), live=live)
    assert len(warnings(caplog)) == 1


async def test_several_selectors_beside_a_live_session_are_warned_of(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """A neighbour who plants a token is found in the log of a site whose visitors are all signed in."""
    await browser.sign_in()
    for _ in range(2):
        await send(browser, browser.token, Token.generate().cookie_value, live=True)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("live", [True, False])
async def test_malformed_values_beside_a_token_are_no_matter(browser: Browser, live: bool) -> None:
    """What is no token is not judged."""
    await browser.sign_in()
    reply = await send(browser, "x", browser.token, "", live=live)
    assert (reply.user, bool(reply.token)) == ("alice", True)


async def test_at_most_16_different_values_are_looked_at(browser: Browser, backend: FaultyBackend) -> None:
    """Beyond that, a request is made by nobody's browser."""
    await browser.sign_in()
    browser.end_session()
    backend.calls.clear()
    junk = [f"junk{n}" for n in range(16)]
    assert (await send(browser, *junk, browser.token)).user is None
    assert not backend.calls
    assert (await send(browser, *junk[1:], browser.token)).user == "alice"


async def test_signing_out_with_several_cookies_ends_the_one_that_is_signed_in(
    browser: Browser, backend: FaultyBackend
) -> None:
    """The session's own record ends, and one token that was presented with it."""
    await browser.sign_in()
    made_up = Token.generate().cookie_value
    header = together(made_up, browser.token, session=browser.cookies[SESSION])
    reply = await browser.send("POST", "/logout", cookie_header=header)
    assert reply.token == ""
    assert await backend.of_user("alice", 10) == []


async def test_signing_out_without_a_session_ends_the_one_that_was_restored(
    browser: Browser, backend: FaultyBackend
) -> None:
    """The cookie that exists was judged, so that one ends."""
    await browser.sign_in()
    header = together(Token.generate().cookie_value, browser.token)
    reply = await browser.send("POST", "/logout", cookie_header=header)
    assert reply.token == ""
    assert await backend.of_user("alice", 10) == []


async def test_signing_in_anew_helps_where_two_tokens_restore_nobody(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """A planted token keeps nobody signed out: the next sign-in's session counts."""
    await browser.sign_in()
    attacker = Browser(worker)
    await attacker.sign_in("mallory")
    planted = attacker.token
    reply = await browser.send("POST", "/login", data={"user": "alice"}, cookie_header=together(browser.token, planted))
    browser.take(reply)
    for _ in range(3):
        clock.advance(61)
        reply = await send(browser, planted, browser.token, live=True)
        assert (reply.user, reply.token) == ("alice", browser.token)


# Planted


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "__Host-persistent_session"),
        ({"samesite": "Strict"}, "__Host-persistent_session"),
        ({"samesite": "None", "partitioned": True}, "__Host-persistent_session"),
        ({"secure": False}, "persistent_session"),
        ({"path": "/app"}, "persistent_session"),
        ({"domain": "example.com"}, "persistent_session"),
        ({"cookie_name": "stay"}, "stay"),
        ({"cookie_name": "__Host-stay"}, "__Host-stay"),
    ],
)
@pytest.mark.filterwarnings("default")
async def test_the_default_name_has_the_host_prefix_where_that_is_possible(
    workers: Workers, options: dict[str, object], name: str
) -> None:
    """No sibling host can set a cookie of that name, so none can plant a token."""
    browser = Browser(await workers(MemoryBackend(), **options))
    reply = await browser.sign_in()
    names = {field.partition("=")[0] for field in reply.headers.getall("Set-Cookie")}
    assert names == {SESSION, name}


@pytest.mark.parametrize("planted", ["{name}x", "x{name}", "{upper}", "x {name}", "{name} ", "{name}\t"])
async def test_a_cookie_of_another_name_does_not_pass_for_ours(
    browser: Browser, backend: FaultyBackend, planted: str
) -> None:
    """A prefix protects a cookie only if no reader takes another name for it."""
    await browser.sign_in()
    name = planted.format(name=TOKEN, upper=TOKEN.upper())
    backend.calls.clear()
    assert (await browser.send("GET", "/me", cookie_header=f"{name}={browser.token}")).user is None
    assert not backend.calls


async def test_a_planted_token_is_not_read_out_of_another_cookies_value(
    browser: Browser, backend: FaultyBackend
) -> None:
    """Nothing but a semicolon parts two cookies."""
    await browser.sign_in()
    backend.calls.clear()
    for header in (
        f"a=b {TOKEN}={browser.token}",
        f"a=b, {TOKEN}={browser.token}",
        f'a="b {TOKEN}={browser.token}"',
        f"a={TOKEN}={browser.token}",
    ):
        assert (await browser.send("GET", "/me", cookie_header=header)).user is None
    assert not backend.calls
    # By ours alone: the parser of aiohttp 3.12.0 raises over a cookie without a name.
    assert CookiePolicy().read([f"={TOKEN}={browser.token}"]) == []


async def test_quotes_hide_no_cookie(browser: Browser) -> None:
    """A neighbour whose value holds a quote does not switch restores off."""
    await browser.sign_in()
    reply = await browser.send("GET", "/me", cookie_header=f'a="; {TOKEN}={browser.token}; b="')
    assert reply.user == "alice"


# Changed between deployments


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"path": "/"}, {"path": "/app"}),
        ({"path": "/app"}, {"path": "/", "cookie_name": "persistent_session"}),
        ({"domain": "example.com"}, {"cookie_name": "persistent_session"}),
        ({"cookie_name": "persistent_session"}, {"domain": "example.com"}),
    ],
)
async def test_a_changed_path_or_domain_signs_nobody_out(
    workers: Workers, backend: FaultyBackend, clock: Clock, before: dict[str, str], after: dict[str, str]
) -> None:
    """The renewal itself makes a second cookie; from then on both come, and restores, rotations and sign-ins work."""
    name = "persistent_session"
    before, after = {"cookie_name": name} | before, {"cookie_name": name} | after
    old, new = await workers(backend, **before), await workers(backend, **after)
    browser = Browser(old)
    await browser.sign_in()
    leftover = browser.cookies.pop(name)
    current: str | None = None

    async def visit(method: str = "GET", path: str = "/me", **options: object) -> Reply:
        """Send both cookies, as a browser does that keeps one for each path or domain."""
        nonlocal current
        tokens = [leftover] if current is None else [current, leftover]
        fields = [f"{name}={token}" for token in tokens]
        if SESSION in browser.cookies:
            fields.append(f"{SESSION}={browser.cookies[SESSION]}")
        reply = await browser.send(method, path, to=new, cookie_header="; ".join(fields), **options)
        if SESSION in reply.cookies:
            browser.cookies[SESSION] = reply.cookies[SESSION].coded_value
        if name in reply.cookies:
            current = reply.cookies[name].value or None
        return reply

    assert (await visit()).user == "alice"
    assert current == leftover
    for _ in range(3):
        browser.end_session()
        clock.advance(100)
        assert (await visit()).user == "alice"
        assert current != leftover
        clock.advance(100)
        assert (await visit()).user == "alice"
        clock.advance(24 * 3600)
        assert (await visit()).user == "alice"
    assert "reuse" not in dict(new.events)
    assert (await visit("POST", "/login", data={"user": "bob"})).status == 302
    assert (await visit()).user == "bob"
    browser.end_session()
    assert (await visit()).user == "bob"
    await visit("POST", "/logout")
    browser.end_session()
    assert (await visit()).user is None
